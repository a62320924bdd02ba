"""The gateway's own pages, for those who look after it: healthy, ready, metrics.

They are on an address of their own where ``pages_bind`` gives one, and then on no other.
"""

import socket
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from http import HTTPStatus
from threading import BoundedSemaphore, Lock
from wsgiref.types import StartResponse, WSGIEnvironment

from tar_gateway.errors import Busy, MethodNotAllowed, NotFound, Refusal, SourceError
from tar_gateway.http.environ import CLIENT_SOCKET
from tar_gateway.http.headers import page_policy
from tar_gateway.settings import Settings
from tar_gateway.web.client import Delivery
from tar_gateway.web.observe.draining import is_draining
from tar_gateway.web.problem import refuse

# Seconds for which the upstream's response to a look counts: balancers look often.
_FRESH = 2.0

# Pages of metrics that may be on their way at once: each may be large, and holds a thread.
_METRICS = 4

_NAMES = frozenset({"healthy", "ready", "metrics"})

_TEXT = "text/plain; charset=utf-8"


class Probes:
    """Answers requests below ``settings.pages_prefix``.

    ``reach`` asks the upstream something and raises `SourceError`; ``is_full`` tells whether
    a download would be refused; ``exposition`` gives the metrics page as an ``Accept`` header
    wants it, where there is one.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        reach: Callable[[], object],
        is_full: Callable[[], bool],
        exposition: Callable[[str], tuple[str, bytes]] | None,
    ) -> None:
        self._settings = settings
        self._upstream = _Upstream(reach)
        self._is_full = is_full
        self._exposition = exposition
        self._room = BoundedSemaphore(_METRICS)

    def takes(self, environ: WSGIEnvironment) -> bool:
        """Return whether a request is for one of the pages, or came where only they are."""
        prefix, _, page = environ.get("PATH_INFO", "").rpartition("/")
        named = prefix + "/" == self._settings.pages_prefix and page in _NAMES
        return named or self._is_own_address(environ)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request (PEP 3333)."""
        with ExitStack() as held:
            seconds = 0.0  # a few bytes take no room, and no thread waits until they are taken
            try:
                media_type, body = self._page(environ, held)
            except Refusal as refusal:
                blocks = refuse(refusal, environ, start_response)
            else:
                blocks = _start(media_type, body, environ, start_response)
                if media_type != _TEXT:
                    seconds = self._settings.write_timeout
            return Delivery(blocks, environ, seconds, held.pop_all())

    def _page(self, environ: WSGIEnvironment, held: ExitStack) -> tuple[str, bytes]:
        settings = self._settings
        own = self._is_own_address(environ)
        shown = own or settings.pages_bind is None
        page = environ.get("PATH_INFO", "").removeprefix(settings.pages_prefix)
        if environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
            raise MethodNotAllowed(("GET", "HEAD"))
        if page == "healthy" and shown:
            return _TEXT, b"healthy\n"
        if page == "ready" and shown:
            self._check_ready()
            return _TEXT, b"ready\n"
        if page == "metrics" and (own or settings.public_metrics):
            if self._exposition is None:
                raise NotFound("there are no metrics without the package prometheus_client")
            if not self._room.acquire(blocking=False):
                raise Busy("the metrics are being sent as often as is allowed at once")
            held.callback(self._room.release)
            return self._exposition(environ.get("HTTP_ACCEPT", ""))
        raise NotFound("there is no such page here")

    def _check_ready(self) -> None:
        if is_draining():
            raise Busy("the gateway is being taken out of service")
        if self._is_full():
            raise Busy("all downloads that may run at once are running")
        if (reason := self._upstream.fault()) is not None:
            raise Busy(reason)

    def _is_own_address(self, environ: WSGIEnvironment) -> bool:
        bound = self._settings.pages_bind
        if bound is None:
            return False
        # What gunicorn accepted it at. SERVER_PORT would be the client's to say behind a unix
        # socket, where servers take it from the Host header.
        client = environ.get(CLIENT_SOCKET)
        if client is None or client.family not in {socket.AF_INET, socket.AF_INET6}:
            return False
        return bool(client.getsockname()[1] == bound.port)


def _start(
    media_type: str, body: bytes, environ: WSGIEnvironment, start_response: StartResponse
) -> Iterable[bytes]:
    headers = [
        ("Content-Type", media_type),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        *page_policy(),
    ]
    start_response(f"200 {HTTPStatus.OK.phrase}", headers)
    return () if environ["REQUEST_METHOD"] == "HEAD" else (body,)


class _Upstream:
    """Looks whether the upstream can be reached, and remembers it for a moment.

    One request looks. All that come meanwhile are told what was seen last.
    """

    def __init__(self, reach: Callable[[], object]) -> None:
        self._reach = reach
        self._looking = Lock()
        self._seen = -_FRESH
        self._fault: str | None = "whether the upstream can be reached is not known yet"

    def fault(self) -> str | None:
        is_old = time.monotonic() - self._seen >= _FRESH
        if is_old and self._looking.acquire(blocking=False):
            try:
                self._reach()
                self._fault = None
            except SourceError as error:
                self._fault = error.reason
            finally:
                self._seen = time.monotonic()
                self._looking.release()
        return self._fault

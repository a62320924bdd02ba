"""Members from an HTTP server, over pooled connections: the only file that knows urllib3."""

import ssl
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

from urllib3 import BaseHTTPResponse, HTTPConnectionPool, HTTPSConnectionPool, Timeout
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    InvalidHeader,
    LocationParseError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)

from tar_gateway.errors import SettingsError, SourceError
from tar_gateway.names import url_path
from tar_gateway.settings import Settings
from tar_gateway.sources import Caller, Content, Stat, Unsized
from tar_gateway.sources.http import Answer, Headers, HttpMembers

# Sent unless the request has its own. urllib3 would ask for compressed files otherwise.
_OWN_HEADERS: Final = {"User-Agent": "tar_gateway", "Accept-Encoding": "identity"}

# Idle connections that are kept. urllib3 warns of each that it can't keep, so there is room for
# what many downloads give back at once.
_KEPT: Final = 256

# Seconds for a look whether the upstream is there: who asks, a balancer, waits no longer.
_REACH: Final = 2.0


class Upstream:
    """A protected HTTP server; members are files below its base URL.

    ``url`` is the base, such as ``http://files.internal:8080/base/``. Timeouts and TLS come
    from ``settings``. Safe to use from many threads; connections open when they are needed,
    so one that is made before a fork may be used after it. Raises `SettingsError` for a URL
    or a certificate that can't be used.
    """

    def __init__(self, url: str, settings: Settings | None = None) -> None:
        settings = settings or Settings()
        self.url = Settings(upstream=url).upstream or ""
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        timeout = Timeout(connect=settings.connect_timeout, read=settings.read_timeout)
        # Without `block` a pool opens as many connections as are needed: nothing waits for one,
        # and none that is lost leaves a hole.
        if parts.scheme == "https":
            self._pool: HTTPConnectionPool = HTTPSConnectionPool(
                parts.hostname,
                parts.port,
                timeout=timeout,
                maxsize=_KEPT,
                ssl_context=_tls(settings),
            )
        else:
            self._pool = HTTPConnectionPool(
                parts.hostname, parts.port, timeout=timeout, maxsize=_KEPT
            )
        self._base = parts.path
        self._members = HttpMembers(self._ask)

    def __repr__(self) -> str:
        return f"Upstream({self.url!r})"

    def is_concurrent(self, caller: Caller) -> bool:
        """Say yes: connections are enough for everybody."""
        del caller
        return True

    def stat(self, path: str, caller: Caller) -> Stat | Unsized:
        """Learn a member's size, date and validator. Raises `SourceError`."""
        return self._members.stat(path, caller)

    def open(self, path: str, start: int, stop: int, stat: Stat, caller: Caller) -> Content:
        """Open a slice of a member. Raises `SourceError`."""
        return self._members.open(path, start, stop, stat, caller)

    def forward(self, method: str, path: str, query: str, headers: Headers) -> Answer:
        """Pass a plain request on, and give the answer as it is, redirects included.

        ``path`` is a checked name, or a directory's with a slash at its end, or empty.
        """
        target = url_path(path.removesuffix("/")) + ("/" if path.endswith("/") else "")
        return self._request(method, self._base + target + ("?" + query if query else ""), headers)

    def reach(self) -> None:
        """Ask for anything at all, within seconds. Raises `SourceError` if nothing answers."""
        answer = self._request("HEAD", self._base, [], timeout=Timeout(_REACH))
        answer.content.close()

    def location(self, url: str) -> str | None:
        """Give the path below the base that a ``Location`` points to, `None` if elsewhere."""
        try:
            parts = urlsplit(url)
            base = urlsplit(self.url)
            here = (not parts.netloc and not parts.scheme) or (
                parts.netloc != ""
                and parts.scheme in {"", base.scheme}
                and (parts.hostname, parts.port or _PORTS[base.scheme])
                == (base.hostname, base.port or _PORTS[base.scheme])
            )
        except ValueError:
            return None
        if not here or not parts.path.startswith(self._base):
            return None
        below = parts.path.removeprefix(self._base)
        if below.startswith(("/", "\\")):
            return None  # behind another slash it would name a host
        return parts._replace(scheme="", netloc="", path=below).geturl()

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._pool.close()

    def _ask(self, method: str, path: str, headers: Headers, caller: Caller) -> Answer:
        return self._request(method, self._base + path, [*headers, *caller.headers])

    def _request(
        self, method: str, target: str, headers: Headers, timeout: Timeout | None = None
    ) -> Answer:
        given = {name.lower() for name, _ in headers}
        sent = {name: value for name, value in _OWN_HEADERS.items() if name.lower() not in given}
        sent.update(headers)
        try:
            response = self._pool.urlopen(
                method,
                target,
                headers=sent,
                timeout=timeout or self._pool.timeout,
                redirect=False,
                retries=False,
                assert_same_host=False,
                preload_content=False,
                decode_content=False,
            )
        except (HTTPError, OSError, ValueError) as error:
            raise _fault(error) from error
        received = [(key, value) for key, value in response.headers.iteritems()]
        content = _Content(response)
        if not 200 <= response.status < 600:
            content.close()
            raise SourceError(f"the upstream answered with the status {response.status}")
        if method == "HEAD":
            content.read(1)  # there is nothing; having seen it lets the connection be kept
        return Answer(response.status, received, content)


_PORTS: Final = {"http": 80, "https": 443}


class _Content:
    """A response's bytes; its connection goes back to the pool however it ends."""

    def __init__(self, response: BaseHTTPResponse) -> None:
        self._response = response
        self._closed = False

    def read(self, limit: int) -> bytes:
        try:
            # read1 gives what is there; read and stream would wait for all of the limit.
            return self._response.read1(limit)
        except (HTTPError, OSError, ValueError) as error:
            raise _fault(error) from error

    def stop(self) -> None:
        # It may have ended meanwhile, and its connection be released: then nothing waits.
        with suppress(RuntimeError, ValueError, TypeError, OSError):
            self._response.shutdown()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        # Closing alone would lose the connection's place in the pool; releasing alone would
        # hand a connection with a half-read answer to the next request.
        self._response.close()
        self._response.release_conn()


def _fault(error: Exception) -> SourceError:
    match error:
        case NewConnectionError():  # a ConnectTimeoutError too, so it comes first
            return SourceError("the upstream cannot be reached", transient=True)
        case ConnectTimeoutError() | ReadTimeoutError():
            return SourceError("the upstream took too long", status=504, transient=True)
        case SSLError():
            return SourceError("the upstream's TLS certificate or connection is not right")
        case InvalidHeader():
            return SourceError("the answer's Content-Length is not a length")
        case LocationParseError() | ValueError():
            return SourceError("the upstream's address is not right")
        case _:
            return SourceError("the upstream broke the connection", transient=True)


def _tls(settings: Settings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(
            cafile=str(settings.upstream_ca_file) if settings.upstream_ca_file else None
        )
        if settings.upstream_cert_file:
            context.load_cert_chain(settings.upstream_cert_file, settings.upstream_key_file)
    except (ssl.SSLError, OSError) as error:
        raise SettingsError(f"the certificates for the upstream can't be used: {error}") from error
    return context

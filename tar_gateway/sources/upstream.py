"""Members from a protected HTTP server: what is asked of it, and with which headers."""

from dataclasses import replace
from typing import TypeVar
from urllib.parse import urlsplit

from tar_gateway.errors import SourceError
from tar_gateway.http.headers import folded
from tar_gateway.settings import Settings
from tar_gateway.settings.line_files import read_service_headers
from tar_gateway.settings.types import check_base_url
from tar_gateway.sources import Caller, Listing, Stat, UnknownSize
from tar_gateway.sources.members import HttpMembers
from tar_gateway.sources.stepwise import Remote
from tar_gateway.sources.wire.asking import Ask, Steps, counted
from tar_gateway.sources.wire.health import Health
from tar_gateway.sources.wire.loop import run
from tar_gateway.sources.wire.pool import PORTS, REACH, Origin
from tar_gateway.sources.wire.redirects import Redirects
from tar_gateway.sources.wire.response import Content, Headers, Response
from tar_gateway.sources.wire.tally import Place
from tar_gateway.sources.wire.throttle import Throttles
from tar_gateway.sources.wire.tls import client_tls

T = TypeVar("T")


class Upstream(Remote):
    """A protected HTTP server; members are files below its base URL.

    ``url`` is the base, such as ``http://files.internal:8080/base/``. Timeouts and TLS come
    from ``settings``. ``location`` is what metrics call the place that it stands at. Safe to use
    from many threads; connections open when they are needed, so one that is made before a fork
    may be used after it. Raise `SettingsError` for a URL,
    or a file of certificates or headers, that can't be used.
    """

    def __init__(self, url: str, settings: Settings | None = None, *, location: str = "/") -> None:
        settings = settings or Settings()
        self.url = check_base_url(url)
        parts = urlsplit(self.url)
        tls = client_tls(settings, certificate=True) if parts.scheme == "https" else None
        self._origin = Origin(self.url, settings, called="the upstream", tls=tls)
        file = settings.upstream_headers_file
        self._own_headers = read_service_headers(file) if file else ()
        # What a refusal is about then: the caller is not the one who is refused.
        self._has_credentials = bool(self._own_headers or settings.upstream_cert_file)
        self._own_names = {folded(name) for name, _ in self._own_headers}
        self._redirects = Redirects(settings)
        self._place = Place(self.url, location)
        self.health = Health(self.url, settings, place=self._place)
        self._throttles = Throttles(settings)
        self._base = parts.path
        self._members = HttpMembers(
            self._ask,
            place=self._place,
            memory=settings.plan_memory,
            settings=settings,
        )

    def __repr__(self) -> str:
        return f"Upstream({self.url!r})"

    def stat_steps(self, path: str, caller: Caller) -> Steps[Stat | UnknownSize]:
        """Learn a member's size, date and validator. Raise `SourceError`."""
        steps = self._refused(self._members.stat(path, caller))
        found = yield from self.health.track(steps, path, caller)
        if isinstance(found, UnknownSize):
            return replace(found, content=self.health.tracked(found.content, path, caller))
        return found

    def open_steps(
        self, path: str, start: int, stop: int, stat: Stat, caller: Caller
    ) -> Steps[Content]:
        """Open a slice of a member. Raise `SourceError`."""
        steps = self._refused(self._members.open(path, start, stop, stat, caller))
        content = yield from self.health.track(steps, path, caller)
        return self.health.tracked(content, path, caller)

    def list_steps(self, path: str, caller: Caller, *, deep: bool = False) -> Steps[Listing]:
        """List a directory, and nothing below it. Raise `SourceError`."""
        steps = self._refused(self._members.list(path, self._base + path, caller))
        return self.health.track(steps, path, caller)

    def forward_steps(
        self, method: str, path: str, headers: Headers, caller: Caller
    ) -> Steps[Response]:
        """Pass a plain request on, and return the response as it is, redirects included.

        Raise `SourceError` when there is no response.
        """
        steps = counted(self._request(method, path, headers, caller), caller.tally, self._place)
        response = yield from self.health.track(steps, path, caller)
        return replace(response, content=self.health.tracked(response.content, path, caller))

    def reach(self) -> int:
        """Ask for the base, within seconds. Return the response's status, whatever it is.

        Raise `SourceError` if nothing answers.
        """
        # The base may be slow to list: that says nothing of the files, so it is not remembered.
        caller = Caller()
        steps = self._request("HEAD", "", [], caller, timeout=REACH)
        response = run(steps, caller.cancellation)
        response.content.close()
        return response.status

    def own_path(self, url: str, path: str) -> str | None:
        """Return the path below the base that a ``Location`` points to, `None` if elsewhere.

        ``path`` is what was asked for when it came.
        """
        try:
            parts = urlsplit(url)
            base = urlsplit(self.url)
            here = (not parts.netloc and not parts.scheme) or (
                parts.netloc != ""
                and parts.scheme in {"", base.scheme}
                and (parts.hostname, parts.port or PORTS[base.scheme])
                == (base.hostname, base.port or PORTS[base.scheme])
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
        self._origin.close()
        self._redirects.close()

    def _refused(self, steps: Steps[T]) -> Steps[T]:
        """Mark a refusal of the service's own credentials as one."""
        try:
            return (yield from steps)
        except SourceError as error:
            if self._has_credentials and error.status in {401, 403}:
                raise error.but(of_service=True) from error
            raise

    def _ask(self, method: str, path: str, headers: Headers, caller: Caller) -> Steps[Response]:
        steps = self._request(method, path, [*headers, *caller.headers, *caller.trace], caller)
        response = yield from self._throttles.held_back(steps, caller.key)
        url = self.url + path
        return (yield from self._redirects.follow(response, method, url, headers, caller))

    def _request(
        self,
        method: str,
        path: str,
        headers: Headers,
        caller: Caller,
        *,
        timeout: float | None = None,
    ) -> Steps[Response]:
        sent = headers
        if self._own_headers:
            others = (pair for pair in headers if folded(pair[0]) not in self._own_names)
            sent = [*others, *self._own_headers]
        target = self._base + path
        response: Response = yield Ask(self._origin, method, target, sent, caller, timeout)
        return response

"""Redirects of the upstream, followed to hosts on a list and without credentials.

Object stores hand files out so: whoever may have one is sent to a URL that is signed for it.
"""

import re
import threading
from collections.abc import Set
from dataclasses import replace
from typing import Final
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from tar_gateway.errors import SourceError
from tar_gateway.settings import Settings
from tar_gateway.sources.wire.asking import Ask, Steps, asking, discard
from tar_gateway.sources.wire.caller import Caller
from tar_gateway.sources.wire.health import Health, HealthContent
from tar_gateway.sources.wire.pool import PORTS, Origin
from tar_gateway.sources.wire.response import REDIRECTS, Headers, Response
from tar_gateway.sources.wire.tls import client_tls

# Redirects of one request. A store needs one, and one more to the host of its region.
LIMIT: Final = 5

_CALLED: Final = "the host that the upstream redirects to"


class Redirects:
    """Follows redirects to the hosts of ``settings.redirect_hosts``. Safe to use from threads.

    Raise `SettingsError` for certificates that can't be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._hosts = frozenset(settings.redirect_hosts)
        self._tls = client_tls(settings, certificate=False) if self._hosts else None
        self._servers: dict[str, tuple[Origin, Health]] = {}
        self._lock = threading.Lock()

    def follow(
        self, response: Response, method: str, url: str, headers: Headers, caller: Caller
    ) -> Steps[Response]:
        """Return the response at the end of redirects; ``response`` came from ``url``.

        ``headers`` are sent to each host, so none of them may be a credential. A redirect to
        where it must not lead is returned as it is. Raise `SourceError` for too many of them,
        and where a host gives no response.
        """
        followed = 0
        while (place := self._place(response, url)) is not None:
            yield from discard(response)
            if followed == LIMIT:
                raise SourceError("the upstream redirects too often")
            followed += 1
            url = place.geturl()
            response = yield from self._ask(place, method, headers, caller)
            # Another host's challenge is nothing that the caller could answer.
            status = 403 if response.status == 401 else response.status
            response = replace(response, status=status, redirected=True)
        return response

    def close(self) -> None:
        """Close the connections that are not in use."""
        with self._lock:
            servers = list(self._servers.values())
        for origin, _ in servers:
            origin.close()

    def _ask(
        self, place: SplitResult, method: str, headers: Headers, caller: Caller
    ) -> Steps[Response]:
        """Ask another host, whose failures say nothing of the upstream: that was there."""

        def of_another(error: SourceError) -> SourceError:
            return error.but(unreachable=False, of_server=False)

        origin, health = self._server(place)
        target = (place.path or "/") + ("?" + place.query if place.query else "")
        try:
            steps = asking(Ask(origin, method, target, headers, caller))
            response: Response = yield from health.track(steps, place.path, caller)
        except SourceError as error:
            raise of_another(error) from error
        content = health.tracked(response.content, place.path, caller)
        return replace(response, content=HealthContent(content, of_another))

    def _place(self, response: Response, url: str) -> SplitResult | None:
        location = response.get("location") if response.status in REDIRECTS else None
        if not location:
            return None
        place = place_of(location, url, self._hosts)
        # A file server sends a directory's name so to its index page, which is no file.
        directory = unquote(urlsplit(url).path) + "/"
        return None if place is not None and unquote(place.path) == directory else place

    def _server(self, place: SplitResult) -> tuple[Origin, Health]:
        key = f"{place.scheme}://{place.netloc}/"
        with self._lock:
            if key not in self._servers:
                origin = Origin(key, self._settings, called=_CALLED, tls=self._tls)
                self._servers[key] = origin, Health(key, self._settings)
            return self._servers[key]


def place_of(location: str, url: str, hosts: Set[str]) -> SplitResult | None:
    """Find where a ``Location`` in a response from ``url`` leads, `None` where it must not lead.

    ``hosts`` are as `Settings.redirect_hosts` has them. Never from https to http. Host and port
    are in their normal form (RFC 3986 6.2.3), so that each server has one spelling.
    """
    try:
        # A header's text is bytes in disguise; a URL has none above ASCII.
        quoted = quote(location.encode("latin-1"), safe="%:/?#[]@!$&'()*+,;=-._~")
        place = urlsplit(urljoin(url, quoted))._replace(fragment="")
        usual = PORTS[place.scheme]
        port = usual if place.port is None else place.port
    except (ValueError, KeyError):
        return None
    if place.scheme != "https" and url.startswith("https:"):
        return None
    # With a user name before it, it is on no list.
    host = re.sub(r":[0-9]*$", "", place.netloc.lower())
    allowed = f"{host}:{port}" in hosts or (port == usual and host in hosts)
    return place._replace(netloc=host if port == usual else f"{host}:{port}") if allowed else None

"""Several places as one: which server a path belongs to."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from types import MappingProxyType

from tar_gateway.errors import SourceError
from tar_gateway.http.paths import below, decode_path, url_path
from tar_gateway.settings import Settings
from tar_gateway.settings.buckets import is_bucket
from tar_gateway.settings.locations import Location, read_locations
from tar_gateway.sources import Caller, Limits, Listing, Stat, UnknownSize
from tar_gateway.sources.replicas import Replicas, reach_any
from tar_gateway.sources.stepwise import FileServer, Remote, Replica, is_private
from tar_gateway.sources.upstream import Upstream
from tar_gateway.sources.wire.asking import Steps
from tar_gateway.sources.wire.response import Content, Headers, Response


@dataclass(frozen=True, slots=True)
class _Route:
    """What lies below a prefix, without the slash it begins with, lies at a server."""

    prefix: str
    server: FileServer
    limits: Limits


class Locations(Remote):
    """A file server made of others, each with the paths below a prefix of its own.

    ``servers`` are by prefix, such as ``/reports/``; the longest that a path begins with
    decides, and what follows it is the path at that server. A path below none does not exist.
    ``limits``, by prefix as well, are of bundles with any member there.
    """

    def __init__(
        self, servers: Mapping[str, FileServer], limits: Mapping[str, Limits] = MappingProxyType({})
    ) -> None:
        self._routes = [
            _Route(prefix.removeprefix("/"), servers[prefix], limits.get(prefix, Limits()))
            for prefix in sorted(servers, key=len, reverse=True)
        ]

    def __repr__(self) -> str:
        return f"Locations({ {'/' + route.prefix: route.server for route in self._routes} })"

    @property
    def is_private(self) -> bool:
        """Whether any of them is."""
        return any(is_private(route.server) for route in self._routes)

    def is_concurrent(self, caller: Caller) -> bool:
        """Return whether all of them may be asked by several threads at once."""
        return all(route.server.is_concurrent(caller) for route in self._routes)

    def stat_steps(self, path: str, caller: Caller) -> Steps[Stat | UnknownSize]:
        """Ask the server that the member belongs to. Raise `SourceError`."""
        route, rest = self._route(path)
        return (yield from route.server.stat_steps(rest, caller))

    def open_steps(
        self, path: str, start: int, stop: int, stat: Stat, caller: Caller
    ) -> Steps[Content]:
        """Open a slice at the server that the member belongs to. Raise `SourceError`."""
        route, rest = self._route(path)
        return (yield from route.server.open_steps(rest, start, stop, stat, caller))

    def list_steps(self, path: str, caller: Caller, *, deep: bool = False) -> Steps[Listing]:
        """List a directory of the server that it belongs to. Raise `SourceError`.

        What lies below it is left to its own listing where another location begins there.
        """
        route, rest = self._route(path)
        here = decode_path(path)
        crossed = any(each is not route and each.prefix.startswith(here) for each in self._routes)
        return route.server.list_steps(rest, caller, deep=deep and not crossed)

    def forward_steps(
        self, method: str, path: str, headers: Headers, caller: Caller
    ) -> Steps[Response]:
        """Pass a plain request on to the server that its path belongs to."""
        route, rest = self._route(path)
        return (yield from route.server.forward_steps(method, rest, headers, caller))

    def own_path(self, url: str, path: str) -> str | None:
        """Return the path that a ``Location`` points to, as the server of ``path`` means it."""
        route, rest = self._route(path)
        own = route.server.own_path(url, rest)
        return None if own is None else url_path(route.prefix) + own

    def limits(self, paths: Iterable[str]) -> Limits:
        """Return what all locations allow that the members are of."""
        allowed = {route.limits for path in paths for route, _ in self._matching(path)[:1]}
        return reduce(Limits.strictest, allowed, Limits())

    def reach(self) -> None:
        """Raise `SourceError` if none answers: one that is away must not stop the others."""
        reach_any(route.server for route in self._routes)

    def close(self) -> None:
        """Close the connections of all of them that are not in use."""
        for route in self._routes:
            route.server.close()

    def _matching(self, path: str) -> list[tuple[_Route, str]]:
        # A slash ends each prefix, so that none ends within a name.
        found = ((route, below(path, route.prefix.encode("utf-8"))) for route in self._routes)
        return [(route, rest) for route, rest in found if rest is not None]

    def _route(self, path: str) -> tuple[_Route, str]:
        """Return the server that a path belongs to, and the path there."""
        for found in self._matching(path):
            return found
        raise SourceError("it lies in no location", status=404)


def file_server(settings: Settings) -> FileServer:
    """Make the file server that the settings name. Raise `SettingsError`."""
    if settings.locations_file is None:
        assert settings.upstream is not None
        return server_of(settings.upstream, settings)
    locations = read_locations(settings.locations_file, settings)
    return Locations(
        {each.prefix: _one(each) for each in locations},
        {each.prefix: Limits.from_settings(each.settings) for each in locations},
    )


def server_of(url: str, settings: Settings, *, location: str = "/") -> Replica:
    """Make the server that a checked base URL names, in a location. Raise `SettingsError`."""
    if not is_bucket(url):
        return Upstream(url, settings, location=location)
    # Imported for those who use it: it takes a package that is not installed everywhere.
    from tar_gateway.sources.s3.bucket import S3  # noqa: PLC0415

    return S3(url, settings, location=location)


def _one(location: Location) -> FileServer:
    servers = [
        server_of(url, location.settings, location=location.prefix) for url in location.upstreams
    ]
    return servers[0] if len(servers) == 1 else Replicas(servers)

"""What stands behind a gateway, as its settings say: one upstream, or locations of several."""

from collections.abc import Sequence

from tar_gateway.settings import Settings
from tar_gateway.settings.locations import read_locations
from tar_gateway.sources import Limits
from tar_gateway.sources.http import FileServer
from tar_gateway.sources.locations import Locations
from tar_gateway.sources.replicas import Replicas
from tar_gateway.sources.upstream import Upstream


def file_server(settings: Settings) -> FileServer:
    """Make it. Raises `SettingsError` for a file that can't be used."""
    if settings.locations_file is None:
        assert settings.upstream is not None
        return Upstream(settings.upstream, settings)
    locations = read_locations(settings.locations_file, settings)
    return Locations(
        {each.prefix: _one(each.upstreams, each.settings) for each in locations},
        {each.prefix: Limits.from_settings(each.settings) for each in locations},
    )


def _one(urls: Sequence[str], settings: Settings) -> FileServer:
    servers = [Upstream(url, settings) for url in urls]
    return servers[0] if len(servers) == 1 else Replicas(servers)

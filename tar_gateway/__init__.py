"""Hand a user many files from a protected server as one streamed tar."""

from tar_gateway.errors import BrokenOff, SettingsError, TarGatewayError
from tar_gateway.gateway import Gateway
from tar_gateway.layout import Member
from tar_gateway.middleware import BundleMiddleware
from tar_gateway.settings import Settings
from tar_gateway.sources.upstream import Upstream
from tar_gateway.tarstream import TarStream, tar_size

__all__ = [
    "BrokenOff",
    "BundleMiddleware",
    "Gateway",
    "Member",
    "Settings",
    "SettingsError",
    "TarGatewayError",
    "TarStream",
    "Upstream",
    "tar_size",
]

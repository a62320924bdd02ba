"""Hand a user many files from a protected server as one streamed tar."""

from tar_gateway.errors import SettingsError, TarGatewayError
from tar_gateway.gateway import Gateway
from tar_gateway.settings import Settings
from tar_gateway.sources.upstream import Upstream

__all__ = ["Gateway", "Settings", "SettingsError", "TarGatewayError", "Upstream"]

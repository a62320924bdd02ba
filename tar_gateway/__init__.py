"""Hand a user many files from a protected server as one streamed tar."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tar_gateway.access.links import sign_url
    from tar_gateway.archive.format import Member
    from tar_gateway.delivery.tarstream import TarStream, ZipStream, tar_size, zip_size
    from tar_gateway.errors import BrokenOff, SettingsError, TarGatewayError
    from tar_gateway.http.validators import Validator
    from tar_gateway.settings import Settings
    from tar_gateway.sources.locations import Locations
    from tar_gateway.sources.replicas import Replicas
    from tar_gateway.sources.s3.bucket import S3
    from tar_gateway.sources.upstream import Upstream
    from tar_gateway.web.gateway import Gateway
    from tar_gateway.web.middleware import BundleMiddleware
    from tar_gateway.web.observe.metrics import Metrics

__all__ = [  # noqa: RUF022 - in the order of `sorted`, which takes S3 for no constant
    "BrokenOff",
    "BundleMiddleware",
    "Gateway",
    "Locations",
    "Member",
    "Metrics",
    "Replicas",
    "S3",
    "Settings",
    "SettingsError",
    "TarGatewayError",
    "TarStream",
    "Upstream",
    "Validator",
    "ZipStream",
    "sign_url",
    "tar_size",
    "zip_size",
]

# Imported when they are asked for: gunicorn's master reads its settings from this package, and
# what it imports is there before a gevent worker patches sockets, locks and TLS.
_HOMES = {
    "BrokenOff": "errors",
    "BundleMiddleware": "web.middleware",
    "Gateway": "web.gateway",
    "Locations": "sources.locations",
    "Member": "archive.format",
    "Metrics": "web.observe.metrics",
    "Replicas": "sources.replicas",
    "S3": "sources.s3.bucket",
    "Settings": "settings",
    "SettingsError": "errors",
    "TarGatewayError": "errors",
    "TarStream": "delivery.tarstream",
    "Upstream": "sources.upstream",
    "Validator": "http.validators",
    "ZipStream": "delivery.tarstream",
    "sign_url": "access.links",
    "tar_size": "delivery.tarstream",
    "zip_size": "delivery.tarstream",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'tar_gateway' has no attribute {name!r}")
    return getattr(import_module(f"tar_gateway.{_HOMES[name]}"), name)

"""What is checked before a server starts, so that what is wrong is one line and no traceback."""

from collections.abc import Mapping

from tar_gateway.errors import SettingsError
from tar_gateway.settings import Settings
from tar_gateway.settings.locations import read_locations


def checked_settings(environ: Mapping[str, str]) -> Settings:
    """Read a gateway's settings, certificates and locations included. Raises `SettingsError`."""
    settings = Settings.from_environment(environ)
    _check_certificates(settings)
    if settings.locations_file is not None:
        locations = read_locations(settings.locations_file, settings)
        for number, location in enumerate(locations, start=1):
            try:
                _check_certificates(location.settings)
            except SettingsError as error:
                where = f"{settings.locations_file}: location {number}"
                raise SettingsError(f"{where}: {error}") from error
    return settings


def _check_certificates(settings: Settings) -> None:
    if settings.upstream_ca_file or settings.upstream_cert_file or settings.upstream_key_file:
        # Imported for those who use it: gunicorn's master should load little that gevent patches.
        from tar_gateway.sources.wire.tls import client_tls  # noqa: PLC0415

        client_tls(settings, certificate=True)

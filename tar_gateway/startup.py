"""What is checked before a server starts, so that what is wrong is one line and no traceback."""

from collections.abc import Mapping

from tar_gateway.settings import Settings


def checked_settings(environ: Mapping[str, str]) -> Settings:
    """Read the settings of a gateway, certificates included. Raises `SettingsError`."""
    settings = Settings.from_environment(environ)
    if settings.upstream_ca_file or settings.upstream_cert_file or settings.upstream_key_file:
        # Imported for those who use it: gunicorn's master should load little that gevent patches.
        from tar_gateway.sources.tls import client_tls  # noqa: PLC0415

        client_tls(settings, certificate=True)
    return settings

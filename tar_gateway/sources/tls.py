"""Whom a TLS connection trusts and what it shows of us, from the files that the settings name."""

import ssl

from tar_gateway.errors import SettingsError
from tar_gateway.settings import Settings


def client_tls(settings: Settings, *, certificate: bool) -> ssl.SSLContext:
    """Make a context for connections that we open.

    It trusts the authorities of ``upstream_ca_file``, or the system's, and checks host names.
    ``certificate`` says whether the client certificate is shown: to the upstream and to nobody
    else. Raises `SettingsError`, one line, for a file that can't be used.
    """
    try:
        context = ssl.create_default_context(
            cafile=str(settings.upstream_ca_file) if settings.upstream_ca_file else None
        )
        if certificate and settings.upstream_cert_file:
            context.load_cert_chain(settings.upstream_cert_file, settings.upstream_key_file)
    except (ssl.SSLError, OSError) as error:
        raise SettingsError(f"the certificates for the upstream can't be used: {error}") from error
    return context

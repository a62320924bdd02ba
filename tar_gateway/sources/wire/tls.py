"""Whom a TLS connection trusts and what it shows of us, from the files that the settings name.

And why one failed, in words for an operator.
"""

import ssl
from pathlib import Path
from typing import Final

from tar_gateway.errors import SettingsError
from tar_gateway.settings import Settings


def client_tls(settings: Settings, *, certificate: bool) -> ssl.SSLContext:
    """Make a context for connections that we open.

    It trusts the authorities of ``upstream_ca_file``, or the system's, and checks host names.
    ``certificate`` says whether the client certificate is shown: to the upstream and to nobody
    else. Raise `SettingsError`, one line, for a file that can't be used.
    """
    context = _trusting(settings.upstream_ca_file)
    if certificate:
        _show(context, settings.upstream_cert_file, settings.upstream_key_file)
    return context


def _trusting(authorities: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=str(authorities) if authorities else None)
        context.set_alpn_protocols(["http/1.1"])
        return context
    except ssl.SSLError as error:
        raise _wrong(f"{authorities} holds no certificate of an authority in PEM form") from error
    except OSError as error:
        raise _wrong(f"{authorities}: {error.strerror}") from error


def _show(context: ssl.SSLContext, certificate: Path | None, key: Path | None) -> None:
    if certificate is None:
        if key is not None:
            raise _wrong(f"{key} holds a key, and no certificate is given with it")
        return
    try:
        # Without a password OpenSSL would ask the terminal for one, and wait.
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            reason = f"the key in {key or certificate} is not that of the certificate"
        else:
            reason = (
                f"{certificate} must hold a certificate and {key or 'the same file'} its key, "
                "in PEM form and without a password"
            )
        raise _wrong(reason) from error
    except OSError as error:
        # It does not say which of the two.
        raise _wrong(f"{certificate} or its key: {error.strerror}") from error


def _wrong(reason: str) -> SettingsError:
    return SettingsError(f"the certificates for the upstream can't be used: {reason}")


# What OpenSSL says of a certificate at more length, or in other words with each version
# (X509_V_ERR_*, x509_vfy.h).
_CERTIFICATES: Final = {
    10: "certificate has expired",
    18: "self-signed certificate",
    19: "self-signed certificate in the chain",
    62: "hostname does not match the certificate",
    64: "IP address does not match the certificate",
}


def tls_cause(error: ssl.SSLError) -> str:
    """Return what went wrong with a connection or certificate."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _CERTIFICATES.get(error.verify_code) or lowered(error.verify_message)
    return lowered((error.reason or error.strerror or "").replace("_", " "))


def lowered(text: str) -> str:
    """Write a system's words as the middle of a sentence."""
    return text.lower() if text.isupper() else text[:1].lower() + text[1:]

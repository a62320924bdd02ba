"""What goes wrong on a connection: in a response's words, and its cause in the system's."""

import errno
import socket
import ssl

from tar_gateway.errors import SourceError
from tar_gateway.http.messages import BadLength
from tar_gateway.sources.wire.tls import lowered, tls_cause


class NotConnected(OSError):
    """No connection came about; its cause is the system's error, `TimeoutError` for no answer."""


# How a TLS connection tells that the other side has ended it.
_ENDED = (ssl.SSLEOFError, ssl.SSLZeroReturnError)

_OURS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL}


def fault_of_wire(error: Exception, called: str) -> SourceError:
    """Return what went wrong; ``called`` is what it calls the server."""
    match error:
        case NotConnected() if not isinstance(error.__cause__, TimeoutError):
            ours = _is_ours(error.__cause__)
            reason = f"{called} cannot be reached"
            if ours:
                reason = f"the gateway has no file descriptor or port left to connect to {called}"
            return SourceError(reason, transient=True, unreachable=not ours, of_server=not ours)
        case NotConnected() | TimeoutError():
            reason, unreachable = f"{called} took too long", isinstance(error, NotConnected)
            return SourceError(reason, status=504, transient=True, unreachable=unreachable)
        case ssl.SSLError() if not isinstance(error, _ENDED):
            reason = f"the TLS connection to {called} failed"
            return SourceError(reason, unreachable=True)
        case BadLength():
            return SourceError(f"{called} sent an invalid Content-Length")
        case ValueError():
            return SourceError(f"the request to {called} is invalid")
        case _:
            return SourceError(f"{called} broke the connection", transient=True)


def cause_of(error: BaseException) -> str:
    """Return what went wrong in the system's own words, for an operator."""
    if isinstance(error, NotConnected) and error.__cause__ is not None:
        error = error.__cause__
    match error:
        case ssl.SSLError():
            return tls_cause(error)
        case TimeoutError():
            return "connection timed out"
        case OSError() if error.strerror:
            return lowered(error.strerror)
        case _:
            return str(error) or type(error).__name__


def _is_ours(error: BaseException | None) -> bool:
    """Return whether this machine had not what it takes to connect."""
    if isinstance(error, socket.gaierror):
        # To look a name up takes a descriptor as well, and the error does not say so.
        try:
            socket.socket().close()
        except OSError:
            return True
    return getattr(error, "errno", None) in _OURS

"""Opening connections without waiting for them: the only file that knows urllib3.

A connection is urllib3's, connected and encrypted here step by step, for a loop that drives many:
with the same addresses, options and names, and the same context to check certificates by.
"""

import ipaddress
import math
import os
import selectors
import socket
import ssl
import threading
import time
from contextlib import suppress
from typing import Any, ClassVar, TypeAlias, cast

from urllib3.connection import HTTPConnection, HTTPSConnection

from tar_gateway.sources.wire.connection import Connection
from tar_gateway.sources.wire.faults import NotConnected

# Seconds for which a name stands for the addresses that it was found at: many connections that
# open together look it up once.
_FRESH = 5.0

_Address: TypeAlias = tuple[socket.AddressFamily, Any]


class Addresses:
    """The addresses of a host and port. Safe to use from many threads."""

    def __init__(self, host: str, port: int) -> None:
        self._place = host, port
        self._lock = threading.Lock()
        self._found: tuple[_Address, ...] = ()
        self._until = -math.inf

    def look_up(self) -> tuple[_Address, ...]:
        """Return them in the order in which to try them, waiting for the system to tell.

        Raise `NotConnected`.
        """
        with self._lock:
            if time.monotonic() >= self._until:
                self._found = self._resolve()
                self._until = time.monotonic() + _FRESH
            return self._found

    def answered(self, address: _Address) -> None:
        """Try this one first from now on: others that are silent cost time."""
        if self._found[0] != address:
            with self._lock:
                others = tuple(each for each in self._found if each != address)
                self._found = (address, *others)

    def forget(self) -> None:
        """Look the name up again for the next connection: none of them could be reached."""
        self._until = -math.inf

    def _resolve(self) -> tuple[_Address, ...]:
        try:
            found = socket.getaddrinfo(*self._place, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise NotConnected from error
        return tuple((family, address) for family, _, _, _, address in found)


class _Opening:
    """The state of a connection that opens, and of one that is used again."""

    wire: Connection
    is_open = False
    owner: int | None = None
    """The one caller that may use it next, `None` if any may."""
    idle_since: float = math.inf
    """When it was returned the last time, by `time.monotonic`; infinite before the first time."""
    waiting: object = None
    """What waits for it in the loop that holds it."""
    events = 0
    """What that loop waits for, of `selectors`."""
    descriptor = -1
    default_socket_options: ClassVar[Any]
    sock: Any
    _left: list[_Address]
    _addresses: Addresses

    @property
    def was_used(self) -> bool:
        """Whether it has had a response before."""
        return self.idle_since != math.inf

    def begin(self, addresses: Addresses) -> None:
        """Begin to connect. Raise `NotConnected`."""
        self._addresses = addresses
        self._left = [*addresses.look_up()]
        self._try_next(None)

    def advance(self) -> int:
        """Go on when it is ready. Return the events to wait for, 0 where it is open.

        Raise `NotConnected`, or `OSError` for what goes wrong with TLS.
        """
        code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._try_next(OSError(code, os.strerror(code)))
            return selectors.EVENT_WRITE
        self._addresses.answered(self._left[0])
        return self._connected()

    def _connected(self) -> int:
        return self._opened()

    def _opened(self) -> int:
        self.wire = Connection(self.sock)
        self.is_open = True
        return 0

    def late(self) -> int:
        """Try another address than the one that does not answer. Return what to wait for.

        Raise `NotConnected`, or `TimeoutError` where TLS takes too long.
        """
        self._try_next(TimeoutError())
        return selectors.EVENT_WRITE

    def _try_next(self, error: OSError | None) -> None:
        """Begin to connect to the next address, ``error`` being that of the one before."""
        if error is not None:
            del self._left[0]
        while self._left:
            self.close()
            family, address = self._left[0]
            try:
                self.sock = wire = socket.socket(family, socket.SOCK_STREAM)
                wire.setblocking(False)
                for option in self.default_socket_options:
                    wire.setsockopt(*option)
                with suppress(BlockingIOError):
                    wire.connect(address)
                return
            except OSError as failed:
                error = failed
                del self._left[0]
        self._addresses.forget()
        raise NotConnected from error

    def close(self) -> None:
        """Close the socket."""
        raise NotImplementedError


class Plain(HTTPConnection, _Opening):
    """urllib3's connection, on which `wire` is spoken instead of its own HTTP."""


class Tls(HTTPSConnection, _Opening):
    """The same over TLS: certificate and name are checked in the handshake, by the context."""

    _shakes = False

    def advance(self) -> int:
        """Connect, and then shake hands."""
        return self._shake_hands() if self._shakes else super().advance()

    def _connected(self) -> int:
        assert self.ssl_context is not None
        # RFC 9112 9.8: without a length, a connection that is merely cut is a file that is cut,
        # so no end counts that TLS does not vouch for.
        self.sock = self.ssl_context.wrap_socket(
            self.sock,
            server_hostname=_name(self.host),
            do_handshake_on_connect=False,
            suppress_ragged_eofs=False,
        )
        self._shakes = True
        return self._shake_hands()

    def _shake_hands(self) -> int:
        try:
            cast(ssl.SSLSocket, self.sock).do_handshake()
        except ssl.SSLWantReadError:
            return selectors.EVENT_READ
        except ssl.SSLWantWriteError:
            return selectors.EVENT_WRITE
        return self._opened()

    def late(self) -> int:
        """Give up on an address, or on a handshake."""
        if self._shakes:
            raise TimeoutError
        return super().late()


Pooled: TypeAlias = Plain | Tls


def _name(host: str) -> str:
    """Return the name that a certificate is checked for: an address without its zone."""
    plain = host.strip("[]").partition("%")[0]
    try:
        ipaddress.ip_address(plain)
    except ValueError:
        return host
    return plain

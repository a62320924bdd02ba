"""The client's end of a download, as far as the server shows it: gunicorn shows its socket.

A client that takes nothing is cut off, and one that leaves is noticed while nothing is being
sent to it. Under a server that shows no socket both happen when that server's write fails.
"""

import logging
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Protocol
from wsgiref.types import WSGIEnvironment

from tar_gateway.errors import BrokenOff

# Seconds between two looks: a client that has left costs the upstream no more than these.
_INTERVAL = 1.0

# The first byte of tcp_info is the connection's state; a client is there while it is this one.
_ESTABLISHED = 1

log = logging.getLogger(__name__)


class Blocks(Protocol):
    """What is sent: blocks of bytes, which can be stopped from another thread."""

    def __next__(self) -> bytes:
        """Give the next block, or raise `BrokenOff` when there can be no more."""
        ...

    def stop(self) -> None:
        """Make a `__next__` that waits, or the next one, raise `BrokenOff`."""
        ...

    def close(self) -> None:
        """Give back everything that is held."""
        ...


class Delivery:
    """A WSGI iterable that passes blocks on while the client is there; closes them once.

    ``measured`` says that the client was told the length, and so sees a short answer as one;
    where it wasn't, a break is made unmistakable by a reset of the connection.
    """

    def __init__(
        self, blocks: Blocks, environ: WSGIEnvironment, write_timeout: float, *, measured: bool
    ) -> None:
        self._blocks = blocks
        self._client: socket.socket | None = environ.get("gunicorn.socket")
        self._measured = measured
        self._closed = False
        if self._client is not None:
            self._client.settimeout(write_timeout)
            _watch.add(self._client, blocks.stop)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._blocks)
        except BrokenOff:
            if not self._measured and self._client is not None:
                _reset_on_close(self._client)
            raise

    def close(self) -> None:
        """Stop watching and give everything back. May be called again."""
        if not self._closed:
            self._closed = True
            if self._client is not None:
                _watch.remove(self._client)
            self._blocks.close()


class _Watch:
    """One thread that looks after all clients, and lives while there are any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clients: dict[socket.socket, Callable[[], None]] = {}
        self._thread: threading.Thread | None = None

    def add(self, client: socket.socket, on_departure: Callable[[], None]) -> None:
        with self._lock:
            self._clients[client] = on_departure
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="tar-gateway-watch", daemon=True
                )
                self._thread.start()

    def remove(self, client: socket.socket) -> None:
        with self._lock:
            self._clients.pop(client, None)

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            pause.wait(_INTERVAL)
            with self._lock:
                if not self._clients:
                    self._thread = None
                    return
                gone = [client for client in self._clients if not _is_there(client)]
                left = [self._clients.pop(client) for client in gone]
            for on_departure in left:
                try:
                    on_departure()
                except Exception:  # one download's defect must not leave all others unwatched
                    log.exception("a defect in stopping a download")


_watch = _Watch()


def _is_there(client: socket.socket) -> bool:
    """Look at a connection's state, without reading from it or waiting."""
    try:
        return client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _ESTABLISHED
    except (OSError, AttributeError):
        return True  # no TCP, or a system that does not tell: the next write will


def _reset_on_close(client: socket.socket) -> None:
    # Without a Content-Length a plain close looks like a clean end to a proxy that speaks
    # HTTP/1.0 to us; a reset never does.
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

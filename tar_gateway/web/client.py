"""The client's end of a download, as far as the server shows it: gunicorn shows its socket.

A client that takes nothing is cut off, and one that leaves is noticed while nothing is being
sent to it. Under a server that shows no socket both happen when that server's write fails.
"""

import errno
import logging
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from wsgiref.types import WSGIEnvironment

from tar_gateway.errors import BrokenOff, Cancelled, InternalError
from tar_gateway.http.environ import CLIENT_SOCKET
from tar_gateway.web.observe.download import Download

# Seconds between two looks: a client that has left costs the upstream no more than these.
_INTERVAL = 1.0

# The first byte of tcp_info is the connection's state; a client is there while it is this one.
_ESTABLISHED = 1

# Linux's option by which a socket takes no more than so many bytes ahead of what was sent.
_TCP_NOTSENT_LOWAT = 25
_UNSENT = 128 * 1024

# Bytes of one write, all of which a client has to take within its time.
_LARGEST = 512 * 1024

log = logging.getLogger(__name__)


@contextmanager
def until_departure(environ: WSGIEnvironment, on_departure: Callable[[], None]) -> Iterator[None]:
    """Call ``on_departure``, from another thread, when the client leaves within this context."""
    client: socket.socket | None = environ.get(CLIENT_SOCKET)
    if client is None:
        yield
        return
    _departures.add(client, on_departure)
    try:
        yield
    finally:
        _departures.remove(on_departure)


class Delivery:
    """A WSGI iterable that every response of ours is sent by, whatever it says.

    Each write takes at most ``write_timeout`` seconds. With 0, only what the kernel takes at once
    is sent, and a connection that has no room for the rest ends. ``held`` is closed with it.
    """

    def __init__(
        self,
        blocks: Iterable[bytes],
        environ: WSGIEnvironment,
        write_timeout: float,
        held: ExitStack,
    ) -> None:
        self._blocks = iter(blocks)
        self._rest = b""
        self._held = held
        client: socket.socket | None = environ.get(CLIENT_SOCKET)
        if client is not None:
            held.callback(_set_timeout, client, client.gettimeout())
            _set_timeout(client, write_timeout)
            # A write is done when the kernel has the block; what it may hold unsent is bounded,
            # or a slow client would have to take MiBs of it within one write's time.
            with suppress(OSError):  # no TCP, or another system
                client.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, _UNSENT)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        block = self._rest or next(self._blocks)
        self._rest = block[_LARGEST:]
        return block[:_LARGEST]

    def close(self) -> None:
        """Release everything that is held. May be called again."""
        self._held.close()


def _set_timeout(client: socket.socket, seconds: float | None) -> None:
    with suppress(OSError):  # it is closed, which the next write shows
        client.settimeout(seconds)


def told(blocks: Iterable[bytes], download: Download) -> Iterator[bytes]:
    """Pass on blocks while the client is there, and tell ``download`` what becomes of them.

    A break is made unmistakable by a reset where the client was not told the length.
    """
    client: socket.socket | None = download.environ.get(CLIENT_SOCKET)
    source = iter(blocks)
    while True:
        before = time.monotonic()
        try:
            block = next(source)
        except StopIteration:
            download.became("complete")
            return
        except (BrokenOff, Cancelled) as error:
            download.waited(time.monotonic() - before)
            has_left = client is not None and not _is_there(client)
            if has_left or isinstance(error, Cancelled):
                download.became("client_left")
                # It is the client's doing, and servers make no noise about that.
                raise ConnectionResetError(errno.ECONNRESET, "the client has left") from error
            download.became("upstream_failed", error)
            if client is not None and not download.is_measured:
                _reset(client)
            raise
        except Exception:
            download.became("failed", InternalError())
            raise
        download.waited(time.monotonic() - before)
        yield block
        # The server asks for another block once it has sent the one before.
        download.sent(len(block))


class _Departures:
    """One thread that looks after all clients, and lives while there are any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clients: dict[Callable[[], None], socket.socket] = {}
        self._thread: threading.Thread | None = None

    def add(self, client: socket.socket, on_departure: Callable[[], None]) -> None:
        with self._lock:
            self._clients[on_departure] = client
            thread = None
            if self._thread is None:
                thread = self._thread = threading.Thread(
                    target=self._run, name="tar-gateway-watch", daemon=True
                )
        # Not under the lock: starting waits for the new thread, and under gevent gives way.
        if thread is not None:
            try:
                thread.start()
            except RuntimeError:  # the system has none left; the next client tries again
                log.warning("no thread is to be had to look after clients")
                with self._lock:
                    self._thread = None

    def remove(self, on_departure: Callable[[], None]) -> None:
        with self._lock:
            self._clients.pop(on_departure, None)

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            pause.wait(_INTERVAL)
            with self._lock:
                if not self._clients:
                    self._thread = None
                    return
                left = [end for end, client in self._clients.items() if not _is_there(client)]
                for on_departure in left:
                    del self._clients[on_departure]
            for on_departure in left:
                try:
                    on_departure()
                except Exception:  # one download's defect must not leave all others unwatched
                    log.exception("a defect in stopping a download")


_departures = _Departures()


def _is_there(client: socket.socket) -> bool:
    """Look at a connection's state, without reading from it or waiting."""
    try:
        return client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _ESTABLISHED
    except (OSError, AttributeError):
        return True  # no TCP, or a system that does not tell: the next write will


def _reset(client: socket.socket) -> None:
    # Without a Content-Length a plain close looks like a clean end to a proxy that speaks
    # HTTP/1.0 to us; a reset never does. It is closed here because the server would first say
    # that nothing more comes, which is that clean end.
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()

"""One connection to an HTTP server: a request out, a response's head in, then its content.

Written to cost little: a small file is asked for in one write and mostly there in one read. How
responses are read is `tar_gateway.http.receiving`'s to know; who opens connections and keeps them
is not known here. What goes wrong is an `OSError`, or a `BadMessage` for what is not HTTP.
"""

import select
import socket
import ssl
import time
from collections import deque
from contextlib import suppress

from tar_gateway.http.messages import Head
from tar_gateway.http.receiving import Receiver

try:
    from fcntl import ioctl
    from termios import FIONREAD
except ImportError:  # another system, with another allocator
    ioctl = None  # type: ignore[assignment]


# Bytes; a head and a small file together.
_READ = 64 * 1024

# Idle buffers for such reads. A `recv` would make room for all of it and cut off what stayed
# empty; the short rest, freed, stays in its thread's cache of glibc's, amidst the room that was
# cut off: no large block fits there any more, and a worker under load grew by 10 MiB a minute.
_rooms: deque[memoryview] = deque()

# How a server ends an idle connection that waits for a request.
_TIMED_OUT = (b"HTTP/1.1 408", b"HTTP/1.0 408")


class Connection:
    """An open socket, and what reads the responses that come over it.

    One request is under way at a time. ``timeout`` is in seconds: for a write, for a response's
    head, and for a read of its content; `give` sets another.
    """

    def __init__(self, wire: socket.socket, timeout: float) -> None:
        wire.settimeout(timeout)
        self._wire = wire
        self._timeout = timeout
        self._receiver = Receiver()
        self._poll = select.poll()
        self._poll.register(wire, select.POLLIN)

    def give(self, timeout: float) -> None:
        """Allow so many seconds from now on."""
        if timeout != self._timeout:
            self._timeout = timeout
            self._wire.settimeout(timeout)

    def ask(self, method: str, request: bytes) -> Head:
        """Send a request and read its response's head."""
        self._receiver.begin(method)
        self._wire.sendall(request)
        deadline = None
        while (head := self._receiver.head()) is None:
            deadline = self._feed(deadline)
        return head

    def read(self, limit: int) -> bytes:
        """Return what is there of the content: at least 1 byte, at most ``limit``.

        ``b""`` is its end.
        """
        deadline = None
        while (piece := self._receiver.content(limit)) is None:
            if most := self._receiver.direct():
                piece = self._wire.recv(bytes_ready(self._wire, min(limit, most)))
                self._receiver.took(len(piece))
                if piece:
                    break
            else:
                deadline = self._feed(deadline)
        return piece

    @property
    def is_over(self) -> bool:
        """Whether the response was read to its end."""
        return self._receiver.is_over

    def is_fit(self) -> bool:
        """Return whether another request may be sent: nothing has come that nobody asked for."""
        decrypted = isinstance(self._wire, ssl.SSLSocket) and self._wire.pending()
        return not (self._receiver.held or decrypted or self._poll.poll(0))

    def has_unrequested(self, *, look: bool = True) -> bool:
        """Return whether something has come that was not requested, and end the connection's use.

        ``look`` says whether to look for more than was read. Nothing but a 408 may come so, before
        an idle connection is closed (RFC 9110 15.5.9).
        """
        came = self._receiver.unrequested
        if look and not came:
            with suppress(OSError):  # it has ended, or TLS has said something of its own
                self._wire.settimeout(0)
                came = self._wire.recv(len(_TIMED_OUT[0]))
        return bool(came) and not came.startswith(_TIMED_OUT)

    def stop(self) -> None:
        """Make a read that waits, in another thread, see the end."""
        # Not TLS's own way, which would take what is still there for bytes in the clear. The
        # other side may have ended it meanwhile.
        with suppress(OSError):
            socket.socket.shutdown(self._wire, socket.SHUT_RDWR)

    def _feed(self, deadline: float | None) -> float:
        """Read more of what must come whole. Return the moment by which it must.

        What drips is as late as what does not come.
        """
        if deadline is not None and time.monotonic() > deadline:
            raise TimeoutError
        try:
            room = _rooms.pop()
        except IndexError:  # as many as ever wait for a head at once
            room = memoryview(bytearray(_READ))
        try:
            self._receiver.feed(room[: self._wire.recv_into(room)])
        finally:
            _rooms.append(room)
        return deadline or time.monotonic() + self._timeout


_NUMBER = bytes(4)  # room for a C int


def bytes_ready(wire: socket.socket, limit: int) -> int:
    """Wait until something is there. Return its length: at least 1 byte, at most ``limit``.

    At the connection's end it is 1, too: a read of so much tells. Where encryption hides how
    much it is, nothing is waited for. Raise `OSError` as a read would, `TimeoutError` included.
    """
    if ioctl is None or isinstance(wire, ssl.SSLSocket):
        return limit
    if not (count := _count(wire)):
        wire.recv(1, socket.MSG_PEEK)
        count = _count(wire)
    return max(1, min(count, limit))


def _count(wire: socket.socket) -> int:
    return int.from_bytes(ioctl(wire, FIONREAD, _NUMBER), "little")

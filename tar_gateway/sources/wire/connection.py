"""One connection to an HTTP server: a request out, a response's head in, then its content.

It never waits: what is not there yet raises `NotThere`, and whoever asked comes again. Written to
cost little: a small file is asked for in one write and mostly there in one read. How responses are
read is `tar_gateway.http.receiving`'s to know; who opens connections and keeps them is not known
here. What goes wrong is an `OSError`, or a `BadMessage` for what is not HTTP.
"""

import select
import selectors
import socket
import ssl
from collections import deque
from contextlib import suppress

from tar_gateway.http.messages import Head
from tar_gateway.http.receiving import Receiver

try:
    from fcntl import ioctl
    from termios import FIONREAD
except ImportError:  # another system, with another allocator
    ioctl = None  # type: ignore[assignment]


# Bytes; a head and a small file together. TLS gives a record of 16 KiB whole where there is as
# much room, so that it never holds anything that a selector would not show.
_READ = 64 * 1024

# Idle buffers for such reads. A `recv` would make room for all of it and cut off what stayed
# empty; the short rest, freed, stays in its thread's cache of glibc's, amidst the room that was
# cut off: no large block fits there any more, and a worker under load grew by 10 MiB a minute.
_rooms: deque[memoryview] = deque()

# How a server ends an idle connection that waits for a request.
_TIMED_OUT = (b"HTTP/1.1 408", b"HTTP/1.0 408")

# What a socket says that has nothing to give or no room to take. TLS may want the other.
_BLOCKED = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class NotThere(Exception):
    """Nothing is there yet: ``connection`` has to become ready for ``events`` of `selectors`."""

    def __init__(self, connection: "Connection", events: int) -> None:
        super().__init__()
        self.connection = connection
        self.events = events


class Connection:
    """An open socket, and what reads the responses that come over it.

    One request is under way at a time.
    """

    def __init__(self, wire: socket.socket) -> None:
        wire.setblocking(False)
        self._wire = wire
        self._receiver = Receiver()
        self._unsent = b""
        self._poll = select.poll()
        self._poll.register(wire, select.POLLIN)
        self.is_answered = False
        """Whether anything has come since the last request."""

    def ask(self, method: str, request: bytes) -> int:
        """Send a request, or its beginning. Return the events to wait for before `head`."""
        self._receiver.begin(method)
        self.is_answered = False
        self._unsent = request
        try:
            self._send()
        except NotThere as missing:
            return missing.events
        return selectors.EVENT_READ

    def head(self) -> Head:
        """Return the head of the response to the request."""
        if self._unsent:
            self._send()
        while (head := self._receiver.head()) is None:
            self._feed()
        return head

    def read(self, limit: int) -> bytes:
        """Return what is there of the content: at least 1 byte, at most ``limit``.

        ``b""`` is its end.
        """
        while (piece := self._receiver.content(limit)) is None:
            if most := self._receiver.direct():
                try:
                    piece = self._wire.recv(bytes_ready(self._wire, min(limit, most)))
                except _BLOCKED as error:
                    raise self._not_there(error, selectors.EVENT_READ) from None
                self._receiver.took(len(piece))
                if piece:
                    break
            else:
                self._feed()
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
                came = self._wire.recv(len(_TIMED_OUT[0]))
        return bool(came) and not came.startswith(_TIMED_OUT)

    def wait(self, events: int, seconds: float) -> None:
        """Wait, in this thread, until it is ready for these. Raise `TimeoutError`.

        It is late, however ready, where no seconds are left.
        """
        poll = self._poll
        if events != selectors.EVENT_READ:
            poll = select.poll()
            poll.register(self._wire, select.POLLOUT)
        if seconds <= 0 or not poll.poll(seconds * 1000):
            raise TimeoutError

    def stop(self) -> None:
        """Make a read that waits, in another thread, see the end."""
        # Not TLS's own way, which would take what is still there for bytes in the clear. The
        # other side may have ended it meanwhile.
        with suppress(OSError):
            socket.socket.shutdown(self._wire, socket.SHUT_RDWR)

    def _send(self) -> None:
        while self._unsent:
            try:
                self._unsent = self._unsent[self._wire.send(self._unsent) :]
            except _BLOCKED as error:
                raise self._not_there(error, selectors.EVENT_WRITE) from None

    def _feed(self) -> None:
        """Read more of what must come whole."""
        try:
            room = _rooms.pop()
        except IndexError:  # as many as ever read a head at once
            room = memoryview(bytearray(_READ))
        try:
            count = self._wire.recv_into(room)
            self._receiver.feed(room[:count])
        except _BLOCKED as error:
            raise self._not_there(error, selectors.EVENT_READ) from None
        finally:
            _rooms.append(room)
        self.is_answered = self.is_answered or count > 0

    def _not_there(self, error: OSError, events: int) -> NotThere:
        if isinstance(error, ssl.SSLWantReadError):
            events = selectors.EVENT_READ
        elif isinstance(error, ssl.SSLWantWriteError):
            events = selectors.EVENT_WRITE
        return NotThere(self, events)


_NUMBER = bytes(4)  # room for a C int


def bytes_ready(wire: socket.socket, limit: int) -> int:
    """Return the length of what is there: at least 1 byte, at most ``limit``.

    At the connection's end it is 1, too: a read of so much tells. Where encryption hides how
    much it is, it is the limit. Raise `OSError` as a read would, also where nothing is there.
    """
    if ioctl is None or isinstance(wire, ssl.SSLSocket):
        return limit
    if not (count := _count(wire)):
        wire.recv(1, socket.MSG_PEEK)
        count = _count(wire)
    return max(1, min(count, limit))


def _count(wire: socket.socket) -> int:
    return int.from_bytes(ioctl(wire, FIONREAD, _NUMBER), "little")

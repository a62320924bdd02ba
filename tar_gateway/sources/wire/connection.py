"""One connection to an HTTP server: a request out, a response's head in, then its content.

Written to cost little: a small file is asked for in one write and mostly there in one read.
What is on the wire is `tar_gateway.http.messages`'s to know; who opens connections and keeps
them is not known here. What goes wrong is an `OSError`, or a `BadMessage` for what is not HTTP.
"""

import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from tar_gateway.http.messages import END, LONGEST_HEAD, BadMessage, Head, read_head

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

# Heads that say only that a response will follow, and its own.
_MOST_HEADS = 8

# How a server ends an idle connection that waits for a request.
_TIMED_OUT = (b"HTTP/1.1 408", b"HTTP/1.0 408")

# Bytes of a line between two chunks, and of all that follow the last.
_LONGEST_LINE = 4096
_LONGEST_TRAILER = 16 * 1024


class Connection:
    """An open socket, with what has come of it and was not read yet.

    One request is under way at a time. ``timeout`` is in seconds: for a write, for a response's
    head, and for a read of its content; `give` sets another.
    """

    def __init__(self, wire: socket.socket, timeout: float) -> None:
        wire.settimeout(timeout)
        self._wire = wire
        self._timeout = timeout
        self._ahead = b""
        self._poll = select.poll()
        self._poll.register(wire, select.POLLIN)

    def give(self, timeout: float) -> None:
        """Allow so many seconds from now on."""
        if timeout != self._timeout:
            self._timeout = timeout
            self._wire.settimeout(timeout)

    def ask(self, method: str, request: bytes) -> Head:
        """Send a request and read its response's head."""
        self._wire.sendall(request)
        for _ in range(_MOST_HEADS):
            head = self._head(method)
            # RFC 9110 15.2: the response itself follows, unless the protocol is to be another.
            if head.status not in range(100, 200) or head.status == 101:
                return head
        raise BadMessage("the response does not come")

    def read(self, limit: int) -> bytes:
        """Return what is there, at most ``limit`` bytes; ``b""`` once the other side has ended."""
        if not self._ahead:
            return self._wire.recv(bytes_ready(self._wire, limit))
        block, self._ahead = self._ahead[:limit], self._ahead[limit:]
        return block

    def line(self) -> bytes:
        """Return a line, which is short, without its end.

        Its end is CRLF: between chunks nothing else is (RFC 9112 7.1), so that a chunk of
        another size than was told is noticed.
        """
        deadline = None
        while (end := self._ahead.find(b"\n", 0, _LONGEST_LINE)) < 0:
            if len(self._ahead) >= _LONGEST_LINE:
                raise BadMessage("a line between two chunks is too long")
            deadline = self._more(_LONGEST_LINE, deadline)
        line, self._ahead = self._ahead[: end + 1], self._ahead[end + 1 :]
        if not line.endswith(b"\r\n"):
            raise BadMessage("a line between two chunks does not end as it should")
        return line[:-2]

    def is_fit(self) -> bool:
        """Return whether another request may be sent: nothing has come that nobody asked for."""
        decrypted = isinstance(self._wire, ssl.SSLSocket) and self._wire.pending()
        return not (self._ahead or decrypted or self._poll.poll(0))

    def has_unrequested(self, *, look: bool = True) -> bool:
        """Return whether something has come that was not requested, and end the connection's use.

        ``look`` says whether to look for more than was read. Nothing but a 408 may come so, before
        an idle connection is closed (RFC 9110 15.5.9).
        """
        came = self._ahead
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

    def _head(self, method: str) -> Head:
        deadline = None
        seen = 0
        while (end := END.search(self._ahead, seen)) is None:
            if len(self._ahead) > LONGEST_HEAD:
                break
            seen = max(0, len(self._ahead) - 2)
            deadline = self._more(_READ, deadline)
        if end is None or end.end() > LONGEST_HEAD:
            raise BadMessage("the response's head is too long")
        head, self._ahead = self._ahead[: end.end()], self._ahead[end.end() :]
        return read_head(head, method)

    def _more(self, limit: int, deadline: float | None) -> float:
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
            count = self._wire.recv_into(room, limit)
            self._ahead += room[:count]
        finally:
            _rooms.append(room)
        if not count:
            raise ConnectionResetError("the other side has ended")
        return deadline or time.monotonic() + self._timeout


class SizedContent:
    """A content that ends after ``length`` bytes, or with the connection where it is `None`.

    ``on_end`` is called once, when the last byte was read.
    """

    def __init__(
        self, connection: Connection, length: int | None, on_end: Callable[[], None]
    ) -> None:
        self._connection = connection
        self._left = length
        self._on_end = on_end
        if length == 0:
            on_end()

    def read(self, limit: int) -> bytes:
        """Return what is there, at least 1 byte and at most ``limit``; ``b""`` at the end."""
        left = self._left
        if left is None:
            return self._connection.read(limit)
        if not left:
            return b""
        block = self._connection.read(min(limit, left))
        if not block:
            raise ConnectionResetError("the other side has ended too early")
        self._left = left - len(block)
        if not self._left:
            self._on_end()
        return block


class ChunkedContent:
    """A content in chunks (RFC 9112 7.1); ``on_end`` is called once, at the last one's end."""

    def __init__(self, connection: Connection, on_end: Callable[[], None]) -> None:
        self._connection = connection
        self._on_end = on_end
        self._left = 0
        self._begun = False
        self._ended = False

    def read(self, limit: int) -> bytes:
        """Return what is there, at least 1 byte and at most ``limit``; ``b""`` at the end."""
        if self._ended:
            return b""
        if not self._left:
            self._left = self._next()
            if not self._left:
                self._read_trailer()
                self._ended = True
                self._on_end()
                return b""
        block = self._connection.read(min(limit, self._left))
        if not block:
            raise ConnectionResetError("the other side has ended within a chunk")
        self._left -= len(block)
        return block

    def _next(self) -> int:
        """Read the next chunk's size; 0 is the last one's."""
        if self._begun and self._connection.line():
            raise BadMessage("a chunk does not end where it should")
        self._begun = True
        digits = self._connection.line().partition(b";")[0].strip(b" \t")
        # int() alone would also read a sign, underscores and a prefix.
        if not digits or len(digits) > 15 or digits.strip(b"0123456789abcdefABCDEF"):
            raise BadMessage("a chunk's size is not a hexadecimal number")
        return int(digits, 16)

    def _read_trailer(self) -> None:
        count = 0
        while line := self._connection.line():
            count += len(line)
            if count > _LONGEST_TRAILER:
                raise BadMessage("the trailer is too long")


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

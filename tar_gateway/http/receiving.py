"""The responses that come over one connection, read from bytes in whatever pieces they arrive.

It knows bytes, and neither sockets nor clocks (RFC 9112, sections 4, 6 and 7): its caller reads,
waits, and decides what is late. What can be read in two ways is not read at all, since it would
shift every later response of the connection.
"""

import sys
from enum import Enum

from tar_gateway.http.messages import END, LONGEST_HEAD, BadMessage, Head, read_head

# Heads that say only that a response will follow, and its own.
_MOST_HEADS = 8

# Bytes of a line between two chunks, and of all that follow the last.
_LONGEST_LINE = 4096
_LONGEST_TRAILER = 16 * 1024

_HEXADECIMAL = b"0123456789abcdefABCDEF"


class _Stage(Enum):
    """What comes next on the wire."""

    OVER = "nothing: no response is awaited"
    HEAD = "a head"
    SIZED = "content of a known length"
    CHUNK = "content of a chunk"
    UNTIL_CLOSE = "content that ends with the connection"
    CHUNK_SIZE = "the line with a chunk's size"
    CHUNK_END = "the empty line behind a chunk"
    TRAILER = "the lines behind the last chunk"


_CONTENT = frozenset({_Stage.SIZED, _Stage.CHUNK, _Stage.UNTIL_CLOSE})


class Receiver:
    """Reads one response after the other: its head, its content in pieces, its end.

    For each request: `begin`; then `head`, and then `content` until it returns ``b""``. Where they
    return `None`, more has to be read from the connection. What was read is told to `feed`; it may
    be any number of bytes, and none is the other side's end. Large contents need not pass through
    here, where each byte is copied: `direct` says how many bytes of content come next on the
    connection, for the caller to read and keep; it tells `took` how many it did.

    Once `BadMessage` or `ConnectionResetError` was raised, the connection is of no use.
    """

    def __init__(self) -> None:
        self._data = b""  # what was fed; what is before ``_at`` was read
        self._at = 0
        self._seen = 0  # no head ends before here
        self._ended = False
        self._stage = _Stage.OVER
        self._method = ""
        self._heads = 0  # those that were skipped
        self._left = 0  # bytes of the content, or of its chunk
        self._trailer = 0  # bytes of it that were read

    def begin(self, method: str) -> None:
        """Await the response to a request of this method; the one before was read to its end.

        Raise `BadMessage` where bytes are here that came before the request was sent.
        """
        assert self._stage is _Stage.OVER
        if self.held:
            raise BadMessage("something came that was not requested")
        self._method = method
        self._heads = 0
        self._stage = _Stage.HEAD

    def feed(self, block: bytes | bytearray | memoryview) -> None:
        """Add bytes that were read from the connection, by a copy; none at its end."""
        if not block:
            self._ended = True
        elif self._data:
            self._data = self._data[self._at :] + block
            self._seen = max(0, self._seen - self._at)
            self._at = 0
        else:
            self._data = bytes(block)

    def head(self) -> Head | None:
        """Return the response's head, `None` while it is not whole.

        Heads that only announce it are skipped. Raise `BadMessage`, or `ConnectionResetError`
        where the connection has ended before.
        """
        assert self._stage is _Stage.HEAD
        while True:
            found = END.search(self._data, self._seen)
            end = found.end() if found else len(self._data)
            if end - self._at > LONGEST_HEAD:
                raise BadMessage("the response's head is too long")
            if found is None:
                self._seen = max(self._at, end - 2)
                self._need_more()
                return None
            head = read_head(self._data[self._at : end], self._method)
            self._seen = end
            self._skip_to(end)
            # RFC 9110 15.2: the response itself follows, unless the protocol is to be another.
            if head.status not in range(100, 200) or head.status == 101:
                self._begin_content(head)
                return head
            self._heads += 1
            if self._heads == _MOST_HEADS:
                raise BadMessage("the response does not come")

    def content(self, limit: int) -> bytes | None:
        """Return the next bytes of the content: at least 1, at most ``limit``; ``b""`` at its end.

        `None` means that none are here. Raise `BadMessage`, or `ConnectionResetError` where the
        connection has ended too early.
        """
        while self._stage not in _CONTENT:
            if self._stage is _Stage.OVER:
                return b""
            line = self._line()
            if line is None:
                self._need_more()
                return None
            self._follow(line)
        if self._at == len(self._data):
            if self._ended and self._stage is _Stage.UNTIL_CLOSE:
                self._stage = _Stage.OVER
                return b""
            self._need_more()
            return None
        piece = self._data[self._at : self._at + min(limit, self._left)]
        self._skip_to(self._at + len(piece))
        self._pass(len(piece))
        return piece

    def direct(self) -> int:
        """Return how many bytes of content come next on the connection, of which none are here.

        They may be read past this object; 0 where they have to be fed. Where no length is known,
        it is more than any content has.
        """
        return self._left if self._stage in _CONTENT and not self.held else 0

    def took(self, count: int) -> None:
        """Count the bytes that were read past this object, 0 at the connection's end."""
        assert count <= self.direct()
        if count:
            self._pass(count)
        else:
            self._ended = True

    @property
    def is_over(self) -> bool:
        """Whether the response was read to its end. Its head may have been all of it."""
        return self._stage is _Stage.OVER

    @property
    def held(self) -> int:
        """Bytes that were fed and not read; none of them are requested where `is_over`."""
        return len(self._data) - self._at

    @property
    def unrequested(self) -> bytes:
        """What came behind the response's end."""
        return self._data[self._at :] if self.is_over else b""

    def _need_more(self) -> None:
        if self._ended:
            raise ConnectionResetError("the other side has ended too early")

    def _skip_to(self, end: int) -> None:
        if end == len(self._data):
            self._data, self._at, self._seen = b"", 0, 0  # hold nothing that was read
        else:
            self._at = end

    def _begin_content(self, head: Head) -> None:
        self._trailer = 0
        if head.chunked:
            self._stage = _Stage.CHUNK_SIZE
        elif head.length is None:
            self._left = sys.maxsize
            self._stage = _Stage.UNTIL_CLOSE
        else:
            self._left = head.length
            self._stage = _Stage.SIZED if head.length else _Stage.OVER

    def _pass(self, count: int) -> None:
        if self._stage is not _Stage.UNTIL_CLOSE:
            self._left -= count
            if not self._left:
                self._stage = _Stage.OVER if self._stage is _Stage.SIZED else _Stage.CHUNK_END

    def _line(self) -> bytes | None:
        """Read a line of a content in chunks, without its end; `None` while it is not whole.

        Its end is CRLF: between chunks nothing else is (RFC 9112 7.1), so that a chunk of another
        size than was told is noticed.
        """
        end = self._data.find(b"\n", self._at, self._at + _LONGEST_LINE) + 1
        if not end:
            if self.held >= _LONGEST_LINE:
                raise BadMessage("a line between two chunks is too long")
            return None
        line = self._data[self._at : end]
        self._skip_to(end)
        if not line.endswith(b"\r\n"):
            raise BadMessage("a line between two chunks does not end as it should")
        return line[:-2]

    def _follow(self, line: bytes) -> None:
        match self._stage:
            case _Stage.CHUNK_SIZE:
                self._left = _chunk_size(line)
                self._stage = _Stage.CHUNK if self._left else _Stage.TRAILER
            case _Stage.CHUNK_END:
                if line:
                    raise BadMessage("a chunk does not end where it should")
                self._stage = _Stage.CHUNK_SIZE
            case _ if line:
                self._trailer += len(line)
                if self._trailer > _LONGEST_TRAILER:
                    raise BadMessage("the trailer is too long")
            case _:
                self._stage = _Stage.OVER


def _chunk_size(line: bytes) -> int:
    """Read a chunk's size; 0 is the last one's."""
    digits = line.partition(b";")[0].strip(b" \t")
    # int() alone would also read a sign, underscores and a prefix.
    if not digits or len(digits) > 15 or digits.strip(_HEXADECIMAL):
        raise BadMessage("a chunk's size is not a hexadecimal number")
    return int(digits, 16)

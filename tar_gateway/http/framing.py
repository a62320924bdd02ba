"""Where a request ends among the bytes of its connection (RFC 9112, sections 6 and 7).

It tells when a request is worth a thread, and nothing else hangs on it: the server parses the
request afterwards, with rules of its own. So whatever is odd counts as whole, for the server to
refuse. Only a body's chunks are not left as they came: they are joined into one while they
arrive, since a server may need microseconds for each. It knows bytes, and no socket.
"""

import re
from enum import Enum

from tar_gateway.http.messages import DIGITS

_END = b"\r\n\r\n"
_BARE_LF = re.compile(rb"(?<!\r)\n")
_FIELD = re.compile(
    rb"\r\n(content-length|transfer-encoding|expect)[ \t]*:[ \t]*([^\r\n]*)", re.IGNORECASE
)
_LENGTH = re.compile(DIGITS.encode())
_HTTP_1_1 = re.compile(rb"(?:\r\n)?[^\r\n]* HTTP/1\.1\r\n")

# A chunk's first line: no more than the grammar has, so that nothing odd is lost with it. What is
# read once is never read again, so that the time grows with its length only.
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*+"'
_VALUE = rb"[ \t]*+=[ \t]*+(?:" + _TOKEN + rb"|" + _QUOTED + rb")"
_EXTENSION = rb"[ \t]*+;[ \t]*+" + _TOKEN + rb"(?:" + _VALUE + rb")?+"
_CHUNK = re.compile(rb"([0-9a-fA-F]++)(?:" + _EXTENSION + rb")*+\r\n")

# gunicorn gives up on the line before a chunk when it is longer than this.
_MAX_CHUNK_LINE = 8190


class Progress(Enum):
    """How much of a request is there."""

    HEAD = "its head is awaited"
    BODY = "its head is whole, and its body is awaited"
    WHOLE = "nothing is awaited: a server may parse it"
    TOO_LONG = "its head is longer than allowed"


class IncomingRequest:
    """The bytes of one request, fed in as they arrive; what follows it may be among them.

    ``max_head`` and ``max_body`` are bytes; of a body in chunks, all that it takes on the wire
    counts. A larger body counts as whole as soon as that is known, for the application to refuse
    it or to read it.
    """

    def __init__(self, max_head: int, max_body: int) -> None:
        self.data = bytearray()
        self.progress = Progress.HEAD
        self.wants_continue = False
        """Whether the client sends its body only when it is told to go on (RFC 9110, 10.1.1)."""
        self.on_wire = 0
        """Bytes that a body in chunks takes at least, framing and trailers included."""
        self._max_head = max_head
        self._max_body = max_body
        self._body = 0  # where the body begins
        self._end = 0  # where the request ends; 0 when the body is in chunks
        self._joined = bytearray()  # the head, and what the chunks had that were taken out
        self._taken = 0  # bytes of those chunks in ``data``
        self._awaited = 0  # so many bytes have to be there before the next chunk can be whole
        self._looked = 0  # so many bytes were looked at

    @property
    def held(self) -> int:
        """Bytes that are kept here."""
        return len(self.data) + len(self._joined)

    def feed(self, block: bytes) -> Progress:
        """Add bytes, at most a few times 64 KiB at once, and tell how much is there now."""
        self.data += block
        if self.progress is Progress.HEAD:
            self._look_for_head()
        if self.progress is Progress.BODY and self._has_body():
            self._put_back()
            self.progress = Progress.WHOLE
        self._looked = len(self.data)
        return self.progress

    def take(self, count: int) -> bytes:
        """Return the first bytes, at most ``count``, and hold them no more."""
        block = bytes(self.data[:count])
        del self.data[:count]
        return block

    def clear(self) -> None:
        """Hold nothing any more."""
        self.data.clear()
        self._joined.clear()

    def _look_for_head(self) -> None:
        end = self.data.find(_END, max(0, self._looked - len(_END) + 1))
        if end >= 0:
            self._body = end + len(_END)
            self._look_for_body(self._body)
        elif _BARE_LF.search(self.data, self._looked):
            self.progress = Progress.WHOLE  # no head ever ends that way
        elif len(self.data) > self._max_head:
            self.progress = Progress.TOO_LONG

    def _look_for_body(self, start: int) -> None:
        found = _FIELD.findall(self.data, 0, start - 2)
        fields = [(name.lower(), value.rstrip(b" \t")) for name, value in found]
        framing = [(name, value) for name, value in fields if name != b"expect"]
        self.progress = Progress.WHOLE
        match framing:
            case [*others, (b"transfer-encoding", value)] if _ends_chunked(others, value):
                self._awaited = start
                self._joined += self.data[:start]
            case [(b"content-length", length)] if _LENGTH.fullmatch(length):
                if not 0 < int(length) <= self._max_body:
                    return
                self._end = start + int(length)
            case _:  # no body, or two opinions on where it ends
                return
        self.progress = Progress.BODY
        self.wants_continue = (
            any(name == b"expect" and value.lower() == b"100-continue" for name, value in fields)
            and len(self.data) == start
            and _HTTP_1_1.match(self.data) is not None
        )

    def _has_body(self) -> bool:
        if self._end:
            return len(self.data) >= self._end
        return len(self.data) >= self._awaited and self._has_all_chunks()

    def _has_all_chunks(self) -> bool:
        """Take out the chunks that are whole, and tell whether nothing more is awaited."""
        at = self._body
        most = at + self._max_body - self._taken  # where the body becomes too large
        end = at  # of what is known of the body
        while chunk := _CHUNK.match(self.data, at):
            size = int(chunk[1], 16)
            start = chunk.end()
            if not size:  # trailers may follow
                found = self.data.find(_END, max(start - 2, self._looked - len(_END) + 1))
                end = len(self.data) if found < 0 else found + len(_END)
                is_whole = found >= 0
                break
            end = start + size + 2
            if end > most or self.data[end - 2 : end] != b"\r\n":
                is_whole = len(self.data) >= end  # then it does not end where it should
                self._awaited = end
                break
            self._joined += self.data[start : end - 2]
            at = end
        else:
            end = len(self.data)
            is_whole = self.data.find(b"\r\n", at) >= 0 or end - at > _MAX_CHUNK_LINE
        self.on_wire = self._taken + end - self._body
        self._taken += at - self._body
        self._awaited -= at - self._body
        del self.data[self._body : at]
        return is_whole or end > most

    def _put_back(self) -> None:
        """Return what the chunks had that were taken out, as one chunk, its place in ``data``."""
        size = len(self._joined) - self._body
        if size > 0:
            self._joined[self._body : self._body] = b"%x\r\n" % size
            self._joined += b"\r\n" + self.data[self._body :]
            self.data = self._joined  # not copied, since it may be large
        self._joined = bytearray()


def _ends_chunked(others: list[tuple[bytes, bytes]], value: bytes) -> bool:
    """Return whether chunked is the last transfer coding, and no length contradicts it."""
    last = value.rpartition(b",")[2].strip(b" \t").lower()
    return last == b"chunked" and all(name == b"transfer-encoding" for name, _ in others)

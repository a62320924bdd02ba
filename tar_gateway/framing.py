"""Where a request ends among the bytes of its connection (RFC 9112, sections 6 and 7).

It tells when a request is worth a thread, and nothing else hangs on it: the server parses the
same bytes afterwards, with rules of its own. So whatever is odd counts as whole, for the server
to refuse. It knows bytes, and no socket.
"""

import re
from enum import Enum

_END = b"\r\n\r\n"
_BARE_LF = re.compile(rb"(?<!\r)\n")
_FIELD = re.compile(
    rb"\r\n(content-length|transfer-encoding|expect)[ \t]*:[ \t]*([^\r\n]*)", re.IGNORECASE
)
_LENGTH = re.compile(rb"\d{1,18}")  # of more bytes than anybody can send
_HTTP_1_1 = re.compile(rb"(?:\r\n)?[^\r\n]* HTTP/1\.1\r\n")
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,16})[ \t]*(?:;|\r\n)")

# gunicorn gives up on the line before a chunk when it is longer than this.
_MAX_CHUNK_LINE = 8190


class Progress(Enum):
    """How much of a request is there."""

    HEAD = "its head is awaited"
    BODY = "its head is whole, and its body is awaited"
    WHOLE = "nothing is awaited: a server may parse it"
    TOO_LONG = "its head is longer than allowed"


class Incoming:
    """The bytes of one request, fed in as they arrive; what follows it may be among them.

    ``max_head`` and ``max_body`` are bytes. A larger body counts as whole as soon as that is
    known, for the application to refuse it or to read it.
    """

    def __init__(self, max_head: int, max_body: int) -> None:
        self.data = bytearray()
        self.progress = Progress.HEAD
        self.wants_continue = False
        """Whether the client sends its body only when it is told to go on (RFC 9110, 10.1.1)."""
        self._max_head = max_head
        self._max_body = max_body
        self._body = 0  # where the body begins
        self._chunk = 0  # where the next chunk begins; 0 when the body is of a told length
        self._end = 0  # where the request ends, for a body of a told length
        self._looked = 0  # so many bytes were looked at

    def feed(self, block: bytes) -> Progress:
        """Add bytes, at most a few times 64 KiB at once, and tell how much is there now."""
        self.data += block
        if self.progress is Progress.HEAD:
            self._look_for_head()
        if self.progress is Progress.BODY and self._has_body():
            self.progress = Progress.WHOLE
        self._looked = len(self.data)
        return self.progress

    def take(self, count: int) -> bytes:
        """Give the first bytes, at most ``count``, and hold them no more."""
        block = bytes(self.data[:count])
        del self.data[:count]
        return block

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
            case [(b"transfer-encoding", _)]:
                self._chunk = start
            case [(b"content-length", length)] if _LENGTH.fullmatch(length):
                if not 0 < int(length) <= self._max_body:
                    return
                self._end = start + int(length)
            case _:  # no body, or two answers to where it ends
                return
        self.progress = Progress.BODY
        self.wants_continue = (
            any(name == b"expect" and value.lower() == b"100-continue" for name, value in fields)
            and len(self.data) == start
            and _HTTP_1_1.match(self.data) is not None
        )

    def _has_body(self) -> bool:
        if self._chunk:
            return len(self.data) - self._body > self._max_body or self._has_all_chunks()
        return len(self.data) >= self._end

    def _has_all_chunks(self) -> bool:
        while True:
            line_end = self.data.find(b"\r\n", self._chunk)
            if line_end < 0:
                return len(self.data) - self._chunk > _MAX_CHUNK_LINE
            chunk = _CHUNK.match(self.data, self._chunk)
            if chunk is None:
                return True
            size = int(chunk[1], 16)
            if size == 0:  # trailers may follow
                return self.data.find(_END, max(line_end, self._looked - len(_END))) >= 0
            self._chunk = line_end + 2 + size + 2

"""What a response says of a member: its size, its version, and the slice that it holds.

Judged by its status and headers; its content is read no further than has to be, and never sent
for here.
"""

import re
from collections.abc import Callable

from tar_gateway.errors import MemberChanged, SourceError
from tar_gateway.http.messages import DIGITS
from tar_gateway.http.validators import Validator
from tar_gateway.sources import Stat, UnknownSize
from tar_gateway.sources.wire.asking import Read, Steps, discard
from tar_gateway.sources.wire.response import (
    Content,
    ContentOf,
    Headers,
    Response,
    failed,
    fault_of,
)

_CONTENT_RANGE = re.compile(rf"bytes ({DIGITS})-({DIGITS})/({DIGITS}|\*)", re.IGNORECASE)
_EMPTY_RANGE = re.compile(r"bytes \*/0+", re.IGNORECASE)

# Statuses of the whole file; with 204 it is empty.
WHOLE = frozenset({200, 204})

_OR_HEAD_DIFFERS = ": it has changed, or its server says something else to HEAD than to GET"


def told_by_range(response: Response, path: str) -> int | None:
    """Find the member's size in the response to a Range of its first byte, `None` if untold."""
    told = response.get("content-range") or ""
    if response.status == 416:
        return 0 if _EMPTY_RANGE.fullmatch(told) else None
    match = _CONTENT_RANGE.fullmatch(told) if response.status == 206 else None
    if response.coding(path) or not match or match[1] != "0" or match[2] != "0" or match[3] == "*":
        return None
    return int(match[3]) or None  # there is no first byte of none


def stat_of(response: Response, size: int) -> Stat:
    """Return what a response says of the member that it is of."""
    validator = response.validator()
    dated = response.dated() if validator is not None and validator.is_etag else None
    return Stat(size, response.mtime(), validator, response.no_store(), dated)


def size_by_get(response: Response, path: str) -> Steps[int | None]:
    """Find the member's size in the response to a plain GET, `None` where that tells none.

    Closes the content, and raises `SourceError`, for anything that is not the member.
    """
    try:
        if response.status not in WHOLE:
            yield from discard(response)
            raise fault_of(response, path)
        _check_plain(response, path)
        return _whole_length(response)
    except BaseException:
        response.content.close()
        raise


def _whole_length(response: Response) -> int | None:
    return 0 if response.status == 204 else response.length()


def _check_plain(response: Response, path: str) -> None:
    if coding := response.coding(path):
        raise SourceError(
            f"it is sent encoded as {coding}, though the plain file was asked for: its server must "
            "not compress it for a request with Accept-Encoding: identity"
        )


def outweighs_head(response: Response) -> bool:
    """Return whether a plain GET is to be believed where HEAD said something else.

    Not where it may have been cut off, or says that there are no bytes: nothing would show that
    HEAD was right.
    """
    tells_end = not response.names.isdisjoint({"content-length", "transfer-encoding"})
    return response.status not in WHOLE or (tells_end and _whole_length(response) != 0)


def stat_by_get(response: Response, path: str) -> Steps[Stat | UnknownSize]:
    """Learn a member from the response to a plain GET. Raise `SourceError`."""
    size = yield from size_by_get(response, path)
    if size is None:
        return UnknownSize(response.mtime(), response.content, response.no_store())
    response.content.close()
    return stat_of(response, size)


def check_slice(
    response: Response, path: str, start: int, stop: int, stat: Stat, *, ranged: bool
) -> tuple[int, bool]:
    """Check that a response is the slice that was asked for, of the version that was promised.

    Return how many bytes come before the slice, and whether the response ends with it.
    """
    if response.status == 412 or (ranged and response.status == 416):
        raise MemberChanged("it has changed since its size was asked")
    if response.status not in {*WHOLE, 206}:
        raise fault_of(response, path)
    _check_plain(response, path)
    _check_version(response, stat.validator)
    length = _whole_length(response)
    if response.status in WHOLE:
        if length is not None and length != stat.size:
            raise MemberChanged(
                f"it is of {length} bytes by now, not {stat.size} as was told{_OR_HEAD_DIFFERS}"
            )
        return start, stop == stat.size
    match = _CONTENT_RANGE.fullmatch(response.get("content-range") or "")
    if not ranged or not match or not int(match[1]) <= start < stop <= int(match[2]) + 1:
        raise SourceError("the response is not the range that was asked for")
    first, end = int(match[1]), int(match[2]) + 1
    size = max(end, stat.size) if match[3] == "*" else int(match[3])
    if size != stat.size:
        raise MemberChanged(f"it is of {size} bytes by now, not {stat.size}")
    if length is not None and length != end - first:
        raise SourceError("the response's Content-Length is not that of its range")
    return start - first, stop == end


def names_version(response: Response, promised: Validator | None) -> bool:
    """Return whether a response has what proves its version.

    Some leave Last-Modified out of a 206 (RFC 9110 15.3.7): then only the whole can be checked.
    """
    header = "etag" if promised is not None and promised.is_etag else "last-modified"
    return header in response.names


def _check_version(response: Response, promised: Validator | None) -> None:
    # A weak date says only that the file was written a moment ago, as a server says of what
    # it makes anew for every request; a whole file under a later date is still a whole file.
    if promised is None or not (promised.is_etag or promised.strong):
        return
    # Held to what was promised and not to the best that it says: a date may be strong by now.
    etag = response.get("etag")
    now = etag if promised.is_etag else response.get("last-modified")
    if now != promised.text or (promised.beside and etag and etag != promised.beside):
        raise MemberChanged("its validator has changed since its size was asked")


def condition_of(validator: Validator | None) -> Headers:
    """Return the condition that a changed file fails. A weak validator can't be used in one."""
    if validator is None or not validator.strong:
        return []
    return [("If-Match" if validator.is_etag else "If-Unmodified-Since", validator.text)]


def read_all(response: Response, limit: int) -> Steps[bytes]:
    """Read all of a listing, of ``limit`` bytes at most. Raise `SourceError` for more or less."""
    length, body = response.length(), bytearray()
    while block := (yield Read(response.content, 64 * 1024)):
        body += block
        if len(body) > limit:
            raise SourceError(f"its listing is longer than MAX_LISTING, {limit} bytes")
    if length is not None and len(body) != length:
        raise SourceError("its listing ended too early", transient=True)
    return bytes(body)


def skip(content: Content, count: int) -> Steps[None]:
    """Read so many bytes and throw them away. Raise `SourceError` where there are fewer."""
    while count:
        block = yield Read(content, min(count, 64 * 1024))
        if not block:
            raise SourceError("the response ended too early", transient=True)
        count -= len(block)


class ExactContent(ContentOf):
    """A content held to its length: never longer, never shorter, whatever the headers said."""

    def __init__(
        self,
        content: Content,
        length: int,
        *,
        ends: bool,
        on_fault: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(content)
        self._left = length
        self._ends = ends
        self._on_fault = on_fault

    def read(self, limit: int) -> bytes:
        """Return what is there; raise `SourceError` where it is not what was promised."""
        if not self._left:
            if self._ends and self._content.read(1):
                self._note_fault()
                raise MemberChanged(f"it is longer by now than was told{_OR_HEAD_DIFFERS}")
            return b""
        block = self._content.read(min(limit, self._left))
        if not block:
            self._note_fault()
            raise SourceError("the response ended too early", transient=True)
        self._left -= len(block)
        return block

    def failed(self, error: SourceError) -> SourceError:
        """Tell of a failure, as `TrackedContent` does."""
        return failed(self._content, error)

    def _note_fault(self) -> None:
        if self._on_fault is not None:
            self._on_fault()

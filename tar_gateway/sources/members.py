"""What HTTP responses say of a member, and whether they keep what an earlier one promised.

Asks through an `Exchange` and judges the answers; how they travel is not known here, so an
upstream's socket and a wrapped application's call are read by the same rules.
"""

import re
from contextlib import closing, suppress
from typing import Protocol

from tar_gateway.errors import MemberChanged, SourceError
from tar_gateway.http.headers import is_replaced
from tar_gateway.http.messages import DIGITS
from tar_gateway.http.validators import Validator
from tar_gateway.sources import Caller, Source, Stat, UnknownSize
from tar_gateway.sources.wire.response import (
    PASSING,
    Content,
    Headers,
    Response,
    discard,
    drain,
    fault_of,
)
from tar_gateway.sources.wire.tally import Tally

_CONTENT_RANGE = re.compile(rf"bytes ({DIGITS})-({DIGITS})/({DIGITS}|\*)", re.IGNORECASE)
_EMPTY_RANGE = re.compile(r"bytes \*/0+", re.IGNORECASE)

# Refusals of HEAD that may be believed, each with the status that says the same.
_REFUSALS = {401: 401, 403: 403, 404: 404, 410: 404}

# The whole file; with 204 it is empty.
_WHOLE = frozenset({200, 204})

# What no server says because of a Range: of its load, or that the file is none.
_CERTAIN = frozenset({401, 404, 410, 429, 503})


class Exchange(Protocol):
    """Sends one request for a member and gives the response once its headers are there.

    Raise `SourceError` when there is none.
    """

    def __call__(self, method: str, path: str, headers: Headers, caller: Caller) -> Response:
        """Send one request; the response's content is open and has to be closed."""
        ...


class FileServer(Source, Protocol):
    """A `Source` that takes plain requests as well: a server of files, or several as one."""

    def forward(self, method: str, path: str, headers: Headers, caller: Caller) -> Response:
        """Pass a plain request on, and return the response as it is. Raise `SourceError`.

        ``path`` is a reference as `stat` takes it; a directory's ends with a slash, and the root's
        is empty. ``headers`` are all that go along: those of ``caller`` are among them.
        """
        ...

    def own_path(self, url: str, path: str) -> str | None:
        """Return the path that a ``Location`` points to, `None` if it is none of the server's.

        ``path`` is the reference that was asked for when it came.
        """
        ...

    def reach(self) -> object:
        """Ask for anything at all, within seconds. Raise `SourceError` if nothing answers."""
        ...

    def close(self) -> None:
        """Close the connections that are not in use."""
        ...


class HttpMembers:
    """A `Source` over an `Exchange`: of a server, which is asked for what it knows at once."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._head = _HeadRefusals()

    def ask(self, method: str, path: str, headers: Headers, caller: Caller) -> Response:
        """Ask, and refuse a response that is only there for a server in front to replace."""
        response = caller.tally.counted(lambda: self._exchange(method, path, headers, caller))
        if response.status in {200, 206} and is_replaced(response.names):
            # It holds nothing of the caller's: mostly an empty text, or a list of places that only
            # that server should know.
            response.content.close()
            raise SourceError("its bytes are left to a server in front")
        return response

    def stat(self, path: str, caller: Caller) -> Stat | UnknownSize:
        """Ask by HEAD, then by a Range of one byte, then by a plain GET, until one tells.

        HEAD's word is taken for a size of 1 or more, and for a refusal where it was right about
        others: servers that know HEAD badly answer it with an error, or with a length of 0. What
        GET says is what counts.
        """
        head = self.ask("HEAD", path, _headers(), caller)
        if self._head.believed(head, caller.tally):
            discard(head)
            raise fault_of(head)
        with closing(head.content):
            if head.status == 200 and not head.coding(path) and (size := head.length()):
                return stat_of(head, size)
        found = self._stat_by_range(path, head, caller)
        return found or _stat_by_get(self.ask("GET", path, _headers(), caller), path)

    def _stat_by_range(
        self, path: str, head: Response, caller: Caller
    ) -> Stat | UnknownSize | None:
        """Ask by a Range of one byte. Return `None` where a plain GET has to decide.

        An empty file has no such byte. Servers say so by 416, or by 200; by other errors, by ranges
        that don't exist, or by a connection that breaks. An error is believed where HEAD said it.
        """
        try:
            response = self.ask("GET", path, _headers(("Range", "bytes=0-0")), caller)
        except SourceError as error:
            if error.unreachable:
                raise
            return None
        self._head.compared(head, response, caller.tally)
        if response.status in _WHOLE:
            return _stat_by_get(response, path)
        if response.status in _CERTAIN or response.status == head.status:
            discard(response)
            raise fault_of(response)
        with closing(response.content), suppress(SourceError):
            size = _told_by_range(response, path)
            drain(response.content)
            # What an error says of date and tag means nothing, and some leave the date out of a
            # 206. The archive has to be the same however a size was learned.
            mute = response.status == 416 or "last-modified" not in response.names
            told = head if mute and head.status == 200 else response
            if size is not None and (told is head or not mute):
                return stat_of(told, size)
        return None

    def open(self, path: str, start: int, stop: int, stat: Stat, caller: Caller) -> Content:
        """Ask for a slice and check everything that the response says of it.

        Anything less than the whole needs a strong validator: without one nothing proves
        that two parts are of one file.
        """
        whole = start == 0 and stop == stat.size
        validator = stat.validator
        strong = validator is not None and validator.strong
        if not whole and not strong:
            raise SourceError("a part of it was asked for, and nothing proves the file the same")
        condition = []
        if validator is not None and strong:
            # A condition that a changed file fails. A weak validator can't be used in one.
            name = "If-Match" if validator.is_etag else "If-Unmodified-Since"
            condition.append((name, validator.text))
        ranged = [] if whole else [("Range", f"bytes={start}-{stop - 1}")]
        response = self.ask("GET", path, _headers(*condition, *ranged), caller)
        if ranged and response.status == 206 and not _names_version(response, validator):
            response.content.close()
            ranged = []
            response = self.ask("GET", path, _headers(*condition), caller)
        try:
            skip, ends = _check_slice(response, path, start, stop, stat, ranged=bool(ranged))
            content = ExactContent(response.content, stop - start, ends=ends)
            _skip(response.content, skip)
        except BaseException:
            response.content.close()
            raise
        return content


class _HeadRefusals:
    """Whether what one server refuses to HEAD, it refuses to GET as well.

    So that a missing member costs one request. It is so once the server has answered a HEAD with
    2xx, as long as no GET has contradicted a refusal. The first refusal of a download is checked
    by a GET all the same. What a redirect leads to is not the server's own word: a store's URL
    that is signed for GET alone refuses HEAD.
    """

    def __init__(self) -> None:
        self._answered = False
        self._contradicted = False

    def believed(self, head: Response, tally: Tally) -> bool:
        """Return whether a response to HEAD is a refusal that needs no GET."""
        if 200 <= head.status < 300 and not head.redirected:
            self._answered = True
        return (
            head.status in _REFUSALS
            and not head.redirected
            and self._answered
            and not self._contradicted
            and self in tally.confirmed
        )

    def compared(self, head: Response, response: Response, tally: Tally) -> None:
        """Take note of what GET answered where HEAD was refused."""
        if head.status not in _REFUSALS or head.redirected:
            return
        if _REFUSALS.get(response.status) == _REFUSALS[head.status] and not response.redirected:
            tally.confirmed.add(self)
        elif response.status not in PASSING:
            self._contradicted = True


def _headers(*more: tuple[str, str]) -> Headers:
    # The file itself is wanted: an encoding of it has another size.
    return [("Accept-Encoding", "identity"), *more]


def _told_by_range(response: Response, path: str) -> int | None:
    """Find the member's size in the response to a Range of its first byte."""
    told = response.get("content-range") or ""
    if response.status == 416:
        return 0 if _EMPTY_RANGE.fullmatch(told) else None
    match = _CONTENT_RANGE.fullmatch(told) if response.status == 206 else None
    if response.coding(path) or not match or match[1] != "0" or match[2] != "0" or match[3] == "*":
        return None
    return int(match[3]) or None  # there is no first byte of none


def stat_of(response: Response, size: int) -> Stat:
    """Return what a response says of the member that it is of."""
    return Stat(size, response.mtime(), response.validator(), response.no_store())


def size_by_get(response: Response, path: str) -> int | None:
    """Find the member's size in the response to a plain GET, `None` where that tells none.

    Closes the content, and raises `SourceError`, for anything that is not the member.
    """
    try:
        if response.status not in _WHOLE:
            discard(response)
            raise fault_of(response)
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


def _stat_by_get(response: Response, path: str) -> Stat | UnknownSize:
    size = size_by_get(response, path)
    if size is None:
        return UnknownSize(response.mtime(), response.content, response.no_store())
    response.content.close()
    return stat_of(response, size)


def _check_slice(
    response: Response, path: str, start: int, stop: int, stat: Stat, *, ranged: bool
) -> tuple[int, bool]:
    """Check that a response is the slice that was asked for, of the version that was promised.

    Gives how many bytes come before the slice, and whether the response ends with it.
    """
    if response.status == 412 or (ranged and response.status == 416):
        raise MemberChanged("it has changed since its size was asked")
    if response.status not in {*_WHOLE, 206}:
        raise fault_of(response)
    _check_plain(response, path)
    _check_version(response, stat.validator)
    length = _whole_length(response)
    if response.status in _WHOLE:
        if length is not None and length != stat.size:
            raise MemberChanged(f"it is of {length} bytes by now, not {stat.size}")
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


def _names_version(response: Response, promised: Validator | None) -> bool:
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


def _skip(content: Content, count: int) -> None:
    while count:
        block = content.read(min(count, 64 * 1024))
        if not block:
            raise SourceError("the response ended too early", transient=True)
        count -= len(block)


class ExactContent:
    """A content held to its length: never longer, never shorter, whatever the headers said."""

    def __init__(self, content: Content, length: int, *, ends: bool) -> None:
        self._content = content
        self._left = length
        self._ends = ends

    def read(self, limit: int) -> bytes:
        """Return what is there; raise `SourceError` where it is not what was promised."""
        if not self._left:
            if self._ends and self._content.read(1):
                raise MemberChanged("it is longer by now than was promised")
            return b""
        block = self._content.read(min(limit, self._left))
        if not block:
            raise SourceError("the response ended too early", transient=True)
        self._left -= len(block)
        return block

    def close(self) -> None:
        """Close the content itself."""
        self._content.close()

"""What HTTP responses say of a member, and whether they keep what an earlier one promised.

Asks through an `Exchange` and judges the answers; how they travel is not known here, so an
upstream's socket and a wrapped application's call are read by the same rules.
"""

from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from typing import Protocol

from tar_gateway.errors import SourceError
from tar_gateway.http.headers import is_replaced
from tar_gateway.settings import Settings
from tar_gateway.sources import Caller, Listing, Stat, UnknownSize
from tar_gateway.sources.cache import ExpiringCache
from tar_gateway.sources.directories import Directories, Fault
from tar_gateway.sources.judgement import (
    WHOLE,
    ExactContent,
    check_slice,
    condition_of,
    names_version,
    outweighs_head,
    skip,
    stat_by_get,
    stat_of,
    told_by_range,
)
from tar_gateway.sources.wire.asking import Steps, counted, discard, drain
from tar_gateway.sources.wire.response import PASSING, Content, Headers, Response, fault_of
from tar_gateway.sources.wire.tally import Place, Tally

# Refusals of HEAD that may be believed, each with the status that says the same.
_REFUSALS = {401: 401, 403: 403, 404: 404, 410: 404}

# Statuses that no server sends because of a Range: of its load, or for a file that is not there.
_CERTAIN = frozenset({401, 404, 410, 429, 503})

# What speaks of the server's state, and not of how it answers a GET for this file.
_OF_THE_SERVER = PASSING - {500}

# Of one server; beyond it the oldest are believed again.
_MOST_DOUBTED = 10_000


_UNNAMED = Place("unnamed")


class Exchange(Protocol):
    """Asks for a member, and returns the response. Raise `SourceError` when there is none."""

    def __call__(self, method: str, path: str, headers: Headers, caller: Caller) -> Steps[Response]:
        """Send one request; the response's content is open and has to be closed."""
        ...


class HttpMembers:
    """What is asked for members over an `Exchange`, and how the responses are judged."""

    def __init__(
        self,
        exchange: Exchange,
        *,
        place: Place = _UNNAMED,
        memory: float = 0,
        settings: Settings | None = None,
    ) -> None:
        self._exchange = exchange
        self._place = place
        self._directories = Directories(place.server, settings)
        self._head = _HeadRefusals()
        # Paths of which GET did not keep what HEAD said: for ``memory`` seconds GET is asked alone.
        self._doubted = ExpiringCache[bool](memory, _MOST_DOUBTED)

    def ask(self, method: str, path: str, headers: Headers, caller: Caller) -> Steps[Response]:
        """Ask, and refuse a response that is only there for a server in front to replace."""
        steps = self._exchange(method, path, headers, caller)
        response = yield from counted(steps, caller.tally, self._place)
        if response.status in {200, 206} and is_replaced(response.names):
            # It holds nothing of the caller's: mostly an empty text, or a list of places that only
            # that server should know.
            response.content.close()
            raise SourceError("its bytes are left to a server in front")
        return response

    def stat(self, path: str, caller: Caller) -> Steps[Stat | UnknownSize]:
        """Ask by HEAD, then by a Range of one byte, then by a plain GET, until one tells.

        HEAD's word is taken for a size of 1 or more, and for a refusal where it was right about
        others: servers that know HEAD badly answer it with an error, or with a length of 0. What
        GET says is what counts.
        """
        if self._doubted.recall(path.encode()):
            response = yield from self.ask("GET", path, _headers(), caller)
            if outweighs_head(response):
                return (yield from stat_by_get(response, path))
            response.content.close()
        head = yield from self.ask("HEAD", path, _headers(), caller)
        if self._head.believed(head, caller.tally):
            yield from discard(head)
            raise fault_of(head, path)
        with closing(head.content):
            if head.status == 200 and not head.coding(path) and (size := head.length()):
                return stat_of(head, size)
        found = yield from self._stat_by_range(path, head, caller)
        if found is not None:
            return found
        response = yield from self.ask("GET", path, _headers(), caller)
        return (yield from stat_by_get(response, path))

    def _stat_by_range(
        self, path: str, head: Response, caller: Caller
    ) -> Steps[Stat | UnknownSize | None]:
        """Ask by a Range of one byte. Return `None` where a plain GET has to decide.

        An empty file has no such byte. Servers say so by 416, or by 200; by other errors, by ranges
        that don't exist, or by a connection that breaks. An error is believed where HEAD said it.
        """
        try:
            response = yield from self.ask("GET", path, _headers(("Range", "bytes=0-0")), caller)
        except SourceError as error:
            if error.unreachable:
                raise
            return None
        self._head.compared(head, response, caller.tally)
        if response.status in WHOLE:
            return (yield from stat_by_get(response, path))
        if response.status in _CERTAIN or response.status == head.status:
            yield from discard(response)
            raise fault_of(response, path)
        with closing(response.content), suppress(SourceError):
            size = told_by_range(response, path)
            if response.status != 206:
                yield from discard(response)
            elif size is not None:  # otherwise its byte may never come
                yield from drain(response.content)
            # What an error says of date and tag means nothing, and some leave the date out of a
            # 206. The archive has to be the same however a size was learned.
            mute = response.status == 416 or "last-modified" not in response.names
            told = head if mute and head.status == 200 else response
            if size is not None and (told is head or not mute):
                return stat_of(told, size)
        return None

    def open(self, path: str, start: int, stop: int, stat: Stat, caller: Caller) -> Steps[Content]:
        """Ask for a slice and check everything that the response says of it."""
        doubt = partial(self._doubt, path, stat)
        return open_slice(
            lambda headers: self.ask("GET", path, _headers(*headers), caller),
            *(path, start, stop, stat),
            on_fault=doubt,
        )

    def list(self, path: str, at: str, caller: Caller, fault: Fault = fault_of) -> Steps[Listing]:
        """Ask for a directory; see `Directories.list`."""

        def ask(method: str, path: str, headers: Headers) -> Steps[Response]:
            return self.ask(method, path, _headers(*headers), caller)

        return self._directories.list(ask, path, at, fault)

    def _doubt(self, path: str, stat: Stat, said: str) -> None:
        self._doubted.keep(path.encode(), True, 1)
        self._directories.contradicted(path, stat, said)


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


def open_slice(
    ask: Callable[[Headers], Steps[Response]],
    path: str,
    start: int,
    stop: int,
    stat: Stat,
    *,
    on_fault: Callable[[str], None] = lambda _: None,
) -> Steps[Content]:
    """Ask for a slice by a GET with the headers given, and check all that the response says of it.

    Anything less than the whole needs a strong validator: without one nothing proves that two
    parts are of one file. ``on_fault`` hears what a response said that was not as promised.
    """
    whole = start == 0 and stop == stat.size
    validator = stat.validator
    strong = validator is not None and validator.strong
    if not whole and not strong:
        raise SourceError("a part of it was asked for, and nothing proves the file the same")
    condition = condition_of(validator)
    ranged = [] if whole else [("Range", f"bytes={start}-{stop - 1}")]
    response = yield from ask([*condition, *ranged])
    if ranged and response.status == 206 and not names_version(response, validator):
        response.content.close()
        ranged = []
        response = yield from ask(condition)
    try:
        before, ends = check_slice(response, path, start, stop, stat, ranged=bool(ranged))
        yield from skip(response.content, before)
    except BaseException as error:
        response.content.close()
        if isinstance(error, SourceError) and response.status not in _OF_THE_SERVER:
            on_fault(_said(response))
        raise
    differs = partial(on_fault, f"{_said(response)}, and other bytes")
    return ExactContent(response.content, stop - start, ends=ends, on_fault=differs)


def _said(response: Response) -> str:
    """Say for a log what a response says of its file."""
    told = ("content-range", "content-length", "etag", "last-modified")
    values = [f"{name} {value}" for name in told if (value := response.get(name)) is not None]
    return ", ".join([str(response.status), *values])


def _headers(*more: tuple[str, str]) -> Headers:
    # The file itself is wanted: an encoding of it has another size.
    return [("Accept-Encoding", "identity"), *more]

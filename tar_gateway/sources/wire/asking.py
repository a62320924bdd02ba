"""Deciding apart from waiting: logic yields questions and is sent their answers.

What is asked of a server, in which order, what its responses mean and when to ask again is written
as generators, `Steps`. Who waits for the answers is a driver's business: see
`tar_gateway.sources.wire.loop`. A test answers from a table, without sockets and clocks.
"""

from collections.abc import Callable, Generator
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from tar_gateway.errors import SourceError
from tar_gateway.sources.wire.caller import Caller
from tar_gateway.sources.wire.response import Content, Headers, Response
from tar_gateway.sources.wire.tally import Place, Tally

if TYPE_CHECKING:
    # gunicorn's master reads this file, before gevent has patched what a connection needs.
    from tar_gateway.sources.wire.pool import Origin

# Bytes that are worth reading for the sake of a connection.
_SHORT = 4096

T = TypeVar("T")


class Server(Protocol):
    """What takes requests and answers each at once, in the place of an `Origin`."""

    def request(
        self,
        method: str,
        target: str,
        headers: Headers,
        caller: Caller,
        *,
        timeout: float | None = None,
    ) -> Response:
        """Send one request. Raise `SourceError` when there is no response."""
        ...


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to ``server``; the answer is the `Response`, whose content is open.

    ``timeout`` is in seconds, in place of what the server allows for its response's headers.
    """

    server: "Origin | Server"
    method: str
    target: str
    headers: Headers
    caller: Caller
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Read:
    """A read of a content: the answer is at most ``limit`` bytes, ``b""`` at its end."""

    content: Content
    limit: int


@dataclass(frozen=True, slots=True)
class Pause:
    """So many seconds in which nothing is asked; the answer is `None`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Call:
    """A function that may block, such as a wrapped application; the answer is what it returns."""

    function: Callable[[], object]


Question: TypeAlias = Ask | Read | Pause | Call

# What a `SourceError` or `Cancelled` of an answer is, the generator is thrown.
Steps: TypeAlias = Generator[Question, Any, T]


def asking(ask: Ask) -> Steps[Response]:
    """Return steps of one `Ask`."""
    response: Response = yield ask
    return response


def calling(function: Callable[[], T]) -> Steps[T]:
    """Return steps of one `Call`."""
    answer: T = yield Call(function)
    return answer


def drain(content: Content) -> Steps[None]:
    """Read a short response to its end, so that its connection can be used again."""
    for _ in range(2):  # what there is, and the end of it
        yield Read(content, _SHORT)


def discard(response: Response) -> Steps[None]:
    """Close a response that is not wanted, read to its end where that spares a connection.

    Its status has said all: what is wrong with the rest of it does not matter.
    """
    with closing(response.content), suppress(SourceError):
        if (response.length() or 0) < _SHORT:
            yield from drain(response.content)


def counted(steps: Steps[Response], tally: Tally, place: Place) -> Steps[Response]:
    """Count a request by its response. Raise what the steps raise."""
    try:
        response = yield from steps
    except SourceError:
        tally.asked(None, place)
        raise
    tally.asked(response.status, place)
    return response

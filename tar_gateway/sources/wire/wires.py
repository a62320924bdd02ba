"""The connections of one loop: requests out, and what comes of them handed to who waits for it.

Requests leave together, at a turn's end: a server that is woken up for each of them costs more
than they do. What is asked for is not known here, nor who asks.
"""

import math
import selectors
import time
from contextlib import ExitStack
from typing import Any, Protocol

from tar_gateway.http.messages import BadMessage, Head
from tar_gateway.sources.wire.asking import Ask, Read
from tar_gateway.sources.wire.cancellation import Cancellation
from tar_gateway.sources.wire.connecting import Pooled
from tar_gateway.sources.wire.connection import NotThere
from tar_gateway.sources.wire.content import WireContent
from tar_gateway.sources.wire.hand import Hand, Reading, Request, Waiting
from tar_gateway.sources.wire.pool import Origin
from tar_gateway.sources.wire.response import Response, innermost
from tar_gateway.sources.wire.watch import Watch

# Seconds for which an idle connection is as good as one in use. A server that has too much to do
# must not be asked all twice.
_SURE = 1.0

# Seconds that a response is given at the least, however long connecting took.
_LEAST = 0.01

# Seconds between two looks whether others have left room for what is still to be asked.
_LOOK = 0.02


class Answered(Protocol):
    """Takes the answer to a task's question, or the error in its place."""

    def __call__(self, task: Any, value: object, error: BaseException | None = None) -> None:  # noqa: ANN401 - its own
        """Go on with the task."""
        ...


class Wires:
    """Exchanges over the connections that one loop holds; ``answered`` takes what comes of them.

    Once ``cancellation`` is cancelled nothing is waited for.
    """

    def __init__(self, cancellation: Cancellation, answered: Answered) -> None:
        self._cancellation = cancellation
        self._answered = answered
        self._told = 0  # answers
        self.watch = Watch(cancellation)
        self._hands: dict[Origin, Hand] = {}
        self._under_way: set[Waiting] = set()  # what waits for a socket
        self._earliest = math.inf  # none of their deadlines comes before
        self._stood_still = 0.0
        self._parked_at = 0.0

    @property
    def is_busy(self) -> bool:
        """Whether anything is asked, or to be asked."""
        return bool(self._under_way) or any(hand.todo for hand in self._hands.values())

    def now(self) -> float:
        """Return seconds by a clock that stands still while the loop does.

        While nothing is read, no server is late.
        """
        return time.monotonic() - self._stood_still

    def ask(
        self, task: object, ask: Ask, origin: Origin, *, urgent: bool, goes_on: bool = False
    ) -> None:
        """Put a request on the list. Raise `SourceError` for one that can't be sent.

        One by which a task ``goes_on`` comes before those by which others begin: what it learns
        may spare them a question.
        """
        hand = self._hands.get(origin)
        if hand is None:
            hand = self._hands[origin] = Hand(origin, self.watch)
        try:
            request = Request(task, ask, hand, urgent=urgent)
        except ValueError as error:
            raise origin.fault(error, self._cancellation) from error
        (hand.todo.appendleft if urgent or goes_on else hand.todo.append)(request)

    def read(self, task: object, read: Read) -> bytes | None:
        """Return what is there of a content, `None` where it is waited for.

        Raise what reading it raises.
        """
        content = innermost(read.content)
        if not isinstance(content, WireContent):
            return read.content.read(read.limit)
        try:
            return _there(read, content)
        except NotThere as missing:
            pooled = content.pooled
            assert pooled is not None
            reading = Reading(task, read, content, pooled)
            self._wait(reading, missing.events, content.timeout)
            return None

    def hurry(self, task: object) -> None:
        """Let what a task asks go first: the client waits for it."""
        for hand in self._hands.values():
            for request in hand.todo:
                if request.task is task:
                    request.urgent = True
                    hand.todo.remove(request)
                    hand.todo.appendleft(request)
                    return

    def turn(self, wait: float) -> None:
        """Wait ``wait`` seconds at most, take what has come, and send what is to be asked.

        Raise `Cancelled`.
        """
        told = self._told
        self.send_all()
        if told != self._told:  # there may be something else to do by now
            wait = 0
        self.give_back_idle()
        if any(hand.todo for hand in self._hands.values()):
            wait = min(wait, _LOOK)
        for pooled in self.watch.ready(min(wait, self._earliest - self.now())):
            self._ready(pooled)
        if self.now() >= self._earliest:
            self._look_who_is_late()
        self.send_all()

    def park(self) -> None:
        """Stand still: count no connection against others, and no time against servers."""
        self.give_back_idle()
        self._parked_at = time.monotonic()
        for hand in self._hands.values():
            hand.share.park(parked=True)

    def unpark(self) -> None:
        """Go on."""
        self._stood_still += time.monotonic() - self._parked_at
        for hand in self._hands.values():
            hand.share.park(parked=False)

    def close(self) -> None:
        """Close what is under way, and give back the rest. Contents that are open outlive it."""
        with ExitStack() as held:
            held.callback(self.watch.close)
            for waiting in self._under_way:
                waiting.pooled.waiting = None
                if isinstance(waiting, Request):
                    self.watch.forget(waiting.pooled)
                    held.callback(waiting.pooled.close)
            for hand in self._hands.values():
                held.callback(hand.close)
            self._under_way.clear()

    # --- out -----------------------------------------------------------------------------------

    def send_all(self) -> None:
        """Ask what there is room for."""
        for hand in [*self._hands.values()] if self._hands else ():
            while hand.todo:
                request = hand.todo[0]
                try:
                    pooled = hand.connection(request)
                except OSError as error:
                    hand.todo.popleft()
                    self._failed(request, error)
                    continue
                if pooled is None:
                    break
                hand.todo.popleft()
                request.pooled = pooled
                request.began = min(request.began, self.now())
                self._begin(request, pooled)

    def give_back_idle(self) -> None:
        """Let others have the connections that nothing is asked over."""
        for hand in self._hands.values():
            hand.give_back_idle()

    def _begin(self, request: Request, pooled: Pooled) -> None:
        """Send a request, or connect for it."""
        origin, timeout = request.hand.origin, request.ask.timeout
        if not pooled.is_open:
            self._wait(request, selectors.EVENT_WRITE, timeout or origin.connect_timeout)
            return
        given = origin.read_timeout
        if timeout is not None:
            given = max(_LEAST, request.began + timeout - self.now())
        if _is_doubtful(pooled):  # it is given no longer than connecting
            given = min(origin.connect_timeout, given / 2)
        try:
            events = pooled.wire.ask(request.ask.method, request.rendered)
        except (OSError, BadMessage) as error:
            self._lost(request, error)
        else:
            self._wait(request, events, given)

    # --- in ------------------------------------------------------------------------------------

    def _ready(self, pooled: Pooled) -> None:
        waiting = pooled.waiting
        if isinstance(waiting, Reading):
            self._read_on(waiting)
        elif not isinstance(waiting, Request):  # its bytes wait in the kernel, or it is idle
            self.watch.forget(pooled)
        elif pooled.is_open:
            self._receive(waiting)
        else:
            self._connect_on(waiting)

    def _read_on(self, reading: Reading) -> None:
        value, failed = b"", None
        try:
            value = _there(reading.read, reading.content)
        except NotThere as missing:
            self.watch.want(reading.pooled, missing.events)
            return
        except BaseException as error:  # noqa: BLE001 - the steps decide what becomes of it
            failed = error
        self._over(reading)
        self._tell(reading.task, value, failed)

    def _receive(self, request: Request) -> None:
        pooled = request.pooled
        try:
            head = pooled.wire.head()
        except NotThere as missing:
            self.watch.want(pooled, missing.events)
            return
        except (OSError, BadMessage) as error:
            self._lost(request, error)
            return
        self._over(request)
        request.hand.answered(pooled)
        origin = request.hand.origin
        if not 200 <= head.status < 600:
            request.hand.take_back(pooled, False)
            self._tell(request.task, None, origin.of_status(head.status))
            return
        # Content that comes late, where there should be none, is read as the next response.
        pooled.owner = None if head.length else request.ask.caller.key
        self._tell(request.task, self._response(request, head))

    def _response(self, request: Request, head: Head) -> Response:
        origin = request.hand.origin
        content = WireContent(
            request.pooled,
            head,
            self._cancellation,
            keeps=head.keeps and not request.identifies,
            timeout=origin.read_timeout,
            release=request.hand.take_back,
            fault=origin.fault,
        )
        return Response(head.status, head.fields, content, values=head.values)

    def _connect_on(self, request: Request, *, late: bool = False) -> None:
        pooled = request.pooled
        self.watch.forget(pooled)  # its socket may be another one afterwards
        try:
            events = pooled.late() if late else pooled.advance()
        except OSError as error:
            self._lost(request, error)
            return
        if events:
            self.watch.want(pooled, events)
        else:
            self._begin(request, pooled)

    def _lost(self, request: Request, error: Exception) -> None:
        """Go on where a request got no response: once more, or with what is to be told."""
        pooled, hand = request.pooled, request.hand
        self._over(request)
        # One that was idle may have died without a sign, and its server closes it when it likes.
        again = pooled.was_used and isinstance(error, OSError) and not pooled.wire.is_answered
        again = again and (_is_doubtful(pooled) or not isinstance(error, TimeoutError))
        hand.take_back(pooled, False)
        if again and not self._cancellation.is_cancelled:
            request.anew = True
            hand.todo.appendleft(request)
        else:
            self._failed(request, error)

    def _failed(self, request: Request, error: Exception) -> None:
        fault = request.hand.origin.fault(error, self._cancellation)
        fault.__cause__ = error
        self._tell(request.task, None, fault)

    def _look_who_is_late(self) -> None:
        now = self.now()
        for waiting in [each for each in self._under_way if each.deadline <= now]:
            if isinstance(waiting, Reading):
                waiting.content.is_late = True
                self._read_on(waiting)
            elif waiting.pooled.is_open:
                self._lost(waiting, TimeoutError())
            else:
                seconds = waiting.ask.timeout or waiting.hand.origin.connect_timeout
                waiting.deadline = now + seconds
                self._connect_on(waiting, late=True)
        self._earliest = min((each.deadline for each in self._under_way), default=math.inf)

    def _tell(self, task: object, value: object, error: BaseException | None = None) -> None:
        self._told += 1
        self._answered(task, value, error)

    def _wait(self, waiting: Waiting, events: int, seconds: float) -> None:
        waiting.deadline = self.now() + seconds
        self._earliest = min(self._earliest, waiting.deadline)
        waiting.pooled.waiting = waiting
        self._under_way.add(waiting)
        self.watch.want(waiting.pooled, events)

    def _over(self, waiting: Waiting) -> None:
        self._under_way.discard(waiting)
        waiting.pooled.waiting = None


def _is_doubtful(pooled: Pooled) -> bool:
    """Return whether a connection may have died without a sign."""
    return time.monotonic() - pooled.idle_since > _SURE


def _there(read: Read, content: WireContent) -> bytes:
    """Return what is there of a content, whose innermost is ``content``. Raise `NotThere`."""
    content.waits = False
    try:
        return read.content.read(read.limit)
    finally:
        content.waits = True

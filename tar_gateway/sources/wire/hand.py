"""What one loop has of one server: connections, and what is to be asked over them."""

import math
import time
from collections import deque
from contextlib import ExitStack
from typing import TypeAlias

from tar_gateway.sources.wire.asking import Ask, Read
from tar_gateway.sources.wire.connecting import Pooled
from tar_gateway.sources.wire.content import WireContent
from tar_gateway.sources.wire.pool import Origin, Share
from tar_gateway.sources.wire.watch import Watch

# Connections that a loop opens at once. Each that is answered lets one more be opened beside it: a
# server that takes few at a time leaves the others unanswered for seconds.
_AT_FIRST = 8


class Hand:
    """A loop's connections to ``origin``, at which ``watch`` waits, and its requests in order."""

    def __init__(self, origin: Origin, watch: Watch) -> None:
        self.origin = origin
        self.share = Share(origin)
        self.todo: deque[Request] = deque()
        """What is to be asked as soon as there is room for it."""
        self._watch = watch
        self._idle: list[Pooled] = []
        self._unanswered: set[Pooled] = set()  # of those that were opened
        self._may_open = _AT_FIRST
        self._closed = False

    def connection(self, request: "Request") -> Pooled | None:
        """Return a connection for a request, `None` where there is no room for one.

        Raise `OSError` where none can be opened.
        """
        origin, key = self.origin, request.ask.caller.key
        while self._idle and not request.anew:
            pooled = self._idle.pop()
            if pooled.owner in {None, key} and origin.is_usable(pooled):
                return pooled
            self._watch.forget(pooled)
            self.share.give()
            origin.end(pooled)
        if not self.share.take(urgent=request.urgent):
            return None
        try:
            found = None if request.anew else origin.idle(key)
            found = found or self._open(urgent=request.urgent)
            if found is None:
                self.share.give()
            return found
        except BaseException:
            self.share.give()
            raise

    def _open(self, *, urgent: bool) -> Pooled | None:
        """Open a connection, unless as many as may be are unanswered."""
        if len(self._unanswered) >= self._may_open and not urgent:
            return None
        pooled = self.origin.connect()
        self._unanswered.add(pooled)
        return pooled

    def answered(self, pooled: Pooled) -> None:
        """Hear that a response has come over a connection."""
        if pooled in self._unanswered:
            self._unanswered.remove(pooled)
            self._may_open += 1

    def take_back(self, pooled: Pooled, keep: bool) -> None:
        """Take a connection back from a response that has ended, or broke."""
        self._unanswered.discard(pooled)
        if self._closed:  # the response has outlived the loop
            self._put_away(pooled, keep)
        elif keep and not (self.share.is_exceeded or pooled.wire.has_unrequested(look=False)):
            pooled.idle_since = time.monotonic()
            self._idle.append(pooled)
        else:
            self._watch.forget(pooled)
            self.share.give()
            self._put_away(pooled, keep)

    def give_back_idle(self) -> None:
        """Let others have the connections that nothing is asked over."""
        while self._idle:
            pooled = self._idle.pop()
            self._watch.forget(pooled)
            self.share.give()
            self.origin.keep(pooled)

    def close(self) -> None:
        """Ask nothing more, and let others have all there is."""
        self._closed = True
        self.todo.clear()
        with ExitStack() as held:
            held.callback(self.share.close)
            self.give_back_idle()

    def _put_away(self, pooled: Pooled, keep: bool) -> None:
        if keep:
            self.origin.keep(pooled)
        else:
            pooled.close()


class Request:
    """A request of a task, to be sent or under way.

    ``urgent`` is what the client waits for. Raise `ValueError` for what can't be sent.
    """

    __slots__ = (
        *("anew", "ask", "began", "deadline", "hand", "identifies", "pooled", "rendered"),
        *("task", "urgent"),
    )
    pooled: Pooled

    def __init__(self, task: object, ask: Ask, hand: Hand, *, urgent: bool) -> None:
        self.task = task
        self.ask = ask
        self.hand = hand
        self.urgent = urgent
        self.rendered, self.identifies = hand.origin.render(ask.method, ask.target, ask.headers)
        self.anew = False  # only by a new connection
        self.began = self.deadline = math.inf


class Reading:
    """A read of a task that waits for a connection."""

    __slots__ = ("content", "deadline", "pooled", "read", "task")

    def __init__(self, task: object, read: Read, content: WireContent, pooled: Pooled) -> None:
        self.task = task
        self.read = read
        self.content = content
        self.pooled = pooled
        self.deadline = math.inf


Waiting: TypeAlias = Request | Reading

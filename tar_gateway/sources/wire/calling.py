"""Threads for what may block, such as a wrapped application: a loop's answers come from there.

How many work for one loop at once goes by how long they take: where nothing is waited for, more
would only be in each other's way.
"""

import math
import time
from collections import deque
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any, Protocol

# Calls that a loop begins with. Where answers take longer than QUICK seconds, or none has come
# within LATE, GROWTH times as many wait at once.
FIRST = 2
GROWTH = 4
QUICK = 0.001
LATE = 0.002


class Callers(Protocol):
    """Threads for all loops of a process."""

    share: int
    """Calls of one loop at the most: one that hangs leaves some to others."""

    def call(self, function: Callable[[], None]) -> None:
        """Call a function, which raises nothing, in some thread. Raise `RuntimeError` once closed.

        Calls begin in the order in which they are asked for.
        """
        ...


class LatencyMeter:
    """Tells from how long answers took whether they are waited for.

    It takes two in a row: a single one may be late because the machine is busy.
    """

    def __init__(self) -> None:
        self._in_a_row = 0

    def took(self, seconds: float) -> bool:
        """Take another response into account."""
        self._in_a_row = self._in_a_row + 1 if seconds > QUICK else 0
        return self._in_a_row > 1


class Calls:
    """One loop's calls, in order; ``wake`` is called, from another thread, when one is answered."""

    def __init__(self, callers: Callers, wake: Callable[[], None]) -> None:
        self._callers = callers
        self._wake = wake
        self._todo: deque[tuple[Any, Callable[[], object]]] = deque()
        self._answers: deque[tuple[Any, object, BaseException | None]] = deque()
        self._under_way = 0
        self._wanted = FIRST
        self._meter = LatencyMeter()
        self._waits_since = math.inf
        self._closed = False

    def add(self, task: object, function: Callable[[], object]) -> None:
        """Call a function as soon as one more may be called; the answer is for ``task``."""
        self._todo.append((task, function))

    def begin(self) -> float:
        """Begin what may begin. Return after how many seconds to look again."""
        while self._todo and self._under_way < min(self._wanted, self._callers.share):
            task, function = self._todo.popleft()
            self._under_way += 1
            try:
                self._callers.call(lambda task=task, function=function: self._call(task, function))  # type: ignore[misc]
            except RuntimeError:  # the process is ending: what is left is done here
                self._call(task, function)
        if self._answers:
            return 0
        if not self._todo or self._wanted >= self._callers.share:
            return math.inf
        now = time.monotonic()
        if now - self._waits_since >= LATE:
            self._grow(self._wanted)
            return self.begin()
        self._waits_since = min(self._waits_since, now)
        return LATE

    def answered(self) -> list[tuple[Any, object, BaseException | None]]:
        """Return what was answered: tasks with an answer, or with an error in its place."""
        found = []
        while self._answers:
            task, value, error = self._answers.popleft()
            self._waits_since = math.inf
            self._under_way -= 1
            found.append((task, value, error))
        return found

    def close(self) -> None:
        """Begin nothing more. What is under way is closed as it is answered."""
        self._closed = True
        self._todo.clear()
        self._drop_answers()

    def _grow(self, count: int) -> None:
        """Let more be called at once, where so many were too few."""
        self._wanted = max(self._wanted, min(self._callers.share, count * GROWTH))
        self._waits_since = math.inf

    def _call(self, task: object, function: Callable[[], object]) -> None:
        began, wanted = time.monotonic(), self._wanted
        value: object = None
        error: BaseException | None = None
        try:
            value = function()
        except BaseException as raised:  # noqa: BLE001 - raised again by the loop
            error = raised
        if self._meter.took(time.monotonic() - began):
            self._grow(wanted)
        self._answers.append((task, value, error))
        if self._closed:  # which is set first and looked at last, so one of both sees the other
            self._drop_answers()
        self._wake()

    def _drop_answers(self) -> None:
        with suppress(IndexError):
            while True:
                _, value, _ = self._answers.popleft()
                if hasattr(value, "close"):
                    with closing(value):
                        pass

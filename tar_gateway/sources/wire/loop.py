"""One thread that asks many questions at once: what steps yield is answered as it comes.

A loop belongs to one download and to the thread that turns it. Nothing here knows what is asked
for; over which connections is `tar_gateway.sources.wire.wires`'s to know.
"""

import heapq
import math
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from typing import Any, Generic, TypeVar, cast

from tar_gateway.sources.wire.asking import Ask, Call, Pause, Question, Read, Steps, calling
from tar_gateway.sources.wire.calling import Callers, Calls
from tar_gateway.sources.wire.cancellation import Cancellation
from tar_gateway.sources.wire.pool import Origin
from tar_gateway.sources.wire.wires import Wires

# In the place of an answer that has to be waited for.
_LATER = object()

# Blocks that a task is given in a row before others have their turn: a server that sends faster
# than they are taken would keep a loop for itself.
_IN_A_ROW = 16

T = TypeVar("T")


class Task(Generic[T]):
    """Steps that a loop drives, and what has become of them."""

    __slots__ = (
        *("error", "has_asked", "here", "in_a_row", "is_done", "on_done", "result", "steps"),
        "urgent",
    )

    def __init__(self, steps: Steps[T], on_done: "Callable[[Task[T]], None] | None" = None) -> None:
        self.steps = steps
        self.on_done = on_done
        self.is_done = False
        self.result: T | None = None
        self.error: BaseException | None = None
        self.urgent = False
        """Whether the client waits for it: then it waits for no one else's room."""
        self.has_asked = False
        """Whether it has asked a server before."""
        self.here = False
        """Whether what may block is called in the loop's own thread."""
        self.in_a_row = 0
        """Blocks that it was given since others had their turn."""

    def outcome(self) -> T:
        """Return what the steps have returned, or raise what they have raised."""
        if self.error is not None:
            raise self.error
        return cast(T, self.result)


class Loop:
    """Drives steps in the thread that turns it, until ``cancellation`` is cancelled.

    What may block is called by ``callers``, or in its own thread without them. Whoever makes a
    loop closes it.
    """

    def __init__(self, cancellation: Cancellation, callers: Callers | None = None) -> None:
        self._cancellation = cancellation
        self._wires = Wires(cancellation, self._advance)
        self._calls = Calls(callers, self._wires.watch.wake) if callers is not None else None
        self._tasks: set[Task[Any]] = set()
        self._paused: list[tuple[float, int, Task[Any]]] = []
        self._next: list[tuple[Task[Any], Read]] = []  # what others had to go before
        self._pauses = 0  # so that those until one moment are in order
        self._closed = False

    @property
    def under_way(self) -> int:
        """Tasks that are not done."""
        return len(self._tasks)

    def now(self) -> float:
        """Return seconds by a clock that stands still while the loop is parked."""
        return self._wires.now()

    def start(self, steps: Steps[T], on_done: Callable[[Task[T]], None] | None = None) -> Task[T]:
        """Begin with steps; what they ask leaves with the next turn. ``on_done`` hears the end.

        Where there are callers one of them drives all of it: an application's response may bear no
        other thread than the one that began with it.
        """
        if self._calls is not None:
            steps = calling(partial(run, steps, self._cancellation))
        task = Task(steps, on_done)
        self._tasks.add(task)
        self._advance(task)
        return task

    def run(self, steps: Steps[T]) -> T:
        """Drive steps that the client waits for to their end, and return what they return.

        Raise what they raise, and `Cancelled`.
        """
        task = Task(steps)
        task.urgent = task.here = True
        self._tasks.add(task)
        self._advance(task)
        return self.finish(task)

    def finish(self, task: Task[T]) -> T:
        """Turn until a task is done, since the client waits for it, and return its outcome.

        Raise `Cancelled`.
        """
        if not (task.is_done or task.urgent):
            task.urgent = True
            self._wires.hurry(task)
        while not task.is_done:
            self.turn()
        return task.outcome()

    def turn(self, wait: float = math.inf) -> None:
        """Send what is to be asked, wait for ``wait`` seconds at most, and take what has come.

        Raise `Cancelled`.
        """
        self._cancellation.check()
        if self._paused:
            wait = min(wait, self._paused[0][0] - time.monotonic())
        if self._next:
            wait = 0
        if self._calls is not None:
            wait = min(wait, self._calls.begin())
        self._wires.turn(wait)
        later, self._next = self._next, []
        for task, read in later:
            self._read_on(task, read)
        while self._paused and self._paused[0][0] <= time.monotonic():
            self._advance(heapq.heappop(self._paused)[2])
        if self._calls is not None:
            for task, value, error in self._calls.answered():
                self._advance(task, value, error)
        self._wires.send_all()

    def park(self) -> None:
        """Stand still: the client is sent a block, and nothing is read or asked meanwhile."""
        self._wires.park()

    def unpark(self) -> None:
        """Go on."""
        self._wires.unpark()

    def close(self) -> None:
        """End what is under way, and give back what is held. May be called again."""
        if self._closed:
            return
        self._closed = True
        with ExitStack() as held:
            held.callback(self._wires.close)
            if self._calls is not None:
                held.callback(self._calls.close)
            for task in self._tasks:
                held.callback(task.steps.close)
            self._tasks.clear()

    def _advance(
        self, task: Task[Any], value: object = None, error: BaseException | None = None
    ) -> None:
        """Answer a task's question, and those that follow, as far as nothing is waited for."""
        steps = task.steps
        while True:
            try:
                question = steps.send(value) if error is None else steps.throw(error)
            except StopIteration as end:
                self._done(task, end.value, None)
                return
            except BaseException as raised:  # noqa: BLE001 - who waits for the task is told
                self._done(task, None, raised)
                return
            value = error = None
            try:
                value = self._answer(task, question)
            except BaseException as raised:  # noqa: BLE001 - the steps decide what becomes of it
                error = raised
            if value is _LATER:
                return

    def _read_on(self, task: Task[Any], read: Read) -> None:
        task.in_a_row = 0
        try:
            value = self._answer(task, read)
        except BaseException as raised:  # noqa: BLE001 - the steps decide what becomes of it
            self._advance(task, None, raised)
        else:
            if value is not _LATER:
                self._advance(task, value)

    def _done(self, task: Task[Any], result: object, error: BaseException | None) -> None:
        self._tasks.discard(task)
        task.is_done, task.result, task.error = True, result, error
        if task.on_done is not None:
            task.on_done(task)

    def _answer(self, task: Task[Any], question: Question) -> object:
        match question:
            case Ask(server, method, target, headers, caller, timeout):
                caller.cancellation.check()
                if not isinstance(server, Origin):
                    return server.request(method, target, headers, caller, timeout=timeout)
                goes_on, task.has_asked = task.has_asked, True
                self._wires.ask(task, question, server, urgent=task.urgent, goes_on=goes_on)
            case Read() if task.in_a_row == _IN_A_ROW:
                self._next.append((task, question))
            case Read():
                block = self._wires.read(task, question)
                task.in_a_row = 0 if block is None else task.in_a_row + 1
                if block is not None:
                    return block
            case Pause(seconds):
                self._pauses += 1
                task.has_asked = False  # what comes after a failure lets others begin first
                heapq.heappush(self._paused, (due(seconds), self._pauses, task))
            case Call(function):
                if self._calls is None or task.here:
                    return function()
                self._wires.watch.open()  # before there is an answer to be woken for
                self._calls.add(task, function)
        return _LATER


def due(seconds: float) -> float:
    """Return the moment at which a pause of so many seconds is over."""
    return time.monotonic() + seconds


def run(steps: Steps[T], cancellation: Cancellation) -> T:
    """Drive steps by waiting in this thread, and return what they return.

    Raise what they raise, and `Cancelled` once ``cancellation`` is cancelled while they wait.
    """
    with closing(Loop(cancellation)) as loop:
        return loop.run(steps)

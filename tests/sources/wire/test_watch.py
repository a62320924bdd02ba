"""What is waited for over one connection costs no selector, and ends as soon as it is cancelled."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest

from tar_gateway import Settings, Upstream
from tar_gateway.errors import Cancelled, SourceError
from tar_gateway.sources import Caller
from tar_gateway.sources.wire.asking import Pause, Steps
from tar_gateway.sources.wire.loop import Loop, run
from tests.support.scripted import PATIENCE, Scripted, Wire, answer


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def full() -> Iterator[int]:
    """A port that takes no more connections: one that is begun there waits."""
    with ExitStack() as opened:
        listener = opened.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            waiting = opened.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def paused() -> Steps[None]:
    yield Pause(PATIENCE)


def test_one_question_opens_a_connection_and_nothing_else():
    held: list[int] = []

    def look(wire: Wire) -> None:
        held.append(descriptors())
        answer(b"alpha")(wire)

    with Scripted({"/a": look}) as server, closing(Upstream(server.url)) as upstream:
        before = descriptors()
        upstream.stat("a", Caller())
        upstream.stat("a", Caller())
    assert held == [before + 2] * 2  # a socket here, and one of the server's


def test_more_connections_than_one_are_waited_at_together():
    together = threading.Barrier(2)

    def meet(wire: Wire) -> None:
        together.wait(PATIENCE)
        answer(b"alpha")(wire)

    caller, found = Caller(), []
    with (
        Scripted({"/a": meet, "/b": meet}) as server,
        closing(Upstream(server.url)) as upstream,
        closing(Loop(caller.cancellation)) as loop,
    ):
        for path in ("a", "b"):
            steps = upstream.stat_steps(path, caller)
            loop.start(steps, lambda task: found.append(task.outcome().size))
        while loop.under_way:
            loop.turn()
    assert found == [5, 5]


def cancelled(ask: Callable[[Caller], object], caller: Caller) -> float:
    """Cancel what is being asked, and return after how many seconds it has ended."""
    cancelling = threading.Timer(0.1, caller.cancellation.cancel)
    began = time.monotonic()
    cancelling.start()
    with pytest.raises(Cancelled):
        ask(caller)
    cancelling.join()
    return time.monotonic() - began


def test_connecting_ends_when_it_is_cancelled(full: int):
    settings = Settings(connect_timeout=PATIENCE)
    with closing(Upstream(f"http://127.0.0.1:{full}/", settings)) as upstream:
        assert cancelled(lambda caller: upstream.stat("a", caller), Caller()) < PATIENCE / 2


def test_a_pause_ends_when_it_is_cancelled():
    assert cancelled(lambda caller: run(paused(), caller.cancellation), Caller()) < PATIENCE / 2


def test_a_connection_that_is_not_made_in_time_is_late(full: int):
    settings = Settings(connect_timeout=0.1, retries=0)
    began = time.monotonic()
    with (
        closing(Upstream(f"http://127.0.0.1:{full}/", settings)) as upstream,
        pytest.raises(SourceError, match="too long"),
    ):
        upstream.stat("a", Caller())
    assert time.monotonic() - began < PATIENCE / 2

"""The shared threads work turn by turn, and memory is taken and given back, never waited for."""

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from tar_gateway.delivery.threads import TURN, FetcherPool
from tar_gateway.sources.wire.calling import QUICK, LatencyMeter

PATIENCE = 10


@pytest.fixture
def one() -> Iterator[FetcherPool]:
    with closing(FetcherPool(1, memory=100)) as fetchers:
        yield fetchers


class Work:
    """So many steps, which note whose they are."""

    def __init__(self, name: str, steps: int, notes: list[str]) -> None:
        self.name = name
        self.left = steps
        self.notes = notes
        self.done = threading.Event()

    def step(self) -> bool:
        if not self.left:
            self.done.set()
            return False
        self.left -= 1
        self.notes.append(self.name)
        return True


def test_work_goes_on_until_nothing_is_left(one: FetcherPool):
    work = Work("a", 3 * TURN + 1, [])
    one.work(work.step)
    assert work.done.wait(PATIENCE)
    assert work.notes == ["a"] * (3 * TURN + 1)


def test_whoever_has_much_to_do_lets_others_have_their_turn(one: FetcherPool):
    notes: list[str] = []
    gate = threading.Event()
    one.work(lambda: not gate.wait(PATIENCE))  # keeps the thread until both stand in the queue
    works = [Work("a", 2 * TURN, notes), Work("b", 2 * TURN, notes)]
    for work in works:
        one.work(work.step)
    gate.set()
    assert all(work.done.wait(PATIENCE) for work in works)
    assert notes == [*"a" * TURN, *"b" * TURN, *"a" * TURN, *"b" * TURN]


def test_several_threads_work_at_once():
    met = threading.Barrier(3, timeout=PATIENCE)
    with closing(FetcherPool(3, memory=0)) as fetchers:
        for _ in range(3):
            fetchers.work(lambda: met.wait() < 0)
    assert not met.broken


def test_memory_is_taken_as_far_as_it_goes(one: FetcherPool):
    assert [one.memory.take(60), one.memory.take(60), one.memory.take(40), one.memory.take(1)] == [
        True,
        False,
        True,
        False,
    ]


def test_memory_given_back_can_be_taken_again(one: FetcherPool):
    one.memory.take(100)
    one.memory.release(30)
    assert [one.memory.take(31), one.memory.take(30)] == [False, True]


def test_what_has_begun_is_finished_when_the_threads_end():
    work = Work("a", 5 * TURN, [])
    with closing(FetcherPool(1, memory=0)) as fetchers:
        fetchers.work(work.step)
    assert work.done.is_set()


def test_nothing_is_begun_once_closed():
    fetchers = FetcherPool(1, memory=0)
    fetchers.close()
    with pytest.raises(RuntimeError):
        fetchers.work(lambda: False)


def test_answers_are_waited_for_when_two_in_a_row_are_slow():
    waiting = LatencyMeter()
    slow, quick = 2 * QUICK, QUICK / 2
    told = [waiting.took(seconds) for seconds in (slow, quick, slow, slow, slow, quick, slow)]
    assert told == [False, False, False, True, True, False, False]

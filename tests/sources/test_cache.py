"""What is remembered is forgotten in time, and before it takes too much room."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tar_gateway.errors import Cancelled, SourceError
from tar_gateway.sources.cache import ExpiringCache, Flight, SingleFlight
from tar_gateway.sources.wire.cancellation import Cancellation
from tests.support.scripted import PATIENCE, wait_until


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """Give the time, which a test may change."""
    now = [1000.0]
    monkeypatch.setattr("tar_gateway.sources.cache.time.monotonic", lambda: now[0])
    return now


def test_what_was_kept_is_recalled_by_its_key(clock):
    remembered = ExpiringCache[str](10, 5)
    remembered.keep(b"a", "alpha", 1)
    assert remembered.recall(b"a") == "alpha"
    assert remembered.recall(b"b") is None


def test_it_is_forgotten_in_time_however_often_it_is_recalled(clock):
    remembered = ExpiringCache[str](10, 5)
    remembered.keep(b"a", "alpha", 1)
    for _ in range(9):
        clock[0] += 1
        assert remembered.recall(b"a") == "alpha"
    clock[0] += 1
    assert remembered.recall(b"a") is None


def test_what_is_kept_later_takes_the_place_of_what_there_was(clock):
    remembered = ExpiringCache[str](10, 5)
    remembered.keep(b"a", "alpha", 5)
    clock[0] += 9
    remembered.keep(b"a", "alef", 5)
    clock[0] += 9
    assert remembered.recall(b"a") == "alef"


def test_the_oldest_are_forgotten_where_there_is_no_more_room(clock):
    remembered = ExpiringCache[str](10, 5)
    for key, weight in ((b"a", 2), (b"b", 2), (b"c", 2)):
        remembered.keep(key, "value", weight)
    assert [remembered.recall(key) for key in (b"a", b"b", b"c")] == [None, "value", "value"]


def test_what_has_no_room_at_all_is_not_kept(clock):
    remembered = ExpiringCache[str](10, 5)
    remembered.keep(b"a", "alpha", 6)
    assert remembered.recall(b"a") is None
    remembered.keep(b"b", "beta", 5)
    assert remembered.recall(b"b") == "beta"


def test_what_is_forgotten_is_gone_and_gives_its_room_back(clock):
    remembered = ExpiringCache[str](10, 5)
    remembered.keep(b"a", "alpha", 3)
    remembered.keep(b"b", "beta", 2)
    remembered.forget(b"b")
    remembered.forget(b"never kept")
    remembered.keep(b"c", "gamma", 2)
    assert [remembered.recall(key) for key in (b"a", b"b", b"c")] == ["alpha", None, "gamma"]


def test_what_is_out_of_date_holds_no_room_once_another_is_kept(clock):
    class Value:
        deleted = False

        def __del__(self) -> None:
            Value.deleted = True

    remembered = ExpiringCache[Value](10, 5)
    remembered.keep(b"a", Value(), 1)
    clock[0] += 11
    remembered.keep(b"b", Value(), 1)
    assert Value.deleted


# --- what several want at the same time ---------------------------------------------------------


class Asking:
    """Threads that ask one `SingleFlight` for one thing, which is made once the gate is open."""

    def __init__(self, outcome: Callable[[Flight[str]], str] = lambda _: "found") -> None:
        self.flights = SingleFlight[str]()
        self.gate = threading.Event()
        self.made: list[Flight[str]] = []
        self._outcome = outcome
        self._threads = ThreadPoolExecutor(8)

    def make(self, flight: Flight[str]) -> str:
        self.made.append(flight)
        while not self.gate.wait(0.002):
            flight.cancellation.check()
        return self._outcome(flight)

    def ask(
        self, cancellation: Cancellation | None = None, seconds: float = PATIENCE
    ) -> Future[tuple[str | None, bool]]:
        """Ask in another thread, and wait until that waits."""
        before = self.waiting()
        deadline = time.monotonic() + seconds
        asked = self._threads.submit(
            self.flights.find, "key", cancellation or Cancellation(), deadline, self.make
        )
        assert wait_until(lambda: asked.done() or self.waiting() > before)
        return asked

    def waiting(self) -> int:
        return sum(len(flight.waiting) for flight in self.made)

    def close(self) -> None:
        self.gate.set()
        self._threads.shutdown()


@pytest.fixture
def asking() -> Iterator[Asking]:
    with closing(Asking()) as asking:
        yield asking


def test_what_several_want_is_made_once(asking):
    asked = [asking.ask() for _ in range(5)]
    asking.gate.set()
    assert [each.result(PATIENCE) for each in asked] == [("found", True)] + [("found", False)] * 4
    assert len(asking.made) == 1
    assert asking.ask().result(PATIENCE) == ("found", True)  # anew


@pytest.mark.parametrize("leaving", [0, 1, 2])
def test_who_leaves_costs_the_others_nothing(asking, leaving):
    cancellations = [Cancellation() for _ in range(3)]
    asked = [asking.ask(each) for each in cancellations]
    cancellations[leaving].cancel()
    assert wait_until(lambda: asking.waiting() == 2)
    assert not asking.made[0].cancellation.is_cancelled
    asking.gate.set()
    for number, each in enumerate(asked):
        if number == leaving != 0:
            with pytest.raises(Cancelled):
                each.result(PATIENCE)
        else:
            assert each.result(PATIENCE) == ("found", number == 0)


def test_it_ends_once_all_have_left_and_is_made_anew_for_the_next(asking):
    cancellations = [Cancellation() for _ in range(3)]
    asked = [asking.ask(each) for each in cancellations]
    for each in cancellations:
        each.cancel()
    for each in asked:
        with pytest.raises(Cancelled):
            each.result(PATIENCE)
    later = asking.ask()
    asking.gate.set()
    assert later.result(PATIENCE) == ("found", True)


def test_what_goes_wrong_goes_wrong_for_all():
    def fail(_: Flight[str]) -> str:
        raise SourceError("it does not exist", status=404)

    with closing(Asking(fail)) as asking:
        asked = [asking.ask() for _ in range(3)]
        asking.gate.set()
        for each in asked:
            with pytest.raises(SourceError, match="it does not exist"):
                each.result(PATIENCE)
        assert len(asking.made) == 1


def test_no_one_waits_beyond_its_deadline(asking):
    asking.ask()
    assert asking.ask(seconds=0).result(PATIENCE) == (None, False)


def test_those_it_parts_from_need_not_wait_and_the_next_makes_its_own(asking):
    first, second = asking.ask(), asking.ask()
    asking.made[0].part()
    assert second.result(PATIENCE) == (None, False)
    third = asking.ask()
    asking.gate.set()
    assert (first.result(PATIENCE), third.result(PATIENCE)) == (("found", True),) * 2


def test_what_went_wrong_for_one_that_has_parted_is_not_for_the_others():
    def refuse(flight: Flight[str]) -> str:
        flight.part()
        raise SourceError("too many questions")

    with closing(Asking(refuse)) as asking:
        first, second = asking.ask(), asking.ask()
        asking.gate.set()
        assert second.result(PATIENCE) == (None, False)
        with pytest.raises(SourceError, match="too many questions"):
            first.result(PATIENCE)


def test_a_thread_that_its_server_ends_leaves_no_one_waiting():
    def end(_: Flight[str]) -> str:
        raise SystemExit

    with closing(Asking(end)) as asking:
        asked = [asking.ask() for _ in range(2)]
        asking.gate.set()
        assert asked[1].result(PATIENCE) == (None, False)
        with pytest.raises(SystemExit):
            asked[0].result(PATIENCE)


# What three clients do, one step at a time: come, leave, or let the thing be made.
STEPS = st.lists(st.sampled_from(["come", "come", "leave first", "leave last", "make"]), max_size=9)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_in_any_order_each_who_stays_has_it_and_it_is_made_no_more_often_than_needed(steps):
    with closing(Asking()) as asking:
        there: list[tuple[Cancellation, Future[tuple[str | None, bool]]]] = []
        needed, stayed = 0, []
        for step in steps:
            match step:
                case "come" if len(there) < 6:
                    needed += not there
                    cancellation = Cancellation()
                    there.append((cancellation, asking.ask(cancellation)))
                case "leave first" | "leave last" if there:
                    left = there.pop(0 if step == "leave first" else -1)
                    left[0].cancel()
                    assert wait_until(lambda: asking.waiting() == len(there))
                case "make":
                    asking.gate.set()
                    stayed += [each.result(PATIENCE)[0] for _, each in there]
                    there.clear()
                    asking.gate.clear()
        asking.gate.set()
        stayed += [each.result(PATIENCE)[0] for _, each in there]
        assert set(stayed) <= {"found"}
        assert len(asking.made) == needed

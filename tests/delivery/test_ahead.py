"""Small members are fetched before their turn: in order, within bounds, and given back."""

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from tar_gateway.delivery.ahead import SMALL, Prefetch, Slot
from tar_gateway.delivery.body import JOINED, Body
from tar_gateway.delivery.fetch import FetchRules
from tar_gateway.delivery.threads import FetcherPool
from tar_gateway.errors import BrokenOff, Cancelled
from tar_gateway.settings import Settings
from tar_gateway.sources.wire.calling import FIRST, GROWTH
from tests.support.fakes import MemorySource, missing, plan_of
from tests.support.scripted import wait_until

PATIENCE = 10
MEMORY = 1_000_000
FILES = {f"{number:03}": b"%03d" % number * 100 for number in range(200)}


@pytest.fixture
def fetchers() -> Iterator[FetcherPool]:
    with closing(FetcherPool(4, MEMORY)) as fetchers:
        yield fetchers


def body_of(source: MemorySource, fetchers: FetcherPool | None, **settings) -> Body:
    plan = plan_of(source)
    rules = FetchRules.from_settings(Settings(retry_pause=0, **settings))
    return Body(plan, 0, plan.layout.size, rules, fetchers)


def whole(source: MemorySource, fetchers: FetcherPool | None, **settings) -> bytes:
    with closing(body_of(source, fetchers, **settings)) as body:
        return b"".join(body)


def all_given_back(source: MemorySource, fetchers: FetcherPool) -> bool:
    """Tell whether no content is open and all memory can be taken, and give it back."""
    if not fetchers.memory.take(MEMORY):
        return False
    fetchers.memory.release(MEMORY)
    return not source.held


class Gated(MemorySource):
    """Opens some members only when the test lets it."""

    def __init__(self, files: dict[str, bytes], *gated: str) -> None:
        super().__init__(files)
        self.gated = gated
        self.gate = threading.Event()

    def open(self, path, *rest):
        content = super().open(path, *rest)
        if path in self.gated:
            assert self.gate.wait(PATIENCE)
        return content


def test_an_archive_fetched_ahead_is_the_same(fetchers: FetcherPool):
    assert whole(MemorySource(FILES), fetchers) == whole(MemorySource(FILES), None)


@pytest.mark.parametrize("limit", [1, 299, 300, 301, 5_000])
def test_it_is_the_same_whatever_the_bound(fetchers: FetcherPool, limit: int):
    source = MemorySource(FILES)
    assert whole(source, fetchers, fetch_ahead=limit) == whole(MemorySource(FILES), None)
    assert all_given_back(source, fetchers)


def test_nothing_is_fetched_ahead_where_that_is_switched_off(fetchers: FetcherPool):
    source = MemorySource(FILES)
    assert whole(source, fetchers, fetch_ahead=0) == whole(MemorySource(FILES), None)
    assert [path for path, _, _ in source.opened] == list(FILES)


def test_every_member_is_opened_once(fetchers: FetcherPool):
    source = MemorySource(FILES)
    whole(source, fetchers)
    assert sorted(path for path, _, _ in source.opened) == sorted(FILES)


def test_nothing_is_opened_before_the_first_block_is_wanted(fetchers: FetcherPool):
    source = MemorySource(FILES)
    with closing(body_of(source, fetchers)) as body:
        body.prime()
        assert [path for path, _, _ in source.opened] == ["000"]


def test_members_are_fetched_while_another_is_sent(fetchers: FetcherPool):
    source = MemorySource(FILES)
    with closing(body_of(source, fetchers)) as body:
        next(body)
        assert wait_until(lambda: len(source.opened) > 10)


def test_no_more_is_fetched_ahead_than_allowed(fetchers: FetcherPool):
    source = Gated(FILES, "000")
    with closing(body_of(source, fetchers, fetch_ahead=900)) as body:
        next(body)
        assert wait_until(lambda: {"001", "002"} <= {path for path, _, _ in source.opened})
        assert {path for path, _, _ in source.opened} <= {"000", "001", "002"}
        source.gate.set()


def test_without_memory_left_every_member_is_fetched_in_its_turn(fetchers: FetcherPool):
    fetchers.memory.take(MEMORY)
    source = MemorySource(FILES)
    assert whole(source, fetchers) == whole(MemorySource(FILES), None)
    assert [path for path, _, _ in source.opened] == list(FILES)
    fetchers.memory.release(MEMORY)


def test_a_large_member_is_not_opened_ahead(fetchers: FetcherPool):
    files = {"a": b"a", "large": b"l" * (SMALL + 1), "z": b"z"}
    source = MemorySource(files)
    with closing(body_of(source, fetchers)) as body:
        next(body)
        assert wait_until(lambda: "z" in {path for path, _, _ in source.opened})
        assert "large" not in {path for path, _, _ in source.opened}
        for _ in body:
            pass
    assert "large" in {path for path, _, _ in source.opened}


def test_a_member_that_no_thread_has_begun_with_is_not_waited_for(fetchers: FetcherPool):
    gates = [threading.Event() for _ in range(4)]
    for gate in gates:  # all threads are busy with something else
        fetchers.work(lambda gate=gate: not gate.wait(PATIENCE))
    source = MemorySource(FILES)
    assert whole(source, fetchers) == whole(MemorySource(FILES), None)
    for gate in gates:
        gate.set()


def test_small_members_that_are_there_leave_together(fetchers: FetcherPool):
    source = MemorySource(FILES)
    with closing(body_of(source, fetchers)) as body:
        next(body)
        assert wait_until(lambda: len(source.opened) >= len(FILES) - 1)
        blocks = list(body)
    assert len(blocks) < len(FILES)


def test_small_members_that_come_soon_leave_together(fetchers: FetcherPool, monkeypatch):
    monkeypatch.setattr("tar_gateway.delivery.body.SOON", PATIENCE)
    source = Gated(dict.fromkeys(FILES, FILES["000"] * 10), "001", "005", "009")
    with closing(body_of(source, fetchers)) as body:
        body.prime()
        assert len(next(body)) == 512
        assert wait_until(lambda: len(source.opened) > 1)  # others are at the next ones
        opener = threading.Timer(0.05, source.gate.set)
        opener.start()
        assert len(next(body)) == len(FILES["000"]) * 10
        assert len(next(body)) >= JOINED
        opener.join()


def test_what_is_there_does_not_wait_for_what_is_late(fetchers: FetcherPool):
    source = Gated(FILES, "002")
    expected = whole(MemorySource(FILES), None)[: 2 * 1024 + 512]  # up to the late member's bytes
    with closing(body_of(source, fetchers)) as body:
        received = b""
        while len(received) < len(expected):
            received += next(body)
        assert not source.gate.is_set()
        assert received == expected
        source.gate.set()


@pytest.mark.parametrize(("quick", "late"), [(0, PATIENCE), (PATIENCE, 0.001)])
def test_more_are_fetched_at_once_where_answers_are_slow_or_do_not_come(
    quick: float, late: float, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tar_gateway.sources.wire.calling.QUICK", quick)
    monkeypatch.setattr("tar_gateway.delivery.ahead.LATE", late)
    barrier = threading.Barrier(6)  # the share of the threads below
    all_there = threading.Event()
    opened = itertools.count()
    begun = threading.Event()

    class Slow(MemorySource):
        def open(self, path, *rest):
            # The body may fetch one itself: only the others have to be many.
            if threading.current_thread() is not threading.main_thread():
                number = next(opened)
                begun.set()
                answered = quick < late and number < FIRST
                if not answered and not all_there.is_set():
                    barrier.wait(PATIENCE)
                    all_there.set()
            return super().open(path, *rest)

    with (
        closing(FetcherPool(GROWTH * FIRST, MEMORY)) as fetchers,
        closing(body_of(Slow(FILES), fetchers)) as body,
    ):
        received = next(body)
        assert begun.wait(PATIENCE)  # or the body might fetch all of them itself
        received += b"".join(body)
    assert all_there.is_set()
    assert received == whole(MemorySource(FILES), None)


def test_few_are_fetched_at_once_where_answers_are_quick(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tar_gateway.sources.wire.calling.QUICK", PATIENCE)
    monkeypatch.setattr("tar_gateway.delivery.ahead.LATE", PATIENCE)
    under_way, most = [], []

    class Quick(MemorySource):
        def open(self, path, *rest):
            under_way.append(path)
            most.append(len(under_way))
            content = super().open(path, *rest)
            under_way.remove(path)
            return content

    with closing(FetcherPool(GROWTH * FIRST, MEMORY)) as fetchers:
        assert whole(Quick(FILES), fetchers) == whole(MemorySource(FILES), None)
    assert max(most) <= 1 + FIRST  # the body's own too


def test_a_member_that_fails_ahead_breaks_the_archive_off_in_its_turn(fetchers: FetcherPool):
    source = MemorySource(FILES, given={"100": [missing()]})
    received = []
    with (
        closing(body_of(source, fetchers)) as body,
        pytest.raises(BrokenOff, match="'100' failed: it does not exist"),
    ):
        received.extend(body)
    assert b"".join(received) == whole(MemorySource(FILES), None)[: 100 * 1024 + 512]
    assert wait_until(lambda: all_given_back(source, fetchers))


@pytest.mark.parametrize("taken", [0, 1, 2, 10])
def test_a_body_that_is_closed_early_gives_everything_back(fetchers: FetcherPool, taken: int):
    source = MemorySource(FILES)
    body = body_of(source, fetchers, fetch_ahead=20_000)
    for _ in range(taken):
        next(body, None)  # what is there leaves together, so that there may be fewer
    body.close()
    assert wait_until(lambda: all_given_back(source, fetchers))


def test_what_is_under_way_at_the_close_is_given_back_as_it_ends(fetchers: FetcherPool):
    source = Gated(FILES, "001", "002")
    body = body_of(source, fetchers)
    body.prime()
    next(body)
    assert wait_until(lambda: len(source.opened) >= 3)
    body.close()
    assert not all_given_back(source, fetchers)
    source.gate.set()
    assert wait_until(lambda: all_given_back(source, fetchers))


@pytest.mark.parametrize("member", ["000", "001"], ids=["in its turn", "ahead of its turn"])
def test_a_close_while_another_thread_reads_ends_the_read_and_releases_all(
    fetchers: FetcherPool, member: str
):
    source = Gated(FILES, member)
    body = body_of(source, fetchers)
    with ThreadPoolExecutor(1) as reader:
        read = reader.submit(lambda: b"".join(body))
        assert wait_until(lambda: member in {path for path, _, _ in source.opened})
        body.close()
        body.close()
        source.gate.set()
        with pytest.raises(Cancelled):
            read.result(PATIENCE)
    assert wait_until(lambda: all_given_back(source, fetchers))


def test_a_close_ends_the_wait_for_a_member_whose_fetch_cannot_be_cancelled(
    fetchers: FetcherPool, monkeypatch: pytest.MonkeyPatch
):
    waits = threading.Event()
    take = Prefetch.take

    def noted(self: Prefetch, slot: Slot) -> list[bytes]:
        waits.set()
        return take(self, slot)

    monkeypatch.setattr(Prefetch, "take", noted)
    source = Gated(FILES, "001")
    body = body_of(source, fetchers)
    body.prime()
    next(body)
    assert wait_until(lambda: "001" in {path for path, _, _ in source.opened})
    with ThreadPoolExecutor(1) as reader:
        read = reader.submit(lambda: b"".join(body))
        assert waits.wait(PATIENCE)
        body.close()
        with pytest.raises(Cancelled):
            read.result(PATIENCE)
        source.gate.set()
    assert wait_until(lambda: all_given_back(source, fetchers))


class Failing(MemorySource):
    """The contents of one member fail to close, after all."""

    def __init__(self, files: dict[str, bytes], failing: str) -> None:
        super().__init__(files)
        self._failing = failing

    def open(self, path, *rest):
        content = super().open(path, *rest)
        if path == self._failing:
            close = content.close

            def fail() -> None:
                close()
                raise ZeroDivisionError

            content.close = fail
        return content


def test_a_content_that_fails_to_close_releases_its_memory(fetchers: FetcherPool):
    source = Failing(FILES, "001")
    body = body_of(source, fetchers)
    with pytest.raises(ZeroDivisionError), closing(body):
        for _ in body:
            pass
    assert wait_until(lambda: all_given_back(source, fetchers))


def test_what_was_fetched_ahead_is_released_when_another_step_of_closing_raises(
    fetchers: FetcherPool,
):
    source = Failing({**FILES, "000": b"x" * SMALL * 2}, "000")
    body = body_of(source, fetchers)
    body.prime()
    next(body)
    assert wait_until(lambda: len(source.opened) > 10)
    with pytest.raises(ZeroDivisionError):
        body.close()
    assert wait_until(lambda: all_given_back(source, fetchers))


def test_a_stop_ends_what_is_under_way(fetchers: FetcherPool):
    source = Gated(FILES, "001")
    with closing(body_of(source, fetchers)) as body:
        body.prime()
        next(body)
        body._plan.cancellation.cancel()
        source.gate.set()
        with pytest.raises(Cancelled):
            for _ in body:
                pass
    assert wait_until(lambda: all_given_back(source, fetchers))


def test_many_downloads_at_once_are_all_right(fetchers: FetcherPool):
    expected = whole(MemorySource(FILES), None)
    results: list[bool] = []

    def download() -> None:
        results.append(whole(MemorySource(FILES), fetchers, fetch_ahead=3000) == expected)

    threads = [threading.Thread(target=download) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert results == [True] * 16

"""A plan asks about all members at once, names all that is wrong, and gives everything back."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest

from tar_gateway.delivery.plan import Plan
from tar_gateway.delivery.planner import Planner
from tar_gateway.delivery.threads import FetcherPool
from tar_gateway.errors import ContentTooLarge, MembersFailed, SourceError
from tar_gateway.http.validators import Validator
from tar_gateway.settings import Settings
from tar_gateway.sources import Caller, Stat, UnknownSize
from tar_gateway.sources.wire.calling import FIRST, GROWTH
from tests.support.fakes import (
    STRONG,
    WEAK,
    MemorySource,
    Steps,
    broken,
    bundle_of,
    missing,
    record_pauses,
)
from tests.support.scripted import PATIENCE, wait_until

NOBODY = Caller()


class Asked:
    """A source whose `stat` is a function of the test's."""

    def __init__(self, stat: Callable[[str], Stat | UnknownSize]) -> None:
        self._stat = stat
        self._lock = threading.Lock()
        self._now = 0
        self.most = 0
        self.paths: list[str] = []

    def is_concurrent(self, caller: Caller) -> bool:
        return True

    def cache_key(self, caller: Caller) -> tuple[tuple[str, str], ...]:
        return caller.headers

    def stat(self, path: str, caller: Caller) -> Stat | UnknownSize:
        assert caller == NOBODY
        with self._lock:
            self.paths.append(path)
            self._now += 1
            self.most = max(self.most, self._now)
        try:
            return self._stat(path)
        finally:
            with self._lock:
                self._now -= 1


@contextmanager
def planner_of(source: MemorySource | Asked, **settings: object) -> Iterator[Planner]:
    chosen = Settings(**settings)
    with closing(FetcherPool(chosen.fetch_parallel, memory=0)) as fetchers:
        yield Planner(source, chosen, fetchers)


def plan(source: MemorySource | Asked, *paths: str, **settings: object) -> Plan:
    with planner_of(source, **settings) as planner:
        return planner.plan(bundle_of(*paths), NOBODY)


def plan_refused(source: MemorySource | Asked, *paths: str, **settings: object) -> MembersFailed:
    with pytest.raises(MembersFailed) as caught:
        plan(source, *paths, **settings)
    return caught.value


def sizes(made: Plan) -> list[int]:
    return [member.size for member in made.layout.members]


def numbered(path: str) -> Stat:
    return Stat(int(path), 0, STRONG)


MANY = [str(number) for number in range(100)]


@pytest.mark.parametrize("threads", [1, 2, 7, 200])
def test_a_plan_keeps_the_order_of_its_members_whatever_the_threads(threads: int):
    source = Asked(numbered)
    made = plan(source, *MANY, fetch_parallel=threads)
    assert sizes(made) == list(range(100))
    assert [member.name for member in made.layout.members] == MANY
    assert sorted(source.paths) == sorted(MANY)


def test_a_plan_keeps_the_order_when_the_last_is_told_first():
    told = [threading.Event() for _ in range(5)]
    told[4].set()

    def backwards(path: str) -> Stat:
        index = int(path)
        if index < 4:
            assert told[index + 1].wait(PATIENCE)
        told[index].set()
        return numbered(path)

    assert sizes(plan(Asked(backwards), *"01234", fetch_parallel=7)) == [0, 1, 2, 3, 4]


def test_a_plan_has_three_quarters_of_the_threads_for_its_questions():
    barrier = threading.Barrier(3)

    def together(path: str) -> Stat:
        barrier.wait(PATIENCE)
        return numbered(path)

    source = Asked(together)
    plan(source, *MANY[:39], fetch_parallel=4)
    assert source.most == 3


@pytest.mark.parametrize(("quick", "late"), [(0, PATIENCE), (PATIENCE, 0.001)])
def test_more_are_asked_about_at_once_where_answers_are_slow_or_do_not_come(
    quick: float, late: float, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tar_gateway.sources.wire.calling.QUICK", quick)
    monkeypatch.setattr("tar_gateway.sources.wire.calling.LATE", late)
    barrier = threading.Barrier(GROWTH * FIRST)

    def stat(path: str) -> Stat:
        if late < quick or path > MANY[FIRST - 1]:
            barrier.wait(PATIENCE)
        return numbered(path)

    plan(Asked(stat), *MANY[: (FIRST if quick < late else 0) + GROWTH * FIRST])


def test_few_are_asked_about_at_once_where_answers_are_quick(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tar_gateway.sources.wire.calling.QUICK", PATIENCE)
    monkeypatch.setattr("tar_gateway.sources.wire.calling.LATE", PATIENCE)
    source = Asked(numbered)
    plan(source, *MANY)
    assert source.most <= FIRST


def test_a_small_plan_need_not_wait_for_the_end_of_a_large_one():
    small_asked = threading.Event()
    large_asked = threading.Event()

    def stat(path: str) -> Stat:
        if path == "small":
            small_asked.set()
        else:
            large_asked.set()
            small_asked.wait(0.002)  # slow, until the small one had its turn
        return Stat(0, 0, STRONG)

    source = Asked(stat)
    large = [str(number) for number in range(2000)]
    with planner_of(source, fetch_parallel=1) as planner:
        other = threading.Thread(target=planner.plan, args=(bundle_of(*large), NOBODY))
        other.start()
        assert large_asked.wait(PATIENCE)
        planner.plan(bundle_of("small"), NOBODY)
        other.join()
    assert source.paths.index("small") < len(large)


def test_every_member_is_asked_about_on_the_callers_authority():
    source = MemorySource({"a": b"", "b": b""})
    caller = Caller((("Authorization", "secret"),))
    with planner_of(source) as planner:
        made = planner.plan(bundle_of("a", "b"), caller)
    made.open(0, 0, 0)
    assert source.callers == [caller] * 3


@pytest.mark.parametrize(
    ("faults", "status"),
    [
        ((404,), 404),
        ((404, 401), 401),
        ((404, 403), 403),
        ((403, 401), 401),
        ((504, 502), 502),
        ((404, 504), 504),
        ((502, 403), 403),
    ],
)
def test_all_members_at_fault_are_named_in_order_and_no_others(
    faults: tuple[int, ...], status: int
):
    bad = {str(fault): [SourceError(f"reason {fault}", status=fault)] for fault in faults}
    source = MemorySource({"good": b"", "fine": b""}, told=bad)
    error = plan_refused(source, "good", *bad, "fine")
    assert [(fault.path, fault.status, fault.reason) for fault in error.faults] == [
        (str(fault), fault, f"reason {fault}") for fault in faults
    ]
    assert error.status == status


def test_a_challenge_goes_on_to_the_client():
    denied = SourceError("denied", status=401, challenge="Basic")
    error = plan_refused(MemorySource(told={"a": [denied]}), "a")
    assert error.headers == (("WWW-Authenticate", "Basic"),)


def test_a_passing_fault_is_asked_about_again(monkeypatch: pytest.MonkeyPatch):
    record_pauses(monkeypatch)
    source = MemorySource({"a": b"data"}, told={"a": [broken(), broken()]})
    assert sizes(plan(source, "a", retries=2)) == [4]
    assert source.asked == ["a"] * 3


@pytest.mark.parametrize(("error", "asked"), [(broken(), 3), (missing(), 1)])
def test_a_fault_that_stays_is_told(
    error: SourceError, asked: int, monkeypatch: pytest.MonkeyPatch
):
    record_pauses(monkeypatch)
    source = MemorySource(told={"a": [error] * 5})
    assert plan_refused(source, "a", retries=2).faults[0].reason == error.reason
    assert source.asked == ["a"] * asked


def test_a_defect_of_a_source_is_raised_as_it_is():
    source = MemorySource({"a": b""}, told={"b": [ZeroDivisionError()]})
    with pytest.raises(ZeroDivisionError):
        plan(source, "a", "b")


# --- the deadline ------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrent", [True, False])
def test_the_first_401_decides_and_nothing_more_is_asked(
    concurrent: bool, monkeypatch: pytest.MonkeyPatch
):
    def stat(path: str) -> Stat:
        raise SourceError("no", status=401 if path == "7" else 404)

    monkeypatch.setattr(Asked, "is_concurrent", lambda *_: concurrent)
    source = Asked(stat)
    refusal = plan_refused(source, *MANY, fetch_parallel=1)
    assert (refusal.status, refusal.count) == (401, 8)
    assert source.paths == MANY[:8]


@pytest.mark.parametrize("concurrent", [True, False])
def test_after_a_hundred_faults_nothing_is_added_and_nothing_more_is_asked(
    concurrent: bool, monkeypatch: pytest.MonkeyPatch
):
    def stat(path: str) -> Stat:
        if int(path) % 2:
            raise SourceError("no", status=404)
        return numbered(path)

    monkeypatch.setattr(Asked, "is_concurrent", lambda *_: concurrent)
    source = Asked(stat)
    members = [str(number) for number in range(1000)]
    refusal = plan_refused(source, *members, fetch_parallel=1)
    assert [fault.path for fault in refusal.faults] == members[1:201:2]
    assert (refusal.count, source.paths) == (100, members[:200])


def test_what_is_not_told_in_time_is_a_504_and_named():
    release = threading.Event()

    def stat(path: str) -> Stat:
        if path == "late":
            assert release.wait(PATIENCE)
        return Stat(1, 0, STRONG)

    with planner_of(Asked(stat), plan_timeout=0.1) as planner:
        try:
            with pytest.raises(MembersFailed) as caught:
                planner.plan(bundle_of("a", "late", "b"), NOBODY)
        finally:
            release.set()
    assert [(fault.path, fault.status) for fault in caught.value.faults] == [("late", 504)]
    assert caught.value.status == 504


def test_after_the_deadline_nothing_more_is_asked():
    release = threading.Event()

    def stat(path: str) -> Stat:
        assert release.wait(PATIENCE)
        return numbered(path)

    source = Asked(stat)
    with planner_of(source, plan_timeout=0.1, fetch_parallel=3) as planner:
        try:
            with pytest.raises(MembersFailed) as caught:
                planner.plan(bundle_of(*MANY), NOBODY)
        finally:
            release.set()
    assert len(caught.value.faults) == 100
    assert sorted(source.paths) == ["0", "1"]


# --- members of unknown size --------------------------------------------------------------------


class Late(Steps):
    """A content of as many bytes as fit, whose end comes once it is released."""

    def __init__(self, release: threading.Event) -> None:
        super().__init__(b"x" * LIMIT)
        self._release = release

    def read(self, limit: int) -> bytes:
        block = super().read(limit)
        assert block or self._release.wait(PATIENCE)
        return block


class Spooling:
    """A source that tells no size of a name such as ``5``, which has that many bytes.

    ``late`` has as many as fit, and they end once `release` is set.
    """

    def __init__(self) -> None:
        self.contents: list[Steps] = []
        self.release = threading.Event()

    def is_concurrent(self, caller: Caller) -> bool:
        return True

    def cache_key(self, caller: Caller) -> tuple[tuple[str, str], ...]:
        return caller.headers

    def stat(self, path: str, caller: Caller) -> Stat | UnknownSize:
        assert caller == NOBODY
        if path == "missing":
            raise missing()
        if path == "defect":
            raise ZeroDivisionError
        content = Late(self.release) if path == "late" else Steps(b"x" * int(path))
        self.contents.append(content)
        return UnknownSize(1600000000, content)


LIMIT = 100


@contextmanager
def spooling(**settings: object) -> Iterator[tuple[Spooling, Planner]]:
    source = Spooling()
    with planner_of(source, spool_limit=LIMIT, **settings) as planner:
        try:
            yield source, planner
        finally:
            source.release.set()
    assert all(content.closed for content in source.contents)


def all_given_back(planner: Planner) -> bool:
    """Tell whether as many bytes as ever can be set aside now."""
    try:
        planner.plan(bundle_of(str(LIMIT)), NOBODY).close()
    except MembersFailed:
        return False
    return True


def test_a_member_of_untold_size_is_set_aside_and_read_from_there():
    with spooling() as (_, planner):
        made = planner.plan(bundle_of("30", "0"), NOBODY)
        assert sizes(made) == [30, 0]
        assert [member.mtime for member in made.layout.members] == [1600000000] * 2
        assert not made.layout.etag.strong
        assert made.is_proved(0)
        assert made.open(0, 10, 30).read(100) == b"x" * 20
        assert not all_given_back(planner)
        made.close()
        made.close()
        assert all_given_back(planner)


def test_what_does_not_fit_is_named_and_what_did_is_given_back():
    with spooling(fetch_parallel=1) as (_, planner):
        with pytest.raises(MembersFailed) as caught:
            planner.plan(bundle_of("60", "50", "40"), NOBODY)
        assert [(fault.path, fault.status) for fault in caught.value.faults] == [("50", 502)]
        assert all_given_back(planner)


@pytest.mark.parametrize(
    ("bad", "error"), [("missing", MembersFailed), ("defect", ZeroDivisionError)]
)
def test_what_was_set_aside_for_a_plan_that_failed_is_given_back(bad: str, error: type[Exception]):
    with spooling() as (_, planner):
        with pytest.raises(error):
            planner.plan(bundle_of("30", bad), NOBODY)
        assert all_given_back(planner)


def test_what_was_set_aside_for_an_archive_that_is_too_large_is_given_back():
    with spooling(max_bytes=20_000) as (_, planner):
        with pytest.raises(ContentTooLarge):
            planner.plan(bundle_of(*["0" * number + "1" for number in range(20)]), NOBODY)
        assert all_given_back(planner)


def test_what_comes_after_the_deadline_is_given_back():
    with spooling(plan_timeout=0.2) as (source, planner):
        with pytest.raises(MembersFailed) as caught:
            planner.plan(bundle_of("0", "late"), NOBODY)
        assert [fault.path for fault in caught.value.faults] == ["late"]
        assert not all_given_back(planner)
        source.release.set()
        assert wait_until(lambda: all_given_back(planner))


# --- limits and the plan itself ----------------------------------------------------------------


def test_an_archive_as_large_as_allowed_is_planned():
    source = MemorySource({"a": b"data"})
    assert plan(source, "a", max_bytes=10_240).layout.size == 10_240


def test_an_archive_one_byte_larger_than_allowed_is_refused():
    with pytest.raises(ContentTooLarge, match="10239 bytes") as caught:
        plan(MemorySource({"a": b"data"}), "a", max_bytes=10_239)
    assert caught.value.status == 413


@pytest.mark.parametrize(("validator", "proved"), [(STRONG, True), (WEAK, False), (None, False)])
def test_only_a_strong_validator_proves_two_openings_to_be_of_one_version(
    validator: Validator | None, proved: bool
):
    made = plan(MemorySource({"a": b"data"}, validator=validator), "a")
    assert made.is_proved(0) is proved


def test_a_plan_opens_the_version_that_it_was_made_of():
    source = MemorySource({"a": b"0123", "b": b"4567"})
    made = plan(source, "a", "b")
    assert made.open(1, 1, 3).read(100) == b"56"
    assert source.opened == [("b", 1, 3)]


def test_sizes_that_no_offset_can_hold_are_refused():
    huge = Stat(10**19 - 1, 0, STRONG)
    with pytest.raises(ContentTooLarge):
        plan(MemorySource(told={"a": [huge], "b": [huge]}), "a", "b")

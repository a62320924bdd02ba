"""A body gives exactly the bytes of its slice, or breaks; and it closes once on every path."""

import io
import logging
import tarfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tar_gateway.delivery.body import Body
from tar_gateway.delivery.fetch import SMALLEST, FetchRules
from tar_gateway.delivery.plan import Plan
from tar_gateway.errors import (
    BrokenOff,
    Cancelled,
    MemberChanged,
    MembersChanged,
    MembersFailed,
    SourceError,
)
from tar_gateway.settings import Settings
from tests.support.fakes import STRONG, MemorySource, Step, broken, missing, plan_of, record_pauses

PATIENCE = 10
FILES = {"a": b"0123456789", "empty": b"", "b/c": b"x" * 1000, "ü": b"last"}


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    return record_pauses(monkeypatch)


class CountingPlan(Plan):
    """A plan that counts how often it is closed."""

    closes = 0

    def close(self) -> None:
        self.closes += 1
        super().close()


def body_of(source: MemorySource, start: int = 0, stop: int | None = None) -> Body:
    plan = plan_of(source)
    return Body(
        plan,
        start,
        plan.layout.size if stop is None else stop,
        FetchRules.from_settings(Settings(retries=1, retry_for=0)),
    )


def whole_of(plan: Plan) -> Body:
    return Body(plan, 0, plan.layout.size, FetchRules.from_settings(Settings(retries=0)))


def read_all(body: Body) -> bytes:
    try:
        return b"".join(body)
    finally:
        body.close()


def source_of(*steps: Step, more: int = 0) -> MemorySource:
    """A file of ten bytes that is given in these steps, then as many more empty openings."""
    return MemorySource({"a": FILES["a"]}, given={"a": [steps, *[[broken()]] * more]})


def test_the_whole_is_an_archive_of_all_members_in_order():
    with tarfile.open(fileobj=io.BytesIO(read_all(body_of(MemorySource(FILES))))) as archive:
        unpacked = {member.name: archive.extractfile(member).read() for member in archive}
    assert list(unpacked.items()) == list(FILES.items())


def test_the_whole_is_as_long_as_its_layout_says():
    plan = plan_of(MemorySource(FILES))
    assert len(read_all(whole_of(plan))) == plan.layout.size


WHOLE = read_all(body_of(MemorySource(FILES)))


@given(cut=st.tuples(st.integers(0, len(WHOLE)), st.integers(0, len(WHOLE))), primed=st.booleans())
def test_any_slice_is_cut_out_of_the_whole(cut: tuple[int, int], primed: bool):
    start, stop = sorted(cut)
    source = MemorySource(FILES)
    body = body_of(source, start, stop)
    if primed:
        body.prime()
    assert read_all(body) == WHOLE[start:stop]
    assert source.held == 0


@pytest.mark.parametrize("start", [0, 511, 512, 513, 521, 522, 523, 1023, 1024, len(WHOLE)])
@pytest.mark.parametrize("length", [0, 1, 2, 600])
def test_a_slice_at_a_boundary_is_cut_out_of_the_whole(start: int, length: int):
    stop = min(start + length, len(WHOLE))
    assert read_all(body_of(MemorySource(FILES), start, stop)) == WHOLE[start:stop]


def test_only_the_part_of_a_member_that_is_wanted_is_opened():
    source = MemorySource(FILES)
    read_all(body_of(source, 512 + 3, 512 + 7))
    assert source.opened == [("a", 3, 7)]


def test_blocks_are_given_as_they_come():
    body = body_of(source_of(b"01", b"234", b"56789"))
    blocks = [next(body) for _ in range(4)]
    assert blocks[1:] == [b"01", b"234", b"56789"]
    body.close()


def test_no_block_of_a_member_is_longer_than_one_read():
    body = body_of(MemorySource({"a": b"x" * (3 * SMALLEST + 1)}))
    assert max(len(block) for block in body) == SMALLEST
    body.close()


def test_members_are_opened_one_after_the_other():
    source = MemorySource(FILES)
    body = body_of(source)
    most = 0
    for _ in body:
        most = max(most, source.held)
    assert most == 1
    assert source.held == 0
    assert [path for path, _, _ in source.opened] == ["a", "b/c", "ü"]
    body.close()


def test_a_broken_member_goes_on_without_a_gap():
    source = source_of(b"0123", broken())
    assert read_all(body_of(source))[512:522] == FILES["a"]
    assert source.opened == [("a", 0, 10), ("a", 4, 10)]


# --- priming -----------------------------------------------------------------------------------


def test_priming_opens_the_first_member_once():
    source = MemorySource(FILES)
    body = body_of(source)
    body.prime()
    assert source.opened == [("a", 0, 10)]
    assert read_all(body) == WHOLE
    assert [path for path, _, _ in source.opened] == ["a", "b/c", "ü"]


def test_priming_a_slice_that_begins_within_a_member_opens_its_rest():
    source = MemorySource(FILES)
    body = body_of(source, 515)
    body.prime()
    assert source.opened == [("a", 3, 10)]
    body.close()


def test_priming_looks_past_the_headers_of_empty_members():
    source = MemorySource({"empty": b"", "a": b"data"})
    body = body_of(source)
    body.prime()
    assert [path for path, _, _ in source.opened] == ["a"]
    body.close()


def test_priming_does_not_look_far():
    source = MemorySource({str(number): b"" for number in range(300)} | {"a": b"data"})
    unprimed, body = body_of(source), body_of(source)
    body.prime()
    assert source.opened == []
    assert read_all(body) == read_all(unprimed)


def test_priming_an_archive_without_bytes_of_members_opens_nothing():
    source = MemorySource({"empty": b""})
    body = body_of(source)
    body.prime()
    assert len(read_all(body)) == 10_240
    assert source.opened == []


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (missing(), MembersFailed),
        (MemberChanged("it is another by now"), MembersChanged),
    ],
)
def test_priming_tells_what_is_wrong_with_the_first_member_and_closes(
    error: SourceError, raised: type[MembersFailed]
):
    plan = plan_of(MemorySource(FILES, given={"a": [error]}), CountingPlan)
    body = whole_of(plan)
    with pytest.raises(MembersFailed) as caught:
        body.prime()
    assert type(caught.value) is raised
    fault = caught.value.faults[0]
    assert (fault.path, fault.status, fault.reason) == ("a", error.status, error.reason)
    assert plan.closes == 1
    body.close()
    assert plan.closes == 1


# --- breaking off ------------------------------------------------------------------------------


def read_until_broken(body: Body) -> bytes:
    blocks = []
    with pytest.raises(BrokenOff):  # noqa: PT012 - what came before it is what matters
        for block in body:
            blocks.append(block)  # noqa: PERF402
    body.close()
    return b"".join(blocks)


@pytest.mark.parametrize("good", [0, 1, 9])
def test_a_member_that_stays_broken_ends_the_body_right_after_its_good_bytes(good: int):
    steps = [FILES["a"][:good]] if good else []
    source = source_of(*steps, broken(), more=5)
    assert read_until_broken(body_of(source)) == WHOLE[: 512 + good]
    assert source.held == 0


def test_a_later_member_that_cannot_be_opened_ends_the_body_after_its_header():
    source = MemorySource(FILES, given={"b/c": [missing()]})
    assert read_until_broken(body_of(source)) == WHOLE[: 4 * 512]


def test_breaking_off_is_logged_with_path_and_reason(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        read_until_broken(body_of(source_of(broken(), more=5)))
    assert [record.getMessage() for record in caplog.records] == [
        "broken off at the member 'a': it broke"
    ]


def test_what_broke_is_no_error_that_a_server_takes_for_the_clients():
    assert not issubclass(BrokenOff, OSError | StopIteration)


@pytest.mark.parametrize("data", [b"012345678", b"0123456789x"], ids=["short", "long"])
def test_a_source_that_breaks_its_word_never_makes_a_body_that_ends_cleanly(data: bytes):
    read = read_until_broken(body_of(source_of(data, more=5)))
    assert WHOLE[: 512 + 9].startswith(read)


# --- stopping ----------------------------------------------------------------------------------


def test_a_body_stopped_within_a_member_asks_for_no_more_of_it(caplog: pytest.LogCaptureFixture):
    source = source_of(b"01", broken(), more=5)
    body = body_of(source)
    take(2)(body)
    body._plan.cancellation.cancel()
    with pytest.raises(Cancelled):
        next(body)
    assert source.opened == [("a", 0, 10)]
    assert caplog.records == []
    body.close()


def test_a_body_stopped_between_members_opens_no_other():
    source = MemorySource(FILES)
    body = body_of(source)
    next(body)
    body._plan.cancellation.cancel()
    with pytest.raises(Cancelled):
        next(body)
    assert source.opened == []
    body.close()


# --- closing -----------------------------------------------------------------------------------


def take(count: int) -> Callable[[Body], None]:
    def some(body: Body) -> None:
        for _ in range(count):
            next(body)

    return some


def exhaust(body: Body) -> None:
    for _ in body:
        pass


def prime_and_take(body: Body) -> None:
    body.prime()
    next(body)
    next(body)


WAYS = {
    "never iterated": take(0),
    "only primed": Body.prime,
    "primed and half iterated": prime_and_take,
    "after a header": take(1),
    "within a member": take(2),
    "to the last block": take(4),
    "exhausted": exhaust,
    "closed before": Body.close,
}


@pytest.mark.parametrize("use", WAYS.values(), ids=WAYS.keys())
def test_a_body_gives_everything_back_once_however_far_it_was_read(use: Callable[[Body], None]):
    source = source_of(b"01234", b"56789")
    plan = plan_of(source, CountingPlan)
    body = whole_of(plan)
    use(body)
    body.close()
    body.close()
    assert plan.closes == 1
    assert [content.closes for content in source.contents] in ([], [1])


@pytest.mark.parametrize("fault", [broken(), missing(), ZeroDivisionError(), OSError()])
def test_a_body_gives_everything_back_once_when_it_broke(fault: Exception):
    source = source_of(b"01234", fault)
    plan = plan_of(source, CountingPlan)
    body = whole_of(plan)
    with pytest.raises((BrokenOff, type(fault))):
        exhaust(body)
    body.close()
    body.close()
    assert plan.closes == 1
    assert [content.closes for content in source.contents] == [1]


class Failing(MemorySource):
    """Its contents fail to close, after all."""

    def open(self, path, *rest):
        content = super().open(path, *rest)
        close = content.close

        def fail() -> None:
            close()
            raise ZeroDivisionError

        content.close = fail
        return content


def test_a_body_releases_the_rest_when_a_step_of_closing_raises():
    source = Failing(FILES)
    plan = plan_of(source, CountingPlan)
    body = whole_of(plan)
    take(2)(body)
    with pytest.raises(ZeroDivisionError):
        body.close()
    body.close()
    assert (source.held, plan.closes) == (0, 1)


class LatencyMeter(MemorySource):
    """Its contents wait until the caller cancels, as an upstream's do."""

    def __init__(self) -> None:
        super().__init__({"a": FILES["a"]})
        self.reading = threading.Event()

    def open(self, path, start, stop, stat, caller):
        content = super().open(path, start, stop, stat, caller)

        def wait(limit: int) -> bytes:
            self.reading.set()
            assert caller.cancellation.event.wait(PATIENCE)
            raise Cancelled

        content.read = wait
        return content


def test_a_body_closed_while_another_thread_reads_is_released_by_that_thread():
    source = LatencyMeter()
    plan = plan_of(source, CountingPlan)
    body = whole_of(plan)
    with ThreadPoolExecutor(1) as reader:
        read = reader.submit(exhaust, body)
        assert source.reading.wait(PATIENCE)
        body.close()
        body.close()
        with pytest.raises(Cancelled):
            read.result(PATIENCE)
    assert (source.held, plan.closes) == (0, 1)
    with pytest.raises(Cancelled):
        next(body)


def test_a_read_while_another_thread_closes_is_cancelled():
    class Closing(CountingPlan):
        def close(self) -> None:
            with pytest.raises(Cancelled):
                next(body)
            super().close()

    plan = plan_of(source_of(b"01234"), Closing)
    body = whole_of(plan)
    take(2)(body)
    body.close()
    assert plan.closes == 1


def test_a_plan_stays_open_as_long_as_its_body():
    plan = plan_of(MemorySource(FILES, validator=STRONG), CountingPlan)
    body = whole_of(plan)
    exhaust(body)
    assert plan.closes == 0
    body.close()

"""A fetch is one unbroken run of bytes, however often the source breaks."""

from collections.abc import Sequence

import pytest

from tar_gateway.delivery.fetch import LARGEST, SMALLEST, Fetch, FetchRules, ReadSize
from tar_gateway.delivery.pace import Pace
from tar_gateway.delivery.plan import Plan
from tar_gateway.errors import Cancelled, MemberChanged, SourceError
from tar_gateway.http.validators import Validator
from tar_gateway.settings import Settings
from tar_gateway.sources import Caller, Stat
from tar_gateway.sources.spool import Spool
from tar_gateway.sources.wire.retry import Retry
from tests.support.fakes import (
    STRONG,
    WEAK,
    MemorySource,
    Step,
    Steps,
    broken,
    bundle_of,
    missing,
    plan_of,
    record_pauses,
    waited,
)

DATA = b"0123456789"
NO_PACE = Pace(0, 30)


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    return record_pauses(monkeypatch)


def source_of(*given: BaseException | Sequence[Step], validator: Validator | None = STRONG):
    return MemorySource({"a": DATA}, given={"a": given}, validator=validator)


def fetch_of(
    source: MemorySource,
    start: int = 0,
    stop: int = 10,
    *,
    retries: int = 2,
    pace: Pace = NO_PACE,
    plan: Plan | None = None,
) -> Fetch:
    plan = plan or plan_of(source)
    return Fetch(plan, 0, start, stop, FetchRules(Retry(retries, 0.1, 0), pace))


def read_all(fetch: Fetch, limit: int = 100) -> bytes:
    try:
        return b"".join(iter(lambda: fetch.read(limit), b""))
    finally:
        fetch.close()


def starts(source: MemorySource) -> list[int]:
    """Where each opening began; all went to the slice's end."""
    assert {stop for _, _, stop in source.opened} == {10}
    return [start for _, start, _ in source.opened]


def test_a_fetch_opens_its_slice_once_and_gives_it():
    source = source_of()
    assert read_all(fetch_of(source, 3, 7)) == b"3456"
    assert source.opened == [("a", 3, 7)]
    assert source.held == 0


def test_a_fetch_gives_blocks_as_they_come_and_none_longer_than_the_limit():
    fetch = fetch_of(source_of([b"01", b"2345678", b"9"]))
    assert [fetch.read(4) for _ in range(5)] == [b"01", b"2345", b"678", b"9", b""]
    fetch.close()


@pytest.mark.parametrize("good", range(1, 10))
def test_a_broken_fetch_goes_on_from_its_last_good_byte(good: int):
    source = source_of([DATA[:good], broken()])
    assert read_all(fetch_of(source)) == DATA
    assert starts(source) == [0, good]
    assert source.held == 0


def test_a_fetch_of_a_part_goes_on_within_that_part():
    source = source_of([b"34", broken()])
    assert read_all(fetch_of(source, 3)) == b"3456789"
    assert starts(source) == [3, 5]


def test_progress_resets_the_count_of_failures(pauses: list[float]):
    source = source_of(*[[DATA[at : at + 1], broken()] for at in range(9)])
    assert read_all(fetch_of(source, retries=1)) == DATA
    assert starts(source) == list(range(10))
    assert len(pauses) == 9
    assert max(pauses) <= 0.1  # each was the first of its kind


def test_attempts_that_bring_nothing_are_counted(pauses: list[float]):
    source = source_of([b"01", broken()], broken(), [broken()], [b"2", broken()])
    assert read_all(fetch_of(source, retries=3)) == DATA
    assert starts(source) == [0, 2, 2, 2, 3]
    assert len(pauses) == 4


@pytest.mark.parametrize("retries", [0, 1, 3])
@pytest.mark.parametrize("nothing", [broken(), [broken()]], ids=["not opened", "not read"])
def test_a_fetch_gives_up_after_so_many_attempts_that_bring_nothing(
    nothing: BaseException | Sequence[Step], retries: int, pauses: list[float]
):
    source = source_of([b"01", broken()], *[nothing] * (retries + 5))
    fetch = fetch_of(source, retries=retries)
    assert fetch.read(10) == b"01"
    with pytest.raises(SourceError, match="it broke"):
        fetch.read(10)
    assert starts(source) == [0, *[2] * retries]
    assert len(pauses) == retries
    assert source.held == 0
    fetch.close()


@pytest.mark.parametrize("error", [missing(), MemberChanged("it is another by now")])
def test_a_lasting_fault_is_not_tried_again(error: SourceError, pauses: list[float]):
    source = source_of([b"01", broken()], error)
    fetch = fetch_of(source)
    assert fetch.read(10) == b"01"
    with pytest.raises(type(error)) as caught:
        fetch.read(10)
    assert caught.value is error
    assert starts(source) == [0, 2]
    assert len(pauses) == 1
    fetch.close()


@pytest.mark.parametrize("validator", [None, WEAK])
def test_without_a_strong_validator_nothing_goes_on_in_the_middle(validator: Validator | None):
    source = source_of([b"01", broken()], validator=validator)
    fetch = fetch_of(source)
    assert fetch.read(10) == b"01"
    with pytest.raises(SourceError, match="it broke"):
        fetch.read(10)
    assert starts(source) == [0]
    assert source.held == 0
    fetch.close()


@pytest.mark.parametrize("validator", [None, WEAK, STRONG])
def test_a_fetch_that_gave_nothing_may_begin_anew(validator: Validator | None):
    source = source_of(broken(), [broken()], validator=validator)
    assert read_all(fetch_of(source)) == DATA
    assert starts(source) == [0, 0, 0]


@pytest.mark.parametrize(("error", "attempts"), [(missing(), 1), (broken(), 3)])
def test_a_source_that_never_opens_is_told_when_the_fetch_is_opened(
    error: SourceError, attempts: int
):
    source = source_of(*[error] * 5)
    with pytest.raises(SourceError):
        fetch_of(source, retries=2).open()
    assert len(source.opened) == attempts


def test_a_defect_is_raised_as_it_is_and_the_content_still_given_back():
    source = source_of([b"01", ZeroDivisionError()])
    fetch = fetch_of(source)
    assert fetch.read(10) == b"01"
    with pytest.raises(ZeroDivisionError):
        fetch.read(10)
    fetch.close()
    assert source.held == 0


def test_closing_in_the_middle_or_twice_gives_back_once():
    source = source_of()
    fetch = fetch_of(source)
    fetch.read(1)
    fetch.close()
    fetch.close()
    assert [content.closes for content in source.contents] == [1]


def test_what_was_set_aside_is_read_from_there():
    source = source_of()
    file = Spool(100).file()
    spooled = {0: waited(file.hold(Steps(b"set aside"), float("inf")))}
    stats = [Stat(9, 0, None)]
    plan = Plan(source, Caller(), bundle_of("a"), stats, spooled, spool_file=file)
    assert plan.is_proved(0)
    assert read_all(Fetch(plan, 0, 4, 9, FetchRules(Retry(0, 0, 0), NO_PACE))) == b"aside"
    assert source.opened == []
    plan.close()


# --- cancelling ---------------------------------------------------------------------------------


def test_a_cancelled_fetch_asks_for_nothing_again(pauses: list[float]):
    source = source_of([b"01", broken()])
    plan = plan_of(source)
    fetch = fetch_of(source, plan=plan)
    assert fetch.read(10) == b"01"
    plan.cancellation.cancel()
    with pytest.raises(Cancelled):
        fetch.read(10)
    assert (starts(source), pauses) == ([0], [])
    assert source.held == 0


# --- the end of a response -----------------------------------------------------------------------


def test_an_answer_whose_end_is_missing_is_whole_when_the_version_is_proved():
    source = source_of([DATA, broken()])
    assert read_all(fetch_of(source)) == DATA
    assert starts(source) == [0]
    assert source.held == 0


@pytest.mark.parametrize(
    ("validator", "error"),
    [(None, broken()), (WEAK, broken()), (STRONG, MemberChanged("it is longer by now"))],
)
def test_an_answer_whose_end_is_missing_is_refused_otherwise(
    validator: Validator | None, error: SourceError
):
    source = source_of([DATA, error], validator=validator)
    fetch = fetch_of(source)
    assert fetch.read(10) == DATA
    with pytest.raises(type(error)):
        fetch.read(10)
    assert starts(source) == [0]
    fetch.close()


# --- the pace -----------------------------------------------------------------------------------


class Clock:
    """A clock that goes on by a second whenever it is read."""

    now = 0.0

    def monotonic(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every read take one second."""
    monkeypatch.setattr("tar_gateway.delivery.fetch.time", Clock())


DRIPS = [DATA[at : at + 1] for at in range(10)]


@pytest.mark.usefixtures("slow")
def test_an_attempt_that_drips_is_broken_off_after_the_window():
    source = source_of(DRIPS)
    assert read_all(fetch_of(source, pace=Pace(2, 3))) == DATA
    assert starts(source) == [0, 3]
    assert source.held == 0


@pytest.mark.usefixtures("slow")
def test_an_attempt_at_the_least_pace_goes_on():
    source = source_of(DRIPS)
    assert read_all(fetch_of(source, pace=Pace(1, 3))) == DATA
    assert starts(source) == [0]


@pytest.mark.usefixtures("slow")
def test_an_attempt_that_is_slow_at_its_last_byte_is_not_broken_off():
    source = source_of(DRIPS)
    assert read_all(fetch_of(source, pace=Pace(100, 10))) == DATA
    assert starts(source) == [0]


@pytest.mark.usefixtures("slow")
def test_attempts_that_drip_are_counted_whatever_they_bring(pauses: list[float]):
    source = source_of(*[DRIPS[at:] for at in (0, 2, 4)])
    fetch = fetch_of(source, retries=2, pace=Pace(2, 2))
    given = [fetch.read(10) for _ in range(6)]
    with pytest.raises(SourceError, match="too slowly") as caught:
        fetch.read(10)
    assert given == DRIPS[:6]
    assert (caught.value.status, caught.value.transient) == (504, True)
    assert starts(source) == [0, 2, 4]
    assert len(pauses) == 2
    fetch.close()


@pytest.mark.usefixtures("slow")
def test_an_attempt_that_drips_is_the_last_without_a_strong_validator():
    source = source_of(DRIPS, validator=WEAK)
    fetch = fetch_of(source, pace=Pace(2, 2))
    assert [fetch.read(10), fetch.read(10)] == DRIPS[:2]
    with pytest.raises(SourceError, match="too slowly"):
        fetch.read(10)
    assert source.held == 0
    fetch.close()


def test_the_pace_comes_from_the_settings():
    settings = Settings(min_read_rate=77, read_timeout=9)
    assert Pace.from_settings(settings) == Pace(77, 9)


MIB = 1024 * 1024


def after(*sent: tuple[int, float], times: int = 1) -> ReadSize:
    size = ReadSize()
    for length, seconds in sent * times:
        size.sent(length, seconds)
    return size


def test_a_download_begins_with_the_smallest_reads():
    assert ReadSize().now == SMALLEST


def test_a_few_quick_blocks_prove_nothing_as_sockets_swallow_them():
    assert after((SMALLEST, 0.0), times=63).now == SMALLEST


def test_many_full_and_quick_blocks_double_it():
    assert after((SMALLEST, 0.0), times=64).now == 2 * SMALLEST


def test_each_doubling_takes_as_many_bytes():
    size = ReadSize()
    steps = []
    while size.now < LARGEST:
        before = size.now
        sent = 0
        while size.now == before:
            size.sent(before, 0.0)
            sent += before
        steps.append(sent)
    assert steps == [4 * MIB, 4 * MIB, 4 * MIB]


def test_it_never_grows_beyond_the_largest():
    size = ReadSize()
    for _ in range(10_000):
        size.sent(size.now, 0.0)
    assert size.now == LARGEST


def test_blocks_that_do_not_fill_a_read_prove_nothing():
    assert after((SMALLEST - 1, 0.0), times=1000).now == SMALLEST


def test_one_slow_block_brings_it_back_to_the_smallest():
    size = after((SMALLEST, 0.0), times=64)
    size.sent(100, 0.2)
    assert size.now == SMALLEST


def test_a_block_neither_quick_nor_slow_changes_nothing():
    size = after((SMALLEST, 0.0), times=64)
    size.sent(2 * SMALLEST, 0.05)
    assert size.now == 2 * SMALLEST

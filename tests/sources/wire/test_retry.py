"""When a source is asked again, and after how long."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tar_gateway.errors import Cancelled, SourceError
from tar_gateway.settings import Settings
from tar_gateway.sources.wire.asking import calling
from tar_gateway.sources.wire.cancellation import Cancellation
from tar_gateway.sources.wire.loop import run
from tar_gateway.sources.wire.retry import Retry
from tests.support.fakes import broken, missing, record_pauses

T = TypeVar("T")


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    return record_pauses(monkeypatch)


def retry_of(limit: int = 3, pause: float = 0.1, longest_wish: float = 5) -> Retry:
    return Retry(limit, pause, longest_wish)


def call(retry: Retry, ask: Callable[[], T], cancellation: Cancellation | None = None) -> T:
    """Ask, and wait for what comes of it."""
    cancellation = cancellation or Cancellation()
    return run(retry.call(lambda: calling(ask), cancellation), cancellation)


class Failing:
    """Fails with these errors in turn, then gives 'done'."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)
        self.asked = 0

    def __call__(self) -> str:
        self.asked += 1
        if self._errors:
            raise self._errors.pop(0)
        return "done"


def test_what_succeeds_is_asked_once_and_nothing_waits(pauses: list[float]):
    ask = Failing()
    assert call(retry_of(), ask) == "done"
    assert (ask.asked, pauses) == (1, [])


@pytest.mark.parametrize("failures", [1, 2, 3])
def test_a_passing_fault_is_asked_about_again(failures: int, pauses: list[float]):
    ask = Failing(*[broken()] * failures)
    assert call(retry_of(3), ask) == "done"
    assert (ask.asked, len(pauses)) == (failures + 1, failures)


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_the_last_fault_is_raised_when_the_attempts_are_used_up(limit: int, pauses: list[float]):
    errors = [broken() for _ in range(limit + 1)]
    ask = Failing(*errors)
    with pytest.raises(SourceError) as caught:
        call(retry_of(limit), ask)
    assert caught.value is errors[-1]
    assert (ask.asked, len(pauses)) == (limit + 1, limit)


@pytest.mark.parametrize("error", [missing(), ValueError("a defect")])
def test_a_lasting_fault_is_raised_at_once(error: Exception, pauses: list[float]):
    ask = Failing(error)
    with pytest.raises(type(error)):
        call(retry_of(), ask)
    assert (ask.asked, pauses) == (1, [])


def test_a_lasting_fault_ends_the_attempts_that_a_passing_one_began(pauses: list[float]):
    ask = Failing(broken(), missing(), broken())
    with pytest.raises(SourceError, match="does not exist"):
        call(retry_of(), ask)
    assert (ask.asked, len(pauses)) == (2, 1)


def paused(retry: Retry, failed: int, error: SourceError) -> float:
    with pytest.MonkeyPatch.context() as patch:
        pauses = record_pauses(patch)
        run(retry.wait(failed, error, Cancellation()), Cancellation())
    assert len(pauses) == 1
    return pauses[0]


@given(failed=st.integers(1, 200), first=st.floats(0, 3600))
def test_a_pause_doubles_up_to_twenty_times_the_first_and_is_spread_over_its_upper_half(
    failed: int, first: float
):
    longest = first * min(20, 2 ** (failed - 1))
    assert longest / 2 <= paused(retry_of(200, first), failed, broken()) <= longest


def test_pauses_after_the_same_failure_differ():
    assert len({paused(retry_of(), 3, broken()) for _ in range(20)}) > 1


@pytest.mark.parametrize(("wish", "waited"), [(0.0, 0.0), (3.0, 3.0), (5.0, 5.0), (21600.0, 5.0)])
def test_an_upstreams_wish_is_obeyed_up_to_the_limit(wish: float, waited: float):
    error = SourceError("busy", transient=True, retry_after=wish)
    assert paused(retry_of(pause=0), 1, error) == waited


def test_an_upstreams_wish_never_shortens_a_pause():
    error = SourceError("busy", transient=True, retry_after=0.001)
    assert paused(retry_of(pause=1), 1, error) >= 0.5


def test_nothing_is_asked_once_it_is_stopped():
    ask, stopped = Failing(), Cancellation()
    stopped.cancel()
    with pytest.raises(Cancelled):
        call(retry_of(), ask, stopped)
    assert ask.asked == 0


@pytest.mark.parametrize("error", [broken(), missing()], ids=["a passing fault", "a lasting one"])
def test_a_fault_says_nothing_once_it_is_stopped(error: SourceError):
    stopped = Cancellation()

    def ask() -> None:
        stopped.cancel()
        raise error

    with pytest.raises(Cancelled) as raised:
        call(retry_of(pause=60), ask, stopped)
    assert raised.value.__cause__ is error


def test_a_pause_ends_as_soon_as_it_is_stopped():
    ask, stopped = Failing(broken()), Cancellation()
    with ThreadPoolExecutor(1) as threads:
        outcome = threads.submit(call, retry_of(pause=600), ask, stopped)
        stopped.cancel()
        assert isinstance(outcome.exception(30), Cancelled)
    assert ask.asked <= 1


def test_the_numbers_come_from_the_settings():
    settings = Settings(
        retries=7, retry_pause=0.5, retry_after_limit=9, retry_for=20, plan_timeout=30
    )
    assert Retry.from_settings(settings) == Retry(7, 0.5, 9, 20, 30)

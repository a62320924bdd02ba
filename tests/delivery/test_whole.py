"""All of something is read within three bounds: its length, a moment, and a pace."""

import math
import time
from collections.abc import Iterator

import pytest

from tar_gateway.delivery.pace import Pace
from tar_gateway.delivery.whole import blocks_of, ended_at, read_whole
from tar_gateway.errors import Cancelled, TooSlow
from tar_gateway.sources.wire.cancellation import Cancellation
from tests.support.fakes import Steps, broken

PACE = Pace(rate=10, window=4)


class Clock:
    """A clock that stands still between blocks."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def blocks(self, *timed: tuple[float, bytes]) -> Iterator[bytes]:
        for seconds, block in timed:
            self.now += seconds
            yield block


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("tar_gateway.delivery.whole.time", made)
    return made


def test_blocks_are_read_no_further_than_shows_that_they_are_too_long():
    taken: list[bytes] = []
    blocks = (taken.append(block) or block for block in [b"abc", b"", b"de", b"f", b"g"])
    assert read_whole(blocks, limit=4, deadline=math.inf) == b"abcde"
    assert taken == [b"abc", b"", b"de"]


def test_what_is_just_as_long_as_allowed_is_whole():
    assert read_whole([b"ab", b"cd"], limit=4, deadline=math.inf) == b"abcd"


def test_a_content_is_read_to_its_end():
    assert read_whole(blocks_of(Steps(b"ab", b"cd")), limit=9, deadline=math.inf) == b"abcd"


def test_what_comes_after_the_deadline_is_too_late(clock: Clock):
    blocks = clock.blocks((1, b"a"), (1, b"b"), (1, b"c"))
    with pytest.raises(TooSlow, match="not there in time") as late:
        read_whole(blocks, limit=9, deadline=102)
    assert late.value.status == 504
    assert clock.now == 103


@pytest.mark.parametrize("timed", [[(1, b"a")] * 9, [(1, b"a" * 40), *[(1, b"a")] * 9]])
def test_a_drip_is_broken_off(clock: Clock, timed: list[tuple[float, bytes]]):
    with pytest.raises(TooSlow, match="too slowly") as slow:
        read_whole(clock.blocks(*timed), limit=99, deadline=math.inf, pace=PACE)
    assert slow.value.status == 504


def test_a_pace_that_is_kept_may_take_long(clock: Clock):
    timed = [(1, b"a" * 10)] * 50
    assert len(read_whole(clock.blocks(*timed), limit=999, deadline=math.inf, pace=PACE)) == 500


def test_what_was_whole_after_a_long_wait_is_not_too_slow(clock: Clock):
    assert read_whole(clock.blocks((30, b"a")), limit=9, deadline=math.inf, pace=PACE) == b"a"


def test_what_waits_is_ended_at_the_deadline():
    request = Cancellation()
    own = request.child()

    def wait() -> None:
        assert own.event.wait(10)
        raise Cancelled

    with (
        pytest.raises(TooSlow, match="not there in time"),
        ended_at(time.monotonic() + 0.05, own),
    ):
        wait()
    assert not request.is_cancelled


@pytest.mark.parametrize("error", [Cancelled(), broken()], ids=["cancelled", "broken"])
def test_what_ends_before_the_deadline_stays_what_it_is(error: Exception):
    with (
        pytest.raises(type(error)) as raised,
        ended_at(time.monotonic() + 60, Cancellation()),
    ):
        raise error
    assert raised.value is error


def test_nothing_is_cancelled_where_the_end_comes_before_the_deadline():
    own = Cancellation()
    with ended_at(time.monotonic() + 0.05, own):
        pass
    assert not own.event.wait(0.2)

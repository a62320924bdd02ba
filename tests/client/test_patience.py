"""How often it is asked again, and how long that waits."""

import pytest

from tar_gateway.client.failures import NetworkError
from tar_gateway.client.patience import LONGEST_PAUSE, Attempts, Patience


class Clock:
    """Notes the pauses that are asked for."""

    def __init__(self, *, stopped: bool = False) -> None:
        self.pauses: list[float] = []
        self.stopped = stopped

    def wait(self, seconds: float) -> bool:
        self.pauses.append(seconds)
        return self.stopped


def attempts(clock: Clock, count: int = 4) -> Attempts:
    return Attempts(Patience(attempts=count), clock.wait, lambda *_: None)


def test_each_pause_is_twice_as_long_give_or_take_a_quarter():
    clock = Clock()
    tried = attempts(clock, 12)
    for _ in range(11):
        tried.failed(NetworkError("broke"))
    wanted = [min(0.25 * 2**n, 30.0) for n in range(11)]
    assert all(0.75 <= p / w <= 1.25 for p, w in zip(clock.pauses, wanted, strict=True))


def test_bytes_set_the_count_back():
    tried = attempts(Clock(), 2)
    for _ in range(50):
        tried.failed(NetworkError("broke"))
        tried.progress()


def test_the_last_one_raises_what_went_wrong():
    tried = attempts(Clock(), 2)
    tried.failed(NetworkError("first"))
    with pytest.raises(NetworkError, match="second"):
        tried.failed(NetworkError("second"))


@pytest.mark.parametrize("pause", [7.0, LONGEST_PAUSE])
def test_a_server_may_ask_for_more_time(pause):
    clock = Clock()
    attempts(clock).failed(NetworkError("busy", pause=pause))
    assert clock.pauses == [pause]


def test_a_server_may_not_ask_for_days():
    with pytest.raises(NetworkError):
        attempts(Clock()).failed(NetworkError("busy", pause=LONGEST_PAUSE + 1))


def test_what_can_not_be_helped_is_not_tried_again():
    clock = Clock()
    with pytest.raises(NetworkError):
        attempts(clock).failed(NetworkError("unknown host", is_final=True))
    assert clock.pauses == []


def test_a_download_that_is_stopped_waits_no_longer():
    with pytest.raises(NetworkError):
        attempts(Clock(stopped=True)).failed(NetworkError("broke"))

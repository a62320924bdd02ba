"""How many requests go to a server that has refused some: fewer at once, and none for a while."""

import pytest

from tar_gateway.settings import Settings
from tar_gateway.sources.wire.asking import Pause, Question, calling
from tar_gateway.sources.wire.asking import Steps as Asking
from tar_gateway.sources.wire.response import Headers, Response
from tar_gateway.sources.wire.throttle import Throttle, Throttles
from tests.support.fakes import Steps, waited

ALICE, BOB = 1, 2


class Clocked:
    """A throttle at moments that a test sets."""

    def __init__(self, **settings: float) -> None:
        self.now = 1000.0
        self.throttle = Throttle(Settings(**settings), lambda: self.now)  # type: ignore[arg-type]

    def send(self) -> bool:
        return self.throttle.seconds_to_wait() == 0

    def answer(self, status: int | None, *headers: tuple[str, str], began: float = 1000) -> None:
        response = None if status is None else Response(status, headers, Steps())
        self.throttle.answered(response, began)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(("wish", "seconds"), [(("Retry-After", "3"), 3), (("X", ""), 0.2)])
def test_a_refusal_holds_back_all_requests_for_as_long_as_it_says(
    status: int, wish: tuple[str, str], seconds: float
):
    clocked = Clocked()
    assert clocked.send()
    clocked.answer(status, wish)
    assert seconds <= clocked.throttle.seconds_to_wait() <= seconds * 1.1
    clocked.now += seconds
    assert clocked.send()


def test_a_wish_is_obeyed_up_to_the_limit():
    clocked = Clocked(retry_after_limit=5)
    clocked.answer(429, ("Retry-After", "3600"))
    assert clocked.throttle.seconds_to_wait() <= 5 * 1.1


def test_without_a_wish_pauses_grow_with_refusals_in_a_row():
    clocked, pauses = Clocked(retry_pause=0.1), []
    for _ in range(3):
        clocked.answer(429, began=clocked.now)
        pauses.append(clocked.throttle.seconds_to_wait())
        clocked.now += 60
    assert pauses == sorted(pauses)
    assert pauses[2] > 3 * pauses[0]


def fill(clocked: Clocked) -> int:
    """Send as many as may go at once, later, and return how many those are."""
    clocked.now += 60
    count = 0
    while clocked.send():
        count += 1
    return count


def refuse(clocked: Clocked, count: int, refused: int = 1) -> None:
    """Answer so many, of which some are refused, all sent at the same moment."""
    began = clocked.now
    clocked.now += 1
    for number in range(count):
        clocked.answer(429 if number < refused else None, began=began)


def test_each_refusal_halves_how_many_are_under_way():
    clocked, counts = Clocked(), []
    for _ in range(7):
        counts.append(fill(clocked))
        refuse(clocked, counts[-1])
    assert counts == [32, 16, 8, 4, 2, 1, 1]


def test_refusals_of_what_was_sent_together_count_once():
    clocked = Clocked()
    refuse(clocked, fill(clocked), refused=32)
    assert fill(clocked) == 16


def test_as_many_responses_as_are_under_way_let_one_more_go():
    clocked = Clocked()
    refuse(clocked, fill(clocked))
    for _ in range(fill(clocked) + 1):  # and one for what rounding loses
        clocked.answer(200)
    assert fill(clocked) in {17, 18}  # so many, and the one that rounding lets go


def test_a_server_that_takes_enough_again_holds_back_nothing():
    clocked = Clocked()
    clocked.answer(429)
    for _ in range(70_000):
        clocked.answer(200)
    assert clocked.throttle.is_over


def asking(
    throttles: Throttles, caller: int, status: int, *headers: tuple[str, str]
) -> Asking[Response]:
    given: Headers = headers
    return throttles.held_back(calling(lambda: Response(status, given, Steps())), caller)


def test_one_callers_refusal_holds_back_no_other():
    throttles = Throttles(Settings())
    waited(asking(throttles, ALICE, 429, ("Retry-After", "3")))
    question: Question = next(asking(throttles, ALICE, 200))
    assert isinstance(question, Pause)
    assert waited(asking(throttles, BOB, 200)).status == 200


def test_who_was_never_refused_is_not_counted():
    throttles = Throttles(Settings())
    waited(asking(throttles, ALICE, 200))
    assert throttles._of == {}

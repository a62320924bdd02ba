"""Questions and answers apart from waiting: what steps yield, are sent and are thrown."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tar_gateway.errors import Cancelled, SourceError
from tar_gateway.sources import Caller
from tar_gateway.sources.wire.asking import (
    Ask,
    Call,
    Pause,
    Question,
    Read,
    Server,
    calling,
    counted,
    discard,
)
from tar_gateway.sources.wire.asking import Steps as Asking
from tar_gateway.sources.wire.cancellation import Cancellation
from tar_gateway.sources.wire.loop import run
from tar_gateway.sources.wire.response import Headers, Response
from tar_gateway.sources.wire.tally import Place
from tests.support.fakes import Steps, broken, record_pauses

NOBODY = Caller()


class Echo:
    """A server that answers each request with what was asked."""

    def request(
        self,
        method: str,
        target: str,
        headers: Headers,
        caller: Caller,
        *,
        timeout: float | None = None,
    ) -> Response:
        return Response(200, [("Asked", f"{method} {target} {timeout}"), *headers], Steps())


def asking(server: Server) -> Asking[Response]:
    response: Response = yield Ask(server, "GET", "/a", [("X", "1")], NOBODY, 2.5)
    return response


def test_a_request_is_sent_as_it_was_asked_for():
    response = run(asking(Echo()), Cancellation())
    assert response.headers == [("Asked", "GET /a 2.5"), ("X", "1")]


def test_a_read_is_answered_with_what_is_there():
    def reading() -> Asking[bytes]:
        content = Steps(b"abc", b"de")
        first = yield Read(content, 2)
        return first + (yield Read(content, 10))

    assert run(reading(), Cancellation()) == b"abc"


def test_a_pause_lasts_as_long_as_was_asked(monkeypatch: pytest.MonkeyPatch):
    def pausing() -> Asking[str]:
        yield Pause(0.5)
        return "done"

    pauses = record_pauses(monkeypatch)
    assert (run(pausing(), Cancellation()), pauses) == ("done", [0.5])


def test_a_pause_ends_with_the_request():
    def pausing() -> Asking[None]:
        yield Pause(600)

    cancellation = Cancellation()
    with ThreadPoolExecutor(1) as threads:
        outcome = threads.submit(run, pausing(), cancellation)
        cancellation.cancel()
        assert isinstance(outcome.exception(30), Cancelled)


@pytest.mark.parametrize("error", [broken(), Cancelled(), ValueError("a defect"), StopIteration()])
def test_what_an_answer_raises_is_thrown_into_the_steps(error: BaseException):
    def failing() -> object:
        raise error

    def catching() -> Asking[BaseException]:
        try:
            yield Call(failing)
        except BaseException as caught:
            return caught
        raise AssertionError("nothing was raised")

    assert run(catching(), Cancellation()) is error


def test_steps_go_on_after_an_error_that_they_have_handled():
    answers: list[Callable[[], str]] = [lambda: 1 / 0, lambda: "second"]  # type: ignore[list-item,return-value]

    def persistent() -> Asking[object]:
        for answer in answers:
            try:
                return (yield Call(answer))
            except ZeroDivisionError:
                continue
        return None

    assert run(persistent(), Cancellation()) == "second"


def test_what_may_block_is_called_in_the_thread_that_waits():
    assert run(calling(threading.get_ident), Cancellation()) == threading.get_ident()


def test_a_test_can_answer_in_the_place_of_a_driver():
    steps = asking(Echo())
    question: Question = next(steps)
    assert isinstance(question, Ask)
    with pytest.raises(StopIteration) as end:
        steps.send(Response(204, [], Steps()))
    assert end.value.value.status == 204


@pytest.mark.parametrize(("status", "key"), [(200, 200), (404, 404), (None, None)])
def test_a_request_is_counted_by_its_response(status: int | None, key: int | None):
    def answer() -> Response:
        if status is None:
            raise broken()
        return Response(status, [], Steps())

    caller = Caller()
    try:
        run(counted(calling(answer), caller.tally, Place("a server")), Cancellation())
    except SourceError:
        assert status is None
    assert caller.tally.requests == {key: 1}


@pytest.mark.parametrize(
    ("headers", "left"),
    [([("Content-Length", "3")], b""), ([("Content-Length", "100000")], b"abc")],
    ids=["a short response", "a long one"],
)
def test_a_response_that_is_not_wanted_is_read_to_its_end_where_it_is_short(
    headers: Headers, left: bytes
):
    content = Steps(b"abc")
    run(discard(Response(404, headers, content)), Cancellation())
    assert content.closed
    content.closes = 0
    assert content.read(10) == left


def test_a_response_that_breaks_while_it_is_let_go_breaks_nothing():
    content = Steps(broken())
    run(discard(Response(404, [("Content-Length", "3")], content)), Cancellation())
    assert content.closed

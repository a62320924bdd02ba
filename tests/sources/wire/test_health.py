"""Whether a server is worth asking: what its last failures say of the next request."""

import errno
import logging
import socket
import time
from collections import Counter
from contextlib import closing
from dataclasses import replace

import pytest

from tar_gateway import Upstream
from tar_gateway.delivery.planner import Planner
from tar_gateway.delivery.threads import FetcherPool
from tar_gateway.errors import MOST_FAULTS, Cancelled, MembersFailed, SourceError
from tar_gateway.settings import Settings
from tar_gateway.sources import Caller
from tar_gateway.sources.judgement import ExactContent
from tar_gateway.sources.wire.asking import calling
from tar_gateway.sources.wire.health import Health, HealthContent
from tar_gateway.sources.wire.response import Response, failure_of
from tests.support.fakes import Steps, broken, bundle_of, missing, waited
from tests.support.scripted import File, Scripted, answer, close

NOBODY = Caller()
SETTINGS = Settings(retries=2, retry_pause=0.1, upstream_pause=10)
PATIENCE = 0.6  # twice the pauses of one request with these settings


class Server:
    """A server as its health sees it, at moments that a test sets."""

    def __init__(self, settings: Settings = SETTINGS) -> None:
        self.now = 1000.0
        self.health = Health("a server", settings, lambda: self.now)
        self.asked = 0

    def ask(
        self,
        outcome: SourceError | None = None,
        took: float = 0,
        path: str = "a",
        caller: Caller = NOBODY,
    ) -> SourceError | None:
        """Ask once; gives the error that is raised, if any."""

        def answer() -> str:
            self.asked += 1
            self.now += took
            if outcome is not None:
                raise outcome
            return "answer"

        try:
            assert waited(self.health.track(calling(answer), path, caller)) == "answer"
        except SourceError as error:
            return error
        return None

    def fail_for(
        self, seconds: float, error: SourceError, caller: Caller = NOBODY
    ) -> SourceError | None:
        """Fail at two paths at once, and at a third after so many seconds; gives its error."""
        self.ask(error, path="b", caller=caller)
        self.ask(error, path="c", caller=caller)
        self.now += seconds
        return self.ask(error, caller=caller)


def unreachable() -> SourceError:
    return SourceError("cannot be reached", transient=True, unreachable=True, cause="refused")


@pytest.fixture
def server() -> Server:
    NOBODY.tally.failures.clear()
    return Server()


# --- left alone ---------------------------------------------------------------------------------


def test_a_server_is_asked_until_it_fails(server: Server):
    assert server.ask() is None
    assert not server.health.is_resting("a")


@pytest.mark.parametrize("error", [broken(), unreachable()])
def test_a_server_that_failed_is_left_alone_for_the_pause(server: Server, error: SourceError):
    server.ask(error)
    assert server.health.is_resting("a")
    server.now += 9.9
    assert server.health.is_resting("a")


@pytest.mark.parametrize("error", [missing(), SourceError("denied", status=403)])
def test_an_answer_that_says_no_is_no_failure(server: Server, error: SourceError):
    assert server.ask(error) is error
    assert not server.health.is_failing


def test_after_the_pause_one_caller_tries_and_the_others_wait_for_it(server: Server):
    server.ask(broken())
    server.now += 10
    assert [server.health.is_resting("a") for _ in range(3)] == [False, True, True]


def test_a_try_that_never_ends_is_followed_by_another_after_a_pause(server: Server):
    server.ask(broken())
    server.now += 10
    assert not server.health.is_resting("a")
    server.now += 10
    assert [server.health.is_resting("a") for _ in range(2)] == [False, True]


def test_a_try_that_worked_brings_the_server_back(server: Server):
    server.ask(broken())
    server.now += 10
    assert not server.health.is_resting("a")
    server.ask()
    assert [server.health.is_resting("a") for _ in range(3)] == [False] * 3


def test_a_try_that_failed_leaves_it_alone_for_another_pause(server: Server):
    server.fail_for(10, broken())
    assert server.health.is_resting("a")
    server.now += 9.9
    assert server.health.is_resting("a")


def test_what_was_asked_before_the_failure_brings_no_server_back(server: Server):
    def failing_meanwhile() -> None:
        server.now += 1
        server.ask(broken())

    waited(server.health.track(calling(failing_meanwhile), "a", NOBODY))
    assert server.health.is_failing


def test_without_a_pause_no_server_is_left_alone():
    server = Server(Settings(upstream_pause=0))
    server.ask(broken())
    assert not server.health.is_resting("a")


def test_the_log_tells_when_a_server_begins_to_fail_and_when_it_works_again(
    server: Server, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    for path in "abcd":
        server.ask(path=path)
        server.ask(broken(), path=path)
    assert caplog.messages == []
    for path, outcome in [*zip("abcd", [broken()] * 4, strict=True), ("a", None), ("a", None)]:
        server.ask(outcome, path=path)
    told = ["a server fails: it broke", "a server works again"]
    assert [record.getMessage() for record in caplog.records] == told


# --- what says nothing of the server -----------------------------------------------------------


def test_a_path_that_failed_is_left_alone_and_no_other(server: Server):
    for _ in range(20):
        server.ask(broken(), path="poison?at=1")
        server.ask(broken(), path="poison?at=2")
    assert server.health.has_failed("poison")
    assert server.health.is_resting("poison?at=3")
    assert not server.health.has_failed("a")
    assert not server.health.is_resting("a")


def test_several_paths_that_failed_say_that_the_server_has(server: Server):
    server.fail_for(0, broken())
    assert server.health.is_resting("another")


def test_a_path_that_fails_goes_on_being_asked_again(server: Server):
    for _ in range(100):
        assert server.ask(broken(), path="poison").transient
        server.now += 0.1


def test_what_fails_for_one_download_turns_off_no_others_attempts(server: Server):
    assert not server.fail_for(1, broken(), Caller()).transient
    assert server.ask(broken(), path="d", caller=Caller()).transient


@pytest.mark.parametrize("status", [408, 429, 500])
def test_a_response_that_speaks_of_its_request_is_no_failure_of_the_server(
    server: Server, status: int
):
    error = failure_of(Response(status, [], Steps()), "the server")
    assert server.fail_for(1, error) is error
    assert not server.health.is_failing


@pytest.mark.parametrize("status", [502, 503, 504])
def test_of_a_host_that_was_redirected_to_no_response_speaks_of_the_server(status: int):
    response = Response(status, [], Steps())
    assert failure_of(response, "the server").of_server
    assert not failure_of(replace(response, redirected=True), "the server").of_server


def test_descriptors_that_are_used_up_are_no_failure_of_the_server(
    monkeypatch: pytest.MonkeyPatch,
):
    def none_left(*_: object, **__: object) -> socket.socket:
        raise OSError(errno.EMFILE, "too many open files")

    for url in ("http://127.0.0.1:9/", "http://localhost:9/", "http://no.invalid:9/"):
        with monkeypatch.context() as patched, closing(Upstream(url)) as upstream:
            patched.setattr(socket, "socket", none_left)
            with pytest.raises(SourceError, match="no file descriptor") as caught:
                upstream.stat("a", NOBODY)
            assert caught.value.transient
            assert not upstream.health.is_failing


def test_a_name_that_is_not_known_is_a_failure_of_the_server():
    with closing(Upstream("http://no.invalid:9/")) as upstream:
        with pytest.raises(SourceError, match="cannot be reached"):
            upstream.stat("a", NOBODY)
        assert upstream.health.is_failing


# --- given up on --------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "again"), [(0, True), (PATIENCE - 0.01, True), (0.7, False)])
def test_a_failure_is_a_passing_one_until_all_attempts_of_a_late_request_are_over(
    server: Server, seconds: float, again: bool
):
    error = server.fail_for(seconds, broken())
    assert error is not None
    assert (error.transient, error.reason, error.status) == (again, "it broke", 502)


def test_attempts_that_take_long_are_given_their_time(server: Server):
    silent = SourceError("took too long", status=504, transient=True)
    errors = [server.ask(silent, took=5, path=str(count)) for count in range(10)]
    # Three attempts of 5 s each and two pauses take 15.3 s, and twice that is waited.
    assert [error.transient for error in errors] == [True] * 7 + [False] * 3


def test_an_attempt_without_pauses_has_half_a_second():
    server = Server(Settings(retries=2, retry_pause=0))
    assert server.fail_for(0.5, broken()).transient
    server.now += 0.1
    assert not server.ask(broken()).transient


def test_a_success_in_between_begins_anew(server: Server):
    server.ask(broken())
    server.now += 5
    server.ask()
    assert server.fail_for(0.1, broken()).transient


def test_failures_that_lie_apart_are_none_of_one_time(server: Server):
    assert server.fail_for(10.1, broken()).transient


def test_a_server_that_says_when_to_come_again_is_not_given_up_on(server: Server):
    busy = SourceError("503", transient=True, retry_after=5)
    assert server.fail_for(5, busy) is busy


def test_a_server_that_is_given_up_on_is_still_asked_where_it_answers(server: Server):
    server.fail_for(1, broken())
    assert server.ask() is None
    assert server.asked == 4
    assert not server.health.is_failing


def test_a_server_that_cannot_be_reached_is_asked_once_a_second_for_all(server: Server):
    server.fail_for(0.7, unreachable())
    for _ in range(20):
        error = server.ask()
        assert (error.reason, error.cause) == ("cannot be reached", "refused")
        assert not error.transient
        server.now += 0.049
    assert server.asked == 3
    server.now += 0.1
    assert server.ask() is None
    assert [server.ask() for _ in range(3)] == [None] * 3


def test_a_server_that_could_be_reached_before_is_asked_each_time(server: Server):
    server.fail_for(0.5, unreachable())
    for _ in range(3):
        server.ask(unreachable())
    assert server.asked == 6


# --- the content of a response -------------------------------------------------------------------


def test_a_content_that_breaks_is_a_failure_of_its_server(server: Server):
    content = server.health.tracked(Steps(b"ab", broken()), "a", NOBODY)
    assert content.read(10) == b"ab"
    assert not server.health.is_failing
    with pytest.raises(SourceError, match="it broke"):
        content.read(10)
    assert server.health.is_failing


def test_a_failure_that_the_reader_of_a_content_finds_is_its_servers_as_well(server: Server):
    told: list[SourceError] = []
    inner = ExactContent(server.health.tracked(Steps(), "a", NOBODY), 5, ends=True)
    outer = HealthContent(inner, lambda error: told.append(error) or error)
    slow = broken()
    assert outer.failed(slow) is slow
    assert told == [slow]
    assert server.health.is_failing


def test_a_content_that_was_cancelled_is_none(server: Server):
    content = server.health.tracked(Steps(Cancelled()), "a", NOBODY)
    with pytest.raises(Cancelled):
        content.read(10)
    assert not server.health.is_failing


def test_a_content_that_is_longer_than_promised_is_none(server: Server):
    content = server.health.tracked(Steps(SourceError("it is longer by now")), "a", NOBODY)
    with pytest.raises(SourceError):
        content.read(10)
    assert not server.health.is_failing


# --- one upstream, for real ---------------------------------------------------------------------

MANY = [str(number) for number in range(2000)]


def plan_at(url: str, *names: str, **settings: object) -> MembersFailed | None:
    """Plan a bundle; gives what is raised."""
    settings = Settings(**settings)
    with (
        closing(Upstream(url, settings)) as upstream,
        closing(FetcherPool(settings.fetch_parallel, 0)) as fetchers,
    ):
        try:
            Planner(upstream, settings, fetchers).plan(bundle_of(*names), NOBODY)
        except MembersFailed as error:
            return error
    return None


def test_thousands_of_members_of_an_upstream_that_is_down_are_named_soon():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    began = time.monotonic()
    error = plan_at(url, *MANY)
    assert time.monotonic() - began < 8  # 15 s, were each asked about again; it takes 1 s
    assert error is not None
    assert error.status == 502
    assert {fault.reason for fault in error.faults} == {"the upstream cannot be reached"}
    assert len(error.faults) == MOST_FAULTS


@pytest.mark.parametrize(
    ("down", "most"),
    [(answer(b"", status="502 Bad Gateway"), 2), (close, 1)],
    ids=["a proxy without its server", "connections that are closed"],
)
def test_members_of_an_upstream_that_goes_on_failing_are_asked_about_once(down, most: int):
    with Scripted({f"/{name}": down for name in MANY[:500]}) as server:
        error = plan_at(server.url, *MANY[:500])
        assert error is not None
        assert len(error.faults) == MOST_FAULTS
        asked = Counter(request.path for request in server.requests)
    # By HEAD and GET; but for those that were under way before it was known.
    assert sum(count > most for count in asked.values()) < 250


def test_failures_of_all_members_that_pass_are_not_noticed():
    names = MANY[:8]
    with Scripted({f"/{name}": [close, close, File(b"x")] for name in names}) as server:
        assert plan_at(server.url, *names, retry_pause=0.3) is None
        assert Counter(request.path for request in server.requests) == {
            f"/{name}": 3 for name in names
        }

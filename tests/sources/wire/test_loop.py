"""One thread asks many questions at once, and gives back whatever it holds."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from tar_gateway import Settings, Upstream
from tar_gateway.errors import Cancelled, SourceError
from tar_gateway.sources import Caller
from tar_gateway.sources.wire.asking import Call, Pause, Read, Steps
from tar_gateway.sources.wire.cancellation import Cancellation
from tar_gateway.sources.wire.connecting import Addresses
from tar_gateway.sources.wire.loop import Loop, run
from tar_gateway.sources.wire.pool import Origin, Share
from tests.support.scripted import PATIENCE, Scripted, answer, close, stall

NEVER = threading.Event()
FILE = answer(b"alpha")
PARALLEL = 8


def origin(**settings: object) -> Origin:
    chosen = Settings(fetch_parallel=PARALLEL, **settings)
    return Origin("http://127.0.0.1:9/", chosen, called="the upstream", tls=None)


def taken(share: Share, count: int = 100) -> int:
    """Return how many connections a loop gets that wants so many."""
    return sum(share.take(urgent=False) for _ in range(count))


@pytest.fixture
def server() -> Iterator[Scripted]:
    with Scripted() as server:
        yield server


# --- many at once --------------------------------------------------------------------------------


def test_many_questions_are_under_way_at_once_and_no_thread_is_started(server: Scripted):
    together, count = threading.Barrier(5), 5

    def meet(*given: object) -> None:
        together.wait(PATIENCE)
        FILE(*given)  # type: ignore[arg-type]

    caller, found = Caller(), []
    for index in range(count):
        server.on(f"/{index}", meet)
    with closing(Upstream(server.url)) as upstream, closing(Loop(caller.cancellation)) as loop:
        threads = {thread.ident for thread in threading.enumerate() if "gateway" in thread.name}
        for index in range(count):
            steps = upstream.stat_steps(str(index), caller)
            loop.start(steps, lambda task: found.append(task.outcome().size))
        while loop.under_way:
            loop.turn()
        assert {t.ident for t in threading.enumerate() if "gateway" in t.name} == threads
    assert found == [5] * count


def test_a_server_is_asked_over_few_connections_until_it_answers(server: Scripted):
    gate, count, found = threading.Event(), 40, []

    def held(*given: object) -> None:
        gate.wait(PATIENCE)
        FILE(*given)  # type: ignore[arg-type]

    caller = Caller()
    for index in range(count):
        server.on(f"/{index}", held)
    with closing(Upstream(server.url)) as upstream, closing(Loop(caller.cancellation)) as loop:
        for index in range(count):
            steps = upstream.stat_steps(str(index), caller)
            loop.start(steps, lambda task: found.append(task.outcome().size))
        while len(server.requests) < 8:
            loop.turn(0.01)
        loop.turn(0.1)
        assert len(server.requests) == 8
        gate.set()
        while loop.under_way:
            loop.turn()
    assert found == [5] * count
    assert len({request.connection for request in server.requests}) > 8


def test_connections_are_used_again_by_the_next_loop(server: Scripted):
    server.on("/a", FILE)
    with closing(Upstream(server.url)) as upstream:
        for _ in range(3):
            upstream.stat("a", Caller())
    assert server.connections == 1


def test_a_connection_that_was_closed_while_idle_costs_no_attempt(server: Scripted):
    server.on("/a", FILE, close, FILE)
    with closing(Upstream(server.url, Settings(retries=0))) as upstream:
        for _ in range(2):
            assert upstream.stat("a", Caller()).size == 5  # type: ignore[union-attr]
    assert server.connections == 2


def test_a_response_that_does_not_come_in_time_is_late_and_holds_up_no_other(server: Scripted):
    server.on("/slow", stall(NEVER))
    server.on("/a", FILE)
    caller, settings = Caller(), Settings(read_timeout=0.3, retries=0)
    with (
        closing(Upstream(server.url, settings)) as upstream,
        closing(Loop(caller.cancellation)) as loop,
    ):
        slow = loop.start(upstream.stat_steps("slow", caller))
        assert loop.run(upstream.stat_steps("a", caller)).size == 5  # type: ignore[union-attr]
        assert not slow.is_done
        with pytest.raises(SourceError, match="took too long"):
            loop.finish(slow)


def test_what_is_under_way_ends_with_the_loop(server: Scripted):
    server.on("/a", stall(NEVER))
    caller = Caller()
    with closing(Upstream(server.url)) as upstream:
        with closing(Loop(caller.cancellation)) as loop:
            loop.start(upstream.stat_steps("a", caller))
            while not server.requests:
                loop.turn(0.01)
        assert server.wait_for(lambda server: server.open == 0)


# --- waiting -------------------------------------------------------------------------------------


def pausing(seconds: float, value: str) -> Steps[str]:
    yield Pause(seconds)
    return value


def test_pauses_end_in_the_order_of_their_ends():
    ended: list[str] = []
    with closing(Loop(Cancellation())) as loop:
        for seconds, value in [(0.05, "second"), (0.01, "first")]:
            loop.start(pausing(seconds, value), lambda task: ended.append(task.outcome()))
        while loop.under_way:
            loop.turn()
    assert ended == ["first", "second"]


class Endless:
    """A content of which there is always more, to a point."""

    def __init__(self) -> None:
        self.reads = 0

    def read(self, limit: int) -> bytes:
        self.reads += 1
        assert self.reads < 1000
        return bytes(limit)

    def close(self) -> None:
        pass


def test_a_content_that_never_stops_coming_keeps_no_other_task_waiting():
    content, ended = Endless(), []

    def reads() -> Steps[None]:
        while not ended:
            yield Read(content, 1)

    def pauses() -> Steps[None]:
        yield Pause(0)
        ended.append("paused")

    with closing(Loop(Cancellation())) as loop:
        reading = loop.start(reads())
        loop.start(pauses())
        while loop.under_way:
            loop.turn()
    reading.outcome()  # which is an error where it had to be stopped


def test_a_cancelled_loop_waits_no_longer():
    cancellation = Cancellation()
    timer = threading.Timer(0.05, cancellation.cancel)
    timer.start()
    with pytest.raises(Cancelled):
        run(pausing(PATIENCE, ""), cancellation)
    timer.join()


def test_the_clock_of_servers_stands_still_while_a_loop_does():
    with closing(Loop(Cancellation())) as loop:
        before = loop.now()
        loop.park()
        time.sleep(0.05)
        loop.unpark()
        assert loop.now() - before < 0.05


class Threads:
    """Calls each function in a thread of its own."""

    share = 4

    def call(self, function: Callable[[], None]) -> None:
        threading.Thread(target=function, name="caller").start()


def test_what_may_block_is_called_by_callers_where_there_are_any():
    def where() -> Steps[str]:
        found: str = yield Call(lambda: threading.current_thread().name)
        return found

    with closing(Loop(Cancellation(), Threads())) as loop:
        assert loop.finish(loop.start(where())) == "caller"
        assert loop.run(where()) == threading.current_thread().name


# --- shares --------------------------------------------------------------------------------------


def test_one_loop_may_have_all_connections():
    assert taken(Share(origin())) == PARALLEL


def test_two_loops_share_them():
    server = origin()
    first, second = Share(server), Share(server)
    assert taken(first) == PARALLEL
    assert taken(second) == PARALLEL // 2
    assert first.is_exceeded
    assert not second.is_exceeded


def test_who_has_none_always_gets_one_and_what_is_waited_for_is_never_refused():
    server = origin()
    shares = [Share(server) for _ in range(50)]
    assert all(taken(share) for share in shares)
    assert shares[0].take(urgent=True)


def test_a_loop_that_stands_still_counts_for_nobody():
    server = origin()
    still, other = Share(server), Share(server)
    taken(still)
    still.park(parked=True)
    assert taken(other) == PARALLEL
    still.park(parked=False)
    assert other.is_exceeded


def test_a_closed_share_gives_everything_back():
    server = origin()
    for parked in (False, True):
        share = Share(server)
        taken(share)
        share.park(parked=parked)
        share.close()
    assert taken(Share(server)) == PARALLEL


# --- addresses -----------------------------------------------------------------------------------


def test_another_address_is_tried_where_one_refuses(
    server: Scripted, monkeypatch: pytest.MonkeyPatch
):
    server.on("/a", FILE)
    (good,) = socket.getaddrinfo("127.0.0.1", server.port, type=socket.SOCK_STREAM)
    bad = (*good[:4], ("127.0.0.1", 9))
    asked: list[object] = []

    def found(*place: object, **_: object) -> list[object]:
        asked.append(place)
        return [bad, good]

    monkeypatch.setattr(socket, "getaddrinfo", found)
    with closing(Upstream(server.url)) as upstream:
        assert upstream.stat("a", Caller()).size == 5  # type: ignore[union-attr]
    assert len(asked) == 1


def test_an_address_that_answered_is_tried_first_from_then_on(monkeypatch: pytest.MonkeyPatch):
    pairs = [(socket.AF_INET, 0, 0, "", ("127.0.0.1", port)) for port in (1, 2)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pairs)
    addresses = Addresses("files.test", 80)
    _, second = addresses.look_up()
    addresses.answered(second)
    assert addresses.look_up()[0] == second

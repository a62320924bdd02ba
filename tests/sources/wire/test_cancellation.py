"""Whatever a download waits for ends with it, and says nothing of who was waited for."""

import gc
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import pytest

from tar_gateway import Settings, Upstream
from tar_gateway.access.authority import Authority
from tar_gateway.errors import Cancelled, SourceError
from tar_gateway.sources import Caller, Stat
from tar_gateway.sources.replicas import Replicas
from tar_gateway.sources.wire.cancellation import Cancellation
from tests.support.fakes import forwarded, waited
from tests.support.scripted import PATIENCE, Script, Scripted, answer, reset, stall, wait_until

NEVER = threading.Event()
ENVIRON = {"REQUEST_METHOD": "GET", "PATH_INFO": "/a", "QUERY_STRING": ""}

FIRST_OF_NINE = "Content-Range: bytes 0-0/9"

Ask = Callable[[Upstream, Caller], object]

QUESTIONS: dict[str, Ask] = {
    "a size": lambda upstream, caller: upstream.stat("a", caller),
    "content": lambda upstream, caller: upstream.open("a", 0, 5, Stat(5, 0, None), caller),
    "a plain file": lambda upstream, caller: forwarded(upstream, "GET", "a", [], caller),
    "replicas": lambda upstream, caller: Replicas([upstream, upstream]).stat("a", caller),
}


def cancelled_in_the_midst(server: Scripted, cancellation: Cancellation, ask: Callable) -> None:
    """Ask in a thread, cancel once the server has heard it, and expect the end of it."""
    with ThreadPoolExecutor(1) as threads:
        outcome = threads.submit(ask)
        assert server.wait_for(lambda server: bool(server.requests))
        cancellation.cancel()
        assert isinstance(outcome.exception(PATIENCE), Cancelled)
    assert server.wait_for(lambda server: server.open == 0)
    assert len(server.requests) == 1


@pytest.mark.parametrize("ask", QUESTIONS.values(), ids=QUESTIONS)
@pytest.mark.parametrize(
    "script",
    [stall(NEVER), answer(b"", status="100 Continue", length=None, then=stall(NEVER))],
    ids=["nothing comes", "no head comes"],
)
def test_a_question_to_the_upstream_ends(ask: Ask, script: Script):
    caller = Caller()
    with (
        Scripted({"/a": script}) as server,
        closing(Upstream(server.url)) as upstream,
    ):
        cancelled_in_the_midst(server, caller.cancellation, lambda: ask(upstream, caller))
        assert not upstream.health.is_failing
        assert caller.tally.requests == {}, "it counts as no failure either"


@pytest.mark.parametrize(
    "script",
    [
        answer(b"", FIRST_OF_NINE, status="206 Partial", length=1, then=stall(NEVER)),
        answer(b"", status="503 Busy", length=5, then=stall(NEVER)),
    ],
    ids=["the byte that tells the size", "the text of an error"],
)
def test_what_is_read_of_an_answer_before_it_counts_ends_as_well(script: Script):
    caller = Caller()
    with Scripted() as server, closing(Upstream(server.url)) as upstream:
        server.on("/a", answer(b"", status="405 No", length=None), script)
        with ThreadPoolExecutor(1) as threads:
            outcome = threads.submit(upstream.stat, "a", caller)
            assert server.wait_for(lambda server: len(server.requests) == 2)
            caller.cancellation.cancel()
            assert isinstance(outcome.exception(PATIENCE), Cancelled)
        assert server.wait_for(lambda server: server.open == 0)


@pytest.mark.parametrize("length", [9, None], ids=["of a told length", "of unknown length"])
def test_content_that_waits_ends_and_never_as_if_it_were_whole(length: int | None):
    caller = Caller()
    with (
        Scripted({"/a": answer(b"begin", length=length, then=stall(NEVER))}) as server,
        closing(Upstream(server.url)) as upstream,
        closing(forwarded(upstream, "GET", "a", [], caller).content) as content,
    ):
        assert content.read(5) == b"begin"
        cancelled_in_the_midst(server, caller.cancellation, lambda: content.read(5))
        assert not upstream.health.is_failing


def test_a_question_to_where_the_upstream_redirects_ends():
    caller = Caller()
    with Scripted({"/store": stall(NEVER)}) as store, Scripted() as server:
        place = f"Location: {store.url}store"
        server.on("/a", answer(b"", place, status="302 Found"))
        hosts = [store.url.removeprefix("http://").rstrip("/")]
        with closing(Upstream(server.url, Settings(redirect_hosts=hosts))) as upstream:
            ask = lambda: upstream.stat("a", caller)  # noqa: E731
            cancelled_in_the_midst(store, caller.cancellation, ask)
            assert not upstream.health.is_failing


@pytest.mark.parametrize("plain", [False, True], ids=["for a member", "for a plain file"])
def test_a_question_to_the_authority_ends(plain: bool):
    caller = Caller(environ=ENVIRON)
    with (
        Scripted({"/check": stall(NEVER)}) as server,
        closing(Authority(server.url + "check", Settings())) as authority,
    ):

        def ask() -> None:
            if plain:
                waited(authority.permit_plain(caller), caller)
            else:
                waited(authority.permit("a", caller), caller)

        cancelled_in_the_midst(server, caller.cancellation, ask)


def test_an_upstream_that_fails_goes_on_failing():
    caller = Caller()
    with Scripted() as server, closing(Upstream(server.url)) as upstream:
        server.on("/a", reset, stall(NEVER))
        with pytest.raises(SourceError):
            upstream.stat("a", caller)
        server.requests.clear()
        cancelled_in_the_midst(server, caller.cancellation, lambda: upstream.stat("a", caller))
        assert upstream.health.is_failing


def test_nothing_is_asked_once_it_is_cancelled():
    caller = Caller()
    caller.cancellation.cancel()
    with Scripted({"/a": stall(NEVER)}) as server, closing(Upstream(server.url)) as upstream:
        with pytest.raises(Cancelled):
            upstream.stat("a", caller)
        assert server.connections == 0


def test_a_question_that_was_cancelled_is_put_to_no_other_server(monkeypatch: pytest.MonkeyPatch):
    asked = []
    stat = Upstream.stat_steps

    def noted(server: Upstream, path: str, caller: Caller) -> object:
        asked.append(server)
        return stat(server, path, caller)

    monkeypatch.setattr(Upstream, "stat_steps", noted)
    caller = Caller()
    with ExitStack() as stack:
        servers = [stack.enter_context(Scripted({"/a": stall(NEVER)})) for _ in range(3)]
        replicas = Replicas([Upstream(server.url) for server in servers])
        stack.callback(replicas.close)
        with ThreadPoolExecutor(1) as threads:
            outcome = threads.submit(replicas.stat, "a", caller)
            assert wait_until(lambda: any(each.requests for each in servers))
            caller.cancellation.cancel()
            assert isinstance(outcome.exception(PATIENCE), Cancelled)
    assert len(asked) == 1


# --- by itself ----------------------------------------------------------------------------------


class Calls(list[str]):
    def end(self) -> None:
        self.append("end")


@pytest.fixture
def calls() -> Calls:
    return Calls()


def test_what_was_added_is_ended_once(calls: Calls):
    cancellation = Cancellation()
    cancellation.add(calls.end)
    cancellation.check()
    assert (calls, cancellation.is_cancelled) == ([], False)
    cancellation.cancel()
    with pytest.raises(Cancelled):
        cancellation.check()
    cancellation.cancel()
    assert (calls, cancellation.is_cancelled) == (["end"], True)


def test_what_is_added_too_late_is_ended_at_once(calls: Calls):
    cancellation = Cancellation()
    cancellation.cancel()
    cancellation.add(calls.end)
    assert calls == ["end"]


def test_what_was_removed_is_not_ended(calls: Calls):
    cancellation = Cancellation()
    cancellation.add(calls.end)
    cancellation.remove(calls.end)
    cancellation.cancel()
    assert calls == []


def test_what_was_removed_while_others_were_being_ended_is_not_ended_afterwards():
    """Its connection may be another download's by then."""
    cancellation = Cancellation()
    ending, removed = threading.Event(), threading.Event()
    log: list[str] = []

    def end() -> None:
        ending.set()
        assert not removed.wait(0.1), "it was removed in the middle of its end"
        log.append("ended")

    cancellation.add(end)
    with ThreadPoolExecutor(1) as threads:
        cancelled = threads.submit(cancellation.cancel)
        assert ending.wait(PATIENCE)
        cancellation.remove(end)
        log.append("removed")
        removed.set()
        cancelled.result(PATIENCE)
    assert log == ["ended", "removed"]


def test_a_child_ends_with_its_parent(calls: Calls):
    parent = Cancellation()
    parent.child().add(calls.end)
    parent.cancel()
    assert calls == ["end"]
    parent.child().add(calls.end)
    assert calls == ["end", "end"]


def test_a_child_that_is_cancelled_leaves_its_parent_and_the_other_children_alone(calls: Calls):
    parent = Cancellation()
    one, other = parent.child(), parent.child()
    other.add(calls.end)
    one.cancel()
    assert (one.is_cancelled, other.is_cancelled, parent.is_cancelled) == (True, False, False)
    assert calls == []


def test_a_parent_keeps_no_child_that_is_cancelled():
    parent = Cancellation()
    child = weakref.ref(parent.child())
    alive = child()
    assert alive is not None
    alive.cancel()
    del alive
    gc.collect()
    assert child() is None


def test_a_parent_and_its_child_may_be_cancelled_at_once():
    """Neither waits for the other's lock while it holds its own."""
    with ThreadPoolExecutor(2) as threads:
        for _ in range(500):
            parent = Cancellation()
            child, both = parent.child(), threading.Barrier(2)
            ends = [
                threads.submit(lambda each, both: (both.wait(), each.cancel()), each, both)
                for each in (parent, child)
            ]
            for end in ends:
                end.result(PATIENCE)
            assert child.is_cancelled

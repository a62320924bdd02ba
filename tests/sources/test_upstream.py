"""The upstream over real sockets: what is sent, how faults are told, what the pool keeps."""

import errno
import socket
import threading
import time
import traceback
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from tar_gateway.archive.bundle import Entry
from tar_gateway.errors import Cancelled, SettingsError, SourceError
from tar_gateway.settings import Settings
from tar_gateway.sources import Caller, Stat, UnknownSize
from tar_gateway.sources.upstream import Upstream
from tar_gateway.sources.wire.asking import Ask, Pause
from tar_gateway.sources.wire.loop import run
from tar_gateway.sources.wire.response import Content
from tests.support.fakes import STRONG, forwarded
from tests.support.scripted import (
    PATIENCE,
    File,
    Script,
    Scripted,
    Wire,
    answer,
    chunked,
    close,
    raw,
    reset,
    stall,
)

IMPATIENT = Settings(connect_timeout=0.2, read_timeout=0.2)
DATA = bytes(range(256)) * 1000
NOBODY = Caller()
MIB = 1024 * 1024
NEVER = threading.Event()


@contextmanager
def serving(
    *scripts: Script, base: str = "", settings: Settings | None = None
) -> Iterator[tuple[Scripted, Upstream]]:
    """Serve ``/a`` below the base by these scripts in turn, with an upstream for it."""
    with (
        Scripted({f"/{base}a": scripts}) as server,
        closing(Upstream(server.url + base, settings)) as upstream,
    ):
        yield server, upstream


def read_all(content: Content) -> bytes:
    with closing(content):
        return b"".join(iter(lambda: content.read(64 * 1024), b""))


def read_until_fault(content: Content) -> tuple[bytes, SourceError]:
    good = b""
    with closing(content):
        for _ in range(20):
            try:
                good += content.read(100)
            except SourceError as error:
                return good, error
    raise AssertionError("there was no fault")


def open_whole(
    upstream: Upstream, size: int, validator: bool = True, caller: Caller = NOBODY
) -> Content:
    stat = Stat(size, 0, STRONG if validator else None)
    return upstream.open("a", 0, size, stat, caller)


# --- what is sent ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("a.txt", "/base/a.txt"),
        ("x/y/z", "/base/x/y/z"),
        ("a b", "/base/a%20b"),
        ("100%", "/base/100%25"),
        ("a%2Fb", "/base/a%252Fb"),
        ("q?x#y&z", "/base/q%3Fx%23y&z"),
        ("a,b;c=d", "/base/a,b%3Bc=d"),
        ("ü", "/base/%C3%BC"),
        ("...", "/base/..."),
        ("~:@!$'()*+[]", "/base/~:@!$'()*%2B%5B%5D"),
    ],
)
def test_a_path_is_sent_quoted_once_and_not_normalised(path: str, target: str):
    with serving(base="base/") as (server, upstream):
        with pytest.raises(SourceError, match="does not exist"):
            upstream.stat(Entry(path, path).reference, NOBODY)
        assert {request.target for request in server.requests} == {target}


def test_the_base_may_be_the_root():
    with serving(File(DATA)) as (server, upstream):
        assert upstream.stat("a", NOBODY).mtime == 1600000000
        assert server.requests[0].target == "/a"


def test_only_the_caller_brings_credentials():
    mine = Caller((("Authorization", "mine"), ("Cookie", "id=1")))
    with serving(File(DATA)) as (server, upstream):
        upstream.stat("a", mine)
        upstream.stat("a", NOBODY)
        with closing(upstream.open("a", 0, len(DATA), Stat(len(DATA), 0, STRONG), mine)):
            pass
    sent = [(request.get("Authorization"), request.get("Cookie")) for request in server.requests]
    assert sent == [("mine", "id=1"), (None, None), ("mine", "id=1")]


def test_the_headers_of_a_question_are_few_and_known():
    with serving(File(DATA)) as (server, upstream):
        upstream.stat("a", NOBODY)
    assert dict(server.requests[0].headers) == {
        "Host": f"127.0.0.1:{server.port}",
        "User-Agent": "tar_gateway",
        "Accept-Encoding": "identity",
    }


def test_a_cookie_that_the_upstream_sets_is_not_sent_back():
    with serving(answer(b"x", "Set-Cookie: id=stolen")) as (server, upstream):
        upstream.stat("a", NOBODY)
        upstream.stat("a", NOBODY)
    assert [request.get("Cookie") for request in server.requests] == [None, None]


def test_a_redirect_is_not_followed():
    elsewhere = answer(b"", "Location: /b", status="302 Found")
    with serving(elsewhere) as (server, upstream):
        server.on("/b", File(DATA))
        with pytest.raises(SourceError, match="redirects"):
            upstream.stat("a", Caller((("Authorization", "secret"),)))
        assert {request.target for request in server.requests} == {"/a"}


def test_a_credential_that_would_end_its_header_is_not_sent():
    smuggled = Caller((("Cookie", "a\r\nRange: bytes=0-0"),))
    with serving(File(DATA)) as (server, upstream):
        with pytest.raises(SourceError) as caught:
            upstream.stat("a", smuggled)
        assert server.requests == []
    assert not caught.value.transient


def test_certificates_that_cannot_be_read_are_refused_when_it_is_made(tmp_path: Path):
    bad = tmp_path / "ca.pem"
    bad.write_text("no certificate")
    for settings in (
        Settings(upstream_ca_file=bad),
        Settings(upstream_cert_file=bad, upstream_key_file=bad),
    ):
        with pytest.raises(SettingsError, match="certificates"):
            Upstream("https://files.internal/", settings)


def test_a_repr_shows_no_secret():
    caller = Caller((("Authorization", "secret"),))
    with serving() as (server, upstream):
        assert repr(upstream) == f"Upstream('{server.url}')"
        assert "secret" not in repr((upstream, caller))


# --- what is read ------------------------------------------------------------------------------


def test_a_read_takes_no_more_memory_than_what_it_gives():
    more = threading.Event()

    def slowly(wire: Wire) -> None:
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % MIB + bytes(100))
        more.wait(PATIENCE)
        wire.send(bytes(100))

    with serving(slowly) as (_, upstream), closing(open_whole(upstream, MIB, False)) as content:
        assert len(content.read(MIB)) == 100
        more.set()
        tracemalloc.start()
        try:
            assert len(content.read(MIB)) == 100
            assert tracemalloc.get_traced_memory()[1] < MIB // 4
        finally:
            tracemalloc.stop()


# --- how faults are told ---------------------------------------------------------------------


TOO_LATE = (504, True, "took too long")
BROKEN = (502, True, "broke the connection")
FAULTS = [
    pytest.param(close, *BROKEN, id="closed before the response"),
    pytest.param(reset, *BROKEN, id="reset before the response"),
    pytest.param(stall(NEVER), *TOO_LATE, id="silence"),
    pytest.param(raw(b"HTTP/1.1 2", close), *BROKEN, id="closed within the status line"),
    pytest.param(raw(b"HTTP/1.1 200 OK\r\nA: b\r\n", stall(NEVER)), *TOO_LATE, id="half a head"),
    pytest.param(raw(b"HTTP/1.1 200 OK\r\nA: b\r\n", reset), *BROKEN, id="reset within the head"),
    pytest.param(raw(b"SSH-2.0-OpenSSH\r\n", close), *BROKEN, id="another protocol"),
    pytest.param(raw(b"\0" * 100_000, close), *BROKEN, id="garbage without an end"),
    pytest.param(
        raw(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n", close), *BROKEN, id="200 headers"
    ),
    pytest.param(
        raw(b"HTTP/1.1 200 OK\r\nA: " + b"b" * 70_000 + b"\r\n\r\n", close),
        *BROKEN,
        id="a header of 70,000 bytes",
    ),
    pytest.param(raw(b"HTTP/1.1 101 Switching\r\n\r\n"), 502, False, "status 101", id="1xx"),
    pytest.param(answer(b"", status="600 What"), 502, False, "status 600", id="6xx"),
]


@pytest.mark.parametrize(("script", "status", "transient", "reason"), FAULTS)
def test_a_fault_before_the_content_has_a_status_and_may_pass_or_not(
    script: Script, status: int, transient: bool, reason: str
):
    with serving(script, settings=IMPATIENT) as (server, upstream):
        for ask in (lambda: upstream.stat("a", NOBODY), lambda: open_whole(upstream, 10)):
            with pytest.raises(SourceError, match=reason) as caught:
                ask()
            assert (caught.value.status, caught.value.transient) == (status, transient)
            assert not caught.value.unreachable
        assert server.wait_for(lambda server: server.open == 0)
        server.on("/a", File(DATA))
        whole(upstream)


TEN = b"0123456789"
SHORT = [
    pytest.param(answer(b"01234", length=10, then=close), *BROKEN, id="closed"),
    pytest.param(answer(b"01234", length=10, then=stall(NEVER)), *TOO_LATE, id="silence"),
    pytest.param(chunked(b"01234", end=b""), *BROKEN, id="no more chunks"),
    pytest.param(chunked(b"01234", end=b"5\r\n567"), *BROKEN, id="half a chunk"),
    pytest.param(chunked(b"01234", end=b"zzz\r\n"), *BROKEN, id="no chunk's size"),
    pytest.param(chunked(b"01234"), 502, True, "too early", id="fewer chunks"),
    pytest.param(answer(b"01234", length=None), 502, True, "too early", id="no length"),
    pytest.param(answer(b"01234", version="1.0", length=None), 502, True, "too early", id="1.0"),
]


@pytest.mark.parametrize(("script", "status", "transient", "reason"), SHORT)
def test_a_fault_within_the_content_comes_after_its_good_bytes(
    script: Script, status: int, transient: bool, reason: str
):
    with serving(script, settings=IMPATIENT) as (server, upstream):
        good, error = read_until_fault(open_whole(upstream, 10, validator=False))
        assert good.startswith(b"01234")
        assert TEN.startswith(good)
        assert (error.status, error.transient) == (status, transient)
        assert reason in error.reason
        server.on("/a", File(DATA))
        whole(upstream)


def test_a_reset_within_the_content_may_pass():
    with (
        serving(answer(b"01234", length=10, then=reset)) as (_, upstream),
        pytest.raises(SourceError) as caught,
    ):
        read_all(open_whole(upstream, 10, validator=False))
    assert (caught.value.status, caught.value.transient) == (502, True)
    assert "connection reset by peer" in str(caught.value.cause)


def test_what_is_not_http_is_told_to_the_operator():
    with (
        serving(raw(b"HTTP/1.1 200 OK\r\nno field\r\n\r\n", close)) as (server, upstream),
        pytest.raises(SourceError) as caught,
    ):
        upstream.stat("a", NOBODY)
    host = server.url.split("/")[2]
    assert caught.value.cause == f"the response is not HTTP/1 ({host})"


def test_an_upstream_that_refuses_connections_cannot_be_reached():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with (
        closing(Upstream(f"http://127.0.0.1:{port}/")) as upstream,
        pytest.raises(SourceError, match="cannot be reached") as caught,
    ):
        upstream.stat("a", NOBODY)
    assert (caught.value.status, caught.value.transient) == (502, True)
    assert caught.value.unreachable
    assert caught.value.cause == f"connection refused (127.0.0.1:{port})"


def test_a_name_that_no_one_knows_is_told_to_the_operator(monkeypatch):
    def unknown(*_: object, **__: object) -> object:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with (
        closing(Upstream("http://files.test/")) as upstream,
        pytest.raises(SourceError, match="cannot be reached") as caught,
    ):
        upstream.stat("a", NOBODY)
    assert caught.value.cause == "name or service not known (files.test)"


def test_an_upstream_is_not_blamed_where_we_have_no_descriptor_left(monkeypatch):
    def refused(*_: object) -> socket.socket:
        raise OSError(errno.EMFILE, "Too many open files")

    with serving(File(DATA)) as (_, upstream):
        monkeypatch.setattr(socket, "socket", refused)
        with pytest.raises(SourceError, match="the gateway has no file descriptor") as caught:
            upstream.stat("a", NOBODY)
        monkeypatch.undo()
    assert caught.value.transient
    assert not caught.value.unreachable
    assert "too many open files" in str(caught.value.cause)


def test_an_upstream_that_accepts_no_connection_takes_too_long():
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(8):  # the queue of connections is full, so that the next one waits
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        upstream = stack.enter_context(closing(Upstream(url, IMPATIENT)))
        with pytest.raises(SourceError, match="took too long") as caught:
            upstream.stat("a", NOBODY)
    assert (caught.value.status, caught.value.transient) == (504, True)
    assert caught.value.unreachable
    assert "connection timed out" in str(caught.value.cause)


def test_a_connection_that_died_while_idle_is_replaced():
    with serving(answer(DATA, then=close)) as (server, upstream):
        upstream.stat("a", NOBODY)
        assert server.wait_for(lambda server: server.open == 0)
        assert read_all(open_whole(upstream, len(DATA), validator=False)) == DATA


def aged(upstream: Upstream, seconds: float) -> None:
    """Let the idle connections have been idle for so much longer."""
    for pooled in upstream._origin._idle:
        pooled.idle_since -= seconds


@pytest.mark.parametrize(("seconds", "connections"), [(0, 1), (29, 1), (31, 2)])
def test_a_connection_that_was_idle_for_too_long_is_not_used_again(
    seconds: float, connections: int
):
    with serving(File(DATA)) as (server, upstream):
        upstream.stat("a", NOBODY)
        aged(upstream, seconds)
        upstream.stat("a", NOBODY)
        assert [seen.connection for seen in server.requests] == [1, connections]
        assert server.wait_for(lambda server: server.open == 1)


SOON = Settings(connect_timeout=0.2)


def dies_after(idle: str) -> Callable[[Wire], None]:
    """Answer the first request of each connection, and none after it."""
    served: set[int] = set()

    def script(wire: Wire) -> None:
        if wire.request.connection in served:
            wire.reset() if idle == "reset" else wire.stall(NEVER)
        served.add(wire.request.connection)
        File(DATA)(wire)

    return script


@pytest.mark.parametrize("how", ["silent", "reset"])
def test_a_connection_that_has_died_without_a_sign_costs_no_read_timeout(how: str):
    with serving(dies_after(how), settings=SOON) as (server, upstream):
        upstream.stat("a", NOBODY)
        aged(upstream, 2)
        began = time.monotonic()
        assert upstream.stat("a", NOBODY).size == len(DATA)
        assert time.monotonic() - began < 5  # not 30
        assert [seen.connection for seen in server.requests] == [1, 1, 2]


def test_what_is_asked_by_a_new_connection_then_has_all_its_time():
    def slow(wire: Wire) -> None:
        if len(wire.server.requests) > 1:
            NEVER.wait(0.5)
        File(DATA)(wire)

    with serving(slow, settings=SOON) as (server, upstream):
        upstream.stat("a", NOBODY)
        assert upstream.stat("a", NOBODY).size == len(DATA)  # a busy one is waited for
        aged(upstream, 2)
        assert upstream.stat("a", NOBODY).size == len(DATA)
        assert [seen.connection for seen in server.requests] == [1, 1, 1, 2]


# --- the shapes of a response -------------------------------------------------------------------


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(answer(DATA), id="1.1"),
        pytest.param(answer(DATA, version="1.0"), id="1.0"),
        pytest.param(answer(DATA, version="1.0", length=None), id="1.0 without a length"),
        pytest.param(answer(DATA, length=None), id="1.1 without a length"),
        pytest.param(chunked(DATA), id="one chunk"),
        pytest.param(chunked(DATA[:1], DATA[1:70_000], DATA[70_000:]), id="chunks"),
        pytest.param(chunked(DATA, end=b"0\r\nChecksum: 1\r\n\r\n"), id="a trailer"),
        pytest.param(answer(DATA, "Connection: close", then=close), id="no keep-alive"),
    ],
)
def test_an_answer_of_any_framing_gives_its_bytes(script: Script):
    with serving(script) as (_, upstream):
        content = open_whole(upstream, len(DATA), validator=False)
        assert read_all(content) == DATA


@pytest.mark.parametrize(
    "script",
    [answer(DATA, length=None), answer(DATA, version="1.0", length=None), chunked(DATA)],
    ids=["1.1", "1.0", "chunks"],
)
def test_a_size_that_is_not_told_is_learnt_by_reading(script: Script):
    with serving(script) as (_, upstream):
        told = upstream.stat("a", NOBODY)
        assert isinstance(told, UnknownSize)
        assert read_all(told.content) == DATA


def test_what_is_there_is_given_before_the_rest_comes():
    more = threading.Event()

    def halting(wire):
        answer(b"01234", length=10)(wire)
        wire.stall(more)
        wire.give(b"56789")

    with (
        serving(halting) as (_, upstream),
        closing(open_whole(upstream, 10, validator=False)) as content,
    ):
        first = b""
        while len(first) < 5:
            first += content.read(100)
        assert first == b"01234"
        more.set()
        assert b"".join(iter(lambda: content.read(100), b"")) == b"56789"


def test_bytes_that_drip_are_all_given():
    def dripping(wire):
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
        wire.drip(TEN, 0.001)

    with serving(dripping) as (_, upstream):
        assert read_all(open_whole(upstream, 10, validator=False)) == TEN


# --- cancelling --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(answer(b"01234", length=10, then=stall(NEVER)), id="a length"),
        pytest.param(answer(b"01234", length=None, then=stall(NEVER)), id="no length"),
    ],
)
def test_a_read_that_waits_is_ended_from_another_thread(script: Script):
    caller = Caller()
    with serving(script) as (server, upstream):
        content = open_whole(upstream, 10, validator=False, caller=caller)
        assert content.read(5)
        with ThreadPoolExecutor(1) as threads:
            outcome = threads.submit(read_until_fault, content)
            caller.cancellation.cancel()
            assert isinstance(outcome.exception(PATIENCE), Cancelled)
        assert server.wait_for(lambda server: server.open == 0)
        assert not upstream.health.is_failing


@pytest.mark.parametrize("closed", [False, True])
def test_cancelling_what_has_ended_spares_the_connection(closed: bool):
    caller = Caller()
    with serving(File(DATA)) as (server, upstream):
        content = open_whole(upstream, len(DATA), caller=caller)
        while content.read(64 * 1024):
            pass
        if closed:
            content.close()
        caller.cancellation.cancel()
        whole(upstream)
        content.close()
        assert server.connections == 1


# --- what the pool keeps -----------------------------------------------------------------------


def head(upstream: Upstream) -> None:
    upstream.stat("a", NOBODY)


def whole(upstream: Upstream) -> None:
    assert read_all(open_whole(upstream, len(DATA))) == DATA


def part(upstream: Upstream) -> None:
    stat = Stat(len(DATA), 0, STRONG)
    assert read_all(upstream.open("a", 5, 9, stat, NOBODY)) == DATA[5:9]


def closed_twice(upstream: Upstream) -> None:
    content = open_whole(upstream, len(DATA))
    read_all(content)
    content.close()


def half(upstream: Upstream) -> None:
    with closing(open_whole(upstream, len(DATA))) as content:
        content.read(100)


def unread(upstream: Upstream) -> None:
    open_whole(upstream, len(DATA)).close()


@pytest.mark.parametrize("use", [head, whole, part, closed_twice])
def test_a_connection_whose_answer_was_read_is_used_again(use: Callable[[Upstream], None]):
    with serving(File(DATA)) as (server, upstream):
        for _ in range(3):
            use(upstream)
        assert (server.connections, server.open) == (1, 1)


@pytest.mark.parametrize("use", [half, unread])
def test_a_connection_whose_answer_was_not_read_is_closed(use: Callable[[Upstream], None]):
    with serving(File(DATA)) as (server, upstream):
        use(upstream)
        assert server.wait_for(lambda server: server.open == 0)
        whole(upstream)
        assert server.connections == 2


def test_a_connection_is_used_again_after_a_range_of_one_byte():
    def no_head(wire):
        refused = answer(b"", status="405 Method Not Allowed")
        (refused if wire.request.method == "HEAD" else File(DATA))(wire)

    with serving(no_head) as (server, upstream):
        assert upstream.stat("a", NOBODY) == upstream.stat("a", NOBODY)
        assert [request.method for request in server.requests] == ["HEAD", "GET"] * 2
        assert (server.connections, server.open) == (1, 1)


def test_a_connection_is_used_again_after_chunks():
    with serving(chunked(DATA)) as (server, upstream):
        for _ in range(2):
            assert read_all(open_whole(upstream, len(DATA), validator=False)) == DATA
        assert server.connections == 1


def test_as_many_connections_open_as_are_needed_at_once():
    with serving(File(DATA), settings=Settings(fetch_parallel=1)) as (server, upstream):
        contents = [open_whole(upstream, len(DATA)) for _ in range(3)]
        assert [read_all(content) for content in contents] == [DATA] * 3
        assert server.connections == 3


def test_of_more_idle_connections_than_are_kept_the_oldest_is_closed(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("tar_gateway.sources.wire.pool._KEPT", 1)
    with serving(File(DATA)) as (server, upstream):
        contents = [open_whole(upstream, len(DATA)) for _ in range(2)]
        for content in contents:
            read_all(content)
        assert server.wait_for(lambda server: server.open == 1)
        head(upstream)
        assert server.requests[-1].connection == 2


def test_connections_that_were_idle_for_too_long_are_closed_when_another_is_released():
    with serving(File(DATA), settings=Settings(keep_alive=0.05)) as (server, upstream):
        contents = [open_whole(upstream, len(DATA)) for _ in range(3)]
        for content in contents[:2]:
            read_all(content)
        time.sleep(0.06)
        read_all(contents[2])
        assert server.wait_for(lambda server: server.open == 1)


# --- whose connection it is ----------------------------------------------------------------------

ALICE = Caller((("Authorization", "Basic alice"),))
BOB = Caller((("Authorization", "Basic bob"),))
ELSEWHERE = Caller(environ={"REMOTE_ADDR": "192.0.2.1"})
BEHIND_A_PROXY = Caller(environ={"HTTP_X_FORWARDED_FOR": "192.0.2.1"})


def ask(upstream: Upstream, caller: Caller, method: str = "GET", *headers: tuple[str, str]) -> None:
    read_all(forwarded(upstream, method, "a", [*headers, *caller.headers], caller).content)


def connections(server: Scripted) -> list[int]:
    return [request.connection for request in server.requests]


EMPTY = {
    "HEAD": ("HEAD", File(DATA)),
    "204": ("GET", raw(b"HTTP/1.1 204 No Content\r\n\r\n")),
    "304": ("GET", raw(b"HTTP/1.1 304 Not Modified\r\n\r\n")),
    "416": ("GET", answer(b"", status="416 Range Not Satisfiable")),
    "302": ("GET", answer(b"", "Location: /b", status="302 Found")),
    "an empty file": ("GET", answer(b"")),
    "no chunk but the last": ("GET", chunked()),
}


@pytest.mark.parametrize(("method", "empty"), EMPTY.values(), ids=EMPTY)
@pytest.mark.parametrize("other", [BOB, NOBODY, ELSEWHERE, BEHIND_A_PROXY])
def test_behind_a_response_without_content_a_connection_is_its_callers(method, empty, other):
    with serving(empty, empty, File(DATA)) as (server, upstream):
        ask(upstream, ALICE, method)
        ask(upstream, ALICE, method)
        ask(upstream, other)
        ask(upstream, ALICE)
        assert connections(server) == [1, 1, 2, 1]


@pytest.mark.parametrize("script", [File(DATA), chunked(b"abc")], ids=["a length", "chunks"])
def test_behind_a_response_with_content_a_connection_is_everyones(script: Script):
    with serving(script) as (server, upstream):
        for caller in (ALICE, BOB, NOBODY, ELSEWHERE):
            ask(upstream, caller)
        assert connections(server) == [1] * 4


def test_hundreds_of_sizes_for_one_caller_take_one_connection():
    with serving(File(DATA)) as (server, upstream):
        for _ in range(300):
            upstream.stat("a", ALICE)
        assert server.connections == 1


def late(head: bytes, content: bytes, sent: threading.Event) -> Script:
    """Send content that was not requested after its head was read."""

    def script(wire: Wire) -> None:
        wire.send(head)
        threading.Event().wait(0.02)
        wire.send(content)
        sent.set()

    return script


EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL"
HEADS = {
    "HEAD": ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n"),
    "304": ("GET", b"HTTP/1.1 304 Not Modified\r\n\r\n"),
    "more than promised": ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
}


@pytest.mark.parametrize(("method", "head"), HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("is_late", [True, False])
def test_an_upstream_caught_with_unrequested_bytes_is_logged_and_its_connections_closed(
    method: str, head: bytes, is_late: bool, caplog: pytest.LogCaptureFixture
):
    sent = threading.Event()
    script = late(head, EVIL, sent) if is_late else raw(head + EVIL)
    with serving(script, File(DATA)) as (server, upstream):
        ask(upstream, ALICE, method)
        if is_late:
            assert sent.wait(PATIENCE)
        for caller in (ALICE, BOB, ALICE):
            ask(upstream, caller)
            ask(upstream, caller, "HEAD")
        assert connections(server) == list(range(1, 8))
        assert server.wait_for(lambda server: server.open == 0)
    assert [text for text in caplog.messages if "not requested" in text] == [
        f"the upstream sent bytes that were not requested (127.0.0.1:{server.port}): "
        "no connection to it is used again"
    ]


def test_bytes_behind_a_head_never_become_another_callers_response():
    with serving(raw(HEADS["HEAD"][1])) as (server, upstream):
        ask(upstream, ALICE, "HEAD")
        server.on("/a", answer(b"bob's"))
        got = forwarded(upstream, "GET", "a", [], BOB)
        assert read_all(got.content) == b"bob's"
        assert connections(server) == [1, 2]


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_a_408_before_an_idle_connection_is_closed_is_no_offence(
    version: bytes, caplog: pytest.LogCaptureFixture
):
    sent = threading.Event()
    told = b"HTTP/" + version + b" 408 Request Timeout\r\nConnection: close\r\n\r\n"
    script = late(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", told, sent)
    with serving(script, File(DATA)) as (server, upstream):
        ask(upstream, ALICE)
        assert sent.wait(PATIENCE)
        for _ in range(2):
            ask(upstream, ALICE)
        assert connections(server) == [1, 2, 2]
    assert caplog.messages == []


NTLM = ["NTLM TlRMTVNTUA==", "negotiate YIIB", "Kerberos YIIB", "Nego2 YIIB", "NTLM"]


@pytest.mark.parametrize("credentials", NTLM)
@pytest.mark.parametrize("name", ["Authorization", "proxy-authorization"])
def test_a_connection_that_carried_credentials_for_it_is_not_used_again(name, credentials):
    with serving(File(DATA)) as (server, upstream):
        for method in ("GET", "HEAD", "GET"):
            ask(upstream, NOBODY, method, (name, credentials))
        ask(upstream, NOBODY)
        assert connections(server) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "challenge",
    [
        "WWW-Authenticate: NTLM",
        'www-authenticate: Basic realm="x", negotiate',
        "Proxy-Authenticate: Negotiate YIIB",
        "WWW-Authenticate: Basic\r\nWWW-Authenticate: Kerberos",
        "Persistent-Auth: true",
    ],
)
@pytest.mark.parametrize("status", ["401 Unauthorized", "407 No", "200 OK"])
def test_a_connection_that_was_challenged_for_credentials_of_its_own_is_not_used_again(
    status: str, challenge: str
):
    with serving(answer(b"no", challenge, status=status), File(DATA)) as (server, upstream):
        for _ in range(3):
            ask(upstream, NOBODY)
        assert connections(server) == [1, 2, 2]


@pytest.mark.parametrize("credentials", ["Basic bnRsbQ==", "Bearer ntlm.negotiate", 'X a="NTLMv2"'])
def test_credentials_of_a_request_leave_the_connection_for_the_next(credentials: str):
    with serving(answer(b"x", 'WWW-Authenticate: Basic realm="a"')) as (server, upstream):
        for _ in range(2):
            ask(upstream, NOBODY, "GET", ("Authorization", credentials))
        assert server.connections == 1


def test_closing_ends_the_idle_connections():
    with serving(File(DATA)) as (server, upstream):
        head(upstream)
        upstream.close()
        assert server.wait_for(lambda server: server.open == 0)


# --- plain requests ----------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "?page=2", "sub/", "a%20b/c?q=%2F&r=a+b"])
def test_a_plain_request_keeps_its_path_and_query(path: str):
    with serving(base="base/") as (server, upstream):
        forwarded(upstream, "GET", path, [], NOBODY).content.close()
        assert [request.target for request in server.requests] == [f"/base/{path}"]


def test_each_request_to_the_upstream_is_counted_once_whatever_it_is_for():
    caller = Caller()
    with serving(File(DATA), File(DATA), close) as (_, upstream):
        upstream.stat("a", caller)
        forwarded(upstream, "GET", "a", [], caller).content.close()
        with pytest.raises(SourceError):
            forwarded(upstream, "GET", "a", [], caller)
    assert caller.tally.requests == {200: 2, None: 1}


def test_a_plain_answer_is_given_as_it_is():
    redirect = answer(b"moved", "Location: /b", "X: 1", "X: 2", status="302 Found")
    with serving(redirect) as (server, upstream):
        got = forwarded(
            upstream, "GET", "a", [("Accept-Encoding", "gzip"), ("If-Match", "*")], NOBODY
        )
        assert (got.status, got.get("location"), got.all("x")) == (302, "/b", ["1", "2"])
        assert read_all(got.content) == b"moved"
        assert server.requests[0].all("Accept-Encoding") == ["gzip"]
        assert server.requests[0].get("If-Match") == "*"


def test_an_encoded_plain_answer_is_not_decoded():
    with serving(answer(b"zipped", "Content-Encoding: gzip")) as (_, upstream):
        assert read_all(forwarded(upstream, "GET", "a", [], NOBODY).content) == b"zipped"


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_a_plain_answer_without_content_leaves_the_connection_for_the_next(status: bytes):
    with serving(raw(b"HTTP/1.1 " + status + b"\r\n\r\n"), File(DATA)) as (server, upstream):
        assert read_all(forwarded(upstream, "GET", "a", [], NOBODY).content) == b""
        whole(upstream)
        assert server.connections == 1


def test_a_plain_head_leaves_the_connection_for_the_next():
    with serving(File(DATA)) as (server, upstream):
        for _ in range(2):
            got = forwarded(upstream, "HEAD", "a", [], NOBODY)
            assert read_all(got.content) == b""
            assert got.length() == len(DATA)
        assert server.connections == 1


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("ftp://x/", "upstream is 'ftp://x/': it must be a URL such as http://files.internal:8080"),
        ("http://me:hunter2@x/", "upstream is wrong: it must not hold a user name or password"),
    ],
)
def test_a_url_that_cannot_be_used_is_an_error_of_the_settings(url: str, line: str):
    with pytest.raises(SettingsError) as refused:
        Upstream(url)
    assert str(refused.value).startswith(line)
    assert "\n" not in str(refused.value)
    assert "hunter2" not in "".join(traceback.format_exception(refused.value))


def test_a_caller_whose_requests_are_too_many_slows_no_other_caller():
    refusal = answer(b"", "Retry-After: 3", status="429 Too Many Requests")
    with serving(refusal, File(DATA)) as (_, upstream):
        refused = run(upstream._ask("HEAD", "a", (), ELSEWHERE), ELSEWHERE.cancellation)
        refused.content.close()
        assert isinstance(next(upstream._ask("HEAD", "a", (), ELSEWHERE)), Pause)
        assert isinstance(next(upstream._ask("HEAD", "a", (), NOBODY)), Ask)

"""Several equivalent upstreams: what one can't give comes from the next, if it is the same."""

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from wsgiref.util import setup_testing_defaults

import pytest
from webtest import TestApp

from tar_gateway import BrokenOff, Gateway, Replicas, Settings, TarStream, Upstream
from tar_gateway.errors import Cancelled, MemberChanged, SourceError
from tar_gateway.sources import Caller, Stat
from tar_gateway.sources.wire.pool import REACH
from tar_gateway.sources.wire.response import Response
from tests.support.fakes import forwarded, record_pauses
from tests.support.scripted import (
    Fault,
    File,
    Script,
    Scripted,
    Wire,
    answer,
    chunked,
    close,
    reset,
    stall,
    wait_until,
)

DATA = bytes(range(256)) * 4000
OTHER = bytes(reversed(DATA))
MTIME = 1600000000
NOBODY = Caller()
NEVER = threading.Event()

FILE = File(DATA)
CHANGED = File(OTHER, etag='"2"')
DATED = File(DATA, etag='W/"1"')
WEAK = File(DATA, etag='W/"1"', headers=(*DATED.headers, "Date: Sun, 13 Sep 2020 12:26:40 GMT"))
MISSING = answer(b"", status="404 Not Found")


@dataclass(frozen=True)
class Group:
    """Servers in the order in which the path ``a`` is asked of them, and all of them as one."""

    servers: Sequence[Scripted]
    replicas: Replicas
    settings: Settings

    def on(self, *scripts: Script | Sequence[Script]) -> None:
        """Set what each server does with ``a`` from now on."""
        for server, given in zip(self.servers, scripts, strict=True):
            server.on("/a", *([given] if callable(given) else given))

    def asked(self) -> list[list[str]]:
        """Give each server's requests for ``a``: the method, and the range where there is one."""
        return [
            [
                " ".join(filter(None, (request.method, request.get("Range"))))
                for request in server.requests
                if request.path == "/a"
            ]
            for server in self.servers
        ]

    def forget(self) -> None:
        for server in self.servers:
            server.requests.clear()


@contextmanager
def group(count: int = 2, **settings: object) -> Iterator[Group]:
    chosen = Settings(**{"retry_pause": 0.01, "retry_for": 0.2, "read_timeout": 0.5, **settings})
    order: list[Scripted] = []

    def refusing(server: Scripted) -> Script:
        def script(wire: Wire) -> None:
            order.append(server)
            wire.close()

        return script

    def replicas() -> Replicas:
        return Replicas([Upstream(server.url, chosen) for server in servers])

    with ExitStack() as stack:
        servers = [stack.enter_context(Scripted()) for _ in range(count)]
        for server in servers:
            server.on("/a", refusing(server))
        with closing(replicas()) as asked, pytest.raises(SourceError):
            asked.stat("a", NOBODY)
        made = Group(order, stack.enter_context(closing(replicas())), chosen)
        made.on(*[FILE] * count)
        made.forget()
        yield made


@pytest.fixture
def pair() -> Iterator[Group]:
    with group() as made:
        yield made


def download(made: Group) -> tuple[int, bytes]:
    """Download the bundle of ``a``; gives the status and the bytes. Raises `BrokenOff`."""
    gateway = Gateway(made.replicas, made.settings)
    environ = {"PATH_INFO": "/", "QUERY_STRING": "bundle=a"}
    setup_testing_defaults(environ)
    said: list[str] = []
    body = gateway(environ, lambda *answer: said.append(answer[0]))
    try:
        return int(said[0][:3]), b"".join(body)
    finally:
        if hasattr(body, "close"):
            body.close()
        gateway.close()


def archive(data: bytes) -> bytes:
    return b"".join(TarStream([("a", len(data), MTIME, data)]))


# --- in the middle of the bytes -----------------------------------------------------------------


@pytest.mark.parametrize("offset", [1, 512, 500_000, len(DATA) - 1])
@pytest.mark.parametrize("end", [close, reset])
def test_a_member_goes_on_at_the_next_server_from_its_last_good_byte(
    pair: Group, end: Script, offset: int, monkeypatch: pytest.MonkeyPatch
):
    pauses = record_pauses(monkeypatch)
    pair.servers[0].break_at("/a", Fault(offset, end))
    pair.on([FILE, FILE, close], FILE)
    assert download(pair) == (200, archive(DATA))
    first, (resumed,) = pair.asked()
    assert first == ["HEAD", "GET"]
    if end is close:  # a reset may take bytes with it that were sent
        assert resumed == f"GET bytes={offset}-{len(DATA) - 1}"
    assert pair.servers[1].requests[0].get("If-Match") == FILE.etag
    assert pauses == [0]


def test_a_server_that_falls_silent_is_left_for_the_next_one(pair: Group):
    pair.servers[0].break_at("/a", Fault(1000, stall(NEVER)))
    assert download(pair) == (200, archive(DATA))
    assert pair.asked() == [["HEAD", "GET"], [f"GET bytes=1000-{len(DATA) - 1}"]]


def test_a_server_that_drips_is_left_for_the_next_one():
    def dripping(wire: Wire) -> None:
        wire.drip(DATA[1000:2000], 0.01)

    with group(read_timeout=0.2, retries=1) as pair:
        pair.servers[0].break_at("/a", Fault(1000, dripping))
        assert download(pair) == (200, archive(DATA))
        assert [len(requests) for requests in pair.asked()] == [2, 1]


def test_a_server_whose_plain_file_drips_is_passed_over_from_then_on():
    def dripping(wire: Wire) -> None:
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        wire.drip(DATA[:100], 0.005)

    with group(read_timeout=0.2) as pair:
        pair.on(dripping, FILE)
        app = TestApp(Gateway(pair.replicas, pair.settings), lint=False)
        assert [app.get("/a").body for _ in range(2)] == [DATA[:100], DATA]


@pytest.mark.parametrize("second", [CHANGED, MISSING], ids=["another version", "no such file"])
def test_a_server_without_the_version_is_passed_over_for_one_that_has_it(second: Script):
    with group(3) as three:
        three.servers[0].break_at("/a", Fault(1000, reset))
        three.on([FILE, FILE, close], second, FILE)
        assert download(three) == (200, archive(DATA))


@pytest.mark.parametrize("second", [CHANGED, MISSING], ids=["another version", "no such file"])
def test_without_another_that_has_the_version_the_first_is_asked_again(pair: Group, second):
    pair.servers[0].break_at("/a", Fault(1000, reset))
    pair.on(FILE, second)
    assert download(pair) == (200, archive(DATA))
    assert [len(requests) for requests in pair.asked()] == [3, 1]


@pytest.mark.parametrize("second", [CHANGED, MISSING], ids=["another version", "no such file"])
def test_when_nobody_has_the_version_any_more_the_download_is_broken_off(pair: Group, second):
    pair.servers[0].break_at("/a", Fault(1000, reset))
    pair.on([FILE, FILE, close], second)
    with pytest.raises(BrokenOff):
        download(pair)


def test_what_proves_nothing_does_not_go_on_elsewhere_in_the_middle(pair: Group):
    pair.servers[0].break_at("/a", Fault(1000, close))
    pair.on(WEAK, WEAK)
    with pytest.raises(BrokenOff):
        download(pair)
    assert pair.asked()[1] == []


def test_a_date_beside_a_weak_tag_proves_that_the_middle_of_a_member_is_elsewhere(pair: Group):
    pair.servers[0].break_at("/a", Fault(1000, close))
    pair.on([DATED, DATED, close], DATED)
    assert download(pair) == (200, archive(DATA))
    assert pair.asked()[1] == [f"GET bytes=1000-{len(DATA) - 1}"]


def test_what_proves_nothing_is_had_elsewhere_before_its_first_byte(pair: Group):
    pair.on([WEAK, close], WEAK)
    assert download(pair) == (200, archive(DATA))
    assert pair.asked() == [["HEAD", "GET", "GET"], ["GET"]]


# --- before the first byte ----------------------------------------------------------------------


FAILING: list[Script] = [
    close,
    reset,
    stall(NEVER),
    *(
        answer(b"", status=status)
        for status in ("500 Error", "502 Bad Gateway", "503 Unavailable", "504 Gateway Timeout")
    ),
    answer(b"", "Location: /login", status="302 Found"),
]
IDS = ["closed", "reset", "silent", "500", "502", "503", "504", "redirect"]


@pytest.mark.parametrize("failing", FAILING, ids=IDS)
def test_what_the_first_server_cannot_tell_the_next_one_tells(pair: Group, failing: Script):
    pair.on(failing, FILE)
    assert pair.replicas.stat("a", NOBODY).size == len(DATA)


@pytest.mark.parametrize("failing", FAILING, ids=IDS)
def test_what_the_first_server_cannot_give_the_next_one_gives(
    pair: Group, failing: Script, monkeypatch: pytest.MonkeyPatch
):
    pauses = record_pauses(monkeypatch)
    pair.on([FILE, failing], FILE)
    assert download(pair) == (200, archive(DATA))
    assert pauses == []


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_the_first_server_denies_is_asked_of_no_other(pair: Group, status: int):
    pair.on(answer(b"", status=f"{status} No"), FILE)
    assert download(pair)[0] == status
    assert pair.asked()[1] == []


def test_when_all_fail_the_fault_may_pass_and_all_are_asked_again(pair: Group):
    pair.on([close, FILE], answer(b"", "Location: /login", status="302 Found"))
    assert download(pair) == (200, archive(DATA))


def test_when_all_go_on_failing_it_is_a_502(pair: Group):
    pair.on(close, answer(b"", status="503 No"))
    assert download(pair)[0] == 502
    assert [len(requests) for requests in pair.asked()] == [3, 6]


def test_a_file_that_changed_at_one_server_is_had_from_the_one_that_has_not_changed(pair: Group):
    pair.on([FILE, CHANGED], FILE)
    assert download(pair) == (200, archive(DATA))


@pytest.mark.parametrize("second", [CHANGED, close], ids=["there too", "which is down"])
def test_a_file_that_changed_is_planned_anew_if_it_did_so_at_the_other_server(pair, second):
    pair.on([FILE, CHANGED], second)
    assert download(pair) == (200, archive(OTHER))


def test_a_version_may_come_back_with_the_server_that_has_it(pair: Group):
    stat = pair.replicas.stat("a", NOBODY)
    assert isinstance(stat, Stat)
    pair.on(close, CHANGED)
    with pytest.raises(MemberChanged) as caught:
        pair.replicas.open("a", 5, 9, stat, NOBODY)
    assert caught.value.transient
    pair.on(FILE, CHANGED)
    with closing(pair.replicas.open("a", 5, 9, stat, NOBODY)) as content:
        assert content.read(100) == DATA[5:9]


def test_a_member_of_untold_size_that_breaks_is_read_elsewhere(
    pair: Group, monkeypatch: pytest.MonkeyPatch
):
    pauses = record_pauses(monkeypatch)
    pair.on(chunked(b"01234", end=b"5\r\n0"), chunked(b"01234"))
    status, received = download(pair)
    assert (status, received[512:517]) == (200, b"01234")
    assert pair.asked() == [["HEAD", "GET bytes=0-0"], ["HEAD", "GET bytes=0-0"]]
    assert pauses == [0]


# --- left alone ---------------------------------------------------------------------------------


def stats(made: Group, count: int) -> None:
    for _ in range(count):
        made.replicas.stat("a", NOBODY)


def test_a_server_that_failed_is_left_alone(pair: Group):
    pair.on(close, FILE)
    stats(pair, 20)
    assert pair.asked() == [["HEAD"], ["HEAD"] * 20]


def test_after_the_pause_one_request_tries_it_while_others_go_elsewhere():
    with group(upstream_pause=1, read_timeout=10) as pair:
        back = threading.Event()

        def hanging(wire):
            wire.stall(back)
            FILE(wire)

        pair.on([close, hanging, FILE], FILE)
        stats(pair, 2)
        left_alone = threading.Event()
        left_alone.wait(1.01)
        trying = threading.Thread(target=stats, args=(pair, 1))
        trying.start()
        assert pair.servers[0].wait_for(lambda server: len(server.requests) == 2)
        stats(pair, 10)
        assert [len(requests) for requests in pair.asked()] == [2, 12]
        back.set()
        trying.join()
        stats(pair, 5)
        assert [len(requests) for requests in pair.asked()] == [7, 12]


def test_a_server_that_is_left_alone_is_asked_where_no_other_can(pair: Group):
    pair.on([close, FILE], [FILE, close])
    stats(pair, 2)
    # The second is asked once more by a new connection, for the one that was idle has ended.
    assert pair.asked() == [["HEAD", "HEAD"], ["HEAD", "HEAD", "HEAD"]]


def test_of_several_that_failed_the_one_that_did_so_first_is_asked_first():
    with group(3) as three:
        three.on(close, close, close)
        with pytest.raises(SourceError):
            three.replicas.stat("a", NOBODY)
        three.forget()
        three.on(FILE, FILE, FILE)
        stats(three, 1)
        assert three.asked() == [["HEAD"], [], []]


# --- who is asked -------------------------------------------------------------------------------


def test_a_file_stays_with_its_server_and_files_are_spread():
    with ExitStack() as stack:
        servers = [stack.enter_context(Scripted()) for _ in range(3)]
        paths = [f"{number}" for number in range(60)]
        for server in servers:
            for path in paths:
                server.on(f"/{path}", FILE)
        for order in (servers, servers[::-1]):  # as in another process, by another list
            replicas = Replicas([Upstream(server.url) for server in order])
            stack.enter_context(closing(replicas))
            for path in paths:
                stat = replicas.stat(path, NOBODY)
                assert isinstance(stat, Stat)
                replicas.open(f"{path}?version=2", 0, 5, stat, NOBODY).close()
        places = [{request.path for request in server.requests} for server in servers]
        assert sum(map(len, places)) == 60
        assert min(map(len, places)) >= 5


# --- plain files --------------------------------------------------------------------------------


def forward(made: Group, method: str = "GET", *headers: tuple[str, str]) -> Response:
    return forwarded(made.replicas, method, "a", headers, NOBODY)


@pytest.mark.parametrize("failing", FAILING[:-1], ids=IDS[:-1])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_plain_file_that_one_server_cannot_give_comes_from_the_next(
    pair: Group, method: str, failing: Script
):
    pair.on(failing, FILE)
    got = forward(pair, method, ("Range", "bytes=3-9"), ("If-Match", FILE.etag))
    with closing(got.content):
        assert got.status == (206 if method == "GET" else 200)
        assert got.content.read(100) == (DATA[3:10] if method == "GET" else b"")
    asked = pair.servers[1].requests[0]
    assert (asked.get("Range"), asked.get("If-Match")) == ("bytes=3-9", FILE.etag)


@pytest.mark.parametrize("status", [204, 302, 304, 401, 403, 404, 412, 416, 501])
def test_any_other_answer_to_a_plain_request_is_passed_on(pair: Group, status: int):
    pair.on(answer(b"", status=f"{status} So", length=0), FILE)
    got = forward(pair)
    got.content.close()
    assert got.status == status
    assert pair.asked()[1] == []


@pytest.mark.parametrize("second", [close, answer(b"later", status="503 No")])
def test_when_no_server_is_able_to_the_first_answer_is_passed_on(pair: Group, second: Script):
    pair.on(answer(b"sorry", "Retry-After: 7", status="503 No"), second)
    got = forward(pair)
    with closing(got.content):
        assert (got.status, got.get("retry-after"), got.content.read(100)) == (503, "7", b"sorry")


def test_an_answer_that_is_not_passed_on_is_closed_where_nobody_waits_any_more(pair: Group):
    pair.on(answer(b"sor", status="503 No", length=5, then=stall(NEVER)), stall(NEVER))
    caller = Caller()
    first, second = pair.servers
    with ThreadPoolExecutor(1) as threads:
        outcome = threads.submit(forwarded, pair.replicas, "GET", "a", (), caller)
        assert second.wait_for(lambda server: bool(server.requests))
        caller.cancellation.cancel()
        assert isinstance(outcome.exception(), Cancelled)
    assert first.wait_for(lambda server: server.open == 0)


def test_when_no_server_answers_a_plain_request_fails(pair: Group):
    pair.on(close, reset)
    with pytest.raises(SourceError, match="broke the connection"):
        forward(pair)


def test_a_server_whose_plain_file_breaks_is_left_alone(pair: Group):
    pair.servers[0].break_at("/a", Fault(1000, close))
    got = forward(pair)
    with closing(got.content), pytest.raises(SourceError):
        deque(iter(lambda: got.content.read(100_000), b""))
    forward(pair).content.close()
    assert pair.asked() == [["GET"], ["GET"]]


def test_no_connection_is_lost_to_answers_that_are_not_passed_on(pair: Group):
    with group(3) as three:
        sorry = answer(b"sorry" * 100_000, status="503 No")
        three.on(sorry, sorry, FILE)
        forward(three).content.close()
        three.on(sorry, sorry, sorry)
        forward(three).content.close()
        assert wait_until(lambda: all(server.open == 0 for server in three.servers))


@pytest.mark.parametrize("number", [0, 1])
def test_a_redirect_of_any_server_is_translated(pair: Group, number: int):
    url = pair.servers[number].url
    assert pair.replicas.own_path(f"{url}x/?y=1", "a") == "x/?y=1"
    assert pair.replicas.own_path("http://elsewhere/x", "a") is None


def test_several_servers_are_there_as_long_as_one_is(pair: Group):
    pair.servers[0].on("/", close)
    pair.servers[1].on("/", MISSING)
    pair.replicas.reach()
    pair.servers[1].on("/", close)
    with pytest.raises(SourceError):
        pair.replicas.reach()


def test_a_server_that_is_silent_holds_up_nobody_who_looks(pair: Group):
    for silent, other in (pair.servers, pair.servers[::-1]):
        silent.on("/", stall(threading.Event()))
        other.on("/", MISSING)
        began = time.monotonic()
        pair.replicas.reach()
        assert time.monotonic() - began < REACH / 2


def test_a_repr_says_which_servers(pair: Group):
    assert all(server.url in repr(pair.replicas) for server in pair.servers)


def test_closing_closes_all_idle_connections(pair: Group):
    for server in pair.servers:
        forward(pair, "HEAD").content.close()
        server.on("/a", close)
    pair.replicas.close()
    assert wait_until(lambda: all(server.open == 0 for server in pair.servers))

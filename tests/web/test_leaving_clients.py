"""Clients that leave or take nothing cost the upstream and the worker nothing for long."""

import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from itertools import count
from pathlib import Path
from typing import TypeVar

import pytest

from tar_gateway.http.environ import CLIENT_SOCKET
from tar_gateway.web.client import Delivery, until_departure
from tests.support.scripted import File, Script, Scripted, Wire, answer
from tests.support.servers import WORKERS, Running, gateway, wait_until

NOTICED = 5  # seconds after which a client that left must have been noticed
WRITE_TIMEOUT = 1
HALF = b"h" * 100_000
LARGE = b"l" * 16 * 1024 * 1024  # more than the kernel takes in for a client that doesn't read
PIECE, RATE = 64 * 1024, 1024 * 1024  # bytes, and bytes a second: how a slow client reads

# For few clients at once, so that what is never given back is missed; sync has one a process.
ROOM = 5
ROOMS = {worker: ("--threads", str(ROOM)) for worker in ("threads", "gevent")}
ROOMS["sync"] = ("--workers", str(ROOM))
numbers = count()
T = TypeVar("T")


class Files:
    """An upstream that counts its scripts while they are at work, by what was asked."""

    def __init__(self, stack: ExitStack) -> None:
        self.at_work: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self._lock = threading.Lock()
        self.server = stack.enter_context(Scripted())
        self._never = threading.Event()
        self.gate = threading.Event()
        self.on("/small", File(b"small"))
        self.on("/large", File(LARGE))
        self.on("/silent", answer(HALF, 'ETag: "1"', length=2 * len(HALF), then=self._stall))
        self.on("/silent-untold", self._silent_untold)
        self.on("/held", answer(HALF, 'ETag: "1"', length=2 * len(HALF), then=self._hold))
        self.on("/mute", lambda wire: wire.stall(self._never))
        for name in ("first", "ahead", "list", "plain"):
            self.on(f"/{name}", answer(b"", 'ETag: "1"', length=5, then=self._stall))
        for name in ("hesitant", "hesitant-member"):
            self.on(f"/{name}", self._hesitant)

    def on(self, path: str, script: Script) -> None:
        def counted(wire: Wire) -> None:
            what = f"{wire.request.method} {path}"
            with self._lock:
                self.at_work[what] += 1
                self.asked[what] += 1
            try:
                script(wire)
            finally:
                with self._lock:
                    self.at_work[what] -= 1

        self.server.on(path, counted)

    def are_left(self) -> bool:
        return not self.at_work.total()

    def _stall(self, wire: Wire) -> None:
        if wire.request.method != "HEAD":
            wire.stall(self._never)

    def _hold(self, wire: Wire) -> None:
        if wire.request.method != "HEAD":
            wire.stall(self.gate)
            wire.send(HALF)

    def _hesitant(self, wire: Wire) -> None:
        if wire.request.method == "HEAD":
            return answer(b"", 'ETag: "1"', length=5)(wire)
        time.sleep(1.5)
        return answer(b"", status="503 Service Unavailable")(wire)

    def _silent_untold(self, wire: Wire) -> None:
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        wire.send(head + b"%x\r\n" % len(HALF) + HALF + b"\r\n")
        self._stall(wire)


@dataclass(frozen=True)
class Site:
    """A gateway and the files behind it."""

    running: Running
    files: Files

    @contextmanager
    def asked(self, target: str, window: int | None = None) -> Iterator["Asked"]:
        """Ask for a target, under an id that no other request has."""
        name = f"request-{next(numbers)}"
        with socket.socket() as client:
            if window is not None:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
            client.settimeout(30)
            client.connect(("127.0.0.1", self.running.port))
            head = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: {name}\r\n\r\n"
            client.sendall(head.encode())
            yield Asked(client, f'"id": "{name}"', self.running.log)

    def has_room(self) -> bool:
        """Tell whether it answers as many clients at the same time as it is made for."""
        self.files.gate.clear()
        with ExitStack() as stack:
            clients = [stack.enter_context(self.asked("/?bundle=held")) for _ in range(ROOM)]
            for _ in range(2):
                for client in clients:
                    client.receive(len(HALF))
                self.files.gate.set()
        return True


@dataclass(frozen=True)
class Asked:
    """A client that has asked for something, and what is logged when that is over."""

    client: socket.socket
    name: str
    log: Path

    def is_over(self) -> bool:
        requests = (line for line in self.log.read_text().splitlines() if '"request"' in line)
        return any(self.name in line for line in requests)

    def has_left(self) -> bool:
        lines = self.log.read_text().splitlines()
        return any(self.name in line and '"client_left"' in line for line in lines)

    def receive(self, count: int) -> None:
        """Receive so many bytes."""
        while count > 0:
            block = self.client.recv(min(count, 65536))
            assert block, "the response ended too early"
            count -= len(block)

    def receive_until_end(self) -> int:
        """Receive until the connection ends, however it does, and count the bytes."""
        received = 0
        with suppress(ConnectionResetError):
            while block := self.client.recv(65536):
                received += len(block)
        return received

    def leave(self, by_reset: bool) -> None:
        if by_reset:
            linger = struct.pack("ii", 1, 0)
            self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.client.close()


@contextmanager
def serving(place: Path, *options: str, **settings: str) -> Iterator[Site]:
    settings = {"write_timeout": str(WRITE_TIMEOUT)} | settings
    with ExitStack() as stack:
        files = Files(stack)
        running = stack.enter_context(gateway(files.server.url, place, *options, **settings))
        yield Site(running, files)


@pytest.fixture(scope="module", params=ROOMS)
def site(request, tmp_path_factory) -> Iterator[Site]:
    worker = request.param
    with serving(tmp_path_factory.mktemp(worker), *WORKERS[worker], *ROOMS[worker]) as site:
        yield site


def side_by_side(check: Callable[..., T], *cases: Iterable[object]) -> list[T]:
    """Check cases at the same time, as many as there is room for: most of it is waiting."""
    with ThreadPoolExecutor(ROOM) as clients:
        return list(clients.map(check, *cases))


def seconds_until(condition: Callable[[], bool], what: str) -> float:
    start = time.monotonic()
    wait_until(condition, what)
    return time.monotonic() - start


LEAVING = {
    "a bundle": ("/?bundle=silent", False),
    "a bundle, by a reset": ("/?bundle=silent", True),
    "its second member": ("/?bundle=small&bundle=silent", False),
    "a plain file": ("/silent", False),
    "one of unknown length": ("/silent-untold", False),
}


def test_clients_that_leave_while_the_upstream_is_silent_are_noticed(site: Site):
    def leave(name: str) -> float:
        target, by_reset = LEAVING[name]
        with site.asked(target) as asked:
            asked.receive(len(HALF))
            asked.leave(by_reset)
            return seconds_until(asked.is_over, f"the end of {name}")

    noticed = dict(zip(LEAVING, side_by_side(leave, LEAVING), strict=True))
    assert max(noticed.values()) < NOTICED, noticed
    assert seconds_until(site.files.are_left, "the upstream's release") < NOTICED
    assert site.has_room()


# What is asked for, and at which request the upstream begins to say nothing at all.
MUTE = {
    "many sizes": (
        "/?bundle=mute" + "".join(f"&bundle=mute{number}" for number in range(90)),
        "HEAD /mute",
    ),
    "the first member": ("/?bundle=first", "GET /first"),
    "a member fetched ahead": ("/?bundle=small&bundle=ahead", "GET /ahead"),
    "a list": ("/?bundle&manifest=list", "GET /list"),
    "a plain file": ("/plain", "GET /plain"),
}


def test_what_nobody_waits_for_any_more_is_not_waited_for_at_the_upstream(site: Site):
    def leave(name: str) -> float:
        target, question = MUTE[name]
        with site.asked(target) as asked:
            wait_until(lambda: site.files.at_work[question] > 0, question)
            asked.leave(by_reset=False)
            seconds = seconds_until(lambda: site.files.at_work[question] == 0, "its release")
        if "bundle" in target:  # a plain file that nobody waits for leaves no line
            wait_until(asked.has_left, f"the line of {name} in the log")
        return seconds

    released = dict(zip(MUTE, side_by_side(leave, MUTE), strict=True))
    assert max(released.values()) < NOTICED, released
    assert site.has_room()


HESITANT = {"/hesitant": "GET /hesitant", "/?bundle=hesitant-member": "GET /hesitant-member"}


def test_a_client_that_leaves_before_the_first_byte_is_not_asked_on_for(site: Site):
    """The upstream tells the size at once, and then lets each GET wait and fail."""

    def leave(target: str) -> None:
        with site.asked(target) as asked:
            wait_until(lambda: site.files.at_work[HESITANT[target]] > 0, "a question")
            asked.leave(by_reset=False)
            wait_until(lambda: site.files.at_work[HESITANT[target]] == 0, "its response")

    side_by_side(leave, HESITANT)
    time.sleep(0.5)  # another attempt would come within 0.1 s
    assert [site.files.asked[question] for question in HESITANT.values()] == [1, 1]


def test_a_client_that_stops_reading_is_cut_off(site: Site):
    def stop(target: str) -> float:
        with site.asked(target, window=64 * 1024) as asked:
            seconds = seconds_until(asked.is_over, f"the cut of {target}")
            assert asked.receive_until_end() < len(LARGE)
        return seconds

    assert max(side_by_side(stop, ["/?bundle=large", "/large"])) < NOTICED
    assert seconds_until(site.files.are_left, "the upstream's release") < NOTICED
    assert site.has_room()


def test_a_client_that_is_cut_off_is_one_line_in_the_log(tmp_path: Path):
    with (
        serving(tmp_path, *WORKERS["threads"]) as site,
        site.asked("/?bundle=large", window=64 * 1024) as asked,
    ):
        wait_until(asked.is_over, "the cut")
        wait_until(lambda: b"Cut off GET /:" in asked.log.read_bytes(), "the line")
        assert b"Traceback" not in asked.log.read_bytes()


# A refusal of 120 KB, asked for so often that the kernel does not take all of them.
NAMES = "&".join(f"bundle={number:03}" + "'" * 1000 for number in range(101))
REFUSED = (
    "POST /?bundle HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\n"
    "Content-Type: application/x-www-form-urlencoded\r\n"
    f"Content-Length: {len(NAMES)}\r\n\r\n{NAMES}"
).encode() * 8


def ask_without_reading(stack: ExitStack, site: Site, clients: int, requests: bytes) -> None:
    for _ in range(clients):
        client = stack.enter_context(socket.socket())
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.connect(("127.0.0.1", site.running.port))
        client.setblocking(False)
        with suppress(BlockingIOError):
            client.send(requests)


def test_a_client_that_takes_nothing_of_its_refusals_is_cut_off(tmp_path: Path):
    with serving(tmp_path, *WORKERS["threads"]) as site, ExitStack() as stack:
        ask_without_reading(stack, site, 3, REFUSED)
        log = site.running.log
        wait_until(lambda: log.read_bytes().count(b"Cut off POST /:") == 3, "the cuts")


@pytest.mark.parametrize("clients", [12, 48])
def test_health_is_told_at_once_whatever_clients_do_not_take(clients: int, tmp_path: Path):
    rooms = {"max_downloads": "8", "write_timeout": "60"}
    with serving(tmp_path, *WORKERS["threads"], **rooms) as site, ExitStack() as stack:
        ask_without_reading(stack, site, clients, REFUSED)
        wait_until(lambda: b'"status": 503' in site.running.log.read_bytes(), "no room")
        seconds = [asked_for(site, page) for _ in range(30) for page in ("healthy", "ready")]
        assert sorted(seconds)[-6] < 0.1, seconds
        assert site.running.memory() < 256 * 1024 * 1024


def asked_for(site: Site, page: str) -> float:
    begun = time.monotonic()
    with closing(HTTPConnection("127.0.0.1", site.running.port, timeout=30)) as connection:
        connection.request("GET", f"/-/{page}")
        assert connection.getresponse().status in ({200} if page == "healthy" else {200, 503})
    return time.monotonic() - begun


@pytest.mark.parametrize(("seconds", "error"), [(0, BlockingIOError), (0.1, TimeoutError)])
def test_a_write_waits_as_long_as_it_may_and_the_next_request_has_its_own_time(seconds, error):
    ours, theirs = socket.socketpair()
    with ours, theirs, ExitStack() as held:
        delivery = Delivery([bytes(2**21)], {CLIENT_SOCKET: ours}, seconds, held)
        blocks = list(delivery)
        assert [len(block) for block in blocks] == [2**19] * 4
        with pytest.raises(error):
            ours.sendall(b"".join(blocks))
        delivery.close()
        assert ours.gettimeout() is None


def leave_in_the_midst(site: Site, clients: int) -> None:
    with ExitStack() as stack:
        for asked in [stack.enter_context(site.asked("/?bundle=silent")) for _ in range(clients)]:
            asked.receive(len(HALF))
    wait_until(site.files.are_left, "the upstream's release")


def test_three_hundred_clients_that_leave_cost_no_descriptor_and_no_thread(tmp_path: Path):
    many = (*WORKERS["threads"], "--threads", "100")
    with serving(tmp_path, *many, max_downloads="100", fetch_parallel="1") as site:

        def held() -> tuple[int, int]:
            return site.running.descriptors(), site.running.threads()

        leave_in_the_midst(site, 100)  # a pool's threads stay, once they were needed
        pool = 1 + 100
        wait_until(lambda: site.running.threads() == pool, "the end of the thread that watches")
        before = held()
        for _ in range(3):
            leave_in_the_midst(site, 100)
        wait_until(lambda: held() == before, "what it was before")


@pytest.mark.parametrize("site", ["sync", "threads"], indirect=True)
def test_a_slow_but_steady_reader_is_not_cut_off(site: Site):
    with site.asked("/?bundle=large", window=64 * 1024) as asked:
        end = time.monotonic() + 2.5 * WRITE_TIMEOUT
        received = 0
        while time.monotonic() < end:
            asked.receive(PIECE)
            received += PIECE
            time.sleep(PIECE / RATE)
        assert not asked.is_over(), "the kernel took it all, so nothing was proved"
        asked.receive(len(LARGE) - received)


@pytest.mark.parametrize("site", ["threads", "gevent"], indirect=True)  # sync always closes
@pytest.mark.parametrize("path", ["/?bundle=small", "/small"], ids=["a bundle", "a plain file"])
def test_a_connection_serves_another_request_after_a_download(path, site: Site):
    with closing(HTTPConnection("127.0.0.1", site.running.port, timeout=30)) as connection:
        connection.request("GET", path)
        first = connection.getresponse().read()
        used = connection.sock
        connection.request("GET", path)
        assert connection.getresponse().read() == first
        assert connection.sock is used is not None


def test_one_client_may_be_watched_twice_at_once():
    """Each has a watch of its own: the end of one does not end the other."""
    noticed = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, socket.create_connection(listener.getsockname()) as client:
        served, _ = listener.accept()
        environ = {"gunicorn.socket": served}
        with served, until_departure(environ, noticed.set):
            with until_departure(environ, lambda: None):
                pass
            client.close()
            assert noticed.wait(NOTICED)


def test_a_watch_that_found_no_thread_tries_again_with_the_next_client(monkeypatch):
    noticed = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, socket.create_connection(listener.getsockname()) as client:
        served, _ = listener.accept()
        with served:
            environ = {"gunicorn.socket": served}

            def refused(_thread: threading.Thread) -> None:
                raise RuntimeError("can't start new thread")

            with monkeypatch.context() as broken:
                broken.setattr(threading.Thread, "start", refused)
                with until_departure(environ, noticed.set):
                    pass
            with until_departure(environ, noticed.set):
                client.close()
                assert noticed.wait(NOTICED)

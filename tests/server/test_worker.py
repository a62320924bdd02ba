"""Slow clients hold no thread of the worker's, and stopping it loses nothing that has begun."""

import json
import resource
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from statistics import quantiles
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from tests.support.scripted import Scripted, stall
from tests.support.servers import PATIENCE, Running, gateway, listens, nginx, wait_until

pytestmark = pytest.mark.alone

THREADS = 4
HEADER_TIMEOUT, BODY_TIMEOUT = 1, 2
MAX_BODY = 1024 * 1024
ATTEMPTS = range(3)  # whoever waits for a client waits each time; for a busy machine, now and then
AT_ONCE = 0.5  # seconds; whatever waits for a client waits longer
REFUSED = 0.05  # seconds that a refusal takes at most, however many are being served

HOST = b"Host: localhost\r\n"
QUICK = b"GET /quick HTTP/1.1\r\n" + HOST + b"\r\n"
LAST_QUICK = QUICK[:-2] + b"Connection: close\r\n\r\n"
NOWHERE = "http://127.0.0.1:9/"


def post(*lines: str, path: str = "/body") -> bytes:
    head = "".join(line + "\r\n" for line in lines)
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{head}\r\n".encode()


class Client:
    """A connection to a worker, and the bytes of responses that were received on it."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.received = b""

    def send(self, data: bytes) -> "Client":
        self.socket.sendall(data)
        return self

    def receive(self, data: bytes) -> "Client":
        """Receive until this has come, and forget everything up to its end."""
        while data not in self.received:
            block = self.socket.recv(65536)
            assert block, f"no {data!r} in {self.received!r}"
            self.received += block
        self.received = self.received.partition(data)[2]
        return self

    def receive_all(self) -> bytes:
        """Receive until the end, which must be a clean one."""
        while block := self.socket.recv(65536):
            self.received += block
        return self.received

    def is_refused(self) -> bool:
        """Tell, without waiting, whether there is a response or an end instead of one."""
        self.socket.setblocking(False)
        try:
            return b" 503 " in (seen := self.socket.recv(65536, socket.MSG_PEEK)) or not seen
        except BlockingIOError:
            return False
        except ConnectionError:
            return True

    def is_unheard(self) -> bool:
        """Tell whether what is sent is refused."""
        try:
            self.send(b"x")
        except ConnectionError:
            return True
        return False

    def is_ended(self) -> bool:
        """Tell whether the connection has ended, however it did, without waiting."""
        self.socket.setblocking(False)
        try:
            return self.socket.recv(65536) == b""
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True


class Site:
    """A worker of few threads, and clients that are closed at the end of a visit."""

    def __init__(self, running: Running) -> None:
        self.running = running

    @contextmanager
    def visited(self, gate: Path) -> Iterator[Path]:
        """Let clients visit; the file ``gate`` ends what `hold` has begun."""
        with ExitStack() as self._visit:
            self._gate = gate
            self._visit.callback(gate.touch)
            yield gate

    def client(self) -> Client:
        client = Client(self.running.port)
        self._visit.callback(client.socket.close)
        return client

    def asks(self, request: bytes = QUICK, answer: bytes = b"quick") -> Client:
        """Be a client that has had the response to a request, and goes on being there."""
        return self.client().send(request).receive(answer)

    def hold(self, threads: int) -> list[Client]:
        """Keep so many threads busy until the gate is there."""
        request = f"GET /held?{self._gate} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        return [self.asks(request, b"\r\n\r\n1") for _ in range(threads)]

    def seconds(self, request: bytes = LAST_QUICK, answer: bytes = b"quick") -> float:
        """Time a request of a new client."""
        start = time.monotonic()
        self.asks(request, answer).socket.close()
        return time.monotonic() - start

    def ninety_ninth(self, *request: bytes) -> float:
        """Give the 99th percentile of the times of new clients' requests, one after the other."""
        return quantiles([self.seconds(*request) for _ in range(300)], n=100)[-1]

    def log(self) -> str:
        return self.running.log.read_text()


@contextmanager
def serving(place: Path, *options: str, **settings: str) -> Iterator[Site]:
    settings = {
        "client_header_timeout": str(HEADER_TIMEOUT),
        "client_body_timeout": str(BODY_TIMEOUT),
        "max_body": str(MAX_BODY),
    } | settings
    options = ("--threads", str(THREADS), *options)
    with gateway(
        NOWHERE, place, *options, application="tests.server.worker_app", **settings
    ) as running:
        yield Site(running)


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Iterator[Site]:
    with serving(tmp_path_factory.mktemp("shared")) as site:
        yield site


@pytest.fixture
def site(shared: Site, tmp_path: Path) -> Iterator[Site]:
    with shared.visited(tmp_path / "gate"):
        yield shared


# --- clients that are slow to close ---------------------------------------------------------------


def test_clients_that_have_their_answer_and_stay_keep_nobody_waiting(site: Site):
    site.hold(THREADS - 1)

    def ninety_ninth() -> float:
        start = time.monotonic()
        lingering[:] = [site.asks(LAST_QUICK) for _ in range(60)]
        return max(site.ninety_ninth(), (time.monotonic() - start) / 60)

    lingering: list[Client] = []
    assert any(ninety_ninth() < 0.1 for _ in ATTEMPTS)
    for client in lingering:
        assert client.receive_all() == b""
    wait_until(lambda: all(map(Client.is_unheard, lingering)), "the end of lingering")
    assert site.seconds() < AT_ONCE


def test_a_client_that_stays_is_heard_for_a_while(site: Site):
    client = site.asks(LAST_QUICK)
    assert client.receive_all() == b""
    for _ in range(5):
        assert not client.is_unheard()
        time.sleep(0.05)  # for a reset to arrive


def test_the_health_check_is_quick_when_all_downloads_are_taken_and_clients_stay(tmp_path: Path):
    healthy = b"GET /-/healthy HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
    silent = b"GET /silent HTTP/1.1\r\n" + HOST + b"\r\n"
    with (
        Scripted({"/silent": stall(threading.Event())}) as upstream,
        gateway(upstream.url, tmp_path, max_downloads="40") as running,
    ):
        site = Site(running)
        with site.visited(tmp_path / "gate"):
            for _ in range(40):
                site.client().send(silent)
            upstream.wait_for(lambda seen: seen.open == 40)
            assert site.seconds(silent, b" 503 ") < AT_ONCE

            def ninety_ninth() -> float:
                for _ in range(60):
                    site.asks(healthy, b"healthy")
                return site.ninety_ninth(healthy, b"healthy")

            assert any(ninety_ninth() < 0.1 for _ in ATTEMPTS)


@contextmanager
def reading_slowly(clients: list[Client]) -> Iterator[None]:
    """Let clients read 64 KiB a second each, and fail where one's answer ends."""
    stop = threading.Event()
    ended = []

    def read() -> None:
        while not stop.wait(0.125):
            ended.extend(client for client in clients if not client.socket.recv(8 * 1024))

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert not ended


@pytest.mark.needs("nginx")
def test_who_finds_no_room_is_refused_at_once_while_slow_readers_have_it(tmp_path: Path):
    (tmp_path / "files").mkdir()
    with (tmp_path / "files" / "large.bin").open("wb") as large:
        large.truncate(1024**3)
    request = b"GET /?bundle=large.bin HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
    with (
        nginx(tmp_path / "files", tmp_path / "nginx") as upstream,
        gateway(upstream, tmp_path, max_downloads="96") as running,
    ):
        site = Site(running)
        with site.visited(tmp_path / "gate"):
            readers = [site.client() for _ in range(96)]
            for reader in readers:
                reader.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
                reader.send(request).receive(b" 200 OK\r\n")
            with reading_slowly(readers):
                site.asks(request, b" 503 ").receive(b"\r\nRetry-After: ")
                assert any(site.ninety_ninth(request, b" 503 ") < REFUSED for _ in ATTEMPTS)


def test_clients_whose_answer_broke_off_and_that_stay_keep_nobody_waiting(site: Site):
    for _ in range(2 * THREADS):
        site.asks(b"GET /breaks HTTP/1.1\r\n" + HOST + b"\r\n", b"\r\n\r\n1")
    assert site.seconds() < AT_ONCE
    told = "ValueError: a defect midway"
    wait_until(lambda: site.log().count(told) == 2 * THREADS, "a traceback for each")


def test_a_client_that_sends_more_than_is_read_has_all_of_its_answer(site: Site):
    client = site.client().send(post("Content-Length: 20000000", path="/quick"))
    client.send(bytes(20_000_000))
    assert client.receive_all().endswith(b"\r\n\r\nquick")


def test_clients_that_hold_back_a_body_that_nobody_reads_keep_nobody_waiting(site: Site):
    for _ in range(2 * THREADS):
        site.asks(post(f"Content-Length: {2 * MAX_BODY}", path="/quick"))
    assert site.seconds() < AT_ONCE


# --- clients that are slow to ask -----------------------------------------------------------------

SLOW = {
    "nothing": (b"", b""),
    "a head": (b"GET /", b"a" * 1000),
    "a body": (post("Content-Length: 1000"), bytes(1000)),
    "a body they were told to send": (
        post("Content-Length: 1000", "Expect: 100-continue"),
        bytes(1000),
    ),
    "chunks": (post("Transfer-Encoding: chunked"), b"1\r\na\r\n" * 200),
}


@contextmanager
def dripping(clients: list[Client], data: bytes) -> Iterator[None]:
    """Let clients send data byte by byte, each when the one before has."""
    stop = threading.Event()

    def drip() -> None:
        for index in range(len(data)):
            for client in clients:
                with suppress(OSError):  # the server had enough
                    client.send(data[index : index + 1])
            if stop.wait(0.2):
                return

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_many_clients_that_drip_their_requests_keep_nobody_waiting(site: Site):
    with ExitStack() as stack:
        for begun, rest in SLOW.values():
            clients = [site.client().send(begun) for _ in range(40)]
            stack.enter_context(dripping(clients, rest))
        assert any(site.ninety_ninth() < 0.1 for _ in ATTEMPTS)


def test_a_request_that_is_not_whole_in_time_is_refused(site: Site):
    start = time.monotonic()
    clients = {name: site.client().send(begun) for name, (begun, _) in SLOW.items()}
    clients["a body they were told to send"].receive(b"HTTP/1.1 100 Continue\r\n\r\n")
    with ExitStack() as stack:
        for name, (_, rest) in SLOW.items():
            stack.enter_context(dripping([clients[name]], rest))
        assert clients["nothing"].receive_all() == b""
        clients["a head"].receive(b"HTTP/1.1 408 Request Timeout\r\n")
        assert HEADER_TIMEOUT - 0.1 < time.monotonic() - start < BODY_TIMEOUT
        for name in ("a body", "chunks", "a body they were told to send"):
            clients[name].receive(b"HTTP/1.1 408 Request Timeout\r\n")
        assert time.monotonic() - start > BODY_TIMEOUT - 0.1
        for client in clients.values():
            client.receive_all()


def test_a_larger_body_is_read_by_its_thread_for_as_long_and_no_longer(site: Site):
    length = 2 * MAX_BODY
    whole = site.client().send(post(f"Content-Length: {length}")).send(bytes(length))
    whole.receive(b"\r\n\r\n" + str(length).encode())
    start = time.monotonic()
    late = site.client().send(post(f"Content-Length: {length}")).send(bytes(1000))
    with dripping([late], bytes(1000)):
        assert late.receive_all() == b""
    assert BODY_TIMEOUT - 0.1 < time.monotonic() - start < BODY_TIMEOUT + 1


def test_a_head_that_never_ends_is_refused(site: Site):
    client = site.client().send(b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 12_000)
    assert b" 431 " in client.receive_all()


def test_bodies_that_are_not_whole_take_a_bounded_amount_of_memory(tmp_path: Path):
    length = 16 * 1024 * 1024
    with serving(tmp_path, max_body=str(length)) as site, site.visited(tmp_path / "gate"):
        before = site.running.memory("VmRSS")
        request = post(f"Content-Length: {length}") + bytes(length - 1)
        clients = [site.client() for _ in range(8)]
        for client in clients:
            with suppress(ConnectionError):  # one that was refused
                client.send(request)
        assert site.running.memory() - before < 8 * length
        refused = [client for client in clients if client.is_refused()]
        assert 2 < len(refused) < 8
        assert site.log().count('"status": 503, "reason": ') >= len(refused)
        assert site.seconds() < AT_ONCE


def test_what_is_refused_before_it_is_whole_leaves_a_line_and_nothing_of_the_request(
    tmp_path: Path,
):
    secret = "Authorization: Bearer hunter2"
    head = f"GET /?signature=hunter2 HTTP/1.1\r\n{secret}\r\n".encode()
    body = post(f"Content-Length: {MAX_BODY}", secret) + b"hunter2"
    with serving(tmp_path) as site, site.visited(tmp_path / "gate"):
        site.client().send(head + b"A: b\r\n" * 12_000).receive_all()
        for late in [site.client().send(head), site.client().send(body)]:
            late.receive_all()
        log = site.log()
    lines = [json.loads(line) for line in log.splitlines() if '"reason"' in line]
    late = "the request did not arrive in time"
    assert [(line["event"], line["client"], line["status"], line["reason"]) for line in lines] == [
        ("request", "127.0.0.1", 431, "the request's line and headers are too long"),
        ("request", "127.0.0.1", 408, late),
        ("request", "127.0.0.1", 408, late),
    ]
    assert "hunter2" not in log


# --- requests however they come -------------------------------------------------------------------


def test_requests_that_come_together_are_answered_in_their_order(site: Site):
    asked = QUICK + post("Content-Length: 3") + b"abc" + QUICK[:10]
    client = site.client().send(asked)
    client.receive(b"\r\n\r\nquick").receive(b"\r\n\r\n3")
    client.send(QUICK[10:]).receive(b"\r\n\r\nquick")


@pytest.mark.parametrize(
    "request_",
    [
        post("Content-Length: 5") + b"12345",
        post("Transfer-Encoding: chunked") + b"2\r\n12\r\n3\r\n345\r\n0\r\n\r\n",
    ],
    ids=["of a told length", "in chunks"],
)
def test_a_request_may_come_byte_by_byte(request_: bytes, site: Site):
    client = site.client()
    for _ in range(2):
        for index in range(len(request_)):
            client.send(request_[index : index + 1])
        client.receive(b"\r\n\r\n5")


SMALL_CHUNKS = b"1;a=b\r\nx\r\n" * 100


@pytest.mark.parametrize("path", ["/body", "/quick"])
@pytest.mark.parametrize("trailer", [b"", b"A: b\r\n"], ids=["", "a trailer"])
def test_what_follows_chunks_is_the_next_request(path: str, trailer: bytes, site: Site):
    asked = post("Transfer-Encoding: chunked", path=path) + SMALL_CHUNKS + b"0\r\n" + trailer
    client = site.client().send((asked + b"\r\n") * 3 + QUICK)
    for _ in range(3):
        client.receive(b"\r\n\r\n100" if path == "/body" else b"\r\n\r\nquick")
    client.receive(b"\r\n\r\nquick").send(QUICK).receive(b"\r\n\r\nquick")


def test_a_larger_body_in_chunks_is_the_applications_to_read(site: Site):
    chunk = b"%x\r\n%b\r\n" % (MAX_BODY - 1, bytes(MAX_BODY - 1))
    client = site.client().send(post("Transfer-Encoding: chunked") + SMALL_CHUNKS + chunk)
    client.send(SMALL_CHUNKS * 2 + b"0\r\n\r\n" + QUICK)
    client.receive(b"\r\n\r\n%d" % (MAX_BODY - 1 + 300)).receive(b"\r\n\r\nquick")


@pytest.mark.parametrize(
    "rest", [b"x\r\n", b"1 \r\na\r\n", b"1\r\nab\r\n", b"0\r\nHost: b\r\n\r\n"]
)
def test_chunks_that_become_odd_are_refused(rest: bytes, site: Site):
    asked = post("Transfer-Encoding: chunked") + SMALL_CHUNKS + rest
    answered = site.client().send(asked + QUICK).receive_all()
    assert b" 400 Bad Request" in answered
    assert b"quick" not in answered


def test_a_client_that_waits_to_be_told_to_go_on_is_told_once(site: Site):
    asked = ("Content-Length: 5", "Expect: 100-continue")
    client = site.client().send(post(*asked)).receive(b"HTTP/1.1 100 Continue\r\n\r\n")
    client.send(b"12345").receive(b"\r\n\r\n5")
    client.send(post(*asked, "Connection: close")).receive(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert client.send(b"12345").receive_all().startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_body_that_the_application_left_is_not_taken_for_a_request(site: Site):
    client = site.client().send(post("Content-Length: 500", path="/quick") + b"x" * 500)
    client.receive(b"quick").send(QUICK).receive(b"quick")


@pytest.mark.parametrize("odd", [b"GET / HTTP/1.1\n", post("Content-Length: x"), b"?\r\n\r\n"])
def test_an_odd_request_is_refused_at_once(odd: bytes, site: Site):
    start = time.monotonic()
    assert b" 400 Bad Request" in site.client().send(odd).receive_all()
    assert time.monotonic() - start < AT_ONCE


@pytest.mark.needs("openssl")
def test_requests_by_tls_are_answered_and_their_heads_have_a_deadline(tmp_path: Path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    asked = [
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "1",
        "-subj",
        "/CN=localhost",
    ]
    written = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", *asked, *written], check=True, capture_output=True)
    context = ssl.create_default_context(cafile=certificate)
    context.check_hostname = False
    by_tls = ["--keyfile", str(key), "--certfile", str(certificate)]
    with serving(tmp_path, *by_tls) as site, site.visited(tmp_path / "gate"):
        client = site.client()
        with context.wrap_socket(client.socket) as client.socket:
            for _ in range(2):
                client.send(QUICK).receive(b"quick")
            client.send(QUICK[:10])
            start = time.monotonic()
            assert client.receive_all() == b""
            assert HEADER_TIMEOUT - 0.1 < time.monotonic() - start < HEADER_TIMEOUT + 1


# --- what else must not cost a thread, a connection or the worker ---------------------------------


def test_when_there_are_too_many_connections_the_one_that_waits_longest_makes_room(tmp_path: Path):
    with (
        serving(tmp_path, "--worker-connections", "20") as site,
        site.visited(tmp_path / "gate"),
    ):
        # Answers that broke off must not count twice, or there would be room for more.
        for _ in range(20):
            site.asks(b"GET /breaks HTTP/1.1\r\n" + HOST + b"\r\n", b"\r\n\r\n1").socket.close()
        clients = [site.client().send(b"GET") for _ in range(40)]
        assert site.seconds() < AT_ONCE
        wait_until(clients[20].is_ended, "the oldest connection's end")
        still_there = [client for client in clients if not client.is_ended()]
        assert still_there == clients[-len(still_there) :]
        assert 15 < len(still_there) < 20


def test_a_busy_worker_leaves_clients_to_those_that_are_not(tmp_path: Path):
    with (
        serving(tmp_path, "--workers", "3", "--threads", "2") as site,
        site.visited(tmp_path / "gate"),
    ):
        wait_until(lambda: len(site.running.workers()) == 3, "three workers")
        assert len(site.hold(6)) == 6


def test_a_worker_without_descriptors_goes_on_when_it_has_some_again(tmp_path: Path):
    with serving(tmp_path) as site, site.visited(tmp_path / "gate"):
        site.seconds()
        (worker,) = site.running.workers()
        limits = resource.prlimit(worker, resource.RLIMIT_NOFILE)
        few = site.running.descriptors() + 2
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (few, limits[1]))
        clients = [site.client() for _ in range(10)]
        wait_until(lambda: "Cannot take a connection" in site.log(), "the want of descriptors")
        for client in clients:
            client.socket.close()
        assert site.seconds() < PATIENCE
        assert site.log().count("Cannot take a connection") < 20
        assert site.running.workers() == [worker]


def test_a_worker_without_threads_gives_connections_up_until_it_has_some_again(tmp_path: Path):
    # So few connections that those which are given up would be missed.
    few = ("--worker-connections", str(2 * THREADS))
    with serving(tmp_path, *few) as site, site.visited(tmp_path / "gate") as gate:
        (held,) = site.hold(1)
        (worker,) = site.running.workers()
        threads = site.running.threads()
        limits = resource.prlimit(worker, resource.RLIMIT_AS)
        room = site.running.memory("VmSize") + 1024 * 1024  # for anything but a thread's stack
        resource.prlimit(worker, resource.RLIMIT_AS, (room, limits[1]))
        for _ in range(2 * THREADS):
            assert site.client().send(QUICK).receive_all() == b""
        assert site.log().count("Cannot answer a connection: can't start new thread") == 2 * THREADS
        gate.touch()
        held.receive(b"2")
        wait_until(lambda: site.running.threads() < threads, "the end of the thread it had")
        assert site.seconds() < AT_ONCE
        resource.prlimit(worker, resource.RLIMIT_AS, limits)
        gate.unlink()
        assert len(site.hold(THREADS)) == THREADS
        assert site.running.workers() == [worker]
        assert "Socket error" not in site.log()  # by a thread that came upon one given up


@pytest.mark.parametrize("path", ["fails", "fails-without-status", "fails-at-once"])
def test_an_applications_oserror_before_its_answer_is_an_error_of_the_server(path: str, site: Site):
    with pytest.raises(HTTPError, match="500"):
        urlopen(site.running.url + path)


def test_an_application_that_failed_before_it_had_a_status_is_logged_without_one(site: Site):
    with pytest.raises(HTTPError):
        urlopen(site.running.url + "fails-without-status?logged")

    def told() -> list[dict]:
        lines = [json.loads(line) for line in site.log().splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("query") == "logged"]

    # gunicorn logs the application's response, which never began, and then its own.
    wait_until(lambda: len(told()) == 2, "both lines")
    assert [(line.get("status"), line["bytes"]) for line in told()] == [(None, 0), (500, 0)]


def test_an_application_that_exits_does_not_end_the_worker(site: Site):
    workers = site.running.workers()
    assert site.client().send(b"GET /exits HTTP/1.1\r\n" + HOST + b"\r\n").receive_all() == b""
    assert site.seconds() < AT_ONCE
    assert site.running.workers() == workers


# --- stopping -------------------------------------------------------------------------------------


def test_a_stop_serves_who_has_connected_and_refuses_who_comes_later(tmp_path: Path):
    with serving(tmp_path, "--keep-alive", "60") as site, site.visited(tmp_path / "gate") as gate:
        idle = site.asks()
        begun = site.client().send(QUICK[:10])
        held = site.hold(THREADS)
        waiting = site.client().send(QUICK)  # no thread is free, so nobody has taken it yet
        site.running.process.terminate()
        assert idle.receive_all() == b""
        wait_until(lambda: not listens(site.running.port), "the end of listening")
        begun.send(QUICK[10:])
        gate.touch()
        for client in held:
            assert client.receive_all() == b"2"
        for client in (begun, waiting):
            assert client.receive_all().endswith(b"quick")
        for client in (idle, *held, begun, waiting):
            client.socket.close()
        assert site.running.process.wait(PATIENCE) == 0


def test_a_stop_waits_for_nobody_who_asks_nothing(tmp_path: Path):
    with (
        serving(tmp_path, client_header_timeout="60") as site,
        site.visited(tmp_path / "gate"),
    ):
        site.client()
        site.asks()
        start = time.monotonic()
        site.running.process.terminate()
        assert site.running.process.wait(PATIENCE) == 0
        assert time.monotonic() - start < 10


def test_a_reload_serves_on_and_cuts_nothing(tmp_path: Path):
    with serving(tmp_path) as site, site.visited(tmp_path / "gate") as gate:
        (held,) = site.hold(1)
        (old,) = site.running.workers()
        site.running.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(site.running.workers()) == 2, "a new worker")
        assert site.ninety_ninth() < AT_ONCE
        gate.touch()
        assert held.receive_all() == b"2"
        held.socket.close()
        wait_until(lambda: old not in site.running.workers(), "the old worker's end")
        assert site.seconds() < AT_ONCE


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT])
def test_a_quick_stop_waits_for_no_thread_and_no_lock(how: signal.Signals, tmp_path: Path):
    config = tmp_path / "locked.py"
    config.write_text(
        "from tar_gateway.gunicorn_conf import *\n"
        "def pre_request(worker, req):\n"
        "    worker.tpool._shutdown_lock.acquire()\n"  # as a submit does that is interrupted
    )
    with serving(tmp_path, "--config", str(config)) as site, site.visited(tmp_path / "gate"):
        held = site.hold(1)
        start = time.monotonic()
        site.running.process.send_signal(how)
        site.running.process.wait(PATIENCE)
        assert time.monotonic() - start < 3
        assert held[0].is_ended()

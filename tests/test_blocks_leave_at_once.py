"""Each block reaches the client when it is there, whatever the size of its file."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from statistics import quantiles
from urllib.parse import unquote, urlencode

import pytest

from tar_gateway.layout import Borrowed, Layout, Member
from tests.servers import gateway

PIECE = 10 * 1024
PAUSE = 0.1
ALLOWED_LAG = 0.05
DATE = "Sun, 13 Sep 2020 12:26:40 GMT"


class Trickle(BaseHTTPRequestHandler):
    """Gives 10 KiB every 100 ms, and notes when each piece was sent."""

    protocol_version = "HTTP/1.1"
    sent: dict[str, list[float]]
    sizes: dict[str, int]

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(self.sizes[self.name]))
        self.send_header("Last-Modified", DATE)
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        for _ in range(self.sizes[self.name] // PIECE):
            time.sleep(PAUSE)
            self.sent[self.name].append(time.monotonic())
            self.wfile.write(bytes(PIECE))

    @property
    def name(self) -> str:
        return unquote(self.path).removeprefix("/")

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def trickling(sizes: dict[str, int]) -> Iterator[tuple[str, dict[str, list[float]]]]:
    sent: dict[str, list[float]] = {name: [] for name in sizes}
    handler = type("Handler", (Trickle,), {"sent": sent, "sizes": sizes})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", sent
        finally:
            server.shutdown()
            thread.join()


def arrivals(port: int, target: str) -> list[tuple[int, float]]:
    """Download, and note after every read how many bytes of the body were there and when."""
    noted = []
    with socket.create_connection(("127.0.0.1", port)) as client:
        request = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        client.sendall(request.encode())
        received = b""
        while b"\r\n\r\n" not in received:
            received += client.recv(65536)
        count = len(received.partition(b"\r\n\r\n")[2])
        noted.append((count, time.monotonic()))
        while block := client.recv(65536):
            count += len(block)
            noted.append((count, time.monotonic()))
    return noted


@pytest.mark.parametrize("worker_class", ["gthread", "gevent"])
@pytest.mark.parametrize(
    "sizes",
    [{"large": 20 * PIECE}, {f"small-{n}": 2 * PIECE for n in range(10)}],
    ids=["one large file", "many small files"],
)
def test_each_piece_arrives_within_fifty_milliseconds(sizes, worker_class, tmp_path, capsys):
    layout = Layout([Member(name, size, 1_600_000_000) for name, size in sizes.items()])
    with (
        trickling(sizes) as (upstream, sent),
        gateway(upstream, tmp_path, "--worker-class", worker_class) as running,
    ):
        target = "/?" + urlencode([("bundle", name) for name in sizes])
        noted = arrivals(running.port, target)
    lags = []
    position = 0
    turn = 0.0  # when the last piece before was sent: no later one may overtake it
    names = list(sizes)
    for segment in layout.slice(0, layout.size):
        if isinstance(segment, Borrowed):
            for number, moment in enumerate(sent[names[segment.index]], start=1):
                end = position + number * PIECE
                arrived = next(at for count, at in noted if count >= end)
                turn = max(turn, moment)
                lags.append(arrived - turn)
        position += len(segment)
    assert len(lags) == 20
    ninetieth = quantiles(lags, n=10)[-1]
    with capsys.disabled():
        print(f"\n  lag, 90th percentile, {worker_class}: {ninetieth * 1000:.1f} ms")
    assert ninetieth < ALLOWED_LAG

"""Each block reaches the client when it is there, whatever the size of its file."""

import re
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import quantiles
from urllib.parse import unquote, urlencode

import pytest
from backports import zstd

from tar_gateway.archive.format import Borrowed, Member
from tar_gateway.archive.layout import Layout
from tar_gateway.delivery.fetch import LARGEST, ReadSize
from tests.support.servers import WORKERS, gateway

pytestmark = pytest.mark.alone

PIECE = 10 * 1024
PAUSE = 0.1
# Bytes that come at full speed first: twice what reads grow over, as some blocks may be slow.
GROWN = 24 * 1024 * 1024 // PIECE * PIECE
ALLOWED_LAG = 0.05
DATE = "Sun, 13 Sep 2020 12:26:40 GMT"


class Trickle(BaseHTTPRequestHandler):
    """Gives 10 KiB every 100 ms, and notes when each piece of a file was first sent.

    The first ``at_once`` bytes of a file come at full speed and are no pieces.
    """

    protocol_version = "HTTP/1.1"
    sent: dict[str, dict[int, float]]
    sizes: dict[str, int]
    at_once: int

    def do_HEAD(self) -> None:
        self.begin()

    def do_GET(self) -> None:
        position, stop = self.begin()
        if position < self.at_once:
            self.wfile.write(bytes(min(stop, self.at_once) - position))
            position = self.at_once
        while position < stop:
            time.sleep(PAUSE)
            end = min(stop, (position // PIECE + 1) * PIECE)
            self.sent[self.name].setdefault(end, time.monotonic())
            self.wfile.write(bytes(end - position))
            position = end

    def begin(self) -> tuple[int, int]:
        """Send the head, and tell which bytes belong behind it."""
        size = self.sizes[self.name]
        start, stop = 0, size
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if asked:
            start, stop = int(asked[1]), min(int(asked[2]) + 1, size)
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        self.send_header("Content-Length", str(stop - start))
        self.send_header("Last-Modified", DATE)
        self.end_headers()
        return start, stop

    @property
    def name(self) -> str:
        return unquote(self.path).removeprefix("/")

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128  # fewer at once would be answered a second late


@contextmanager
def trickling(
    sizes: dict[str, int], at_once: int
) -> Iterator[tuple[str, dict[str, dict[int, float]]]]:
    sent: dict[str, dict[int, float]] = {name: {} for name in sizes}
    handler = type("Handler", (Trickle,), {"sent": sent, "sizes": sizes, "at_once": at_once})
    with Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", sent
        finally:
            server.shutdown()
            thread.join()


def arrivals(
    port: int, target: str, read: Callable[[bytes], bytes] = bytes
) -> list[tuple[int, float]]:
    """Download, and note after every block how many bytes of the archive were there and when.

    ``read`` decompresses what has come.
    """
    noted, count = [], 0
    with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("GET", target)
        answer = connection.getresponse()
        while block := answer.read1(65536):
            count += len(read(block))
            noted.append((count, time.monotonic()))
    return noted


def test_reads_have_grown_to_the_largest_by_half_of_what_comes_at_full_speed():
    size = ReadSize()
    sent = 0
    while size.now < LARGEST:
        sent += size.now
        size.sent(size.now, 0.0)
    assert sent <= GROWN // 2 + PIECE


# Files' sizes, and bytes of a file that come at full speed.
TRICKLES = {
    "one large file": ({"large": 20 * PIECE}, 0, "tar"),
    "many small files": ({f"small-{n}": 2 * PIECE for n in range(10)}, 0, "tar"),
    "after reads have grown": ({"large": GROWN + 20 * PIECE}, GROWN, "tar"),
    "compressed by gzip": ({"large": 20 * PIECE}, 0, "tar.gz"),
    "compressed by zstd": ({"large": 20 * PIECE}, 0, "tar.zst"),
}
READERS = {
    "tar": lambda: bytes,
    "tar.gz": lambda: zlib.decompressobj(31).decompress,
    "tar.zst": lambda: zstd.ZstdDecompressor().decompress,
}


def lags(sizes: dict[str, int], at_once: int, format: str, worker: str, place: Path) -> list[float]:
    """Download files that trickle, and give the seconds that each piece took."""
    layout = Layout([Member(name, size, 1_600_000_000) for name, size in sizes.items()])
    with (
        trickling(sizes, at_once) as (upstream, sent),
        gateway(upstream, place, *WORKERS[worker]) as running,
    ):
        named = [("bundle", name) for name in sizes]
        target = "/?" + urlencode([*named, ("format", format)])
        noted = arrivals(running.port, target, READERS[format]())
    taken = []
    position = 0
    turn = 0.0  # when the last piece before was sent: no later one may overtake it
    names = list(sizes)
    for segment in layout.slice(0, layout.size):
        if isinstance(segment, Borrowed):
            for end, moment in sorted(sent[names[segment.index]].items()):
                arrived = next(at for count, at in noted if count >= position + end)
                turn = max(turn, moment)
                taken.append(arrived - turn)
        position += len(segment)
    return taken


@pytest.mark.parametrize("worker", ["threads", "gevent"])
def test_each_piece_arrives_within_fifty_milliseconds(worker: str, tmp_path: Path, capsys):
    with ThreadPoolExecutor(len(TRICKLES)) as clients:  # who mostly wait, each at its own gateway
        begun = {
            name: clients.submit(lags, *trickle, worker, tmp_path / name)
            for name, trickle in TRICKLES.items()
        }
    for name, taken in begun.items():
        assert len(taken.result()) >= 20
        ninetieth = quantiles(taken.result(), n=10)[-1]
        with capsys.disabled():
            print(f"\n  lag, 90th percentile, {name}, {worker}: {ninetieth * 1000:.1f} ms")
        assert ninetieth < ALLOWED_LAG, name

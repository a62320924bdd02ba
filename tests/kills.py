"""Replicas that are killed under downloads, and a client that goes on at another one.

``python -m tests.kills --kills N --seed S`` prints what came of it; with ``--balanced`` there are
two replicas behind HAProxy, as `deploy/` has it, and the client knows nothing of them. With
``--bucket`` the files are in a bucket of moto's, which checks every signature.
"""

import argparse
import http.client
import io
import os
import random
import socket
import sys
import tarfile
import tempfile
import time
import zipfile
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import urlencode

from tests.support.fleet import fleet
from tests.support.servers import PATIENCE, Running, gateway, nginx
from tests.support.stores import moto

SIZES = (700, 12_000_000, 0, 1, *range(20_000, 20_020), 512, 17_000_003, 513)
FILES = {f"{index}.bin": random.Random(index).randbytes(size) for index, size in enumerate(SIZES)}
FORMATS = ("tar", "zip")
READY = 4  # replicas: two would do, but then each kill would wait for a start
BUFFER = 32 * 1024  # bytes; what the client's system takes in advance can't be cut any more


class Replicas:
    """Gateways in front of one upstream: processes that share nothing, and stand ready."""

    def __init__(self, upstream: str, place: Path, **settings: str) -> None:
        self._upstream = upstream
        self._settings = settings
        self._place = place
        self._running = ExitStack()
        self._starters = self._running.enter_context(ThreadPoolExecutor(2))
        self._ready: deque[Future[Running]] = deque()
        self._started = 0
        for _ in range(READY):
            self._start_another()

    @property
    def port(self) -> int:
        """Where clients are sent; elsewhere once that replica was killed."""
        return self._ready[0].result().port

    def kill(self) -> None:
        """Kill the processes of the one that clients are sent to, and let another stand ready."""
        self._ready[0].result().kill()
        self._ready.popleft()
        self._start_another()

    def close(self) -> None:
        """End all of them."""
        for ready in self._ready:
            if ready.exception() is None:
                ready.result().kill()
        self._running.close()

    def _start_another(self) -> None:
        self._started += 1
        self._ready.append(self._starters.submit(self._start, self._place / str(self._started)))

    def _start(self, place: Path) -> Running:
        return self._running.enter_context(gateway(self._upstream, place, **self._settings))


class Killable(Protocol):
    """What clients download from: a port, and a way to kill whoever answers there."""

    @property
    def port(self) -> int: ...

    def kill(self) -> None: ...


class Lost(Exception):
    """A download can't be gone on with: its client would have to begin again, or give up."""


@dataclass
class Client:
    """One download, and what has come of it so far."""

    format: str = "tar"
    received: bytearray = field(default_factory=bytearray)
    etag: str | None = None
    size: int | None = None  # of the whole; unknown until a response tells

    @property
    def complete(self) -> bool:
        return len(self.received) == self.size

    def download(self, replicas: Killable, kill_after: int | None = None) -> None:
        """Ask for what is missing; kill the replica that gives it after so many bytes.

        Raises `Lost` when it was not the kill that ended the download.
        """
        headers = {}
        if self.etag is not None:
            headers = {"Range": f"bytes={len(self.received)}-", "If-Range": self.etag}
        killed = False
        with closing(_connect(replicas.port)) as connection:
            try:
                connection.request("GET", _target(self.format), headers=headers)
                if kill_after == 0:
                    replicas.kill()
                    killed = True
                with connection.getresponse() as answer:
                    self._begin(answer)
                    if kill_after:
                        self._read(answer, kill_after)
                        replicas.kill()
                        killed = True
                    self._read(answer)
            except (OSError, http.client.HTTPException) as error:
                if not killed:
                    raise Lost(f"a living replica failed: {error!r}") from error

    def _begin(self, answer: http.client.HTTPResponse) -> None:
        """Check that a response is the whole, or exactly what is missing of the same version."""
        there = len(self.received)
        if self.etag is None and answer.status == 200:
            self.etag = answer.headers["ETag"]
            self.size = answer.length
            return
        span = f"bytes {there}-{(self.size or 0) - 1}/{self.size}"
        told = (answer.status, answer.headers["ETag"], answer.headers["Content-Range"])
        if told != (206, self.etag, span):
            raise Lost(f"{told} instead of what is missing from {there} on")

    def _read(self, answer: http.client.HTTPResponse, count: int | None = None) -> None:
        """Read so many bytes, or to the end."""
        while block := answer.read(BUFFER if count is None else min(BUFFER, count)):
            self.received += block
            if count is not None:
                count -= len(block)


def _target(format: str) -> str:
    return "/?" + urlencode([*(("bundle", name) for name in FILES), ("format", format)])


def _connect(port: int) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.sock = socket.socket()
    connection.sock.settimeout(PATIENCE)
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    connection.sock.connect(("127.0.0.1", port))
    return connection


@dataclass
class Outcome:
    """What came of downloads whose replicas were killed."""

    downloads: int = 0
    kills: int = 0
    cut: int = 0  # kills that the client noticed; others came when all was on its way already
    lost: list[str] = field(default_factory=list)
    corrupted: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"downloads: {self.downloads}, kills: {self.kills}, cut short: {self.cut}, "
            f"lost: {len(self.lost)}, corrupted: {len(self.corrupted)}"
        )


def run(
    kills: int, seed: int, *, balanced: bool = False, bucket: bool = False, format: str = "tar"
) -> Outcome:
    """Kill so many replicas under downloads, one to three times each.

    The client goes to the next replica by itself, or always to a ``balanced`` fleet's HAProxy.
    """
    outcome = Outcome()
    choose = random.Random(seed)
    with _of_a_bucket() if bucket else _replicas(balanced=balanced) as replicas:
        right = _whole(replicas, format)
        while outcome.kills < kills:
            outcome.downloads += 1
            name = f"download {outcome.downloads}"
            client = Client(format)
            try:
                for _ in range(min(choose.randint(1, 3), kills - outcome.kills)):
                    if client.complete:
                        break
                    outcome.kills += 1
                    left = len(right) - len(client.received)
                    client.download(replicas, kill_after=_moment(choose, left))
                    outcome.cut += not client.complete
                if not client.complete:
                    client.download(replicas)
            except Lost as error:
                outcome.lost.append(f"{name}: {error}")
            if not right.startswith(client.received):
                outcome.corrupted.append(f"{name}: {client.etag}")
            elif not client.complete:
                outcome.lost.append(f"{name}: {len(client.received)} of {len(right)} bytes")
    return outcome


def _moment(choose: random.Random, left: int) -> int:
    edges = [0, 1, 511, 512, 513, left - 1]
    return min(left, choose.choice(edges) if choose.random() < 0.2 else choose.randint(0, left))


@contextmanager
def _replicas(*, balanced: bool) -> Iterator[Killable]:
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        root = place / "files"
        root.mkdir()
        for name, data in FILES.items():
            (root / name).write_bytes(data)
            os.utime(root / name, (1_600_000_000, 1_600_000_000))
        with nginx(root, place / "nginx") as url:
            if balanced:
                with fleet(url, place) as killable:
                    yield killable
            else:
                with closing(Replicas(url, place)) as killable:
                    yield killable


@contextmanager
def _of_a_bucket() -> Iterator[Killable]:
    with tempfile.TemporaryDirectory() as temporary, moto() as store:
        store.fill("files", FILES, ChecksumAlgorithm="CRC32")
        os.environ.update(store.keys.environment)
        told = {"s3_endpoint": store.url, "s3_public": "yes"}
        with closing(Replicas("s3://files/", Path(temporary), **told)) as killable:
            yield killable


def _whole(replicas: Killable, format: str) -> bytes:
    """Download the archive undisturbed, and see that it holds the files."""
    client = Client(format)
    client.download(replicas)
    whole = bytes(client.received)
    if format == "zip":
        with zipfile.ZipFile(io.BytesIO(whole)) as archive:
            held = {name: archive.read(name) for name in archive.namelist()}
    else:
        with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
            held = {member.name: tar.extractfile(member).read() for member in tar}
    assert held == FILES
    return whole


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--balanced", action="store_true", help="two replicas behind HAProxy")
    parser.add_argument("--bucket", action="store_true", help="the files are in a bucket")
    parser.add_argument("--format", choices=FORMATS, default="tar")
    options = parser.parse_args(arguments)
    before = time.monotonic()
    outcome = run(
        options.kills,
        options.seed,
        balanced=options.balanced,
        bucket=options.bucket,
        format=options.format,
    )
    for what in [*outcome.corrupted, *outcome.lost]:
        print(what)
    print(f"seed {options.seed}, {time.monotonic() - before:.0f} s, {outcome}")
    return 1 if outcome.lost or outcome.corrupted else 0


if __name__ == "__main__":
    sys.exit(main())

"""A rolling restart under downloads: two replicas behind HAProxy, replaced one after the other.

``python -m tests.rolling --downloads N`` keeps N downloads running meanwhile, and prints what came
of them. None of the clients asks twice.
"""

import argparse
import http.client
import io
import os
import random
import sys
import tarfile
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

from tests.support.fleet import Fleet, fleet
from tests.support.servers import PATIENCE, nginx

# Larger than what systems and HAProxy take in for a client that reads slowly.
SIZES = {"a.bin": 6_000_000, "b.bin": 2_000_000}
FILES = {name: random.Random(name).randbytes(size) for name, size in SIZES.items()}
TARGET = "/?" + urlencode([("bundle", name) for name in FILES])
SECONDS = (2.0, 5.0)  # that a download is made to take
BLOCK = 64 * 1024


@dataclass
class Outcome:
    """What came of the downloads, and how many each replica had when it was told to end."""

    whole: int = 0
    refused: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    answering: list[int] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"whole: {self.whole}, running when a replica was stopped: {self.answering}, "
            f"refused: {len(self.refused)}, lost: {len(self.lost)}"
        )


class Clients:
    """Downloads that run at the same time, each followed by another until it is over."""

    def __init__(self, port: int, right: bytes) -> None:
        self.outcome = Outcome()
        self.over = threading.Event()
        self._begun = threading.Semaphore(0)
        self._port = port
        self._right = right
        self._lock = threading.Lock()

    def wait_until_begun(self, count: int) -> None:
        """Wait until so many downloads have begun."""
        for _ in range(count):
            assert self._begun.acquire(timeout=PATIENCE), "no download begins"

    def run(self, choose: random.Random) -> None:
        """Download again and again."""
        while not self.over.is_set():
            refused, lost = self._download(choose.uniform(*SECONDS))
            with self._lock:
                self.outcome.whole += not (refused or lost)
                self.outcome.refused += refused
                self.outcome.lost += lost

    def _download(self, seconds: float) -> tuple[list[str], list[str]]:
        """Download once; gives why it was refused, or lost."""
        with closing(
            http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
        ) as connection:
            try:
                connection.request("GET", TARGET)
                answer = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                return [repr(error)], []
            with answer:
                if answer.status != 200:
                    return [f"{answer.status}: {answer.read()!r}"], []
                self._begun.release()
                try:
                    received = _read(answer, seconds * BLOCK / len(self._right))
                except (OSError, http.client.HTTPException) as error:
                    return [], [repr(error)]
        right = received == self._right
        return [], [] if right else [f"{len(received)} bytes, which are not the archive"]


def _read(answer: http.client.HTTPResponse, pause: float) -> bytes:
    received = bytearray()
    began = time.monotonic()
    while block := answer.read(BLOCK):
        received += block
        time.sleep(max(0, began + len(received) / BLOCK * pause - time.monotonic()))
    return bytes(received)


def run(downloads: int, seed: int) -> Outcome:
    """Replace both replicas while so many downloads are running."""
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        root = place / "files"
        root.mkdir()
        for name, data in FILES.items():
            (root / name).write_bytes(data)
            os.utime(root / name, (1_600_000_000, 1_600_000_000))
        with nginx(root, place / "nginx") as upstream, fleet(upstream, place) as replicas:
            clients = Clients(replicas.port, _whole(replicas))
            with ThreadPoolExecutor(downloads) as threads:
                running = [
                    threads.submit(clients.run, random.Random(f"{seed} {index}"))
                    for index in range(downloads)
                ]
                try:
                    for name in replicas.names:
                        clients.wait_until_begun(downloads)
                        clients.outcome.answering.append(replicas.restart(name))
                finally:
                    clients.over.set()
                for each in running:
                    each.result()
            return clients.outcome


def _whole(replicas: Fleet) -> bytes:
    """Download the archive undisturbed, and see that it holds the files."""
    connection = http.client.HTTPConnection("127.0.0.1", replicas.port, timeout=PATIENCE)
    with closing(connection):
        connection.request("GET", TARGET)
        with connection.getresponse() as answer:
            whole = answer.read()
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        assert {each.name: tar.extractfile(each).read() for each in tar} == FILES
    return whole


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.rolling", description=__doc__)
    parser.add_argument("--downloads", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    before = time.monotonic()
    outcome = run(options.downloads, options.seed)
    for what, count in Counter([*outcome.refused, *outcome.lost]).items():
        print(f"{count} x {what}")
    print(f"{options.downloads} at a time, {time.monotonic() - before:.0f} s, {outcome}")
    return 1 if outcome.refused or outcome.lost or not all(outcome.answering) else 0


if __name__ == "__main__":
    sys.exit(main())

"""A gateway under load and faults for as long as you like: what it holds must not grow.

``python -m tests.soak --minutes N`` prints a line a round. Each round ends with a quiet moment in
which memory, descriptors and threads are read, so that they can be compared.
"""

import argparse
import http.client
import io
import json
import random
import socket
import statistics
import struct
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from tests.support.scripted import Fault, File, Scripted, Wire, answer, chunked, close, reset
from tests.support.servers import PATIENCE, Running, gateway

MIB = 1024 * 1024
SIZES = {"empty": 0, "one": 1, "odd": 513, "small": 65_000, "middle": 700_000, "large": 3_000_001}
FILES = {name: random.Random(name).randbytes(size) for name, size in SIZES.items()}
UNTOLD = random.Random("untold").randbytes(150_000)  # its length is told by nobody
TARGET = "/?" + urlencode([("bundle", name) for name in FILES])
CLIENTS = 12
WARMING = 36  # clients of the first round, so that pools are as full as they will ever be
ROUNDS = 20
# So few threads that ask ahead that the first round starts them all.
KEEP_ALIVE = 0.5  # seconds
SETTINGS = {
    "read_timeout": "0.5",
    "retry_pause": "0.01",
    "fetch_parallel": "16",
    "keep_alive": str(KEEP_ALIVE),
}

# What may grow in the second half of a run, by the straight line through its rounds. In the first
# half allocators and pools find what they need.
GROWTH = {"MiB": 3.0, "descriptors": 8.0, "threads": 4.0}


class Wrong(Exception):
    """A response that ended cleanly is not what was asked for."""


class Site:
    """A gateway, an upstream that fails now and then, and clients of all kinds."""

    def __init__(self, running: Running, upstream: Scripted) -> None:
        self.running = running
        self._upstream = upstream
        self._whole = self._download(TARGET)[1]
        with tarfile.open(fileobj=io.BytesIO(self._whole)) as tar:
            assert {each.name: tar.extractfile(each).read() for each in tar} == FILES
        self._untold = self._download("/?bundle=untold&bundle=one")[1]
        assert UNTOLD in self._untold
        self._kinds = (self._all, self._all_by_post, self._part, self._slow, self._leave)
        self._kinds += (self._plain, self._spooled, self._missing, self._head)

    def client(self, choose: random.Random, until: float) -> Counter[str]:
        """Download in all ways, one after the other; tells how often with which outcome."""
        outcomes: Counter[str] = Counter()
        while time.monotonic() < until:
            kind = choose.choice(self._kinds)
            try:
                outcome = kind(choose)
            except (OSError, http.client.HTTPException):
                outcome = "broken"
            except Wrong as wrong:
                outcome = f"WRONG: {kind.__name__} {wrong}"
            outcomes[outcome] += 1
        return outcomes

    def fail(self, choose: random.Random, until: float) -> None:
        """Let the upstream fail in all ways, one after the other."""
        while time.monotonic() < until:
            self._fail_once(choose, choose.choice(list(FILES)))
            time.sleep(choose.random() * 0.2)
        for name, data in FILES.items():
            self._upstream.break_at("/" + name)
            self._upstream.on("/" + name, File(data))

    def _fail_once(self, choose: random.Random, name: str) -> None:
        path, file = f"/{name}", File(FILES[name])
        soon = self._upstream.given[path] + choose.randint(0, 2 * len(file.data))
        match choose.randrange(6):
            case 0:
                self._upstream.break_at(path, Fault(soon, reset))
            case 1:
                self._upstream.break_at(path, Fault(soon, close))
            case 2:
                self._upstream.break_at(path, Fault(soon, _pause))
            case 3:
                self._upstream.on(path, answer(b"", status="503 Busy"), file)
            case 4:
                self._upstream.on(path, *[reset] * 4, file)
            case _:
                self._upstream.cut()

    def settle(self) -> None:
        """Wait until nothing moves any more, and idle connections to the upstream are closed."""
        time.sleep(KEEP_ALIVE)
        self._download("/" + next(iter(FILES)))  # what is released after it closes them
        deadline = time.monotonic() + PATIENCE
        before, since = -1, time.monotonic()
        while time.monotonic() < min(since + 0.5, deadline):
            now = self.running.descriptors()
            if now != before:
                before, since = now, time.monotonic()
            time.sleep(0.05)
        # The harness's own notes are no part of what is measured; they would fill the machine.
        self._upstream.requests.clear()

    def _download(self, target: str, method: str = "GET", **request) -> tuple[int, bytes]:
        with closing(self._connection()) as connection:
            connection.request(method, target, **request)
            with connection.getresponse() as given:
                return given.status, given.read()

    def _connection(self, buffer: int | None = None) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(self.running.host, self.running.port)
        connection.sock = socket.socket()
        if buffer:
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        connection.sock.settimeout(PATIENCE)
        connection.sock.connect((self.running.host, self.running.port))
        return connection

    def _all(self, choose: random.Random) -> str:
        return _judge(self._download(TARGET), 200, self._whole)

    def _all_by_post(self, choose: random.Random) -> str:
        headers = {"Content-Type": "application/json"}
        body = json.dumps({"members": list(FILES)})
        given = self._download("/?bundle", "POST", body=body, headers=headers)
        return _judge(given, 200, self._whole)

    def _part(self, choose: random.Random) -> str:
        start = choose.randrange(len(self._whole))
        stop = choose.randint(start + 1, len(self._whole))
        given = self._download(TARGET, headers={"Range": f"bytes={start}-{stop - 1}"})
        return _judge(given, 206, self._whole[start:stop])

    def _slow(self, choose: random.Random) -> str:
        with closing(self._connection(16 * 1024)) as connection:
            connection.request("GET", TARGET)
            with connection.getresponse() as given:
                told = given.length
                blocks = []
                for _ in range(20):
                    blocks.append(given.read(16 * 1024))
                    time.sleep(0.05)
                received = b"".join([*blocks, given.read()])
                # Whoever reads by pieces is not told of an early end.
                if len(received) != told:
                    return "broken"
                return _judge((given.status, received), 200, self._whole)

    def _leave(self, choose: random.Random) -> str:
        with closing(self._connection(16 * 1024)) as connection:
            connection.request("GET", TARGET)
            if choose.random() < 0.7:
                with connection.getresponse() as given:
                    given.read(choose.randint(0, 300_000))
            if choose.random() < 0.5:
                linger = struct.pack("ii", 1, 0)
                connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        return "left"

    def _plain(self, choose: random.Random) -> str:
        name = choose.choice(list(FILES))
        given = self._download(f"/{name}")
        # A plain file that breaks before its first byte is gunicorn's 500.
        return "refused" if given[0] == 500 else _judge(given, 200, FILES[name])

    def _spooled(self, choose: random.Random) -> str:
        return _judge(self._download("/?bundle=untold&bundle=one"), 200, self._untold)

    def _missing(self, choose: random.Random) -> str:
        status, _ = self._download(TARGET + "&bundle=missing")
        if status not in {404, 502, 503, 504}:
            raise Wrong(status)
        return "refused"

    def _head(self, choose: random.Random) -> str:
        return _judge(self._download(TARGET, "HEAD"), 200, b"")


def _pause(_wire: Wire) -> None:
    time.sleep(0.7)  # longer than the gateway waits for a read


def _judge(given: tuple[int, bytes], status: int, right: bytes) -> str:
    if given[0] in {502, 503, 504}:
        return "refused"
    if given != (status, right):
        raise Wrong(f"{given[0]}, {len(given[1])} bytes")
    return "right"


@dataclass(frozen=True)
class Round:
    """What a worker held in the quiet moment after a round, and what its clients got until then."""

    held: dict[str, float]
    outcomes: Counter[str]


def run(minutes: float, seed: int, rounds: int = ROUNDS) -> list[Round]:
    """Run so many rounds of load and print each. The time is theirs all together."""
    done: list[Round] = []
    scripts = {f"/{name}": File(data) for name, data in FILES.items()}
    with (
        tempfile.TemporaryDirectory() as place,
        Scripted(scripts | {"/untold": chunked(UNTOLD)}) as upstream,
        gateway(upstream.url, Path(place), **SETTINGS) as running,
        ThreadPoolExecutor(WARMING + 1) as threads,
    ):
        site = Site(running, upstream)
        print("round      MiB  descriptors  threads   right  refused  broken  left")
        for number in range(1, rounds + 1):
            until = time.monotonic() + minutes * 60 / rounds
            count = CLIENTS if done else WARMING
            choices = [random.Random(f"{seed} {number} {index}") for index in range(count + 1)]
            failing = threads.submit(site.fail, choices.pop(), until)
            clients = [threads.submit(site.client, choose, until) for choose in choices]
            outcomes = sum((client.result() for client in clients), Counter())
            failing.result()
            site.settle()
            done.append(Round(_held(running), outcomes))
            print(_line(number, done[-1]), flush=True)
    return done


def _held(running: Running) -> dict[str, float]:
    (worker,) = running.workers()
    return {
        "MiB": running.memory("VmRSS") / MIB,
        "descriptors": running.descriptors(),
        "threads": len(list(Path(f"/proc/{worker}/task").iterdir())),
    }


def _line(number: int, done: Round) -> str:
    held, outcomes = done.held, done.outcomes
    return (
        f"{number:5} {held['MiB']:8.1f} {held['descriptors']:12} {held['threads']:8}"
        f" {outcomes['right']:7} {outcomes['refused']:8} {outcomes['broken']:7}"
        f" {outcomes['left']:5}"
    )


def growth(values: Sequence[float]) -> float:
    """Give what values grow by from first to last, by the straight line that fits them best."""
    slope, _ = statistics.linear_regression(range(len(values)), values)
    return slope * (len(values) - 1)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    rounds = run(options.minutes, options.seed, options.rounds)
    half = rounds[len(rounds) // 2 :]
    grown = {what: growth([each.held[what] for each in half]) for what in GROWTH}
    total = sum((each.outcomes for each in rounds), Counter())
    print("growth: " + ", ".join(f"{grown[what]:+.1f} {what}" for what in GROWTH))
    print(f"seed {options.seed}, {total.total()} requests: {dict(total)}")
    wrong = [what for what in total if what.startswith("WRONG")]
    too_much = [what for what, bound in GROWTH.items() if grown[what] > bound]
    if too_much:
        print(f"what grew too much: {', '.join(too_much)}")
    return 1 if wrong or too_much or not total["right"] else 0


if __name__ == "__main__":
    sys.exit(main())

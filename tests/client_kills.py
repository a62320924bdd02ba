"""The client that is killed, and gateways that are killed under it, at random bytes.

``python -m tests.client_kills --kills N --seed S`` prints what came of it, for a directory that is
extracted, and for a file. Nothing may be lost, nothing wrong, and no byte may come again that the
client has noted.
"""

import argparse
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.kills import FILES, Replicas
from tests.support.servers import gateway, nginx

TARGET = "/?" + "&".join(f"bundle={name}" for name in FILES)

COMMAND = [sys.executable, "-m", "tar_gateway.cli", "get", "--quiet"]
SIZE = sum(len(data) for data in FILES.values())
RATE = 24 * 1024 * 1024  # bytes a second: so that a kill meets a client in the middle of it


class Relay:
    """Passes connections on to ``port()``, at some bytes a second, and counts what comes back."""

    def __init__(self, port: Callable[[], int]) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._count = 0
        self._trap: tuple[int, Callable[[], object]] | None = None
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def after(self, count: int, then: Callable[[], object]) -> None:
        """Count anew, and call something once so many bytes have come."""
        with self._lock:
            self._count, self._trap = 0, (count, then)

    def counted(self) -> int:
        """Return how many bytes have come, and count anew."""
        with self._lock:
            count, self._count, self._trap = self._count, 0, None
            return count

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError), ExitStack() as stack:
            # Closing alone sends nothing while the other thread waits for bytes of it.
            stack.callback(client.shutdown, socket.SHUT_RDWR)
            server = stack.enter_context(socket.create_connection(("127.0.0.1", self._port())))
            threading.Thread(target=self._forth, args=(client, server), daemon=True).start()
            self._back(server, client)

    @staticmethod
    def _forth(client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while block := client.recv(65536):
                server.sendall(block)
            server.shutdown(socket.SHUT_WR)

    def _back(self, server: socket.socket, client: socket.socket) -> None:
        while block := server.recv(65536):
            self._pass(client, block)
            time.sleep(len(block) / RATE)

    def _pass(self, client: socket.socket, block: bytes) -> None:
        with self._lock:
            trap, then = self._trap, None
            if trap is not None and self._count + len(block) >= trap[0]:
                block, then = block[: trap[0] - self._count], trap[1]
                self._trap = None
            self._count += len(block)
        client.sendall(block)
        if then is not None:
            then()
            raise ConnectionAbortedError


@dataclass
class Outcome:
    """What came of downloads that were disturbed."""

    downloads: int = 0
    kills: int = 0
    met: int = 0  # kills that met the client or the server at work
    again: int = 0  # bytes that came more than once
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"downloads: {self.downloads}, kills: {self.kills}, in the middle: {self.met}, "
            f"bytes again: {self.again / SIZE / max(self.kills, 1):.1%} a kill, "
            f"lost: {len(self.lost)}, wrong: {len(self.wrong)}"
        )


@dataclass
class Trial:
    """One download, and what has come of it so far."""

    url: str
    place: Path
    kind: str
    more: Sequence[str] = ()

    def start(self) -> subprocess.Popen:
        where = ["-d", "out"] if self.kind == "extraction" else ["-o", "out/a.tar"]
        return subprocess.Popen(
            [*COMMAND, *where, *self.more, self.url],
            cwd=self.place,
            stderr=subprocess.PIPE,
            text=True,
        )

    def is_right(self, whole: bytes) -> bool:
        out = self.place / "out"
        if self.kind == "file":
            return os.listdir(out) == ["a.tar"] and (out / "a.tar").read_bytes() == whole
        return {file.name: file.read_bytes() for file in out.iterdir()} == FILES


def of_clients(trial: Trial, relay: Relay, choose: random.Random, outcome: Outcome) -> str:
    """Kill the client one to three times; return what it says in the end."""
    received = 0
    for _ in range(choose.randint(1, 3)):
        process = trial.start()
        relay.after(choose.randint(1, SIZE), process.kill)
        outcome.kills += 1
        said = process.communicate()[1]
        received += relay.counted()
        if process.returncode == 0:
            outcome.again += max(0, received - SIZE)
            return ""
        if process.returncode > 0:
            return said
        outcome.met += 1
    process = trial.start()
    said = process.communicate()[1]
    outcome.again += max(0, received + relay.counted() - SIZE)
    return said if process.returncode else ""


def of_servers(
    trial: Trial, relay: Relay, replicas: Replicas, choose: random.Random, outcome: Outcome
) -> str:
    """Kill the server that the client has, once, and return what the client says in the end."""
    met: list[bool] = []

    def kill() -> None:
        met.append(True)
        replicas.kill()

    relay.after(choose.randint(1, SIZE), kill)
    process = trial.start()
    said = process.communicate()[1]
    outcome.kills += 1
    outcome.met += len(met)
    outcome.again += max(0, relay.counted() - SIZE)
    return said if process.returncode else ""


def run(kills: int, seed: int, *, kind: str, whose: str, jobs: int = 1) -> Outcome:
    """Kill so many of ``clients`` or ``servers``, in downloads of a ``kind``."""
    outcome, choose = Outcome(), random.Random(seed)
    with _servers(whose) as (relay, replicas, place, whole):
        while outcome.kills < kills:
            outcome.downloads += 1
            own = place / f"{outcome.downloads}"
            (own / "out").mkdir(parents=True)
            url = f"http://127.0.0.1:{relay.port}{TARGET}"
            trial = Trial(url, own, kind, ["--jobs", str(jobs)])
            if replicas is None:
                said = of_clients(trial, relay, choose, outcome)
            else:
                said = of_servers(trial, relay, replicas, choose, outcome)
            if said:
                outcome.lost.append(f"download {outcome.downloads}: {said}")
            elif not trial.is_right(whole):
                outcome.wrong.append(f"download {outcome.downloads}")
            subprocess.run(["rm", "-r", str(own)], check=True)
    return outcome


@contextmanager
def _servers(whose: str) -> Iterator[tuple[Relay, Replicas | None, Path, bytes]]:
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        root = place / "files"
        root.mkdir()
        for name, data in FILES.items():
            (root / name).write_bytes(data)
            os.utime(root / name, (1_600_000_000, 1_600_000_000))
        upstream = stack.enter_context(nginx(root, place / "nginx"))
        replicas = None
        if whose == "servers":
            replicas = stack.enter_context(closing(Replicas(upstream, place)))
            relay = Relay(lambda: replicas.port)
        else:
            running = stack.enter_context(gateway(upstream, place / "gateway"))
            relay = Relay(lambda: running.port)
        stack.enter_context(closing(relay))
        trial = Trial(f"http://127.0.0.1:{relay.port}{TARGET}", place, "file")
        (place / "out").mkdir()
        process = trial.start()
        assert process.wait() == 0
        process.communicate()
        yield relay, replicas, place, (place / "out" / "a.tar").read_bytes()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.client_kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="of each kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--whose", choices=["clients", "servers"], nargs="*")
    options = parser.parse_args(arguments)
    failed = False
    for whose in options.whose or ["clients", "servers"]:
        for kind in ("extraction", "file"):
            before = time.monotonic()
            outcome = run(options.kills, options.seed, kind=kind, whose=whose, jobs=options.jobs)
            for what in [*outcome.wrong, *outcome.lost]:
                print(what)
            took = time.monotonic() - before
            print(f"{whose}, {kind}, seed {options.seed}, {took:.0f} s, {outcome}", flush=True)
            failed = failed or bool(outcome.lost or outcome.wrong)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

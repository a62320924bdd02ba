"""A client's connections side by side: over a line of some delay and rate, each of them.

``python -m tests.bench.throttle`` prints how much faster ``tar-gateway get --jobs 8`` is than one
connection, over 20 ms and 10 MB/s a connection, for a file and for an extraction.
"""

import os
import random
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from contextlib import ExitStack, closing, suppress
from pathlib import Path

from tests.support.servers import gateway, nginx

DELAY = 0.020  # seconds there and back
RATE = 10_000_000  # bytes a second and connection
SIZE = 256 * 1024 * 1024
BLOCK = 32 * 1024


class Throttle:
    """Relays connections to a port: what comes back is late, and comes at a rate."""

    def __init__(self, port: int, *, delay: float = DELAY, rate: float = RATE) -> None:
        self._target = port
        self._delay = delay
        self._rate = rate
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            time.sleep(self._delay)  # the handshake
            with socket.create_connection(("127.0.0.1", self._target)) as server:
                self._relay(client, server)

    def _relay(self, client: socket.socket, server: socket.socket) -> None:
        due: deque[tuple[float, bytes]] = deque()
        free = time.monotonic()  # when the line can take the next block
        ends = False
        while not ends or due:
            now = time.monotonic()
            while due and due[0][0] <= now:
                client.sendall(due.popleft()[1])
            # As much as a line of this delay has under way, and no more.
            is_open = not ends and len(due) * BLOCK < self._rate * self._delay + 4 * BLOCK
            readers = [client, server] if is_open else [client]
            wait = max(0.0, due[0][0] - now) if due else None
            for ready in select.select(readers, [], [], wait)[0]:
                block = ready.recv(BLOCK)
                if ready is client:
                    if not block:
                        return
                    server.sendall(block)
                elif block:
                    free = max(free, time.monotonic()) + len(block) / self._rate
                    due.append((free + self._delay, block))
                else:
                    ends = True


def measure(place: Path, url: str, jobs: int, where: list[str]) -> float:
    """Return the seconds that a download takes."""
    command = [sys.executable, "-m", "tar_gateway.cli", "get", "-q", "--jobs", str(jobs)]
    before = time.monotonic()
    subprocess.run([*command, *where, url], check=True, cwd=place)
    return time.monotonic() - before


def main() -> None:
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        root = place / "files"
        root.mkdir()
        for name, share in (
            ("a.bin", 0.7),
            ("b.bin", 0.2),
            *((f"{i}.bin", 0.001) for i in range(100)),
        ):
            (root / name).write_bytes(random.Random(name).randbytes(int(SIZE * share)))
            os.utime(root / name, (1_600_000_000, 1_600_000_000))
        conf = "autoindex on; autoindex_format json;"
        upstream = stack.enter_context(nginx(root, place / "nginx", conf))
        running = stack.enter_context(gateway(upstream, place / "gateway", "--threads", "32"))
        relay = stack.enter_context(closing(Throttle(running.port)))
        url = f"http://127.0.0.1:{relay.port}/?bundle=./"
        for kind in ("-d", "-o"):
            one = measure(place, url, 1, [kind, f"one{kind}"])
            eight = measure(place, url, 8, [kind, f"eight{kind}"])
            name = "a directory" if kind == "-d" else "a file"
            print(f"{name}: 1 job {one:.1f} s, 8 jobs {eight:.1f} s, {one / eight:.1f} times")
            subprocess.run(["diff", "-r", f"one{kind}", f"eight{kind}"], cwd=place, check=True)


if __name__ == "__main__":
    main()

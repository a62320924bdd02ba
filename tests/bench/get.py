"""``tar-gateway get`` beside ``curl | tar x``: small files, bulk, and memory.

``python -m tests.bench.get`` prints seconds, CPU seconds and peak memory of both, taken in turn.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.support.servers import gateway, nginx

REPEATS = 7
BLOCK = 64 << 10  # bytes
GET = f"exec {sys.executable} -m tar_gateway.cli get -q"
SITES = (("small", 2000, 10 << 10), ("bulk", 4, 256 << 20), ("one", 1, 64 << 20))
WAYS = {
    "get": f"{GET} -d out '{{url}}'",
    "curl | tar x": "mkdir out && curl -sf '{url}' | tar x -C out",
    "get -o": f"{GET} -o a.tar '{{url}}'",
    "curl -o": "exec curl -sf -o a.tar '{url}'",
}


@dataclass(frozen=True)
class Took:
    """Seconds of one run, CPU seconds, and the peak of the memory in bytes."""

    seconds: float
    cpu: float
    memory: int


def once(command: str, place: Path) -> Took:
    before = time.monotonic()
    process = subprocess.Popen(["sh", "-c", command], cwd=place)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - before
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    subprocess.run(["rm", "-rf", "out", "a.tar"], cwd=place, check=True)
    return Took(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def compare(title: str, url: str, place: Path, ways: Sequence[str]) -> None:
    """Run each in turn, and print the medians."""
    taken: dict[str, list[Took]] = {way: [] for way in ways}
    for _ in range(REPEATS):
        for way in ways:
            taken[way].append(once(WAYS[way].format(url=url), place))
    for way in ways:
        seconds = statistics.median(each.seconds for each in taken[way])
        cpu = statistics.median(each.cpu for each in taken[way])
        memory = max(each.memory for each in taken[way])
        print(f"{title:32} {way:14} {seconds:6.2f} s  {cpu:6.2f} s CPU  {memory >> 20:4} MiB")


def main() -> None:
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name, count, size in (
            ("small", 2000, 10 * 1024),
            ("bulk", 4, 256 << 20),
            ("one", 1, 64 << 20),
        ):
            root = place / "files" / name
            root.mkdir(parents=True)
            for index in range(count):
                with (root / f"{index}.bin").open("wb") as file:
                    for _ in range(0, size, BLOCK):  # a client's peak is no less than ours
                        file.write(os.urandom(min(size, BLOCK)))
                os.utime(root / f"{index}.bin", (1_600_000_000, 1_600_000_000))
        conf = "autoindex on; autoindex_format json;"
        upstream = stack.enter_context(nginx(place / "files", place / "nginx", conf))
        running = stack.enter_context(gateway(upstream, place / "gateway"))
        url = f"{running.url}{{}}/?bundle=./"
        work = place / "work"
        work.mkdir()
        compare("2,000 files of 10 KiB", url.format("small"), work, ["get", "curl | tar x"])
        compare("4 files of 256 MiB", url.format("bulk"), work, list(WAYS))
        compare("1 file of 64 MiB", url.format("one"), work, ["get", "get -o"])


if __name__ == "__main__":
    main()

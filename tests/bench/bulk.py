"""Large files to one client: what is lost against a relay that makes no archive."""

import time
from collections.abc import Callable
from functools import partial

from tests.bench.client import asking
from tests.bench.parts import Goal, Part, Ratio, Subject, Values
from tests.bench.site import Server, Site
from tests.bench.upstream import make_file

COUNT = 8
MIB, GIB = 1024**2, 1024**3
SPEED, SPENT, PEAK = "GB/s", "CPU s/GiB", "peak MiB"


def part(site: Site) -> Part:
    """Eight files, all by one request."""
    size = (16 if site.quick else 128) * MIB
    members = [f"bulk/{index}.bin" for index in range(COUNT)]
    for member in members:
        make_file(site.files / member, size)
    total = COUNT * size
    servers, left_out = site.servers()
    loop = site.loop(members, total)
    request = asking(members)
    return Part(
        title=f"{COUNT} members of {size // MIB} MiB to one client",
        subjects=(
            *(
                Subject(server.name, partial(_download, server, request, total))
                for server in [site.relay(), *servers]
            ),
            Subject("urllib3 loop", partial(_loop, loop, total)),
        ),
        ratios=(
            Ratio(SPEED, "relay", "x relay's"),
            Ratio(SPENT, "relay", "x relay's CPU"),
        ),
        goals=(
            Goal("gateway", "x relay's", 0.85, at_least=True),
            Goal("gateway", "x relay's CPU", 2),
        ),
        notes=tuple(left_out),
    )


def _download(server: Server, request: bytes, total: int) -> Values:
    cost = server.cost(request, total)
    return _figures(cost.seconds, cost.cpu, total) | {PEAK: cost.peak / MIB}


def _loop(loop: Callable[[], float], total: int) -> Values:
    before = time.process_time()
    seconds = loop()
    return _figures(seconds, time.process_time() - before, total)


def _figures(seconds: float, spent: float, total: int) -> Values:
    return {SPEED: total / seconds / 1e9, SPENT: spent / total * GIB}

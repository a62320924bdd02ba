"""What a fleet needs, worked out from what was measured of one process.

``python -m tests.capacity`` prints the table of `deploy/README.md`. The gateway's figures are those
of the table in `docs/performance.md`; the fronts' were measured the same way, with one client.
"""

import re
from dataclasses import dataclass
from math import ceil

from tar_gateway import Settings
from tests.support.papers import block

GIB = 1024**3

# Measured beside the benchmark's: CPU s/GiB of `haproxy.cfg`, and of `nginx-tls.conf`.
HAPROXY, TLS = 0.35, 0.95
IDLE = 40  # MiB of a process that has served a download

# Assumed.
BUSY = 0.7  # of a core or a network card; what is left takes the failure of a neighbour
CLIENT = 20e6  # bit/s that a client takes on average
CARD = 25e9  # bit/s of a machine's network card, in each direction
CORES = 16  # of a machine


@dataclass(frozen=True)
class SizedContent:
    """What one download costs: seconds of a core a GiB, and MiB while it is under way."""

    processor: float
    memory: float


def measured(printed: str) -> SizedContent:
    """Read what the benchmark has printed."""
    bulk = re.search(r"^gateway +\S+ +\S+ +(\S+)", printed, re.MULTILINE)
    slow = re.search(r"^(\d+) slow readers, threads +(\S+)", printed, re.MULTILINE)
    assert bulk
    assert slow
    return SizedContent(float(bulk[1]), float(slow[2]) / int(slow[1]))


def needs(rate: float, one: SizedContent) -> dict[str, str]:
    """Give what serving so many bit/s takes, each by its name."""
    gib = rate / 8 / GIB
    downloads = ceil(rate / CLIENT)
    cores = gib * one.processor / BUSY
    processes = max(ceil(cores), ceil(downloads / Settings().max_downloads))
    machines = max(2, ceil(cores / CORES), ceil(rate / BUSY / CARD))
    memory = (processes * IDLE + downloads * one.memory) / 1024
    return {
        "GiB/s": f"{gib:,.2f}",
        "downloads at once": f"{downloads:,}",
        "the gateway's cores": f"{ceil(cores):,}",
        "processes, MAX_DOWNLOADS each": f"{processes:,}",
        "memory of all, GiB": f"{memory:,.1f}",
        f"machines of {CORES} cores, {CARD / 1e9:g} Gbit/s": f"{machines:,}",
        "HAProxy's cores": f"{ceil(gib * HAPROXY / BUSY):,}",
        "or nginx's, as TLS end": f"{ceil(gib * TLS / BUSY):,}",
    }


def table() -> str:
    """Return what 10 Gbit/s and 1 Tbit/s take, by the benchmark's output in the papers."""
    one = measured(block("output: bench"))
    small, large = needs(10e9, one), needs(1e12, one)
    rows = [("", "10 Gbit/s", "1 Tbit/s")] + [(name, small[name], large[name]) for name in small]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        f"{name:{widths[0]}}  {one:>{widths[1]}}  {other:>{widths[2]}}" for name, one, other in rows
    )


if __name__ == "__main__":
    print(table())

"""What a worker's memory grows by: many slow readers, a huge member, a host of members.

Each is measured in a worker of its own, warmed up, from what it holds while idle.
"""

from functools import partial
from importlib.util import find_spec

from tests.bench.client import asking, download, read_slowly
from tests.bench.idle import LONG, Idle, idle_gateway
from tests.bench.parts import Goal, Part, Subject, Values
from tests.bench.site import ONE, Site
from tests.bench.upstream import make_file

KIB, MIB, GIB = 1024, 1024**2, 1024**3
RATE = 64 * KIB  # bytes a second for each slow reader

OVER_IDLE, GROWTH = "MiB over idle", "MiB while sent"
A_MEMBER, SLOWEST = "KiB a member", "slowest KiB/s"


def part(site: Site) -> Part:
    """Readers on both kinds of workers, and archives that are large or long."""
    on_gthread, on_gevent, seconds = (50, 100, 1) if site.quick else (500, 1000, 20)
    huge, host = (GIB, 5_000) if site.quick else (16 * GIB, 100_000)
    make_file(site.files / "huge.bin", huge)
    threads = f"{on_gthread} slow readers, threads"
    greenlets = f"{on_gevent} slow readers, gevent"
    large, long = f"a member of {huge // GIB} GiB", f"{host:,} members"

    def slow(name: str, readers: int, *options: str) -> Subject:
        options = (*options, "--worker-connections", str(readers + 32))
        return Subject(name, partial(_slow, site, readers, seconds, options), once=True)

    subjects = [slow(threads, on_gthread, "--threads", str(on_gthread + 8))]
    goals = [
        Goal(threads, OVER_IDLE, 100),
        Goal(large, GROWTH, 8),
        Goal(long, GROWTH, 8),
        Goal(long, A_MEMBER, 1),
    ]
    notes = []
    if find_spec("gevent"):
        subjects.append(slow(greenlets, on_gevent, "--worker-class", "gevent"))
        goals.append(Goal(greenlets, OVER_IDLE, 160))
    else:
        notes.append("greenlets are left out: the package gevent is not installed")
    return Part(
        title=f"one worker's; slow readers take {RATE // KIB} KiB/s each for {seconds} s",
        subjects=(
            *subjects,
            Subject(large, partial(_large, site, huge), once=True),
            Subject(long, partial(_long, site, host), once=True),
        ),
        goals=tuple(goals),
        notes=tuple(notes),
    )


def _slow(site: Site, readers: int, seconds: int, options: tuple[str, ...]) -> Values:
    with idle_gateway(site, *options, max_downloads=str(readers)) as idle:
        request = asking(["huge.bin"])
        slowest = read_slowly(idle.running.port, request, readers, rate=RATE, seconds=seconds)
        return {OVER_IDLE: idle.peak_over_idle() / MIB, SLOWEST: slowest / KIB}


def _large(site: Site, size: int) -> Values:
    with idle_gateway(site) as idle:
        sent = _Sent(idle, asking(["huge.bin"]), size)
        return {OVER_IDLE: sent.peak / MIB, GROWTH: sent.growth / MIB}


def _long(site: Site, count: int) -> Values:
    with idle_gateway(site, **LONG) as idle:
        sent = _Sent(idle, asking(f"many/{index:06}.bin" for index in range(count)), count * ONE)
        return {
            OVER_IDLE: sent.peak / MIB,
            GROWTH: sent.growth / MIB,
            A_MEMBER: sent.plan / count / KIB,
        }


class _Sent:
    """One download: bytes over idle when its body began, at most, and from one to the other."""

    def __init__(self, idle: Idle, request: bytes, least: int) -> None:
        self._idle = idle
        download(idle.running.port, request, least, self._begin)
        peak = idle.peak_over_idle()
        self.peak = max(self._peak_before, peak)
        self.growth = peak - self.plan

    def _begin(self) -> None:
        self._peak_before = self._idle.peak_over_idle()
        self._idle.forget_peak()
        self.plan = self._idle.over_idle()

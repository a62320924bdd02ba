"""A gateway for one measurement of memory: warmed up, and idle since."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.bench.client import asking, download
from tests.bench.processes import forget_peak
from tests.bench.site import ONE, Site
from tests.support.servers import Running

WARM = 200  # members: enough that all threads and connections are there

# For lists that are longer than the settings allow by themselves.
LONG = {"max_members": "1000000", "max_body": "64MiB", "plan_timeout": "600"}


@dataclass(frozen=True)
class Idle:
    """A gateway with one worker, and the bytes that it held before it was given anything to do."""

    running: Running
    held: int

    def over_idle(self) -> int:
        """Give the bytes that the worker holds now, beyond those."""
        return self.running.memory("VmRSS") - self.held

    def peak_over_idle(self) -> int:
        """Give the bytes that it held at most, beyond those."""
        return self.running.memory("VmHWM") - self.held

    def forget_peak(self) -> None:
        """Let the peak begin anew from what is held now."""
        (worker,) = self.running.workers()
        forget_peak(worker)


@contextmanager
def idle_gateway(site: Site, *options: str, **settings: str) -> Iterator[Idle]:
    """Run a gateway, gunicorn's options and the gateway's settings given, and warm it up."""
    with site.gateway(*options, **settings) as running:
        warm_up = asking(f"many/warm-{index}.bin" for index in range(WARM))
        download(running.port, warm_up, WARM * ONE)
        idle = Idle(running, running.memory("VmRSS"))
        idle.forget_peak()
        yield idle

"""What Prometheus is told of a process's downloads: the only file that knows its library.

Under several workers its multiprocess mode adds them up; gunicorn's settings switch that on.
Importing this raises `ImportError` where ``prometheus_client`` is not installed.
"""

import os
from collections.abc import Callable
from functools import partial
from importlib import metadata
from itertools import product
from pathlib import Path
from typing import get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector

from tar_gateway.sources.wire.tally import Kind, Listener, Outcome, Place

_NAMESPACE = "tar_gateway"

# Seconds: from a plan that is remembered to one that PLAN_TIMEOUT ends.
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

# Seconds: from a picture to a terabyte over a slow line.
_LONG = (0.01, 0.1, 1, 10, 60, 300, 1800, 3600, 4 * 3600, 24 * 3600)

# The statuses that go with an outcome, as far as alerts look for them; others are added as they
# come.
_LOOKED_FOR: dict[Outcome, tuple[int, ...]] = {
    "complete": (200, 206),
    "no_body": (200,),
    "client_left": (200,),
    "upstream_failed": (200, 206, 502, 504),
    "refused": (400, 403, 404, 429, 503),
    "failed": (200, 500),
}


class Metrics(Listener):
    """Counts for one process; the page shows all processes where they share a directory.

    ``registry`` is that of an application with a page of its own.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self._shared = "PROMETHEUS_MULTIPROC_DIR" in os.environ
        if registry is None:
            registry = CollectorRegistry()
            if not self._shared:
                ProcessCollector(registry=registry)
        self._registry = registry
        count = partial(Counter, namespace=_NAMESPACE, registry=registry)
        seconds = partial(Histogram, namespace=_NAMESPACE, registry=registry, buckets=_BUCKETS)
        now = partial(Gauge, namespace=_NAMESPACE, registry=registry, multiprocess_mode="livesum")
        told = "Downloads that ended, by the status of the response, none without one"
        self._downloads = count("downloads", told, ["kind", "outcome", "status"])
        told = "Time from a request to the end of its response"
        self._seconds = seconds("download_seconds", told, ["kind"], buckets=_LONG)
        self._members = count("members", "Members of bundles that were complete")
        self._bytes = count("sent_bytes", "Bytes sent to clients")
        told = "Requests to the upstream by the status of the response, none without one"
        self._requests = count("upstream_requests", told, ["location", "server", "status"])
        told = "Whether a server of the upstream works, as the last requests to it have shown"
        self._up = now("upstream_up", told, ["location", "server"], multiprocess_mode="mostrecent")
        self._retries = count("upstream_retries", "Further attempts after a failure")
        self._resumes = count("resumed_fetches", "Fetches that broke within a member and went on")
        self._plan = seconds("plan_seconds", "Time until all sizes were known")
        self._first_byte = seconds("first_byte_seconds", "Time from the request to the first byte")
        self._in_flight = now("downloads_in_flight", "Downloads under way")
        self._limit = now("downloads_limit", "Downloads that may be under way at once")
        self._fetchers = now("fetchers_busy", "Threads that ask the upstream ahead of need")
        # From the start: a series that begins at 1 hides its first failure from increase().
        for kind, outcome in product(get_args(Kind), get_args(Outcome)):
            for status in _LOOKED_FOR[outcome]:
                self._downloads.labels(kind, outcome, str(status))
            self._seconds.labels(kind)
        release = metadata.version("tar_gateway")
        now("build_info", "The release that runs", ["version"], multiprocess_mode="max").labels(
            release
        ).set(1)

        if self._shared:
            _make_room(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]))

    def exposition(self, accept: str = "") -> tuple[str, bytes]:
        """Return the media type and the text of the metrics page.

        ``accept`` is the header of that name: OpenMetrics where it is asked for, else Prometheus'
        own text.
        """
        registry = self._registry
        if self._shared:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        encode: Callable[[CollectorRegistry], bytes]
        encode, media_type = choose_encoder(accept)
        return media_type, encode(registry)

    def allowed(self, downloads: int) -> None:
        """Take the limit of this process."""
        self._limit.set(downloads)

    def asked(self, status: int | None, place: Place) -> None:
        """Count a request to the upstream."""
        self._requests.labels(place.location, place.server, _told(status)).inc()

    def works(self, place: Place, *, is_up: bool) -> None:
        """Take whether a server works."""
        self._up.labels(place.location, place.server).set(is_up)

    def retried(self) -> None:
        """Count another attempt."""
        self._retries.inc()

    def resumed(self) -> None:
        """Count a fetch that goes on."""
        self._resumes.inc()

    def planned(self, seconds: float) -> None:
        """Take the time of a plan."""
        self._plan.observe(seconds)

    def first_byte(self, seconds: float) -> None:
        """Take the time to a first byte."""
        self._first_byte.observe(seconds)

    def sent(self, length: int) -> None:
        """Count bytes."""
        self._bytes.inc(length)

    def in_flight(self, change: int) -> None:
        """Follow the downloads under way."""
        self._in_flight.inc(change)

    def fetchers_busy(self, change: int) -> None:
        """Follow the threads at work."""
        self._fetchers.inc(change)

    def ended(self, kind: Kind, outcome: Outcome, *, status: int | None, seconds: float) -> None:
        """Count a download."""
        self._downloads.labels(kind, outcome, _told(status)).inc()
        self._seconds.labels(kind).observe(seconds)

    def bundled(self, members: int) -> None:
        """Count a complete bundle's members."""
        self._members.inc(members)


def _told(status: int | None) -> str:
    return "none" if status is None else str(status)


def _make_room(directory: Path) -> None:
    """Give this process's counts their place on the disk.

    They are maps of files with holes: where a disk is full, the first count in a hole would end
    the process, with all its downloads. Raise `OSError` where there is no room.
    """
    for path in directory.glob(f"*_{os.getpid()}.db"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)

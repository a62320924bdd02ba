"""The servers of one part: files behind nginx, and what stands in front of it."""

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from tests.bench.client import download, fetch_in_turn
from tests.bench.processes import cpu_seconds, forget_peak
from tests.bench.upstream import make_file, stock_nginx
from tests.support.servers import PATIENCE, Running, gateway, resident

ROOT = Path(__file__).parents[2]
ONE = 10 * 1024  # bytes of the file that is served under many names

# The package that each needs, which may not be installed, and the module of its application.
RIVALS = {
    "zipstream-ng": ("zipstream", "tests.bench.zip_stream"),
    "recipe": ("requests", "tests.bench.recipe"),
}


@dataclass(frozen=True)
class Cost:
    """What a download took: seconds, the server's CPU seconds, its resident bytes at their peak."""

    seconds: float
    cpu: float
    peak: int


@dataclass(frozen=True)
class Server:
    """Something that answers bundle requests; ``pid`` is the process that does the work."""

    name: str
    port: int
    pid: int

    def cost(self, request: bytes, least: int) -> Cost:
        """Download a response of at least ``least`` bytes."""
        forget_peak(self.pid)
        before = cpu_seconds(self.pid)
        seconds = download(self.port, request, least).seconds
        return Cost(seconds, cpu_seconds(self.pid) - before, resident(self.pid))


class Site:
    """Files, an nginx in front of them, and servers that end with the site.

    ``quick`` asks the parts for less of everything.
    """

    def __init__(self, place: Path, stack: ExitStack, *, quick: bool) -> None:
        self.quick = quick
        self.files = place / "files"
        make_file(self.files / "one.bin", ONE)
        self._place = place
        self._stack = stack
        self._started = 0
        self.upstream = stack.enter_context(stock_nginx(self.files, place / "nginx"))

    def gateway(self, *options: str, **settings: str) -> AbstractContextManager[Running]:
        """Run a gateway of its own: gunicorn's options, and the gateway's settings."""
        return self._gunicorn(None, *options, **settings)

    def servers(self) -> tuple[list[Server], list[str]]:
        """Start the gateway and its rivals, with the same gunicorn; tell what is left out."""
        servers = [self.gateway_server()]
        left_out = []
        for name, (needed, module) in RIVALS.items():
            if find_spec(needed) is None:
                left_out.append(f"{name} is left out: the package {needed} is not installed")
            else:
                servers.append(self._server(name, f"{module}:application"))
        return servers, left_out

    def gateway_server(self) -> Server:
        """Start a gateway that lives as long as the site."""
        return self._server("gateway", None)

    def relay(self) -> Server:
        """Start the relay."""
        return self._stack.enter_context(_relay(urlsplit(self.upstream).port or 80))

    def loop(self, paths: list[str], least: int) -> Callable[[], float]:
        """Give what fetches the files one after the other, and the seconds that takes."""
        return lambda: fetch_in_turn(self.upstream, paths, least)

    def _server(self, name: str, application: str | None) -> Server:
        running = self._stack.enter_context(self._gunicorn(application))
        (worker,) = running.workers()
        return Server(name, running.port, worker)

    def _gunicorn(
        self, application: str | None, *options: str, **settings: str
    ) -> AbstractContextManager[Running]:
        self._started += 1
        place = self._place / f"gunicorn-{self._started}"
        options = ("--chdir", str(ROOT), *options)
        return gateway(self.upstream, place, *options, application=application, **settings)


@contextmanager
def open_site(place: Path, *, quick: bool) -> Iterator[Site]:
    """Open a site in an empty directory."""
    with ExitStack() as stack:
        yield Site(place, stack, quick=quick)


@contextmanager
def _relay(upstream: int) -> Iterator[Server]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        descriptor = listener.fileno()
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.relay", str(descriptor), str(upstream)],
            cwd=ROOT,
            pass_fds=[descriptor],
        )
    try:
        yield Server("relay", port, process.pid)
    finally:
        process.terminate()
        process.wait(PATIENCE)

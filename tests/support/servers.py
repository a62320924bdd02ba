"""Real servers for tests: nginx and the gateway under gunicorn, each a process on loopback."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

# gunicorn's workers that the gateway is proved on. A sync one has to be told to have one thread:
# gunicorn makes it another otherwise.
WORKERS = {
    "sync": ("--worker-class", "sync", "--threads", "1"),
    "threads": ("--worker-class", "tar_gateway.server.worker.GatewayWorker"),
    "gevent": ("--worker-class", "gevent"),
}

# For nginx: files of GiBs are read past the page cache, which would take longer to fill than all
# the rest.
LARGE_FILES = "directio 8m; output_buffers 2 1m;"

PATIENCE = 30  # seconds; a server that is not there by then never will be

NGINX_CONF = """
{top}
daemon off;
{user}
pid {place}/nginx.pid;
error_log {place}/error.log warn;
worker_processes 1;
events {{ worker_connections 1024; }}
http {{
    types {{ text/plain txt; text/html html; }}
    default_type application/octet-stream;
    access_log {place}/access.log;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    server {{
        listen 127.0.0.1:{port};
        root {root};
        {extra}
    }}
}}
"""


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition, and fail the test when it does not come true."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def listens(port: int, host: str = "127.0.0.1") -> bool:
    """Tell whether something accepts connections on a loopback port."""
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


def _ports() -> Iterator[int]:
    """Give ports below those that the kernel picks from, to each process of a run others."""
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    ports = range(20_000 + process % 16, 32_000, 16)
    while True:
        yield from random.sample(ports, len(ports))


_PORTS = _ports()


def free_port() -> int:
    """Find a port that is free now, for servers that have to open it themselves."""
    return next(port for port in _PORTS if _is_free(port))


def _is_free(port: int) -> bool:
    with suppress(OSError), socket.create_server(("127.0.0.1", port)):
        return True
    return False


@contextmanager
def nginx(root: Path, place: Path, extra: str = "", top: str = "") -> Iterator[str]:
    """Serve a directory with a stock nginx; ``extra`` goes into its server block, ``top`` first."""
    place.mkdir(parents=True, exist_ok=True)
    port = free_port()
    user = "user root;" if os.geteuid() == 0 else ""
    conf = place / "nginx.conf"
    text = NGINX_CONF.format(top=top, user=user, place=place, port=port, root=root, extra=extra)
    conf.write_text(text)
    process = subprocess.Popen(["nginx", "-c", str(conf)], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: listens(port) or process.poll() is not None, "nginx")
        assert process.poll() is None, (place / "error.log").read_text()
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait(PATIENCE)


def resident(pid: int, field: str = "VmHWM") -> int:
    """Give the resident memory of a process in bytes: at its peak, or ``VmRSS``."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith(field + ":"))
    return int(line.split()[1]) * 1024


@dataclass(frozen=True)
class Running:
    """A gateway under gunicorn: its URL, its process, and the file that its log goes to."""

    url: str
    process: subprocess.Popen
    log: Path

    @property
    def host(self) -> str:
        return str(urlsplit(self.url).hostname)

    @property
    def port(self) -> int:
        return int(urlsplit(self.url).port or 80)

    def workers(self) -> list[int]:
        """Give the process ids of gunicorn's workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]

    def kill(self) -> None:
        """Kill its processes, the master first, or it would replace the others."""
        for process in [self.process.pid, *self.workers()]:
            os.kill(process, signal.SIGKILL)
        self.process.wait(PATIENCE)
        wait_until(lambda: not listens(self.port, self.host), "the workers' end")

    def memory(self, field: str = "VmHWM") -> int:
        """Give the resident memory of the only worker in bytes: at its peak, or ``VmRSS``."""
        (worker,) = self.workers()
        return resident(worker, field)

    def threads(self) -> int:
        """Count the threads of the only worker."""
        (worker,) = self.workers()
        return len(os.listdir(f"/proc/{worker}/task"))

    def descriptors(self) -> int:
        """Count the open descriptors of the only worker."""
        (worker,) = self.workers()
        return len(os.listdir(f"/proc/{worker}/fd"))


@contextmanager
def gateway(
    upstream: str,
    place: Path,
    *options: str,
    application: str | None = None,
    at: str | None = None,
    **settings: str,
) -> Iterator[Running]:
    """Run the gateway under gunicorn, one worker unless ``options`` say otherwise.

    It opens the ``host:port`` that ``at`` names itself, and is given a free port without.
    ``settings`` are names of the gateway's settings, in lower case, and their texts.
    """
    place.mkdir(parents=True, exist_ok=True)
    log = place / "gunicorn.log"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TAR_GATEWAY_")}
    environment |= {"TAR_GATEWAY_UPSTREAM": upstream, "WEB_CONCURRENCY": "1"}
    environment |= {f"TAR_GATEWAY_{name.upper()}": text for name, text in settings.items()}
    command = [sys.executable, "-m", "gunicorn", "--config", "python:tar_gateway.gunicorn_conf"]
    with ExitStack() as opened:
        fds = []
        if at is None:
            listener = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
            fds = [listener.fileno()]
            address, bind = f"127.0.0.1:{listener.getsockname()[1]}", f"fd://{fds[0]}"
        else:
            address = bind = at
        process = subprocess.Popen(
            [*command, "--bind", bind, *options] + ([application] if application else []),
            env=environment,
            pass_fds=fds,
            stdout=opened.enter_context(log.open("wb")),
            stderr=subprocess.STDOUT,
        )
    running = Running(f"http://{address}/", process, log)
    try:
        booted = b"Booting worker"
        wait_until(
            lambda: booted in log.read_bytes() or process.poll() is not None, "gunicorn's worker"
        )
        assert process.poll() is None, log.read_text()
        yield running
    finally:
        # SIGINT stops at once; SIGTERM would wait for downloads that a test left running.
        # gunicorn's own workers may hang in that.
        workers = running.workers() if process.poll() is None else []
        process.send_signal(signal.SIGINT)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            for pid in workers:
                os.kill(pid, signal.SIGKILL)
            process.wait(PATIENCE)

"""The servers that people run WSGI applications under, each as a process on loopback."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import tar_gateway
from tests.support.servers import PATIENCE, free_port, listens, wait_until

ROOTS = [str(Path(__file__).parents[2]), str(Path(tar_gateway.__file__).parents[1])]
SCRIPTS = Path(sys.executable).parent
PATH = os.pathsep.join([str(SCRIPTS), os.environ["PATH"], "/usr/sbin"])


@dataclass(frozen=True)
class Server:
    """A server: the packages and programs that it needs, and its command line.

    ``command`` is given the module whose ``application`` is served, a port, and a directory.
    """

    name: str
    packages: tuple[str, ...]
    command: Callable[[str, int, Path], list[str]]
    programs: tuple[str, ...] = ()
    stop: int = signal.SIGKILL  # another would wait for what a test left running
    lasting: bool = True  # whether a connection serves another request, or says that it doesn't

    def missing(self) -> list[str]:
        """Name what it needs and isn't installed."""
        packages = [name for name in self.packages if find_spec(name) is None]
        return packages + [name for name in self.programs if shutil.which(name, path=PATH) is None]


def _gunicorn(worker: str, module: str, port: int, place: Path) -> list[str]:
    command = [sys.executable, "-m", "gunicorn", "--no-control-socket", "--worker-class", worker]
    threads = ["--threads", "4"] if worker == "gthread" else []
    return [*command, *threads, "--bind", f"127.0.0.1:{port}", f"{module}:application"]


def _waitress(module: str, port: int, place: Path) -> list[str]:
    where = f"--listen=127.0.0.1:{port}"
    return [sys.executable, "-m", "waitress", where, f"{module}:application"]


def _cheroot(module: str, port: int, place: Path) -> list[str]:
    where = f"127.0.0.1:{port}"
    return [sys.executable, "-m", "cheroot", "--bind", where, f"{module}:application"]


def _uwsgi(module: str, port: int, place: Path) -> list[str]:
    return [
        *(str(SCRIPTS / "uwsgi"), "--die-on-term", "--master", "--need-app"),
        *("--threads", "4", "--home", sys.prefix, "--http-socket", f"127.0.0.1:{port}"),
        *("--module", f"{module}:application"),
    ]


def _mod_wsgi(module: str, port: int, place: Path) -> list[str]:
    command = [
        *(str(SCRIPTS / "mod_wsgi-express"), "start-server"),
        *("--host", "127.0.0.1", "--port", str(port), "--locale", "C.UTF-8"),
        *("--server-root", str(place), "--application-type", "module", module),
    ]
    if os.geteuid():
        return command
    # Apache refuses to run as root, and another user may not be allowed to read this directory or
    # Python's own. So it runs as root who is called otherwise.
    return ["unshare", "--user", "--map-user=1000", "--map-group=1000", *command]


SERVERS = {
    server.name: server
    for server in (
        *(
            Server(
                f"gunicorn {worker}",
                ("gunicorn", "gevent") if worker == "gevent" else ("gunicorn",),
                partial(_gunicorn, worker),
            )
            for worker in ("sync", "gthread", "gevent")
        ),
        Server("waitress", ("waitress",), _waitress),
        Server("cheroot", ("cheroot",), _cheroot),
        Server("uWSGI", (), _uwsgi, ("uwsgi",), lasting=False),
        Server("mod_wsgi", ("mod_wsgi",), _mod_wsgi, ("apache2", "unshare"), stop=signal.SIGTERM),
    )
}


@contextmanager
def serving(server: Server, module: str, place: Path, **environment: str) -> Iterator[int]:
    """Serve a module's ``application`` under a server, and give the port."""
    place.mkdir(parents=True, exist_ok=True)
    port = free_port()
    log = place / "server.log"
    # Coverage is left out: a server that runs as another user couldn't write its files.
    inherited = {key: text for key, text in os.environ.items() if not key.startswith("COV")}
    environment = inherited | {"PYTHONPATH": os.pathsep.join(ROOTS), "PATH": PATH} | environment
    with log.open("wb") as output:
        process = subprocess.Popen(
            server.command(module, port, place / "server"),
            cwd=place,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until(lambda: listens(port) or process.poll() is not None, server.name)
        assert process.poll() is None, log.read_text(errors="replace")
        yield port
    finally:
        os.killpg(process.pid, server.stop)  # its workers, too
        process.wait(PATIENCE)

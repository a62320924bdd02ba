"""The gateway as its unit starts and stops it, and in a root that can't be written to."""

import io
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.deploy.test_deploy import SERVICE
from tests.support.scripted import File, Scripted, answer, chunked
from tests.support.servers import PATIENCE, free_port, listens, wait_until

UNTOLD = b"nobody tells how long this is"
FILES = {"told": b"told" * 1000, "untold": UNTOLD}
# All that is mounted becomes read-only, but for one directory of memory.
READ_ONLY = """
cut -d' ' -f5 /proc/self/mountinfo | while read -r place; do
    mount -o remount,bind,ro "$place" 2>/dev/null
done
mount -t tmpfs tmpfs "$TMPDIR" && ! touch /etc/written /dev/shm/written 2>/dev/null && exec "$@"
"""
NAMESPACES = ["unshare", "--map-root-user", "--mount"]


def may_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*NAMESPACES, "mount", "-t", "tmpfs", "x", "/mnt"]).returncode == 0


@pytest.fixture(scope="module")
def upstream() -> Iterator[Scripted]:
    scripts = {"/told": File(FILES["told"]), "/untold": chunked(UNTOLD), "/": answer(b"")}
    with Scripted(scripts) as scripted:
        yield scripted


def command(directive: str, **words: str) -> list[str]:
    """Give a command of the unit, its program being the one that is installed here."""
    text = SERVICE[directive][0].removeprefix("-")
    text = text.replace("/opt/tar-gateway/bin", sysconfig.get_path("scripts"))
    for told, real in words.items():
        text = text.replace(f"${told}", real)
    return shlex.split(text)


def bundled(port: int) -> dict[str, bytes]:
    with closing(HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as client:
        client.request("GET", "/?bundle=told&bundle=untold")
        with tarfile.open(fileobj=io.BytesIO(client.getresponse().read())) as tar:
            return {each.name: tar.extractfile(each).read() for each in tar}


def status(port: int, page: str) -> int:
    with closing(HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as client:
        client.request("GET", page)
        return client.getresponse().status


@contextmanager
def running(words: list[str], **environment: str) -> Iterator[subprocess.Popen]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("TAR_GATEWAY_")}
    process = subprocess.Popen(words, env=clean | {"WEB_CONCURRENCY": "1"} | environment)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE)


@pytest.mark.needs("systemd-socket-activate")
def test_the_service_takes_systemds_socket_says_when_it_is_ready_and_stops_in_two_steps(
    upstream: Scripted, tmp_path: Path
):
    port, pages = free_port(), free_port()
    environment = {
        "TAR_GATEWAY_UPSTREAM": upstream.url,
        "TAR_GATEWAY_PAGES_BIND": f"127.0.0.1:{pages}",
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
    }
    activate = ["systemd-socket-activate", "--listen", f"127.0.0.1:{port}"]
    for name in [*environment, "WEB_CONCURRENCY", "PYTHONPATH"]:
        activate += ["--setenv", name]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(environment["NOTIFY_SOCKET"])
        systemd.settimeout(PATIENCE)
        with running([*activate, *command("ExecStart")], **environment) as process:
            wait_until(lambda: listens(port), "systemd's socket")
            assert bundled(port) == FILES
            assert b"READY=1" in systemd.recv(4096).splitlines()
            assert (status(pages, "/-/ready"), status(port, "/-/ready")) == (200, 404)
            stop = command("ExecStop", MAINPID=str(process.pid))
            stop[stop.index("--wait") + 1] = "0"
            subprocess.run(stop, check=True, timeout=PATIENCE)
            wait_until(lambda: status(pages, "/-/ready") == 503, "the drain")
            assert bundled(port) == FILES
            process.terminate()
            assert process.wait(PATIENCE) == 0


@pytest.mark.skipif(not may_mount(), reason="not allowed: a mount namespace of one's own")
def test_the_gateway_writes_to_the_temporary_directory_only(upstream: Scripted, tmp_path: Path):
    port = free_port()
    gunicorn = [sys.executable, "-B", *command("ExecStart"), "--bind", f"127.0.0.1:{port}"]
    words = [*NAMESPACES, "sh", "-c", READ_ONLY, "sh", *gunicorn]
    environment = {"TAR_GATEWAY_UPSTREAM": upstream.url, "TMPDIR": str(tmp_path)}
    with running(words, **environment) as process:
        wait_until(lambda: listens(port) or process.poll() is not None, "the gateway")
        assert bundled(port) == FILES  # one of them by way of a temporary file

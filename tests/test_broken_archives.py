"""A broken archive is seen as broken by every client, on every kind of worker, behind nginx too."""

import http.client
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.scripted import Fault, File, Scripted, answer, close
from tests.servers import free_port, gateway, listens, wait_until

DEPLOY = Path(__file__).parent.parent / "deploy"
SIZE = 300_000
WORKERS = ["sync", "gthread", "gevent"]

PYTHON = (
    "import sys, urllib.request\n"
    "with urllib.request.urlopen(sys.argv[1]) as answer:\n"
    "    sys.stdout.buffer.write(answer.read())\n"
)
CLIENTS = {
    "curl": ["curl", "-sS"],
    "wget": ["wget", "-q", "-O", "-", "--tries=1"],
    "Python": [sys.executable, "-c", PYTHON],
}
clients = pytest.mark.parametrize(
    "client",
    [pytest.param(name, marks=pytest.mark.needs(CLIENTS[name][0])) for name in CLIENTS],
)


def download(client: str, url: str) -> subprocess.CompletedProcess:
    return subprocess.run([*CLIENTS[client], url], capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def upstream() -> Iterator[Scripted]:
    """Give an upstream of one whole file and one that always breaks off and can't be resumed."""
    with Scripted({"/whole": File(b"w" * SIZE)}) as scripted:

        def breaking(wire):
            if wire.request.method != "HEAD":
                scripted.given["/broken"] = 0
                scripted.break_at("/broken", Fault(SIZE // 2, close))
            answer(b"b" * SIZE)(wire)

        scripted.on("/broken", breaking)
        yield scripted


@pytest.fixture(scope="module", params=WORKERS)
def direct(request, upstream: Scripted, tmp_path_factory) -> Iterator[str]:
    place = tmp_path_factory.mktemp("direct")
    with gateway(upstream.url, place, "--worker-class", request.param) as running:
        yield running.url


@pytest.fixture(scope="module")
def behind_nginx(upstream: Scripted, tmp_path_factory) -> Iterator[str]:
    """Run the gateway behind nginx as `deploy/nginx.conf` has it."""
    place = tmp_path_factory.mktemp("nginx")
    port = free_port()
    with gateway(upstream.url, place) as running:
        site = (DEPLOY / "nginx.conf").read_text()
        site = site.replace("listen 8080;", f"listen 127.0.0.1:{port};")
        site = site.replace("127.0.0.1:8000;", urlsplit(running.url).netloc + ";")
        conf = place / "nginx.conf"
        conf.write_text(
            f"daemon off; pid {place}/pid; error_log {place}/error.log; events {{}}\n"
            f"http {{ access_log off; client_body_temp_path {place}/body; "
            f"proxy_temp_path {place}/proxy; fastcgi_temp_path {place}/fastcgi; "
            f"uwsgi_temp_path {place}/uwsgi; scgi_temp_path {place}/scgi;\n{site}}}\n"
        )
        process = subprocess.Popen(["nginx", "-c", str(conf)], stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: listens(port), "nginx")
            yield f"http://127.0.0.1:{port}/"
        finally:
            process.terminate()
            process.wait(30)


@clients
def test_a_whole_archive_is_a_success(client: str, direct: str):
    done = download(client, direct + "?bundle=whole")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) == 307_200


@clients
def test_a_broken_archive_is_a_failure(client: str, direct: str):
    done = download(client, direct + "?bundle=whole&bundle=broken")
    assert done.returncode != 0
    assert len(done.stdout) < 2 * SIZE


@clients
def test_a_broken_plain_file_is_a_failure(client: str, direct: str):
    assert download(client, direct + "broken").returncode != 0


@pytest.mark.needs("nginx")
@clients
def test_a_whole_archive_passes_nginx(client: str, behind_nginx: str):
    done = download(client, behind_nginx + "?bundle=whole")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) == 307_200


@pytest.mark.needs("nginx")
@clients
def test_a_broken_archive_is_a_failure_behind_nginx_too(client: str, behind_nginx: str):
    done = download(client, behind_nginx + "?bundle=whole&bundle=broken")
    assert done.returncode != 0


def test_a_connection_that_broke_is_not_used_for_another_answer(direct: str):

    address = urlsplit(direct)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=30)
    try:
        connection.request("GET", "/?bundle=broken")
        with pytest.raises(http.client.IncompleteRead):
            connection.getresponse().read()
        assert connection.sock is None or connection.sock.recv(1) == b""
    finally:
        connection.close()

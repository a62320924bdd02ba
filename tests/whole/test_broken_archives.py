"""A broken download is seen as broken by every client, behind every proxy and on every worker."""

import gzip
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from http.client import HTTPConnection, IncompleteRead
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tar_gateway.archive.format import Literal, Member
from tar_gateway.archive.layout import Layout
from tests.support.proxies import deployed_site, haproxy_front, nginx_front
from tests.support.scripted import Fault, File, Scripted, answer, chunked, close
from tests.support.servers import WORKERS, gateway

SIZE = 300_000
CONTENT = b"w" * SIZE
PYTHON = (
    "import sys, urllib.request\n"
    "with urllib.request.urlopen(sys.argv[2]) as answer, open(sys.argv[1], 'wb') as file:\n"
    "    file.write(answer.read())\n"
)
CLIENTS = {
    "curl": ["curl", "-sSf", "-o"],
    "wget": ["wget", "-q", "--tries=1", "-O"],
    "Python": [sys.executable, "-c", PYTHON],
    "aria2c": ["aria2c", "-q", "--max-tries=1", "--no-conf", "-d", "/", "-o"],
}
FRONTS = {
    "nginx as it comes": ("nginx", nginx_front),
    "nginx as deployed": ("nginx", lambda *where: nginx_front(*where, deployed_site())),
    "HAProxy": ("haproxy", haproxy_front),
}


@dataclass(frozen=True)
class Download:
    """What a client made of a URL: whether it was content with it, and what it kept."""

    succeeded: bool
    content: bytes
    said: bytes


@dataclass(frozen=True)
class Client:
    name: str
    file: Path

    def download(self, url: str) -> Download:
        done = subprocess.run(
            [*CLIENTS[self.name], str(self.file), url], capture_output=True, timeout=60
        )
        content = self.file.read_bytes() if self.file.exists() else b""
        return Download(done.returncode == 0, content, done.stdout + done.stderr)


@pytest.fixture(
    params=[pytest.param(name, marks=pytest.mark.needs(CLIENTS[name][0])) for name in CLIENTS]
)
def client(request, tmp_path: Path) -> Client:
    return Client(request.param, tmp_path / "downloaded")


@pytest.fixture(scope="module")
def upstream() -> Iterator[Scripted]:
    """Give an upstream of whole files and of ones that always break off and can't be resumed."""
    with Scripted({"/whole": File(CONTENT), "/whole-untold": chunked(CONTENT)}) as scripted:

        def breaking(wire):
            if wire.request.method != "HEAD":
                scripted.given["/broken"] = 0
                scripted.break_at("/broken", Fault(SIZE // 2, close))
            answer(b"b" * SIZE)(wire)

        scripted.on("/broken", breaking)
        scripted.on("/broken-untold", chunked(b"b" * (SIZE // 2), end=b""))
        yield scripted


def places(*left_out: str) -> list:
    """Give the workers' names and the fronts', each front's with the program that it needs."""
    needing = [
        pytest.param(name, marks=pytest.mark.needs(program))
        for name, (program, _) in FRONTS.items()
        if name not in left_out
    ]
    return [*WORKERS, *needing]


@pytest.fixture(scope="module", params=places())
def url(request, upstream: Scripted, tmp_path_factory) -> Iterator[str]:
    """Give a gateway's URL, on each kind of worker, or that of a proxy in front of it."""
    place = tmp_path_factory.mktemp("place")
    options = WORKERS.get(request.param, WORKERS["threads"])
    with ExitStack() as stack:
        address = stack.enter_context(gateway(upstream.url, place, *options)).url
        if request.param in FRONTS:
            _, front = FRONTS[request.param]
            address = stack.enter_context(front(address, place / "front"))
        yield address


def test_a_whole_archive_is_a_success(client: Client, url: str):
    layout = Layout([Member("whole", SIZE, 1_600_000_000)])
    archive = b"".join(
        segment.data if isinstance(segment, Literal) else CONTENT
        for segment in layout.slice(0, layout.size)
    )
    done = client.download(url + "?bundle=whole")
    assert done.succeeded, done.said
    assert done.content == archive


@pytest.mark.parametrize("path", ["whole", "whole-untold"])
def test_a_whole_plain_file_is_a_success(path: str, client: Client, url: str):
    done = client.download(url + path)
    assert done.succeeded, done.said
    assert done.content == CONTENT


@pytest.mark.parametrize(
    "target",
    ["?bundle=broken", "?bundle=whole&bundle=broken", "broken", "?bundle=broken&format=tar.gz"],
    ids=["an archive", "an archive's second member", "a plain file", "a compressed archive"],
)
def test_a_broken_download_is_a_failure(target: str, client: Client, url: str):
    assert not client.download(url + target).succeeded


@pytest.mark.parametrize("url", places("nginx as it comes"), indirect=True)
def test_a_whole_compressed_archive_is_a_success(client: Client, url: str):
    done = client.download(url + "?bundle=whole&format=tar.gz")
    assert done.succeeded, done.said
    assert CONTENT in gzip.decompress(done.content)


# nginx as it comes takes the end of the connection for the end of such a file.
@pytest.mark.parametrize("url", places("nginx as it comes"), indirect=True)
def test_a_broken_file_of_untold_length_is_a_failure(client: Client, url: str):
    assert not client.download(url + "broken-untold").succeeded


@pytest.mark.parametrize("url", WORKERS, indirect=True)
def test_a_connection_that_broke_is_not_used_for_another_answer(url: str):
    address = urlsplit(url)
    with closing(HTTPConnection(address.hostname, address.port, timeout=30)) as connection:
        connection.request("GET", "/?bundle=broken")
        with pytest.raises(IncompleteRead):
            connection.getresponse().read()
        assert connection.sock is None or connection.sock.recv(1) == b""

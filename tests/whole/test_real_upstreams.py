"""Upstreams differ: every one of these can be bundled, and gives the same archive's contents."""

import io
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from webtest import TestApp

from tar_gateway import Gateway, Upstream
from tests.support.servers import PATIENCE, free_port, listens, nginx, wait_until

FILES = {
    "page.html": b"<p>compressible</p>\n" * 500,
    "note.txt": b"compressible as well\n" * 500,
    "data.bin": bytes(range(256)) * 300,
    "empty.txt": b"",
}

NGINX = {
    "nginx as it comes": "",
    "nginx that compresses unless told not to": "gzip on; gzip_min_length 0; gzip_types *;",
    "nginx without ETag": "etag off;",
    "nginx that knows no Range": "max_ranges 0;",
    "nginx that tells no length of what it makes anew": "ssi on; ssi_types text/plain;",
    "nginx that knows no HEAD": "if ($request_method = HEAD) { return 405; }",
    "nginx whose HEAD always says 0": "if ($request_method = HEAD) { return 200; }",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("files")
    for name, data in FILES.items():
        (root / name).write_bytes(data)
    return root


@contextmanager
def http_1_0(root: Path) -> Iterator[str]:
    """Serve a directory with Python's own server: HTTP/1.0, no Range, no ETag."""
    port = free_port()
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "http.server",
            "--directory",
            root,
            "--bind",
            "127.0.0.1",
            str(port),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: listens(port), "Python's server")
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait(PATIENCE)


def contents(upstream: str) -> dict[str, bytes]:
    gateway = Gateway(Upstream(upstream))
    try:
        answer = TestApp(gateway).get("/", [("bundle", name) for name in FILES])
    finally:
        gateway.close()
    with tarfile.open(fileobj=io.BytesIO(answer.body)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}


@pytest.mark.needs("nginx")
@pytest.mark.parametrize("kind", NGINX)
def test_nginx_can_be_bundled_however_it_is_set_up(kind: str, files: Path, tmp_path: Path):
    with nginx(files, tmp_path, NGINX[kind]) as upstream:
        assert contents(upstream) == FILES


def test_an_http_1_0_server_can_be_bundled(files: Path):
    with http_1_0(files) as upstream:
        assert contents(upstream) == FILES

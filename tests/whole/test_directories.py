"""Directories as members, for real: what nginx, Apache and http.server list, byte for byte."""

import functools
import io
import os
import re
import subprocess
import tarfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from webtest import TestApp

from tar_gateway import Gateway, Settings, Upstream
from tests.support.servers import PATIENCE, free_port, listens, nginx, wait_until

OLD = 1_600_000_000

FILES = {
    "a.txt": b"alpha",
    "a/b/c.txt": b"gamma",
    "a/x.bin": bytes(range(256)) * 40,
    "a-b.txt": b"",
    "sp ace & <b>.txt": b"markup",
    "\u00fcber/\u00e9.txt": b"not ASCII",
    "100%25.txt": b"percent",
    "C=M;O=A": b"like a sorting link",
    "what?#.txt": b"a query and a fragment",
    "col:on.txt": b"a scheme",
    "+,;'\".txt": b"signs",
    ("n" * 90) + ".txt": b"long",
}

APACHE = """
ServerName localhost
Listen 127.0.0.1:{port}
PidFile {place}/pid
ErrorLog {place}/error.log
DefaultRuntimeDir {place}
{user}
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule autoindex_module /usr/lib/apache2/modules/mod_autoindex.so
LoadModule mime_module /usr/lib/apache2/modules/mod_mime.so
LoadModule dir_module /usr/lib/apache2/modules/mod_dir.so
TypesConfig /dev/null
DocumentRoot {root}
<Directory {root}>
    Options Indexes
    {options}
    Require all granted
</Directory>
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tree")
    root.chmod(0o755)
    for name, content in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
        os.utime(root / name, (OLD, OLD))
    (root / "a/empty").mkdir()
    return root


@contextmanager
def apache(root: Path, place: Path, options: str) -> Iterator[str]:
    port = free_port()
    place.mkdir()
    user = "User www-data\nGroup www-data" if os.geteuid() == 0 else ""
    for parent in (root, *root.parents[:-1]):
        if os.stat(parent).st_uid == os.geteuid() and parent != Path("/tmp"):
            parent.chmod(0o755)
    conf = place / "httpd.conf"
    conf.write_text(APACHE.format(port=port, place=place, root=root, options=options, user=user))
    process = subprocess.Popen(["apache2", "-f", str(conf), "-DFOREGROUND"])
    try:
        wait_until(lambda: listens(port) or process.poll() is not None, "apache2")
        assert process.poll() is None
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait(PATIENCE)


@contextmanager
def http_server(root: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(root))
    ) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


SERVERS = ["nginx json", "nginx html", "apache", "apache table", "http.server"]


@contextmanager
def serving(kind: str, root: Path, place: Path) -> Iterator[str]:
    if kind == "nginx json":
        running = nginx(root, place / "s", "autoindex on; autoindex_format json;")
    elif kind == "nginx html":
        running = nginx(root, place / "s", "autoindex on;")
    elif kind == "apache":
        running = apache(root, place / "s", "IndexOptions None")
    elif kind == "apache table":
        running = apache(root, place / "s", "IndexOptions FancyIndexing HTMLTable")
    else:
        running = http_server(root)
    with running as url:
        yield url


@contextmanager
def gateway(url: str, **settings: object) -> Iterator[TestApp]:
    made = Settings(upstream=url, **settings)
    running = Gateway(Upstream(url, made), made)
    try:
        yield TestApp(running)
    finally:
        running.close()


def unpacked(archive: bytes) -> list[tuple[str, bytes | None]]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return [
            (each.name, opened.extractfile(each).read() if each.isfile() else None)
            for each in opened
        ]


EXPECTED = sorted(
    [*FILES.items(), ("a/empty", None)],
    key=lambda pair: (pair[0] + ("/" if pair[1] is None else "")).encode(),
)


@pytest.mark.needs("nginx", "apache2")
def test_a_directory_is_the_same_archive_from_every_server(tree, tmp_path):
    archives = {}
    for number, kind in enumerate(SERVERS):
        (tmp_path / str(number)).mkdir()
        with serving(kind, tree, tmp_path / str(number)) as url, gateway(url) as app:
            response = app.get("/?bundle=./")
            archives[kind] = response.body, response.headers["ETag"]
            assert response.headers["Accept-Ranges"] == "bytes"
    assert unpacked(archives["nginx json"][0]) == EXPECTED
    assert len(set(archives.values())) == 1, {kind: tag for kind, (_, tag) in archives.items()}


@pytest.mark.needs("nginx")
def test_what_a_json_listing_tells_exactly_is_not_asked_again(tmp_path):
    root = tmp_path / "files"
    root.mkdir(mode=0o755)
    for number in range(1000):
        (root / f"{number}.txt").write_bytes(b"%d" % number)
        os.utime(root / f"{number}.txt", (OLD, OLD))
    with (
        nginx(root, tmp_path / "s", "autoindex on; autoindex_format json;") as url,
        gateway(url) as app,
    ):
        assert len(unpacked(app.get("/?bundle=./").body)) == 1000
    log = tmp_path / "s/access.log"  # whose lines come after their responses
    wait_until(lambda: log.read_text().count("\n") > 1000, "the log")
    asked = Counter(re.findall('"([A-Z]+ /)', log.read_text()))
    assert asked == {"GET /": 1001}

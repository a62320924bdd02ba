"""Directories as members, for real: what servers list, byte for byte."""

import io
import json
import os
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path
from shutil import which
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from webtest import TestApp

from tar_gateway import Gateway, Settings, Upstream
from tests.support.files_upstream import Canned, FilesUpstream
from tests.support.listing_servers import SERVERS
from tests.support.papers import rows
from tests.support.servers import gateway as running_gateway
from tests.support.servers import resident

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
    "size/1023": b"x" * 1023,
    "size/1536": b"x" * 1536,
    "size/1048575": b"x" * 1048575,
}

EXPECTED = sorted(
    [*FILES.items(), ("a/empty", None)],
    key=lambda pair: (pair[0] + ("/" if pair[1] is None else "")).encode(),
)


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


class Asked(Upstream):
    """An upstream that counts its requests by their methods."""

    def _request(self, method: str, *more: Any, **named: Any) -> Any:
        self.counted[method] += 1
        return super()._request(method, *more, **named)


@contextmanager
def gateway(url: str, **settings: object) -> Iterator[TestApp]:
    made = Settings(upstream=url, **settings)
    upstream = Asked(url, made)
    upstream.counted = Counter()
    running = Gateway(upstream, made)
    app = TestApp(running)
    app.asked = upstream.counted
    try:
        yield app
    finally:
        running.close()


def unpacked(archive: bytes) -> list[tuple[str, bytes | None]]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return [
            (each.name, opened.extractfile(each).read() if each.isfile() else None)
            for each in opened
        ]


def head(url: str) -> Mapping[str, str]:
    """Return the headers of a response to HEAD, of errors as well."""
    try:
        with urlopen(Request(url, method="HEAD")) as response:
            return response.headers
    except HTTPError as error:
        return error.headers


def missing_programs(name: str) -> list[str]:
    return [each for each in SERVERS[name].needs if not (which(each) or Path(each).is_file())]


@pytest.fixture(scope="module")
def reference(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, str]:
    """Return the archive that every server's listing has to make, and its tag."""
    place = tmp_path_factory.mktemp("place") / "s"
    with SERVERS["Python's `http.server`"].serve(tree, place) as url, gateway(url) as app:
        response = app.get("/?bundle=./")
    assert unpacked(response.body) == EXPECTED
    return response.body, response.headers["ETag"]


DIRECTORIES = 5


@pytest.mark.parametrize("name", SERVERS)
def test_a_directory_is_the_same_archive_from_every_server(tree, reference, tmp_path, name):
    if programs := missing_programs(name):
        pytest.skip(f"not installed: {', '.join(programs)}")
    server, files = SERVERS[name], len(FILES)
    for exact in (True, False):
        (tmp_path / str(exact)).mkdir()
        with (
            server.serve(tree, tmp_path / str(exact) / "s") as url,
            gateway(url, listings=server.listings, listing_exact=exact) as app,
        ):
            response = app.get("/?bundle=./")
            asked = Counter(app.asked)
        assert response.body == reference[0]
        assert response.headers["Accept-Ranges"] == "bytes"
        if not server.by_etag:
            assert response.headers["ETag"] == reference[1]
        if exact and server.exact:
            first = response.headers["ETag"]
            assert not asked["HEAD"]
            assert asked.total() == DIRECTORIES + files
        elif exact:
            assert asked["HEAD"] == files
        elif server.exact:  # asked about, each member gives the same to the tag
            assert response.headers["ETag"] == first
            assert asked["HEAD"] == files


def test_the_table_of_servers_says_what_they_do():
    told = {row[0]: row[2:] for row in rows("Which servers list directories") if len(row) == 6}
    assert told == {
        name: [
            f"`{server.listings}`",
            "used" if server.exact else "asked",
            "yes",
            "1 + n" if server.exact else "1 + 2n",
        ]
        for name, server in SERVERS.items()
    }


@pytest.mark.parametrize("name", ["nginx (JSON)", "Apache (mod_dav)"])
def test_what_a_listing_tells_exactly_is_not_asked_again(tmp_path, name):
    if programs := missing_programs(name):
        pytest.skip(f"not installed: {', '.join(programs)}")
    root, server = tmp_path / "files", SERVERS[name]
    root.mkdir(mode=0o755)
    for number in range(1000):
        (root / f"{number}.txt").write_bytes(b"%d" % number)
        os.utime(root / f"{number}.txt", (OLD, OLD))
    with (
        server.serve(root, tmp_path / "s") as url,
        gateway(url, listings=server.listings) as app,
    ):
        assert len(unpacked(app.get("/?bundle=./").body)) == 1000
        method = "PROPFIND" if server.listings == "webdav" else "GET"
        assert app.asked == Counter({"GET": 1000}) + Counter({method: 1})


@pytest.mark.needs("nginx")
def test_links_are_what_they_lead_to_and_pipes_are_left_out(tmp_path):
    root = tmp_path / "files"
    (root / "sub").mkdir(parents=True)
    root.chmod(0o755)
    (root / "sub/a.txt").write_bytes(b"alpha")
    (root / "link").symlink_to("sub/a.txt")
    (root / "linked").symlink_to("sub")
    (root / "dangling").symlink_to("nothing")
    (root / "itself").symlink_to("itself")
    os.mkfifo(root / "pipe")
    with SERVERS["nginx (JSON)"].serve(root, tmp_path / "s") as url, gateway(url) as app:
        names = [name for name, _ in unpacked(app.get("/?bundle=./").body)]
    assert names == ["link", "linked/a.txt", "sub/a.txt"]


@pytest.mark.needs("nginx")
def test_two_links_that_lead_back_up_end_at_once(tmp_path):
    root = tmp_path / "files"
    root.mkdir(mode=0o755)
    (root / "a.txt").write_bytes(b"alpha")
    (root / "one").symlink_to(".")
    (root / "two").symlink_to(".")
    for kind, place in (("nginx (JSON)", "json"), ("nginx (HTML)", "html")):
        with SERVERS[kind].serve(root, tmp_path / place) as url, gateway(url) as app:
            refused = app.get("/?bundle=./", status=502)
            assert "loop" in refused.json["members"][0]["reason"]
            assert app.asked.total() <= 3


NAMED = ["nginx (JSON)", "nginx (HTML)", "Apache (mod_autoindex)", "Caddy", "lighttpd (HTML)"]


@pytest.mark.parametrize("name", [*NAMED, "Python's `http.server`"])
def test_a_name_that_is_not_utf_8_is_told_and_the_rest_can_be_had(tmp_path, name):
    if programs := missing_programs(name):
        pytest.skip(f"not installed: {', '.join(programs)}")
    root = tmp_path / "files"
    root.mkdir(mode=0o755)
    (root / "a.txt").write_bytes(b"alpha")
    (root / os.fsdecode(b"caf\xe9.txt")).write_bytes(b"beta")
    (root / "back\\slash").write_bytes(b"gamma")
    with SERVERS[name].serve(root, tmp_path / "s") as url, gateway(url) as app:
        refused = app.get("/?bundle=./", status=502).json["members"][0]["reason"]
        assert "caf" in refused or "back" in refused
        response = app.get("/?bundle=./&missing=report")
        assert response.headers["Bundle-Missing"] == "2"
        members = dict(unpacked(response.body))
    assert members["a.txt"] == b"alpha"
    told = members["MISSING.txt"].decode()
    assert "is not valid UTF-8" in told
    assert "contains a backslash" in told


@pytest.mark.needs("caddy")
def test_a_directory_of_which_caddy_lists_a_part_is_an_error(tmp_path):
    root = tmp_path / "files"
    root.mkdir()
    for number in range(10_050):
        (root / f"{number}.txt").touch()
    with (
        SERVERS["Caddy"].serve(root, tmp_path / "s") as url,
        gateway(url, max_members=20_000) as app,
    ):
        refused = app.get("/?bundle=./", status=502)
    assert "file_limit" in refused.json["members"][0]["reason"]


@pytest.mark.needs("caddy")
def test_a_page_in_answer_to_propfind_is_no_listing(tree, tmp_path):
    with (
        SERVERS["Caddy"].serve(tree, tmp_path / "s") as url,
        gateway(url, listings="webdav") as app,
    ):
        refused = app.get("/?bundle=./", status=502)
    assert "does not list by WebDAV" in refused.json["members"][0]["reason"]


@pytest.mark.needs("nginx")
def test_an_index_page_in_place_of_a_listing_is_an_error(tmp_path):
    (tmp_path / "files/sub").mkdir(parents=True)
    (tmp_path / "files").chmod(0o755)
    (tmp_path / "files/sub/index.html").write_bytes(b"<html><a href=a.txt>a</a></html>")
    with (
        SERVERS["nginx (JSON)"].serve(tmp_path / "files", tmp_path / "s") as url,
        gateway(url) as app,
    ):
        (fault,) = app.get("/?bundle=./", status=502).json["members"]
    assert fault["path"] == "sub/"


@pytest.mark.alone
def test_a_plan_of_100_000_listed_files_takes_little_memory(tmp_path):
    count = 100_000
    date = formatdate(OLD, usegmt=True)
    files = ({"name": f"{n:06}", "type": "file", "mtime": date, "size": 4} for n in range(count))
    listing = Canned(200, (("Content-Type", "application/json"),), json.dumps([*files]).encode())
    with (
        FilesUpstream({"": listing, "few/": Canned(200, listing.headers, b"[]")}) as upstream,
        running_gateway(upstream.url, tmp_path, max_members=str(count)) as running,
    ):
        (worker,) = running.workers()
        head(f"{running.url}few/?bundle=./")
        idle = resident(worker)
        assert int(head(f"{running.url}?bundle=./")["Content-Length"]) > count * 1024
        assert resident(worker) - idle < 128 * 1024 * 1024
        assert {each.target for each in upstream.requests} == {"/", "/few/"}

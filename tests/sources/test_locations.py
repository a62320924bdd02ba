"""Several places as one: every path belongs to the servers of the longest prefix it begins with."""

import io
import json
import os
import random
import tarfile
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import quote, unquote
from wsgiref.validate import validator

import pytest
from webtest import TestApp

from tar_gateway import Gateway, Settings
from tar_gateway.sources.locations import file_server
from tests.support import servers
from tests.support.files_upstream import TEXT, Canned, FilesUpstream
from tests.support.servers import nginx

NAMES = ("a", "b", "c")


@contextmanager
def gateway(place: Path, toml: str, **upstreams: FilesUpstream) -> Iterator[TestApp]:
    """Give a gateway by a file of locations, in which ``{a}`` is the URL of upstream ``a``."""
    with ExitStack() as stack:
        urls = {name: stack.enter_context(each).url for name, each in upstreams.items()}
        file = place / "locations.toml"
        file.write_text(toml.format(**urls), "utf-8")
        settings = Settings(locations_file=file, retries=0)
        made = Gateway(file_server(settings), settings)
        stack.callback(made.close)
        yield TestApp(validator(made), lint=True)


def members_of(app: TestApp, url: str) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(app.get(url, status=200).body)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}


ROUTES = """
[[location]]
prefix = "/reports/"
upstream = "{b}base/"

[[location]]
prefix = "/"
upstream = "{a}"

[[location]]
prefix = "/reports/old/"
upstream = "{c}"

[[location]]
prefix = "/ü ß%/"
upstream = ["{c}deep/"]
"""
# A path below the gateway, the server it is asked of, and the path there.
TABLE = [
    ("x", "a", "x"),
    ("reports.pdf", "a", "reports.pdf"),
    ("base/x", "a", "base/x"),
    ("reports/x", "b", "base/x"),
    ("reports/older/x", "b", "base/older/x"),
    ("reports/ü ß%/x", "b", "base/ü ß%/x"),
    ("reports/old/x", "c", "x"),
    ("reports/old/reports/old/x", "c", "reports/old/x"),
    ("ü ß%/x", "c", "deep/x"),
]


@pytest.fixture(scope="module")
def routes(tmp_path_factory) -> Iterator[TestApp]:
    """Give a gateway whose servers answer with their name and the path that they were asked for."""
    upstreams = {
        name: FilesUpstream({path: f"{name}:{path}".encode() for _, _, path in TABLE})
        for name in NAMES
    }
    with gateway(tmp_path_factory.mktemp("locations"), ROUTES, **upstreams) as app:
        yield app


@pytest.mark.parametrize(("path", "server", "there"), TABLE)
def test_a_plain_file_comes_from_where_its_path_belongs(routes: TestApp, path, server, there):
    assert routes.get("/" + quote(path), status=200).text == f"{server}:{there}"


@pytest.mark.parametrize(("path", "server", "there"), TABLE)
def test_a_location_is_found_however_its_prefix_is_spelled(routes: TestApp, path, server, there):
    spelled = "/" + "".join(f"%{byte:02x}" for byte in path.encode())
    found = routes.get("/" + quote(path), extra_environ={"RAW_URI": spelled}, status=200)
    assert found.text == f"{server}:{there}"


@pytest.mark.parametrize(("path", "server", "there"), TABLE)
def test_a_member_comes_from_where_its_path_belongs(routes: TestApp, path, server, there):
    directory, _, name = quote(path).rpartition("/")
    assert members_of(routes, f"/{directory}?bundle={name}") == {
        unquote(name): f"{server}:{there}".encode()
    }


def test_one_bundle_may_have_members_of_every_location(routes: TestApp):
    query = "&".join(f"bundle={quote(path)}" for path, _, _ in TABLE)
    assert members_of(routes, "/?" + query) == {
        path: f"{server}:{there}".encode() for path, server, there in TABLE
    }


ALONE = '[[location]]\nprefix = "/reports/"\nupstream = "{a}"\n'


@pytest.mark.parametrize("path", ["/x", "/", "/reports", "/reportsx/x", "/other/reports/x"])
def test_a_path_in_no_location_does_not_exist(tmp_path: Path, path: str):
    upstream = FilesUpstream({"x": b"here", "": b"here"})
    with gateway(tmp_path, ALONE, a=upstream) as app:
        refused = app.get(path, status=404)
        assert refused.json["detail"] == "it lies in no location"
        assert app.get("/reports/x").body == b"here"
    assert len(upstream.requests) == 1


def test_a_member_in_no_location_is_named(tmp_path: Path):
    upstream = FilesUpstream({"x": b"here"})
    with gateway(tmp_path, ALONE, a=upstream) as app:
        refused = app.get("/?bundle=reports/x&bundle=other/x", status=404)
    assert [member["path"] for member in refused.json["members"]] == ["other/x"]


def test_the_directory_of_a_location_is_the_base_of_its_upstream(tmp_path: Path):
    index = FilesUpstream({"base/": Canned(200, (TEXT,), b"index")})
    with gateway(tmp_path, ALONE.replace("{a}", "{a}base/"), a=index) as app:
        assert app.get("/reports/").body == b"index"


# --- redirects ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "given"),
    [
        ("/base/y/?q=1", "/reports/y/?q=1"),
        ("{b}base/y/", "/reports/y/"),
        ("/elsewhere", "/elsewhere"),
        ("{a}base/y/", "{a}base/y/"),
    ],
)
def test_a_redirect_is_translated_by_the_location_that_it_came_from(tmp_path, told, given):
    a, b, c = (FilesUpstream() for _ in NAMES)
    with gateway(tmp_path, ROUTES, a=a, b=b, c=c) as app:
        urls = {"a": a.url, "b": b.url}
        told = told.format(**urls)
        b.files["base/y"] = Canned(301, (TEXT, ("Location", told)))
        location = app.get("/reports/y", status=301).headers["Location"]
    assert location == given.format(**urls)


# --- whose headers ------------------------------------------------------------------------------

SECRETS = """
[[location]]
prefix = "/a/"
upstream = ["{a}", "{b}"]
headers_file = "a.headers"

[[location]]
prefix = "/c/"
upstream = "{c}"
headers_file = "sub/c.headers"

[[location]]
prefix = "/d/"
upstream = "{d}"
"""


def test_the_headers_of_a_location_go_to_its_own_servers_and_to_no_other(tmp_path: Path):
    (tmp_path / "a.headers").write_text("X-Api-Key: secret of a\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.headers").write_text("X-Api-Key: secret of c\n")
    upstreams = {name: FilesUpstream({"x": name.encode(), "y": b""}) for name in "abcd"}
    for name in "ab":  # one redirects to the others, and one is not able to
        upstreams[name].files["r"] = Canned(302, (TEXT, ("Location", "/c/x")))
    upstreams["a"].files["y"] = upstreams["b"].files["y"] = Canned(503, (TEXT,))
    with gateway(tmp_path, SECRETS, **upstreams) as app:
        for path in ("a/x", "c/x", "d/x"):
            app.get("/" + path)
        app.get("/?bundle=a/x&bundle=c/x&bundle=d/x")
        app.get("/a/r", status=302)
        app.get("/a/y", status=503)
        app.get("/?bundle=a/r", status=502)
        app.get("/?bundle=a/y&bundle=c/x&bundle=d/x", status=502)
    sent = {
        name: {request.headers.get("x-api-key") for request in upstream.requests}
        for name, upstream in upstreams.items()
    }
    assert sent == {"a": {"secret of a"}, "b": {"secret of a"}, "c": {"secret of c"}, "d": {None}}


def test_what_the_client_sends_does_not_stand_in_for_the_headers_of_a_location(tmp_path: Path):
    (tmp_path / "a.headers").write_text("X-Api-Key: secret\n")
    toml = ALONE + 'headers_file = "a.headers"\n'
    upstream = FilesUpstream({"x": b"here"})
    with gateway(tmp_path, toml, a=upstream) as app:
        app.get("/reports/x", headers={"X-Api-Key": "mine"})
    assert [request.headers["x-api-key"] for request in upstream.requests] == ["secret"]


def test_a_location_has_its_own_times(tmp_path: Path):
    slow = FilesUpstream({"x": b"slow"}, before=lambda _: threading.Event().wait(0.3))
    toml = (
        '[[location]]\nprefix = "/hasty/"\nupstream = "{a}"\nread_timeout = 0.1\n'
        '[[location]]\nprefix = "/patient/"\nupstream = "{a}"\n'
    )
    with gateway(tmp_path, toml, a=slow) as app:
        assert app.get("/patient/x").body == b"slow"
        app.get("/hasty/x", status=504)


LIMITED = """
[[location]]
prefix = "/"
upstream = "{a}"
max_members = 4

[[location]]
prefix = "/few/"
upstream = "{a}"
max_members = 2

[[location]]
prefix = "/many/"
upstream = "{a}"
max_members = 5

[[location]]
prefix = "/small/"
upstream = "{a}"
max_bytes = 25000
"""


@pytest.mark.parametrize(
    ("members", "status"),
    [
        ("1 2 3 4", 200),
        ("1 2 3 4 5", 413),
        ("many/1 many/2 many/3 many/4 many/5", 200),
        ("many/1 many/2 many/3 many/4 5", 413),
        ("few/1 few/2", 200),
        ("few/1 few/2 few/3", 413),
        ("few/1 2 3", 413),
        ("1 2 few/3", 413),
        ("small/1", 200),
        ("small/1 2", 413),
        ("few/1 small/2", 413),
        ("1 nowhere/small/1 nowhere/few/1", 200),
    ],
)
def test_a_bundle_keeps_to_the_limits_of_every_location_it_has_a_member_of(
    tmp_path: Path, members: str, status: int
):
    upstream = FilesUpstream(dict.fromkeys("12345", b"x" * 10000))
    upstream.files |= {"nowhere/small/1": b"x" * 10_000, "nowhere/few/1": b"x" * 10_000}
    with gateway(tmp_path, LIMITED, a=upstream) as app:
        query = "&".join(f"bundle={member}" for member in members.split())
        app.get("/?" + query, status=status)
    if status == 413 and "small" not in members:
        assert upstream.requests == []


# --- failover -----------------------------------------------------------------------------------


def test_a_location_of_several_servers_does_without_one(tmp_path: Path):
    with FilesUpstream() as gone:
        url = gone.url
    toml = f'[[location]]\nprefix = "/"\nupstream = ["{url}", "{{a}}"]\n'
    files = {str(number): str(number).encode() for number in range(20)}
    with gateway(tmp_path, toml, a=FilesUpstream(files)) as app:
        assert members_of(app, "/?" + "&".join(f"bundle={name}" for name in files)) == files


@pytest.mark.needs("nginx")
@pytest.mark.parametrize("worker", ["threads", "gevent"])
def test_a_download_goes_on_when_its_server_is_stopped(tmp_path: Path, worker: str):
    content = random.Random(7).randbytes(4 * 1024 * 1024)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.bin").write_bytes(content)
    os.utime(tmp_path / "files" / "a.bin", (1_600_000_000, 1_600_000_000))
    places = [tmp_path / "first", tmp_path / "second"]
    with ExitStack() as stack:
        stops = [stack.enter_context(ExitStack()) for _ in places]
        urls = [
            stop.enter_context(nginx(tmp_path / "files", place, "limit_rate 4m;"))
            for stop, place in zip(stops, places, strict=True)
        ]
        file = tmp_path / "locations.toml"
        file.write_text(f'[[location]]\nprefix = "/"\nupstream = {json.dumps(urls)}\n')
        options = servers.WORKERS[worker]
        running = stack.enter_context(
            servers.gateway("", tmp_path / "gateway", *options, locations_file=str(file))
        )
        url = running.url + "?bundle=a.bin"
        answer = stack.enter_context(urllib.request.urlopen(url, timeout=servers.PATIENCE))
        received = answer.read(100_000)
        asked = ["HEAD" in (place / "access.log").read_text() for place in places]
        assert sorted(asked) == [False, True]
        stops[asked.index(True)].close()
        received += answer.read()
        assert len(received) == int(answer.headers["Content-Length"])
        assert received[512 : 512 + len(content)] == content
        log = places[asked.index(False)] / "access.log"
        servers.wait_until(lambda: " 206 " in log.read_text(), "the other server's line")

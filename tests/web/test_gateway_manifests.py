"""Long lists that are files of the upstream: read with the caller's rights, and resumable."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from hashlib import sha256

import pytest
from webtest import TestApp

from tar_gateway import Gateway, Settings, Upstream
from tests.support import files_upstream
from tests.support.answers import lasting
from tests.support.files_upstream import TEXT, Canned, FilesUpstream, gateway_to
from tests.support.scripted import Fault, File, Script, Scripted, Wire, answer, close

URL = "/reports/?bundle&manifest=lists/all.json"
LIST = json.dumps({"members": ["a.txt", {"path": "sub/b.txt", "name": "b"}], "filename": "all.tar"})


@pytest.fixture
def upstream() -> Iterator[FilesUpstream]:
    files = {
        "reports/a.txt": b"alpha",
        "reports/sub/b.txt": b"beta",
        "reports/lists/all.json": LIST.encode(),
    }
    with FilesUpstream(files) as running:
        yield running


@pytest.fixture
def app(upstream: FilesUpstream) -> Iterator[TestApp]:
    with gateway_to(upstream) as running:
        yield running


def test_a_manifest_is_the_json_list_as_it_is_posted(app):
    listed = app.get(URL, status=200)
    posted = app.post_json("/reports/?bundle", json.loads(LIST))
    assert listed.body == posted.body
    assert listed.headers["Content-Disposition"] == 'attachment; filename="all.tar"'
    assert lasting(app.head(URL)) == lasting(listed)


def test_a_no_store_of_the_manifest_is_kept(app, upstream):
    more = (("Cache-Control", "no-store"),)
    upstream.files["reports/lists/all.json"] = files_upstream.File(LIST.encode(), more=more)
    assert app.get(URL).headers["Cache-Control"] == "private, no-cache, no-store, no-transform"


def test_a_file_name_in_the_query_comes_before_the_lists(app):
    response = app.get(URL + "&filename=mine.tar")
    assert response.headers["Content-Disposition"] == 'attachment; filename="mine.tar"'


def test_an_archive_of_a_manifest_can_be_resumed(app):
    whole = app.get(URL)
    headers = {"Range": "bytes=500-1600", "If-Range": whole.headers["ETag"]}
    assert app.get(URL, headers=headers, status=206).body == whole.body[500:1601]
    version = whole.headers["ETag"].strip('"')
    assert whole.headers["Link"] == (
        f'<?bundle&manifest=lists/all.json&v={version}>; rel="bookmark"'
    )


def test_a_manifest_is_read_with_the_callers_credentials(app, upstream):
    upstream.credentials = "Bearer caller"
    app.get(URL, headers={"Authorization": "Bearer caller"}, status=200)
    refused = app.get(URL, status=401)
    assert refused.headers["WWW-Authenticate"] == 'Basic realm="files"'
    assert [fault["path"] for fault in refused.json["members"]] == ["reports/lists/all.json"]


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (Canned(404, (TEXT,)), 404),
        (Canned(403, (TEXT,)), 403),
        (Canned(500, (TEXT,)), 502),
        (Canned(302, (TEXT, ("Location", "/login"))), 502),
    ],
)
def test_a_manifest_that_cannot_be_had_is_the_member_at_fault(app, upstream, answer, status):
    upstream.files["reports/lists/all.json"] = answer
    response = app.get(URL, status=status)
    assert [fault["path"] for fault in response.json["members"]] == ["reports/lists/all.json"]
    assert not any(request.target.endswith(".txt") for request in upstream.requests)


@pytest.mark.parametrize("text", ["", "<html>", "{}", '{"members": ["../up"]}', '{"members": []}'])
def test_a_manifest_that_makes_no_sense_is_a_bad_request(app, upstream, text):
    upstream.files["reports/lists/all.json"] = text.encode()
    response = app.get(URL, status=400)
    assert response.json["title"] == "Bad Request"
    assert not any(request.target.endswith(".txt") for request in upstream.requests)


@pytest.mark.parametrize(("limit", "status"), [(len(LIST), 200), (len(LIST) - 1, 413)])
def test_a_manifest_above_the_limit_of_a_body_is_413(upstream, limit, status):
    with gateway_to(upstream, max_body=limit) as app:
        response = app.get(URL, status=status)
    assert len(response.body) > 0


NEVER = threading.Event()
DATED = ('ETag: "1"', "Last-Modified: Sun, 13 Sep 2020 12:26:40 GMT")
SIZED = (*DATED, f"Content-Length: {len(LIST)}")
UNSIZED = (*DATED, "Connection: close")


@contextmanager
def asked(server: Scripted, settings: Settings) -> Iterator[TestApp]:
    """Give a gateway to a scripted upstream."""
    with closing(Gateway(Upstream(server.url, settings), settings)) as gateway:
        yield TestApp(gateway)


def silent(wire: Wire) -> None:
    """Send nothing more."""
    wire.stall(NEVER)


def dripping(wire: Wire) -> None:
    """Send a byte now and then."""
    wire.drip(LIST.encode(), pause=0.05)


def then(act: Script, *headers: str) -> Script:
    """Answer HEAD, and a GET with these headers and the list's beginning before ``act``."""

    def script(wire: Wire) -> None:
        wire.send("\r\n".join(("HTTP/1.1 200 OK", *headers, "", "")).encode())
        if wire.request.method == "GET":
            wire.give(LIST[:1].encode())
            act(wire)

    return script


@pytest.mark.parametrize("headers", [SIZED, UNSIZED], ids=["sized", "unsized"])
@pytest.mark.parametrize(
    ("act", "bounds"),
    [
        (silent, {"plan_timeout": 0.5}),
        (dripping, {"plan_timeout": 0.5, "min_read_rate": 0}),
    ],
)
def test_a_manifest_is_read_within_the_time_of_a_plan(headers, act, bounds):
    settings = Settings(retries=2, **bounds)
    with Scripted({"/all.json": then(act, *headers)}) as server, asked(server, settings) as app:
        began = time.monotonic()
        response = app.get("/?bundle&manifest=all.json", status=504)
        assert time.monotonic() - began < 2.5
    assert [fault["path"] for fault in response.json["members"]] == ["all.json"]


def test_a_manifest_that_drips_is_broken_off_before_that():
    settings = Settings(retries=0, read_timeout=0.3, min_read_rate=1024)
    script = then(dripping, *SIZED)
    with Scripted({"/all.json": script}) as server, asked(server, settings) as app:
        response = app.get("/?bundle&manifest=all.json", status=504)
    (fault,) = response.json["members"]
    assert (fault["path"], "too slowly" in fault["reason"]) == ("all.json", True)


@pytest.mark.parametrize("etag", ['"1"', 'W/"1"'], ids=["proved", "unproved"])
def test_a_manifest_that_breaks_off_is_read_all_the_same(etag):
    text = json.dumps({"members": ["a"]}).encode()
    settings = Settings(retries=1, retry_pause=0)
    with (
        Scripted({"/all.json": File(text, etag, headers=()), "/a": answer(b"alpha")}) as server,
        asked(server, settings) as app,
    ):
        server.break_at("/all.json", Fault(5, close))
        app.get("/?bundle&manifest=all.json", status=200)
        asked_for = [seen.get("Range") for seen in server.requests if seen.method == "GET"]
    assert len(asked_for) > 1


def test_an_unsized_manifest_is_read_no_further_than_shows_that_it_is_too_large():
    def endless(wire: Wire) -> None:
        while True:
            wire.give(b"a" * 65536)

    settings = Settings(max_body=1000)
    with (
        Scripted({"/all.json": then(endless, *UNSIZED)}) as server,
        asked(server, settings) as app,
    ):
        response = app.get("/?bundle&manifest=all.json", status=413)
    assert "the manifest 'all.json' is larger than the 1000 bytes" in response.json["detail"]


def test_a_manifest_is_not_held_to_the_limit_of_an_archive(upstream):
    with gateway_to(upstream, max_bytes=10240) as app:
        upstream.files["reports/lists/all.json"] = (" " * 20_000 + LIST).encode()
        app.get(URL, status=200)


DIGEST = sha256(LIST.encode()).hexdigest()


@pytest.mark.parametrize("digest", [DIGEST, DIGEST.upper()])
def test_a_manifest_of_the_digest_that_is_named_is_read(app, digest):
    assert (
        app.get(f"{URL}&manifest_sha256={digest}").headers["ETag"] == app.get(URL).headers["ETag"]
    )


@pytest.mark.parametrize("digest", [DIGEST[:-1], sha256(b"other").hexdigest(), "x", ""])
def test_a_manifest_of_another_digest_is_refused(app, digest):
    refused = app.get(f"{URL}&manifest_sha256={digest}", status=412)
    assert "manifest_sha256=" in refused.json["detail"]


def test_a_digest_without_a_manifest_is_refused(app):
    refused = app.get(f"/reports/?bundle=a.txt&manifest_sha256={DIGEST}", status=400)
    assert "manifest=" in refused.json["detail"]

"""Members that change or fail between their stat and their fetch: planned again, or broken off."""

from collections.abc import Iterator
from contextlib import closing

import pytest
import webob
from webtest import TestApp

from tar_gateway import TarGatewayError
from tests.support.files_upstream import (
    MTIME,
    TEXT,
    Canned,
    File,
    FilesUpstream,
    Request,
    gateway_to,
)

URL = "/reports/?bundle=a.txt&bundle=b.txt"


@pytest.fixture
def upstream() -> Iterator[FilesUpstream]:
    with FilesUpstream({"reports/a.txt": b"alpha", "reports/b.txt": b"beta"}) as running:
        yield running


@pytest.fixture
def app(upstream: FilesUpstream) -> Iterator[TestApp]:
    with gateway_to(upstream) as running:
        yield running


NO_STORE = (("Cache-Control", "private, no-store"),)


def test_caches_have_to_ask_before_they_show_an_archive_again(app):
    whole = app.get(URL)
    assert whole.headers["Cache-Control"] == "private, no-cache, no-transform"
    same = app.get(URL, headers={"If-None-Match": whole.headers["ETag"]}, status=304)
    assert same.headers["Cache-Control"] == "private, no-cache, no-transform"


@pytest.mark.parametrize("etag", ["", None, 'W/"1"'])
def test_a_no_store_of_one_member_is_kept(app, upstream, etag):
    upstream.files["reports/b.txt"] = File(b"beta", MTIME, etag, NO_STORE)
    for response in (app.get(URL), app.head(URL), app.get(URL, headers={"Range": "bytes=0-9"})):
        assert response.headers["Cache-Control"] == "private, no-cache, no-store, no-transform"
    alone = app.get(URL.removesuffix("&bundle=b.txt"))
    assert "no-store" not in alone.headers["Cache-Control"]


def change(upstream: FilesUpstream, path: str, content: bytes, *, times: int = 1) -> None:
    """Let a file be another one as soon as it is fetched, so many times."""
    left = [content + b"!" * number for number in range(times)]

    def before(request: Request) -> None:
        if request.method == "GET" and request.target == f"/{path}" and left:
            upstream.files[path] = File(left.pop(0), MTIME + 5)

    upstream.before = before


@pytest.mark.parametrize("content", [b"new", b"ahpla", b"alpha and more"])
def test_a_first_member_that_changes_after_its_stat_is_planned_again(app, upstream, content):
    change(upstream, "reports/a.txt", content)
    response = app.get(URL, status=200)
    assert response.body[512 : 512 + len(content)] == content
    assert response.headers["Last-Modified"] == "Sun, 13 Sep 2020 12:26:45 GMT"


def test_a_first_member_that_never_stays_the_same_is_a_bad_gateway(app, upstream):
    change(upstream, "reports/a.txt", b"new", times=9)
    response = app.get(URL, status=502)
    assert [member["path"] for member in response.json["members"]] == ["reports/a.txt"]


def test_a_range_is_decided_again_with_the_new_plan(app, upstream):
    etag = app.get(URL).headers["ETag"]
    change(upstream, "reports/a.txt", b"new")
    headers = {"Range": "bytes=512-514", "If-Range": etag}
    response = app.get(URL, headers=headers, status=200)
    assert response.body[512:515] == b"new"
    assert response.headers["ETag"] != etag


def read_until_it_breaks(app: TestApp, url: str, headers: dict[str, str]) -> tuple[int, bytes]:
    """Read a response that has to break; give the length it promised and what came of it."""
    request = webob.Request.blank(url, headers=headers)
    status, fields, blocks = request.call_application(app.app)
    received: list[bytes] = []
    with closing(blocks), pytest.raises(TarGatewayError) as raised:
        received.extend(blocks)
    assert status[:2] == "20"
    assert not isinstance(raised.value, OSError | StopIteration)
    return int(dict(fields)["Content-Length"]), b"".join(received)


def replaced(upstream: FilesUpstream, answer: File | Canned) -> None:
    """Let the second member be answered so once the first is fetched."""

    def before(request: Request) -> None:
        if request.method == "GET":
            upstream.files["reports/b.txt"] = answer

    upstream.before = before


@pytest.mark.parametrize(
    "answer",
    [
        File(b"BETA"),
        File(b"beta and more"),
        File(b""),
        Canned(404, (TEXT,)),
        Canned(401, (TEXT,)),
        Canned(500, (TEXT,)),
        Canned(302, (TEXT, ("Location", "/login"))),
        Canned(200, (TEXT,), b"<html>login</html>"),
        Canned(200, tuple(File(b"beta").headers().items()), b"be", length=4),
    ],
)
def test_an_archive_whose_member_changes_or_fails_when_some_was_sent_breaks_off(
    app, upstream, answer
):
    whole = app.get(URL).body
    replaced(upstream, answer)
    promised, received = read_until_it_breaks(app, URL, {})
    assert promised == len(whole)
    assert len(received) < promised
    assert received == whole[: len(received)]
    assert b"alpha" in received


def test_a_range_breaks_off_as_the_whole_does(app, upstream):
    whole = app.get(URL).body
    replaced(upstream, File(b"BETA"))
    promised, received = read_until_it_breaks(app, URL, {"Range": "bytes=512-2049"})
    assert promised == 2050 - 512
    assert received == whole[512:1536]


def test_after_a_broken_archive_the_next_one_is_whole(app, upstream):
    replaced(upstream, File(b"BETA"))
    read_until_it_breaks(app, URL, {})
    assert b"BETA" in app.get(URL).body


def differs(upstream: FilesUpstream, path: str, answer: File | Canned) -> None:
    """Let a file be another one to GET than to HEAD."""
    file = upstream.files[path]

    def before(request: Request) -> None:
        if request.target == f"/{path}":
            upstream.files[path] = file if request.method == "HEAD" else answer

    upstream.before = before


@pytest.mark.parametrize(("status", "told"), [(403, 403), (401, 401), (404, 404), (500, 502)])
def test_a_member_that_head_promises_and_get_refuses_is_named_by_the_next_attempt(
    app, upstream, status, told
):
    differs(upstream, "reports/b.txt", Canned(status, (TEXT,)))
    read_until_it_breaks(app, URL, {})
    for headers in ({}, {"Range": "bytes=100-"}):
        response = app.get(URL, headers=headers, status=told)
        (fault,) = response.json["members"]
        assert (fault["path"], fault["status"]) == ("reports/b.txt", told)


def test_a_first_member_that_head_promises_and_get_refuses_is_a_status(app, upstream):
    differs(upstream, "reports/a.txt", Canned(403, (TEXT,)))
    app.get(URL, status=403)


@pytest.mark.parametrize("etag", ["", '"1"', 'W/"1"', None], ids=["another", "same", "weak", "no"])
def test_a_member_is_as_long_as_get_says(app, upstream, etag):
    changed = File(b"alpha<script/>", etag=etag)
    upstream.files["reports/a.txt"] = File(b"alpha", etag=etag)
    differs(upstream, "reports/a.txt", changed)
    assert app.get(URL).body[512:526] == changed.content
    upstream.files["reports/a.txt"] = File(b"alpha", etag=etag)
    swapped = "/reports/?bundle=b.txt&bundle=a.txt"
    assert app.get(swapped).body[1536:1550] == changed.content


def test_a_later_member_is_as_long_as_get_says_in_the_next_attempt(app, upstream):
    differs(upstream, "reports/b.txt", File(b"beta<script/>"))
    read_until_it_breaks(app, URL, {})
    assert app.get(URL).body[1536:1549] == b"beta<script/>"

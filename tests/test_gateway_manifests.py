"""Long lists that are files of the upstream: read with the caller's rights, and resumable."""

import json
from collections.abc import Iterator

import pytest
from webtest import TestApp

from tests.answers import lasting
from tests.files_upstream import TEXT, Canned, FilesUpstream, gateway_to

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

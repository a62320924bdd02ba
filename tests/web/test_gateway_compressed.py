"""Compressed tars: what is said of them, and to whom they are not sent."""

import gzip
import io
import tarfile
from collections.abc import Iterator

import pytest
from backports import zstd
from webtest import TestApp

from tar_gateway.web import bundles
from tests.support.files_upstream import FilesUpstream, gateway_to

FILES = {"a.txt": b"alpha" * 1000, "b.txt": b"beta"}
SEEING = {"SERVER_SOFTWARE": "waitress", "SERVER_PROTOCOL": "HTTP/1.1"}
BOTH = "/?bundle=a.txt&bundle=b.txt"
FORMATS = {
    "tar.gz": ("application/gzip", gzip.decompress),
    "tar.zst": ("application/zstd", zstd.decompress),
}


@pytest.fixture
def app() -> Iterator[TestApp]:
    with FilesUpstream(dict(FILES)) as upstream, gateway_to(upstream) as running:
        running.extra_environ |= SEEING
        yield running


@pytest.mark.parametrize("format", FORMATS)
def test_it_is_the_tar_compressed(app, format):
    media_type, decompress = FORMATS[format]
    response = app.get(f"{BOTH}&format={format}&filename=mine.zip")
    tar = decompress(response.body)
    assert tar == app.get(BOTH).body
    assert len(response.body) < len(tar) / 10
    assert response.content_type == media_type
    assert response.headers["Content-Disposition"] == f'attachment; filename="mine.{format}"'


@pytest.mark.parametrize("method", ["get", "head"])
def test_nothing_is_promised_of_its_bytes(app, method):
    asked = {"Range": "bytes=3-", "If-None-Match": '"x"'}
    response = getattr(app, method)(f"{BOTH}&format=tar.gz", headers=asked)
    assert response.status_code == 200
    assert response.headers["Accept-Ranges"] == "none"
    measured = {"ETag", "Link", "Content-Range"} | (
        {"Content-Length"} if method == "head" else set()
    )
    assert measured.isdisjoint(response.headers)  # the test's client adds a length to a body


def test_a_condition_on_a_tag_that_it_does_not_have_fails(app):
    app.get(f"{BOTH}&format=tar.gz", headers={"If-Match": '"x"'}, status=412)


def test_it_can_be_had_of_one_version(app):
    tag = app.head(BOTH).headers["ETag"].strip('"')
    app.get(f"{BOTH}&format=tar.gz&v={tag}", status=200)
    app.get(f"{BOTH}&format=tar.gz&v={tag[:-1]}", status=412)


def test_its_plan_tells_neither_size_nor_offsets(app):
    plan = app.get(f"{BOTH}&format=tar.gz&plan=json").json
    assert (plan["size"], plan["etag"], plan["filename"]) == (None, None, "bundle.tar.gz")
    assert {(each["offset"], each["data_offset"]) for each in plan["members"]} == {(None, None)}
    assert gzip.decompress(app.get(f"/{plan['link']}").body) == app.get(BOTH).body


@pytest.mark.parametrize(
    "environ",
    [{"SERVER_PROTOCOL": "HTTP/1.0"}, {"SERVER_SOFTWARE": "unknown/1"}, {"SERVER_SOFTWARE": ""}],
)
@pytest.mark.parametrize("method", ["get", "head"])
def test_it_is_not_sent_where_a_broken_one_would_look_whole(app, environ, method):
    target = f"{BOTH}&format=tar.gz"
    response = getattr(app, method)(target, extra_environ=environ, status=406)
    if method == "get":
        assert "format=tar or format=zip" in response.json["detail"]
    app.get(BOTH, extra_environ=environ, status=200)
    app.get(f"{target}&plan=json", extra_environ=environ, status=200)


def test_a_format_whose_library_is_missing_is_named(app, monkeypatch):
    monkeypatch.setattr(bundles, "CODINGS", {"gzip"})
    detail = app.get(f"{BOTH}&format=tar.zst", status=400).json["detail"]
    assert detail == "the format 'tar.zst' is not installed here: use tar or zip or tar.gz"


def test_it_has_digests_too(app):
    body = app.get(f"{BOTH}&format=tar.gz&checksums=sha256").body
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        assert archive.getnames() == ["a.txt", "b.txt", "SHA256SUMS"]

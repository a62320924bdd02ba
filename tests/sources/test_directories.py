"""How far a server's listings are believed, and what they give to an archive's tag."""

import io
import json
import logging
from email.utils import formatdate
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tar_gateway.errors import SettingsError, SourceError
from tar_gateway.http.validators import Validator
from tar_gateway.settings import Settings
from tar_gateway.sources import Listed, Listing, Stat
from tar_gateway.sources.directories import DOUBT, Directories, version_of
from tar_gateway.sources.judgement import stat_of
from tar_gateway.sources.wire.asking import Steps, calling
from tar_gateway.sources.wire.cancellation import Cancellation
from tar_gateway.sources.wire.loop import run
from tar_gateway.sources.wire.response import Headers, Response

MTIME = 1_600_000_000
JSON, HTML, XML = "application/json", "text/html", "text/xml"


def date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)


def as_json(mtime: int, etag: str | None) -> bytes:
    row = {"name": "a", "type": "file", "mtime": date(mtime), "size": 5}
    return json.dumps([row]).encode()


def as_page(mtime: int, etag: str | None) -> bytes:
    return b"<html><title>Index of /d/</title><a href=a>a</a></html>"


def as_multistatus(mtime: int, etag: str | None) -> bytes:
    tag = "" if etag is None else f"<getetag>{escape(etag)}</getetag>"
    return (
        '<multistatus xmlns="DAV:"><response><href>/d/</href></response><response><href>/d/a</href>'
        f"<propstat><prop><getcontentlength>5</getcontentlength>{tag}"
        f"<getlastmodified>{date(mtime)}</getlastmodified></prop></propstat></response></multistatus>"
    ).encode()


KINDS = {
    "json": (as_json, JSON, "auto", 200),
    "page": (as_page, HTML, "auto", 200),
    "webdav": (as_multistatus, XML, "webdav", 207),
}


class Bytes:
    """A content of these bytes."""

    def __init__(self, body: bytes) -> None:
        self._stream = io.BytesIO(body)

    def read(self, limit: int) -> bytes:
        return self._stream.read(limit)

    def close(self) -> None:
        """Release nothing."""


class Told:
    """A server that lists a directory of one file, and what is made of that."""

    def __init__(self, kind: str = "json", *, exact: bool = True) -> None:
        self._body, self._type, listings, self._status = KINDS[kind]
        self.now = 0.0
        settings = Settings(listings=listings, listing_exact=exact)
        self.directories = Directories("http://files/", settings, clock=lambda: self.now)

    def list(self, mtime: int = MTIME, etag: str | None = None, made: int = MTIME + 60) -> Listed:
        body = self._body(mtime, etag)
        headers = [("Content-Type", self._type), ("Date", date(made))]

        def ask(method: str, path: str, sent: Headers) -> Steps[Response]:
            return calling(lambda: Response(self._status, headers, Bytes(body)))

        listing: Listing = run(self.directories.list(ask, "d/", "/d/"), Cancellation())
        return listing.entries[0]


def answered(status: int, headers: Headers = (), kind: str = "auto") -> Listing:
    """Return what is made of one response to the question for a directory."""

    def ask(method: str, path: str, sent: Headers) -> Steps[Response]:
        return calling(lambda: Response(status, headers, Bytes(b"")))

    directories = Directories("", Settings(listings=kind))
    return run(directories.list(ask, "d/", "/d/"), Cancellation())


def test_an_exact_size_with_a_strong_date_is_all_that_a_head_would_tell():
    listed = Told().list()
    assert listed.stat == Stat(5, MTIME, Validator(date(MTIME), strong=True))
    assert listed.stat.told_by == "http://files/"


def test_a_date_that_is_not_strong_yet_is_asked_about():
    assert Told().list(made=MTIME).stat is None


def test_a_tag_is_the_validator_where_a_listing_tells_it():
    listed = Told("webdav").list(etag='"v1"', made=MTIME)
    assert listed.tells_etag
    assert listed.stat is not None
    assert listed.stat.validator == Validator('"v1"', strong=True)


def test_a_weak_tag_with_a_date_that_is_not_strong_is_asked_about():
    listed = Told("webdav").list(etag='W/"v1"', made=MTIME)
    assert (listed.stat, listed.tells_etag) == (None, True)


def test_sizes_and_dates_are_names_only_where_that_is_set():
    listed = Told(exact=False).list()
    assert (listed.stat, listed.size) == (None, 5)


def test_a_contradiction_makes_a_servers_listings_names_only_for_a_while(caplog):
    told = Told()
    stat = told.list().stat
    with caplog.at_level(logging.WARNING):
        told.directories.contradicted("d/a", stat, "200, content-length 6")
    (record,) = caplog.records
    for text in ("http://files/", "'d/a'", "5 bytes", date(MTIME), "content-length 6"):
        assert text in record.getMessage()
    told.now = DOUBT - 1
    assert told.list().stat is None
    told.now = DOUBT
    assert told.list().stat == stat


def test_another_servers_stat_and_one_that_was_asked_for_contradict_no_listing():
    told = Told()
    stat = told.list().stat
    told.directories.contradicted("d/a", Stat(5, 0, None), "404")
    told.directories.contradicted("d/a", Stat(5, 0, None, told_by="http://other/"), "200")
    assert told.list().stat == stat


@pytest.mark.parametrize("status", [200, 405, 501])
def test_a_server_without_webdav_says_so(status):
    with pytest.raises(SourceError, match=f"by WebDAV: it answered PROPFIND with {status}"):
        answered(status, kind="webdav")


@pytest.mark.parametrize(("status", "told"), [(401, 401), (403, 403), (404, 404), (500, 502)])
@pytest.mark.parametrize("kind", ["auto", "webdav"])
def test_a_refusal_of_a_directory_is_one_as_of_a_member(kind, status, told):
    with pytest.raises(SourceError) as refused:
        answered(status, kind=kind)
    assert refused.value.status == told


def test_a_listing_that_is_sent_encoded_is_not_read():
    with pytest.raises(SourceError, match="encoded"):
        answered(200, [("Content-Encoding", "gzip")])


def test_a_kind_that_http_servers_do_not_have_is_refused_at_the_start():
    with pytest.raises(SettingsError, match="s3"):
        Directories("", Settings(listings="s3"))


def version(listed: Listed, head: Response) -> Validator | None:
    """Return what a listed member gives to the tag, asked about where its listing is not enough."""
    stat = listed.stat or stat_of(head, 5)
    return version_of(stat, by_etag=listed.tells_etag)


ETAGS = st.sampled_from([None, '"v1"', 'W/"v1"'])


@given(
    etag=ETAGS,
    asked=st.lists(
        st.tuples(
            st.sampled_from(["json", "page"]),
            st.booleans(),
            st.integers(-2, 60),
            st.integers(-2, 60),
        ),
        min_size=1,
        max_size=6,
    ),
)
def test_what_a_member_gives_to_the_tag_depends_on_neither_reader_moment_nor_server(etag, asked):
    for kind, exact, listed_after, asked_after in asked:
        listed = Told(kind, exact=exact).list(etag=etag, made=MTIME + listed_after)
        found = version(listed, head_of(etag, asked_after))
        assert found.text == date(MTIME)
        # It is weak only where the date was not strong yet when it was told.
        assert found.strong is ((kind == "json" and exact and listed_after > 0) or asked_after > 0)


@given(etag=ETAGS, asked=st.lists(st.tuples(st.booleans(), st.integers(-2, 60)), min_size=1))
def test_by_webdav_it_is_the_entity_tag_wherever_that_is_told(etag, asked):
    texts = set()
    for exact, after in asked:
        # Apache's tags are weak within the second of a change, and strong later.
        now = f"W/{etag}" if etag == '"v1"' and after < 1 else etag
        listed = Told("webdav", exact=exact).list(etag=now, made=MTIME + after)
        told = version(listed, head_of(now, after))
        texts.add(told.text)
        assert told.strong is (now == '"v1"' or (now is None and after > 0))
    assert texts == ({date(MTIME)} if etag is None else {'"v1"'})


def head_of(etag: str | None, after: int) -> Response:
    tagged = [] if etag is None else [("ETag", etag)]
    dated = [("Last-Modified", date(MTIME)), ("Date", date(MTIME + after))]
    return Response(200, [*tagged, *dated], Bytes(b""))

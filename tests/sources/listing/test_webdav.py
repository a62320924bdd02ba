"""Listings by WebDAV: sizes, dates and entity tags, and what is no listing."""

import pytest

from tar_gateway.sources.listing.found import BadListing, Found, checked
from tar_gateway.sources.listing.webdav import read_multistatus

DATE = "Tue, 14 Nov 2023 22:13:20 GMT"
APACHE = b"""<?xml version="1.0" encoding="utf-8"?>
<D:multistatus xmlns:D="DAV:" xmlns:ns0="DAV:">
<D:response xmlns:lp1="DAV:"><D:href>/d/</D:href><D:propstat><D:prop>
<lp1:resourcetype><D:collection/></lp1:resourcetype>
<lp1:getlastmodified>Tue, 14 Nov 2023 22:13:20 GMT</lp1:getlastmodified>
</D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>
<D:response xmlns:lp1="DAV:"><D:href>/d/sub/</D:href><D:propstat><D:prop>
<lp1:resourcetype><D:collection/></lp1:resourcetype>
<lp1:getlastmodified>Tue, 14 Nov 2023 22:13:20 GMT</lp1:getlastmodified>
</D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat><D:propstat><D:prop>
<D:getcontentlength/></D:prop><D:status>HTTP/1.1 404 Not Found</D:status></D:propstat></D:response>
<D:response xmlns:lp1="DAV:"><D:href>/d/a%26b.txt</D:href><D:propstat><D:prop>
<lp1:resourcetype/><lp1:getcontentlength>5</lp1:getcontentlength>
<lp1:getlastmodified>Tue, 14 Nov 2023 22:13:20 GMT</lp1:getlastmodified>
<lp1:getetag>"5-60a1"</lp1:getetag>
</D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>
</D:multistatus>
"""
ALL = (Found("sub", True, modified=DATE), Found("a&b.txt", False, 5, DATE, '"5-60a1"'))
COLLECTION = b"<lp1:resourcetype><D:collection/></lp1:resourcetype>"
CUT_OFF = b"<D:href>/d/</D:href><D:status>HTTP/1.1 507 Insufficient Storage</D:status>"


def read(body: bytes, path: str = "/d/") -> tuple[Found, ...]:
    return checked(read_multistatus(body, path)).found


def test_a_multistatus_tells_sizes_dates_and_tags():
    assert read(APACHE) == ALL


def test_a_tag_without_quotes_gets_those_that_its_header_has():
    assert read(APACHE.replace(b'"5-60a1"', b"5-60a1")) == ALL


@pytest.mark.parametrize("tag", [b"", b'5"60', b"W/5", b"'5'\n'6'"])
def test_what_is_no_tag_is_not_used(tag):
    assert read(APACHE.replace(b'"5-60a1"', tag))[1].etag is None


def test_a_weak_tag_stays_weak():
    assert read(APACHE.replace(b'"5-60a1"', b'W/"5-60a1"'))[1].etag == 'W/"5-60a1"'


@pytest.mark.parametrize("host", [b"http://files.internal:8080", b"https://another.example"])
def test_absolute_references_count_by_their_path(host):
    assert read(APACHE.replace(b"<D:href>", b"<D:href>" + host)) == ALL


def test_the_directory_is_itself_however_its_path_is_spelled():
    assert read(APACHE.replace(b"<D:href>/d/<", b"<D:href>/%64</".replace(b"</", b"/<"))) == ALL


def test_properties_that_are_not_there_are_asked_for():
    body = APACHE.replace(b"HTTP/1.1 200 OK", b"HTTP/1.1 404 Not Found")
    assert read(body) == (Found("sub", True), Found("a&b.txt", False))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"/d/a%26b.txt", b"/e/a"),
        (b"/d/a%26b.txt", b"/d/sub/a"),
        (b"/d/a%26b.txt", b"/d/a?x=1"),
        (b"/d/a%26b.txt", b"/d/a%2Fb"),
        (b"/d/a%26b.txt", b"/d/%2e%2e"),
        (b"/d/a%26b.txt", b"a.txt"),
        (b"/d/a%26b.txt", b"http://[/d/a"),
        (b"/d/a%26b.txt", b"/d/sub"),
        (b"<D:href>/d/</D:href>", b"<D:href>/d/other/</D:href>"),
        (b"D:multistatus", b"D:other"),
        (b"D:response", b"D:other"),
        (b'xmlns:D="DAV:"', b'xmlns:D="other:"'),
        (b"HTTP/1.1 200 OK", b"fine"),
        (b"<D:href>/d/a%26b.txt</D:href>", CUT_OFF),
        (COLLECTION, b"<D:resourcetype/>"),
    ],
)
def test_what_leads_elsewhere_or_is_no_listing_is_an_error(old, new):
    assert old in APACHE
    with pytest.raises(BadListing):
        read(APACHE.replace(old, new))


def test_a_listing_that_is_cut_off_anywhere_is_an_error():
    for end in range(len(APACHE.rstrip())):
        with pytest.raises(BadListing):
            read(APACHE[:end])

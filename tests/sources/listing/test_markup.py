"""XML without a document type, and nginx's listings in it."""

import pytest

from tar_gateway.sources.listing.found import BadListing, Found, checked
from tar_gateway.sources.listing.markup import parse_xml, read_nginx_xml

DATE = "Tue, 14 Nov 2023 22:13:20 GMT"
NGINX = b"""<?xml version="1.0"?>
<list>
<directory mtime="2023-11-14T22:13:20Z">sub</directory>
<other mtime="2023-11-14T22:13:20Z">pipe</other>
<file mtime="2023-11-14T22:13:20Z" size="5">a&amp;b.txt</file>
</list>
"""


def test_a_listing_tells_exact_sizes_and_dates():
    found = checked(read_nginx_xml(NGINX)).found
    assert found == (Found("sub", True, modified=DATE), Found("a&b.txt", False, 5, DATE))


def test_a_listing_that_is_cut_off_anywhere_is_an_error():
    for end in range(len(NGINX.rstrip())):
        with pytest.raises(BadListing):
            read_nginx_xml(NGINX[:end])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"list>", b"html>"),
        (b"other", b"link"),
        (b'size="5"', b'size="-5"'),
        (b'size="5"', b'size="5K"'),
        (b'size="5"', b""),
        (b"2023-11-14T22:13:20Z", b"yesterday"),
        (b"a&amp;b.txt", b"caf\xe9"),
        (b"a&amp;b.txt", b"&other;"),
    ],
)
def test_what_is_no_such_listing_is_an_error(old, new):
    with pytest.raises(BadListing):
        read_nginx_xml(NGINX.replace(old, new))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "latin-1", "us-ascii"])
@pytest.mark.parametrize("kind", ['[<!ENTITY x "y">]', 'SYSTEM "http://127.0.0.1/"', ""])
def test_a_document_type_is_refused_in_every_encoding(encoding, kind):
    named = {"latin-1": "iso-8859-1"}.get(encoding, encoding)
    text = f'<?xml version="1.0" encoding="{named}"?><!DOCTYPE list {kind}><list/>'
    with pytest.raises(BadListing, match="document type"):
        parse_xml(text.encode(encoding))


def test_an_encoding_that_is_unknown_is_an_error():
    with pytest.raises(BadListing):
        parse_xml(b'<?xml version="1.0" encoding="x-none"?><list/>')

"""Listings as pages: which pages are listings, and what their links name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tar_gateway.sources.listing.found import BadListing, checked
from tar_gateway.sources.listing.pages import read_page

NGINX = (
    b"<html>\r\n<head><title>Index of /d/</title></head>\r\n<body>\r\n<h1>Index of /d/</h1><hr>"
    b'<pre><a href="../">../</a>\r\n<a href="sub/">sub/</a>   25-Nov-2026 07:57       -\r\n'
    b'<a href="a%26b.txt">a&amp;b.txt</a>   25-Nov-2026 07:57    118\r\n</pre><hr></body>\r\n'
    b"</html>\r\n"
)
APACHE = (
    b"<html><head><title>Index of /d</title></head><body><h1>Index of /d</h1><ul><li>"
    b'<a href="?C=N;O=D">Name</a><a href="/"> Parent Directory</a></li>'
    b'<li><a href="sub/"> sub/</a></li><li><a href="a&amp;b.txt"> a&amp;b.txt</a></li></ul>'
    b"</body></html>\n"
)
LIGHTTPD = (
    b'<!DOCTYPE html><html><head><title>Index of /d/</title><style type="text/css">a{}</style>'
    b'</head><body><h2>Index of /d/</h2><table><tr class="d"><td class="n"><a href="../">..</a>/'
    b'</td></tr><tr class="d"><td class="n"><a href="sub/">sub</a>/</td></tr><tr><td class="n">'
    b'<a href="a&amp;b.txt">a&amp;b.txt</a></td></tr></table></body></html>'
)
PYTHON = (
    b'<!DOCTYPE HTML><html lang="en"><head><meta charset="utf-8"><title>Directory listing for /d/'
    b'</title></head><body><h1>Directory listing for /d/</h1><hr><ul><li><a href="sub/">sub/</a>'
    b'</li><li><a href="a%26b.txt">a&amp;b.txt</a></li></ul><hr></body></html>\n'
)


def names(page: bytes, path: str = "/d/") -> list[tuple[str, bool]]:
    return [(found.name, found.is_directory) for found in checked(read_page(page, path))]


@pytest.mark.parametrize("page", [NGINX, APACHE, LIGHTTPD, PYTHON])
def test_a_listing_of_a_known_server_gives_its_names(page):
    assert names(page) == [("sub", True), ("a&b.txt", False)]


@pytest.mark.parametrize("page", [NGINX, APACHE, LIGHTTPD, PYTHON])
def test_a_listing_that_is_cut_off_anywhere_is_an_error(page):
    for end in range(len(page.rstrip())):
        with pytest.raises(BadListing):
            names(page[:end])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Index of /d/", b"Index of /e/"),
        (b"Index of", b"Welcome to"),
        (b"<hr>", b"<form action=/login><input name=password></form>"),
        (b"<hr>", b"<script></script>"),
        (b"<hr>", b'<base href="/other/">'),
        (b"a%26b.txt", b"../a"),
        (b"a%26b.txt", b"/etc/passwd"),
        (b"a%26b.txt", b"//host/a"),
        (b"a%26b.txt", b"http://host/a"),
        (b"a%26b.txt", b"javascript:alert(1)"),
        (b"a%26b.txt", b"a?x=1"),
        (b"a%26b.txt", b"a#b"),
        (b"a%26b.txt", b""),
        (b"a%26b.txt", b"sub/deeper"),
        (b"a%26b.txt", b"a%2Fb"),
        (b"a%26b.txt", b"%2e%2e"),
        (b"a%26b.txt", b"a%00"),
        (b"a%26b.txt", b"a%0A"),
        (b"a%26b.txt", b"a%5Cb"),
        (b"a%26b.txt", b"caf%E9"),
        (b"a%26b.txt", b"sub"),
    ],
)
def test_a_page_that_is_no_listing_or_leads_elsewhere_is_an_error(old, new):
    page = NGINX.replace(old, new)
    assert page != NGINX
    with pytest.raises(BadListing):
        names(page)


@given(st.lists(st.text(alphabet="ab./%25FE?#:\\&;<> ~é", max_size=12), max_size=5))
def test_any_listing_names_only_what_is_directly_below_or_is_an_error(links):
    rows = "".join(f'<a href="{link}">x</a>' for link in links if '"' not in link).encode()
    page = b"<html><title>Index of /d/</title><body>" + rows + b"</body></html>"
    try:
        found = names(page)
    except BadListing:
        return
    assert all(name and "/" not in name and name not in {".", ".."} for name, _ in found)

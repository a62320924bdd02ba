"""Listings as pages: which pages are listings, and what their links name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tar_gateway.sources.listing.found import BadListing, checked
from tar_gateway.sources.listing.pages import read_links, read_page

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
    b'<a href="a&amp;b.txt">a&amp;b.txt</a></td></tr></table>'
    b"<script>var click_column;</script></body></html>"
)
PYTHON = (
    b'<!DOCTYPE HTML><html lang="en"><head><meta charset="utf-8"><title>Directory listing for /d/'
    b'</title></head><body><h1>Directory listing for /d/</h1><hr><ul><li><a href="sub/">sub/</a>'
    b'</li><li><a href="a%26b.txt">a&amp;b.txt</a></li></ul><hr></body></html>\n'
)


BUSYBOX = (
    b"<html><head><title>Index of /d/</title>\n<style></style></head>\n<body>\n<table>\n"
    b"<col class=nm><col class=sz><col class=dt>\n<tr class=hdr><th class=cnt>Name<th class=sz>Size"
    b"<tr class=e><td class=nm><a href='../'>../</a><td class=sz><td class=dt>2026-11-25 07:57:00\n"
    b"<tr class=o><td class=nm><a href='sub/'>sub/</a><td class=sz><td class=dt>2026-11-25 07:57\n"
    b"<tr class=e><td class=nm><a href='a%26b.txt'>a&amp;b.txt</a><td class=sz>5<td class=dt>2026\n"
    b"<tr class=foot><th class=cnt>Files: 1, directories: 1<th class=sz>5<th class=dt>\n"
)
HTTP_SERVER = (
    b"<!doctype html><html><head><title>Index of /d/</title></head><body><h1>Index of /d/</h1>"
    b'<table><tr><td><a href="./../">../</a></td></tr><tr><td><a href="./sub/">sub/</a></td></tr>'
    b'<tr><td><a href="./a%26b.txt">a&#x26;b.txt</a></td></tr></table><br><address>Node.js v20/ '
    b'<a href="https://github.com/http-party/http-server">http-server</a></address></body></html>'
)
ALL = [NGINX, APACHE, LIGHTTPD, PYTHON, BUSYBOX, HTTP_SERVER]


def names(page: bytes, path: str = "/d/") -> list[tuple[str, bool]]:
    return [(found.name, found.is_directory) for found in checked(read_page(page, path)).found]


@pytest.mark.parametrize("page", ALL)
def test_a_listing_of_a_known_server_gives_its_names(page):
    assert names(page) == [("sub", True), ("a&b.txt", False)]


@pytest.mark.parametrize("page", ALL)
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
        (b"a%26b.txt", b"sub"),
    ],
)
def test_a_page_that_is_no_listing_or_leads_elsewhere_is_an_error(old, new):
    page = NGINX.replace(old, new)
    assert page != NGINX
    with pytest.raises(BadListing):
        names(page)


@pytest.mark.parametrize("link", [b"a%0A", b"a%5Cb", b"caf%E9", b"%ED%B3%A9"])
def test_a_name_that_no_member_may_have_is_told_apart(link):
    listed = checked(read_page(NGINX.replace(b"a%26b.txt", link), "/d/"))
    assert [each.name for each in listed.found] == ["sub"]
    assert len(listed.unusable) == 1


def test_links_of_any_page_that_lead_below_are_names_where_that_is_asked_for():
    page = (
        b"<html><h1>Files</h1><script>x()</script><a name=top>top</a><a href='/'>home</a>"
        b"<a href=''>here</a><a href='#top'>up</a><a href='?sort=size'>size</a><a href='..'>..</a>"
        b"<a href='/d/a%26b.txt'>a</a><a href='./a%26b.txt'>a</a><a href='sub/'>sub</a>"
        b"<a href='sub/deeper'>no</a><a href='http://host/d/x'>no</a><a href='//host/d/x'>no</a>"
        b"<a href='mailto:a@b'>no</a><a href='/e/x'>no</a><a href='b?x=1'>no</a></html>"
    )
    found = checked(read_links(page, "/d/")).found
    assert [(each.name, each.is_directory) for each in found] == [("a&b.txt", False), ("sub", True)]


def test_any_page_shows_its_end():
    with pytest.raises(BadListing):
        read_links(b"<html><a href=a>a</a></htm", "/d/")


@given(st.lists(st.text(alphabet="ab./%25FE?#:\\&;<> ~é@", max_size=12), max_size=5))
def test_links_of_any_page_name_only_what_is_directly_below(links):
    rows = "".join(f'<a href="{link}">x</a>' for link in links).encode()
    try:
        found = checked(read_links(b"<html>" + rows + b"</html>", "/d/")).found
    except BadListing:
        return
    assert all(each.name and "/" not in each.name for each in found)


def test_a_page_of_busybox_that_holds_less_than_it_counts_is_an_error():
    with pytest.raises(BadListing, match="as many names"):
        names(BUSYBOX.replace(b"Files: 1", b"Files: 2"))


@given(st.lists(st.text(alphabet="ab./%25FE?#:\\&;<> ~é", max_size=12), max_size=5))
def test_any_listing_names_only_what_is_directly_below_or_is_an_error(links):
    rows = "".join(f'<a href="{link}">x</a>' for link in links if '"' not in link).encode()
    page = b"<html><title>Index of /d/</title><body>" + rows + b"</body></html>"
    try:
        found = names(page)
    except BadListing:
        return
    assert all(name and "/" not in name and name not in {".", ".."} for name, _ in found)

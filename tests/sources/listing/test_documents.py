"""Listings as JSON: what nginx and Caddy tell, and what is believed of it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tar_gateway.sources.listing.documents import read_json
from tar_gateway.sources.listing.found import BadListing, Found, checked

DATE = "Tue, 14 Nov 2023 22:13:20 GMT"
NGINX = (
    b'[\r\n{ "name":"sub", "type":"directory", "mtime":"Tue, 14 Nov 2023 22:13:20 GMT" },\r\n'
    b'{ "name":"pipe", "type":"other", "mtime":"Tue, 14 Nov 2023 22:13:20 GMT" },\r\n'
    b'{ "name":"a.txt", "type":"file", "mtime":"Tue, 14 Nov 2023 22:13:20 GMT", "size":5 }\r\n]\r\n'
)
CADDY = json.dumps(
    [
        {
            **{"name": "sub/", "size": 4096, "url": "./sub/", "mode": 1, "is_symlink": False},
            **{"mod_time": "2023-11-14T22:13:20.987654321Z", "is_dir": True},
        },
        {
            **{"name": "a.txt", "size": 5, "url": "./a.txt", "mode": 1, "is_symlink": False},
            **{"mod_time": "2023-11-14T22:13:20.987654321Z", "is_dir": False},
        },
    ]
).encode()


def read(body: bytes) -> tuple[Found, ...]:
    return checked(read_json(body, "/d/")).found


@pytest.mark.parametrize("body", [NGINX, CADDY])
def test_a_listing_gives_exact_sizes_and_the_dates_that_the_files_have(body):
    assert read(body) == (Found("sub", True, None, DATE), Found("a.txt", False, 5, DATE))


def test_an_empty_directory_is_empty():
    assert read(b"[\r\n\r\n]\r\n") == read(b"[]\n") == ()


@pytest.mark.parametrize("body", [NGINX, CADDY])
def test_a_listing_that_is_cut_off_anywhere_is_an_error(body):
    for end in range(len(body.rstrip())):
        with pytest.raises(BadListing):
            read(body[:end])


def test_a_link_whose_date_is_its_own_is_asked_about():
    assert read(CADDY.replace(b'"is_symlink": false', b'"is_symlink": true'))[1].size is None


def test_a_listing_at_caddys_limit_is_an_error():
    entry = json.loads(CADDY)[1]
    rows = [entry | {"url": f"./{number}"} for number in range(10_000)]
    with pytest.raises(BadListing, match="file_limit"):
        read(json.dumps(rows).encode())
    assert len(read(json.dumps(rows[1:]).encode())) == 9_999


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "../a", "a\\u0000", "sub"])
def test_a_name_that_leads_elsewhere_or_comes_twice_is_an_error(name):
    with pytest.raises(BadListing):
        read(NGINX.replace(b'"a.txt"', f'"{name}"'.encode()))


@pytest.mark.parametrize(
    ("name", "shown", "reason"),
    [
        (rb"a\\b", r"a\b", "contains a backslash"),
        (rb"a\nb", r"a\nb", "contains a control character"),
        (b"%2e%2e", "%2e%2e", "when it is decoded once more"),
        (b"caf\xe9", r"caf\xe9", "is not valid UTF-8"),
        (rb"\ud800", r"\xed\xa0\x80", "is not valid UTF-8"),
    ],
)
def test_a_name_that_no_member_may_have_is_told_apart_from_the_others(name, shown, reason):
    names = checked(read_json(NGINX.replace(b"a.txt", name), "/d/"))
    assert names.found == (Found("sub", True, modified=DATE),)
    (unusable,) = names.unusable
    assert unusable.name == shown
    assert reason in unusable.reason


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"error": "login"}',
        b"null",
        b"[1]",
        b'[{"id": 1}]',
        b"[" * 100_000,
        NGINX.replace(b"5 }", b'"5" }'),
        NGINX.replace(b"5 }", b"-5 }"),
        NGINX.replace(b"5 }", b"true }"),
        NGINX.replace(b'"file"', b'"door"'),
        CADDY.replace(b"2023-11-14T22", b"yesterday"),
        CADDY.replace(b"./a.txt", b"../a.txt"),
    ],
)
def test_json_that_is_no_listing_is_an_error(body):
    with pytest.raises(BadListing):
        read(body)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "type", "mtime", "size", "url", "mod_time", "is_dir"]),
            inner | st.sampled_from(["file", "directory", DATE]),
        )
    ),
)


@given(VALUES)
def test_any_json_names_only_what_is_directly_below_or_is_an_error(value):
    try:
        found = read(json.dumps(value).encode())
    except BadListing:
        return
    assert all(each.name and "/" not in each.name for each in found)


LIGHTTPD = (
    b'[{"name":"sub","mtime":1700000000,"size":4096,"type":"dir"},'
    b'{"name":"a.txt","mtime":1700000000,"size":5,"type":"file"}]'
)
SERVE = json.dumps(
    {
        "files": [
            {"type": "directory", "base": "..", "relative": "/", "title": "/", "ext": ""},
            {"base": "a.txt", "relative": "/d/a.txt", "type": "file", "size": "5 B"},
            {"base": "sub/", "relative": "/d/sub/", "type": "folder"},
        ],
        "directory": "tree/d/",
        "paths": [{"name": "tree/", "url": ""}, {"name": "d/", "url": "d/"}],
    }
).encode()


def test_lighttpd_tells_dates_as_numbers():
    assert read(LIGHTTPD) == (Found("sub", True, modified=DATE), Found("a.txt", False, 5, DATE))


def test_the_broken_json_of_an_old_lighttpd_says_so():
    with pytest.raises(BadListing, match=r"lighttpd's is before 1\.4\.77"):
        read(b"{" + LIGHTTPD + b"}")


def test_the_rounded_sizes_of_npms_serve_are_not_used():
    assert read(SERVE) == (Found("a.txt", False), Found("sub", True))


@pytest.mark.parametrize("new", [b'"/e/a.txt"', b'"/d/x/a.txt"', b"null"])
def test_entries_of_another_directory_are_an_error(new):
    with pytest.raises(BadListing):
        read(SERVE.replace(b'"/d/a.txt"', new))


@pytest.mark.parametrize("body", [SERVE, LIGHTTPD])
def test_these_are_errors_where_they_are_cut_off_as_well(body):
    for end in range(len(body)):
        with pytest.raises(BadListing):
            read(body[:end])

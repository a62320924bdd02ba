"""What a WSGI environ says of a request, however hostile it is."""

import io
from urllib.parse import unquote

import pytest

from tar_gateway.access.credentials import Hop, caller_of, passed_headers
from tar_gateway.access.links import logged_query
from tar_gateway.errors import (
    BadRequest,
    ContentTooLarge,
    Forbidden,
    UnsupportedMediaType,
    UnsupportedTransferCoding,
)
from tar_gateway.http.conditions import Conditions
from tar_gateway.http.environ import (
    check_destination,
    check_no_encoded_slash,
    check_same_site,
    conditions_of,
    path_of,
    query_of,
    read_body,
    reference_of,
)
from tar_gateway.http.paths import decode_form_value
from tar_gateway.sources import Caller

HOP = Hop((), (), "tar_gateway-1")
VIA = ("Via", "1.1 tar_gateway-1")


def as_wsgi(text):
    """Write text as PEP 3333 hands it over: UTF-8 bytes, each as a Latin-1 character."""
    return text.encode("utf-8").decode("latin-1")


# --- the path -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        ("", ""),
        ("/", ""),
        ("/a", "a"),
        ("/a/", "a/"),
        ("/a/b.pdf", "a/b.pdf"),
        ("a", "a"),
        ("/a b,c;d", "a b,c;d"),
        (as_wsgi("/Füße/日本"), "Füße/日本"),
        ("/100%", "100%"),
    ],
)
def test_a_path_is_a_checked_name_below_the_mount_point(raw, path):
    assert path_of({"PATH_INFO": raw, "SCRIPT_NAME": "/mounted"}) == path


def test_a_missing_path_is_the_root():
    assert path_of({}) == ""


@pytest.mark.parametrize(
    ("raw", "detail"),
    [
        ("/../a", "the path '/../a' contains the segment '..'"),
        ("/a/..", "the path '/a/..' contains the segment '..'"),
        ("/a/../", "the path '/a/../' contains the segment '..'"),
        ("/./a", "the path '/./a' contains the segment '.'"),
        ("//a", "the path '//a' starts with a slash"),
        ("//", "the path '//' is empty"),
        ("/a//", "the path '/a//' contains an empty segment"),
        ("/a\\b", "the path '/a%5Cb' contains a backslash"),
        ("/a\0", "the path '/a%00' contains a control character"),
        ("/a\r\nb", "the path '/a%0D%0Ab' contains a control character"),
        ("/\xff", "the path '/%FF' is not valid UTF-8"),
        (
            "/%2e%2e/a",
            "the path '/%252e%252e/a' contains the segment '..' when it is decoded once more",
        ),
    ],
)
def test_a_path_that_is_no_name_is_refused_and_shown_without_its_control_characters(raw, detail):
    with pytest.raises(BadRequest) as refused:
        path_of({"PATH_INFO": raw})
    assert refused.value.detail == detail


def test_a_path_that_no_server_should_give_is_no_defect():
    assert path_of({"PATH_INFO": "/€"}) == "?"


# --- an encoded slash ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["RAW_URI", "REQUEST_URI"])
@pytest.mark.parametrize(
    ("raw", "mount", "path", "reference"),
    [
        ("/@scope%2fname", "", "/@scope/name", "@scope%2Fname"),
        ("/a%2Fb/c%20d?x=%2F", "", "/a/b/c d", "a%2Fb/c%20d"),
        ("http://host:80/a%2fb", "", "/a/b", "a%2Fb"),
        ("/app/x%2Fy", "/app", "/x/y", "x%2Fy"),
        ("/%61pp/x%2Fy/", "/app", "/x/y/", "x%2Fy/"),
        # Without one the path is written in one way.
        ("/%61/b", "", "/a/b", "a/b"),
        ("/a/b?c=%2F", "", "/a/b", "a/b"),
        # What does not say the same as the path is another's, or was changed in between.
        ("/other%2Fx", "", "/a/b", "a/b"),
        ("/app%2Fx/y", "/app", "/x/y", "x/y"),
        ("/prefix/a%2Fb", "", "/a/b", "a/b"),
        ("", "", "/a/b", "a/b"),
    ],
)
def test_an_encoded_slash_of_a_path_is_no_separator(name, raw, mount, path, reference):
    environ = {name: raw, "SCRIPT_NAME": mount, "PATH_INFO": path, "QUERY_STRING": ""}
    assert reference_of(environ) == reference
    if "%2F" in reference:
        with pytest.raises(BadRequest, match="write '/' and not '%2F'"):
            check_no_encoded_slash(environ)
    else:
        check_no_encoded_slash(environ)


@pytest.mark.parametrize("raw", ["/a%2F..%2Fb", "/%2e%2e%2Fb", "/a%2F", "/a%2f%2fb"])
def test_an_encoded_slash_hides_no_segment_that_is_refused(raw):
    environ = {"RAW_URI": raw, "PATH_INFO": unquote(raw), "QUERY_STRING": ""}
    if unquote(raw) == "/a/":
        assert reference_of(environ) == "a%2F"
        return
    with pytest.raises(BadRequest):
        reference_of(environ)


# --- the query ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "query"),
    [
        ("", ""),
        ("bundle=a,b&filename=c.tar", "bundle=a,b&filename=c.tar"),
        ("bundle=a%2Cb+c%20d", "bundle=a%2Cb+c%20d"),
        ("a=1;b=2", "a=1;b=2"),
        ("a=%zz%", "a=%25zz%25"),
        ("a b", "a%20b"),
        ("a\r\nb\0", "a%0D%0Ab%00"),
        ("a#b", "a%23b"),
        ("\xc3\xa9\xff", "%C3%A9%FF"),
    ],
)
def test_a_query_stays_as_it_is_but_for_what_no_url_can_hold(raw, query):
    assert query_of({"QUERY_STRING": raw}) == query


def test_a_missing_query_is_empty():
    assert query_of({}) == ""


def test_a_query_means_the_same_as_before():
    printable = "".join(map(chr, range(0x20, 0x7F)))
    assert decode_form_value(query_of({"QUERY_STRING": printable})) == printable.replace("+", " ")


def test_a_log_shows_the_beginning_of_a_query_and_no_signature_that_is_cut():
    shown = logged_query({"QUERY_STRING": "bundle=" + "a" * 100_000})
    assert len(shown) < 10_000
    for spelled in ("signature=", "%73ignature="):
        for visible in range(len(spelled) + 3):
            query = "a" * (8192 - visible - 1) + "&" + spelled + "SECRET" * 9
            assert "SE" not in logged_query({"QUERY_STRING": query})


# --- a body's codings ---------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["gzip, chunked", "gzip", "deflate,chunked", "chunked, br", "x"])
def test_a_body_that_is_coded_for_its_transfer_is_refused(value):
    environ = {
        "HTTP_TRANSFER_ENCODING": value,
        "wsgi.input": io.BytesIO(b"x"),
        "wsgi.input_terminated": True,
    }
    with pytest.raises(UnsupportedTransferCoding, match="send chunked alone"):
        read_body(environ, 10)


@pytest.mark.parametrize("value", ["gzip", "br", "gzip, gzip", "utf-8"])
def test_a_body_that_is_an_encoding_of_the_list_is_refused(value):
    environ = {
        "HTTP_CONTENT_ENCODING": value,
        "CONTENT_LENGTH": "1",
        "wsgi.input": io.BytesIO(b"x"),
    }
    with pytest.raises(UnsupportedMediaType, match="send the list as it is") as refused:
        read_body(environ, 10)
    assert refused.value.headers == (("Accept-Encoding", "identity"),)


@pytest.mark.parametrize("value", ["chunked", "Chunked", "identity, chunked", ""])
def test_a_body_in_chunks_is_read(value):
    environ = {
        "HTTP_TRANSFER_ENCODING": value,
        "HTTP_CONTENT_ENCODING": "identity",
        "wsgi.input": io.BytesIO(b"x"),
        "wsgi.input_terminated": True,
    }
    assert read_body(environ, 10) == b"x"


# --- headers ------------------------------------------------------------------------------------


def test_the_caller_is_those_headers_that_are_forwarded_and_there():
    environ = {"HTTP_AUTHORIZATION": "Basic eA==", "HTTP_X_USER_ID": "7", "HTTP_COOKIE": "a=b"}
    caller = caller_of(environ, ("X-User-Id", "Authorization", "X-Missing"), HOP)
    assert caller == Caller((("X-User-Id", "7"), ("Authorization", "Basic eA=="), VIA))


def test_an_empty_header_of_the_caller_is_there():
    assert caller_of({"HTTP_COOKIE": ""}, ["Cookie"], HOP) == Caller((("Cookie", ""), VIA))


def test_credentials_do_not_show():
    assert "hunter2" not in repr(caller_of({"HTTP_COOKIE": "hunter2"}, ["Cookie"], HOP))


def test_conditions_are_the_headers_texts():
    environ = {
        "HTTP_IF_MATCH": "1",
        "HTTP_IF_NONE_MATCH": "2",
        "HTTP_IF_MODIFIED_SINCE": "3",
        "HTTP_IF_UNMODIFIED_SINCE": "4",
        "HTTP_IF_RANGE": "5",
        "HTTP_RANGE": "6",
    }
    assert conditions_of(environ) == Conditions(
        if_match="1",
        if_none_match="2",
        if_modified_since="3",
        if_unmodified_since="4",
        if_range="5",
        range="6",
    )


def test_a_request_without_conditions_has_none():
    assert conditions_of({"HTTP_HOST": "h", "RANGE": "bytes=0-1"}) == Conditions()


def test_end_to_end_headers_are_passed_and_no_others():
    environ = {
        "HTTP_ACCEPT": "*/*",
        "HTTP_X_USER_ID": "7",
        "HTTP_RANGE": "bytes=0-1",
        "HTTP_HOST": "gateway",
        "HTTP_CONTENT_LENGTH": "1",
        "HTTP_CONTENT_TYPE": "a/b",
        "HTTP_EXPECT": "100-continue",
        "HTTP_CONNECTION": "close, Accept",
        "HTTP_HTTP2_SETTINGS": "AAMAAABkAARAAAAAAAIAAAAA",
        "HTTP_TRANSFER_ENCODING": "chunked",
        "HTTP_X_ACCEL_REDIRECT": "/x",
        "HTTP_X_SPLIT": "a\r\nb: c",
        "CONTENT_TYPE": "a/b",
        "SERVER_NAME": "gateway",
        "wsgi.url_scheme": "http",
    }
    assert sorted(passed_headers(Caller(environ=environ), HOP, conditions=True)) == [
        ("Accept", "*/*"),
        ("Range", "bytes=0-1"),
        VIA,
        ("X-User-Id", "7"),
    ]


# --- where a browser shows it ------------------------------------------------------------------


def fetched(site, mode, destination):
    said = {"SITE": site, "MODE": mode, "DEST": destination}
    return {f"HTTP_SEC_FETCH_{name}": value for name, value in said.items() if value is not None}


@pytest.mark.parametrize(
    ("site", "mode", "destination"),
    [
        ("none", "navigate", "document"),  # typed, a bookmark, a link in a mail program
        ("none", "navigate", "empty"),  # a download manager's resume
        ("same-origin", "navigate", "document"),
        ("same-origin", "navigate", "empty"),  # a broken form that is asked for again
        ("same-site", "navigate", "document"),
        ("cross-site", "navigate", "document"),  # a link in web mail
        ("cross-site", "navigate", "empty"),  # the same, with `download`
        ("same-origin", "cors", "empty"),  # fetch()
        ("same-origin", "same-origin", "empty"),
        ("cross-site", "cors", "empty"),  # CORS decides
        ("same-origin", "no-cors", "empty"),
        ("same-site", "no-cors", "image"),
        (None, None, None),  # curl, and browsers without Fetch Metadata
        ("", "", ""),
        ("cross-site", None, None),
    ],
)
def test_what_a_user_or_a_script_asks_for_is_a_download(site, mode, destination):
    check_destination(fetched(site, mode, destination))


@pytest.mark.parametrize(
    ("site", "mode", "destination"),
    [
        *(("cross-site", "navigate", each) for each in ("iframe", "frame", "object", "embed")),
        *(("same-origin", "navigate", each) for each in ("iframe", "frame", "object", "embed")),
        ("cross-site", "navigate", "fencedframe"),
        *(("cross-site", "no-cors", each) for each in ("image", "script", "style", "empty")),
        *(("cross-site", "no-cors", each) for each in ("video", "object", "embed", "")),
        ("Cross-Site", " no-cors ", "image"),
    ],
)
def test_what_a_page_would_show_or_have_as_a_part_is_refused_in_words_that_say_why(
    site, mode, destination
):
    with pytest.raises(Forbidden, match=r"page.*: use a link"):
        check_destination(fetched(site, mode, destination))


# --- the body -----------------------------------------------------------------------------------


class Dripping(io.RawIOBase):
    """Gives one byte a read, as a slow client's body does."""

    def __init__(self, data):
        self._data = io.BytesIO(data)

    def read(self, size=-1):
        return self._data.read(min(size, 1))


class Broken:
    """A body that breaks off, as this server says it."""

    def __init__(self, error):
        self._error = error

    def read(self, _size):
        raise self._error


def body_of(data, length=None, *, limit=10, **environ):
    told = {} if length is None else {"CONTENT_LENGTH": length}
    stream = io.BytesIO(data) if isinstance(data, bytes) else data
    return read_body({"wsgi.input": stream, **told, **environ}, limit)


def refused(*arguments, kind=BadRequest, **keywords):
    with pytest.raises(kind) as refusal:
        body_of(*arguments, **keywords)
    return refusal.value.detail


@pytest.mark.parametrize("make", [io.BytesIO, Dripping])
def test_a_body_is_read_up_to_its_length_and_no_further(make):
    stream = make(b"abcdef")
    assert body_of(stream, "4") == b"abcd"
    assert stream.read(1) == b"e"


def test_a_large_body_is_read_whole():
    data = bytes(range(256)) * 1024
    assert body_of(data, str(len(data)), limit=len(data)) == data


@pytest.mark.parametrize("length", ["0", "", None])
def test_without_a_length_there_is_no_body(length):
    assert body_of(b"abc", length) == b""


@pytest.mark.parametrize("make", [io.BytesIO, Dripping])
def test_a_body_in_chunks_is_read_to_its_end(make):
    assert body_of(make(b"a" * 10), **{"wsgi.input_terminated": True}) == b"a" * 10


def test_a_length_counts_for_more_than_the_servers_word_that_the_body_ends():
    assert body_of(b"abcdef", "3", **{"wsgi.input_terminated": True}) == b"abc"


def test_a_body_as_long_as_the_limit_is_read():
    assert body_of(b"a" * 10, "10") == b"a" * 10


TOO_LARGE = "the body is larger than the 10 bytes that are allowed"


def test_a_body_longer_than_the_limit_is_refused_before_it_is_read():
    stream = io.BytesIO(b"a" * 11)
    assert refused(stream, "11", kind=ContentTooLarge) == TOO_LARGE
    assert stream.tell() == 0


def test_a_body_in_chunks_is_read_no_further_than_shows_that_it_is_too_large():
    stream = io.BytesIO(b"a" * 1000)
    assert refused(stream, kind=ContentTooLarge, **{"wsgi.input_terminated": True}) == TOO_LARGE
    assert stream.tell() == 11


class Framed(io.BytesIO):
    """A body whose server tells how much of it was on the wire."""

    on_wire = 11


def test_what_a_body_in_chunks_took_on_the_wire_counts_where_the_server_tells_it():
    stream = Framed(b"abc")
    ended = {"wsgi.input_terminated": True}
    assert refused(stream, kind=ContentTooLarge, **ended) == (
        "the body and its framing in chunks are larger than the 10 bytes that are allowed"
    )
    assert stream.tell() == 0
    assert body_of(stream, limit=11, **ended) == b"abc"
    assert body_of(Framed(b"abc"), "3") == b"abc"


@pytest.mark.parametrize("length", ["-1", "+1", "1.0", "x", "1 ", "0x1", "²", "1_0", "9" * 20])
def test_a_length_that_is_none_is_refused(length):
    assert refused(b"abc", length) == "the Content-Length is not a length"


def test_a_length_of_nineteen_digits_is_too_large():
    assert refused(b"abc", "9" * 19, kind=ContentTooLarge) == TOO_LARGE


def test_a_body_shorter_than_its_length_is_refused():
    assert refused(b"abc", "4") == "the body is shorter than its Content-Length"


@pytest.mark.parametrize("error", [OSError("gone"), ValueError("bad chunk"), StopIteration()])
def test_a_body_that_breaks_off_is_refused_without_the_servers_words(error):
    assert refused(Broken(error), "4") == "the body could not be read"


@pytest.mark.parametrize("site", [None, "same-origin", "same-site", "none"])
def test_a_form_of_this_site_is_taken(site):
    check_same_site({} if site is None else {"HTTP_SEC_FETCH_SITE": site})


def test_a_form_of_another_site_is_refused():
    with pytest.raises(Forbidden, match="another site"):
        check_same_site({"HTTP_SEC_FETCH_SITE": "Cross-Site"})

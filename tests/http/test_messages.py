"""What is on the wire is written in one way, and read in one way or not at all."""

import http.client
import io
import time
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tar_gateway.http.messages import (
    END,
    LONGEST_HEAD,
    BadLength,
    BadMessage,
    _any,
    _ordinary,
    read_head,
    request_head,
)

OK = b"HTTP/1.1 200 OK\r\n"


def ok(*lines: bytes) -> bytes:
    return OK + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


# --- requests ----------------------------------------------------------------------------------


def test_a_request_is_written_as_it_is_sent():
    assert request_head("GET", "/a", "files:8080", {"Range": "bytes=0-0", "X": ""}) == (
        b"GET /a HTTP/1.1\r\nHost: files:8080\r\nRange: bytes=0-0\r\nX: \r\n\r\n"
    )


@pytest.mark.parametrize(
    ("target", "sent"),
    [
        ("/a%2Fb%2fc%zz?q=%ff&r=a+b", b"/a%2Fb%2fc%zz?q=%ff&r=a+b"),
        ("/!$&'()*+,-./:;=?@_~", b"/!$&'()*+,-./:;=?@_~"),
        ("/a b", b"/a%20b"),
        ("/a\r\nX: 1", b"/a%0D%0AX:%201"),
        ("/\xfc", b"/%FC"),
        ('/"#<>[\\]^`{|}\x7f', b"/%22%23%3C%3E%5B%5C%5D%5E%60%7B%7C%7D%7F"),
    ],
)
def test_what_a_target_must_not_hold_is_encoded_and_the_rest_is_left(target: str, sent: bytes):
    assert request_head("GET", target, "x", {}).split(b"\r\n")[0] == b"GET %s HTTP/1.1" % sent


@pytest.mark.parametrize(
    "field",
    [
        ("Cookie", "a\r\nRange: bytes=0-0"),
        ("Cookie", "a\nb"),
        ("Cookie", "a\0"),
        ("Cookie", "\u0100"),
        ("Coo kie", "a"),
        ("Cookie:", "a"),
        ("", "a"),
    ],
)
def test_a_field_that_would_not_end_where_it_should_is_not_written(field: tuple[str, str]):
    with pytest.raises(ValueError, match="must not"):
        request_head("GET", "/", "x", dict([field]))


# --- answers -----------------------------------------------------------------------------------


class Told(NamedTuple):
    length: int | None
    chunked: bool = False
    keeps: bool = True


CHUNKED = b"Transfer-Encoding: chunked"
FIVE = b"Content-Length: 5"


@pytest.mark.parametrize(
    ("head", "told"),
    [
        (ok(FIVE), Told(5)),
        (ok(b"content-length:5"), Told(5)),
        (ok(b"CONTENT-LENGTH: \t 5 \t"), Told(5)),
        (ok(b"Content-Length : 5"), Told(5)),
        (ok(FIVE, FIVE), Told(5)),
        (ok(b"Content-Length:", b" 5"), Told(5)),
        (ok(b"Content-Length: 0"), Told(0)),
        (ok(b"Content-Length: 9999999999999999999"), Told(9999999999999999999)),
        (ok(CHUNKED), Told(None, chunked=True)),
        (ok(b"transfer-encoding:CHUNKED"), Told(None, chunked=True)),
        (ok(CHUNKED, FIVE), Told(None, chunked=True, keeps=False)),
        (ok(), Told(None, keeps=False)),
        (ok(FIVE, b"Connection: close"), Told(5, keeps=False)),
        (ok(FIVE, b"Connection: X, Close"), Told(5, keeps=False)),
        (ok(FIVE, b"Connection: X", b"Connection: close"), Told(5, keeps=False)),
        (ok(FIVE, b"Connection: keep-alive, close"), Told(5, keeps=False)),
        (ok(FIVE, b"Connection: closed"), Told(5)),
        (b"HTTP/1.0 200 OK\r\n" + FIVE + b"\r\n\r\n", Told(5, keeps=False)),
        (b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n" + FIVE + b"\r\n\r\n", Told(5)),
        (
            b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n" + CHUNKED + b"\r\n\r\n",
            Told(None, chunked=True, keeps=False),
        ),
        (b"HTTP/1.1 204 No Content\r\n" + FIVE + b"\r\n\r\n", Told(0)),
        (b"HTTP/1.1 304 Not Modified\r\n" + CHUNKED + b"\r\n\r\n", Told(0)),
        (b"HTTP/1.1 101 Switching\r\n\r\n", Told(0, keeps=False)),
        (b"HTTP/1.1 200\r\n" + FIVE + b"\r\n\r\n", Told(5)),
        (b"HTTP/1.1 200 \r\n" + FIVE + b"\r\n\r\n", Told(5)),
        (b"HTTP/1.1 200 OK\n" + FIVE + b"\n\n", Told(5)),
        (ok(b"X: \x00\xff\x7f", b"(odd): 1", FIVE), Told(5)),
    ],
)
def test_where_a_content_ends_and_whether_the_connection_stays(head: bytes, told: Told):
    read = read_head(head, "GET")
    assert Told(read.length, read.chunked, read.keeps) == told


@pytest.mark.parametrize(
    ("field", "keeps"),
    [
        (b"WWW-Authenticate: NTLM", False),
        (b"www-authenticate: Basic realm=a,negotiate YII=", False),
        (b"Proxy-Authenticate: Kerberos", False),
        (b"Persistent-Auth: true", False),
        (b'WWW-Authenticate: Basic realm="ntlmish"', True),
        (b"X: NTLM", True),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_connection_that_may_be_authenticated_does_not_stay(field, keeps: bool, method: str):
    assert read_head(ok(field, FIVE), method).keeps is keeps


@pytest.mark.parametrize("line", [FIVE, CHUNKED, b"Content-Length: -5", b"X: 1"])
def test_an_answer_to_head_has_no_content_whatever_it_tells(line: bytes):
    read = read_head(ok(line), "HEAD")
    assert (read.length, read.chunked, read.keeps) == (0, False, True)


@pytest.mark.parametrize(
    "line",
    [
        *(b"Content-Length: " + text for text in (b"", b"-5", b"+5", b"5_0", b"0x5", b"5.0")),
        *(b"Content-Length: " + text for text in (b"5, 5", b"5 5", b"\xb2", b"9" * 20)),
        b"Content-Length: 5\r\nContent-Length: 6",
    ],
)
def test_a_length_that_is_none_is_no_length(line: bytes):
    with pytest.raises(BadLength):
        read_head(ok(line), "GET")


@pytest.mark.parametrize(
    "head",
    [
        b"\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/0.9 200 OK\r\n\r\n",
        b"HTTP/1.10 200 OK\r\n\r\n",
        b"http/1.1 200 OK\r\n\r\n",
        b" HTTP/1.1 200 OK\r\n\r\n",
        b"\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 2\xb2\xb2 OK\r\n\r\n",
        b"HTTP/1.1 -200 OK\r\n\r\n",
        b"HTTP/1.1 200OK\r\n\r\n",
        b"HTTP/1.1 200 O\rK\r\n\r\n",
        ok(b"no colon"),
        ok(b": no name"),
        ok(b"a name: 1"),
        ok(b"a\0: 1"),
        ok(b"a\r: 1"),
        ok(b"a: 1\r2"),
        ok(b"a: 1", b"b: 2\r"),
        ok(b"X: 1\rContent-Length: 5"),
        ok(b"", b"X: behind the end"),
        ok(*[b"A: b"] * 101),
        ok(b"Transfer-Encoding: gzip"),
        ok(b"Transfer-Encoding: gzip, chunked"),
        ok(b"Transfer-Encoding: chunked, chunked"),
        ok(CHUNKED, CHUNKED),
        ok(b"Transfer-Encoding: xchunked"),
        ok(b"Transfer-Encoding: identity"),
        ok(b"Transfer-Encoding:"),
    ],
)
def test_what_can_be_read_in_two_ways_or_none_is_not_read(head: bytes):
    with pytest.raises(BadMessage):
        read_head(head, "GET")


@pytest.mark.parametrize(
    "line",
    [
        b"A:" + b" " * LONGEST_HEAD + b"\r!",
        b"A" * LONGEST_HEAD + b"\0",
        b"A" + b"\t" * LONGEST_HEAD,
        b"A: b\r\n" + b" \r\n" * (LONGEST_HEAD // 3) + b"\0",
        b"A:" * (LONGEST_HEAD // 2) + b"\r!",
    ],
)
def test_no_hostile_line_costs_more_than_its_length(line: bytes):
    began = time.process_time()
    with pytest.raises(BadMessage):
        read_head(ok(line), "GET")
    assert time.process_time() - began < 1  # what looks back at each step takes minutes


NAMES = st.from_regex(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,12}", fullmatch=True)
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=20).map(
    lambda text: "".join(c for c in text if c.isprintable()).strip()
)


@given(
    st.integers(200, 599),
    st.lists(st.tuples(NAMES, VALUES), max_size=20),
    st.integers(0, 10**18),
    st.sampled_from(["\r\n", "\n"]),
)
def test_a_head_is_read_as_the_standard_library_reads_it(status, fields, length, newline):
    fields = [
        (name, value)
        for name, value in fields
        if name.lower() not in {"content-length", "transfer-encoding", "connection"}
    ]
    fields.append(("Content-Length", str(length)))
    lines = [f"HTTP/1.1 {status} Text", *(f"{name}: {value}" for name, value in fields), "", ""]
    head = newline.join(lines).encode("latin-1")

    class Wire:
        def makefile(self, mode: str) -> io.BytesIO:
            return io.BytesIO(head)

    theirs = http.client.HTTPResponse(Wire(), method="GET")
    theirs.begin()
    ours = read_head(head, "GET")
    assert END.search(head).end() == len(head)
    assert (ours.status, ours.length) == (theirs.status, theirs.length)
    assert ours.fields == theirs.getheaders() == fields


LINES = st.one_of(
    st.builds("{}: {}".format, NAMES, VALUES),
    st.from_regex(
        r"[A-Za-z-]{0,6}[ \t]?:[ \t]{0,2}[ -~]{0,6}[ \t\r\n\x00\x7f]{0,2}", fullmatch=True
    ),
)


@given(
    st.sampled_from(["HTTP/1.1 200 OK", "HTTP/1.0 404", "HTTP/1.1 206 ", "HTTP/2 200", "ICY 200"]),
    st.lists(LINES, max_size=6),
    st.sampled_from(["\r\n", "\r\n", "\n"]),
)
def test_an_ordinary_head_is_read_by_the_same_rules_as_any(start, lines, newline):
    text = newline.join([start, *lines, "", ""])
    ordinary = _ordinary(text)
    if ordinary is not None:
        assert _any(text) == ordinary


def test_what_servers_send_is_ordinary():
    head = (
        "HTTP/1.1 206 Partial Content\r\nServer: nginx/1.22.1\r\n"
        "Date: Wed, 25 Nov 2026 14:09:46 GMT\r\nContent-Type: text/plain; charset=utf-8\r\n"
        'Content-Length: 10\r\nETag: W/"65-a"\r\nContent-Range: bytes 0-9/10\r\n\r\n'
    )
    assert _ordinary(head) is not None

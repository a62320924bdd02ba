"""Where a request ends: the same however it is cut, and nothing odd is waited for."""

import pytest

from tar_gateway.framing import Incoming, Progress

MAX_HEAD, MAX_BODY = 200, 30

GET = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"


def post(length: str, *lines: str) -> bytes:
    head = "".join(line + "\r\n" for line in lines)
    return f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n{head}\r\n".encode()


WHOLE = {
    "no body": GET,
    "no header": b"GET / HTTP/1.0\r\n\r\n",
    "an empty line first": b"\r\n" + GET,
    "a body of a told length": post("5") + b"12345",
    "an empty body": post("0"),
    "a header's name in other letters": b"POST / HTTP/1.1\r\nCONTENT-length:\t2 \r\n\r\nab",
    "a head's end in the body": post("9") + b"a\r\n\r\nb\r\n\r",
    "no chunk but the last": CHUNKED + b"0\r\n\r\n",
    "chunks": CHUNKED + b"3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n",
    "a chunk that looks like the last": CHUNKED + b"7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n",
    "chunks with extensions": CHUNKED + b'2;a="b"\r\nab\r\n0 ;c\r\n\r\n',
    "trailers": CHUNKED + b"1\r\na\r\n0\r\nA: b\r\nC: d\r\n\r\n",
    "another transfer coding before the chunks": CHUNKED.replace(b"chunked", b"gzip, chunked")
    + b"1\r\na\r\n0\r\n\r\n",
}

# Refused by the server that parses them; the last byte is the one that makes them odd.
ODD = {
    "a bare LF in the request line": b"GET / HTTP/1.1\n",
    "a bare LF in a header": b"GET / HTTP/1.1\r\nHost: a\n",
    "a bare LF at the beginning": b"\n",
    "nothing but an empty line": b"\r\n\r\n",
    "two lengths": post("5", "Content-Length: 6"),
    "the same length twice": post("5", "content-length: 5"),
    "a length and chunks": post("5", "Transfer-Encoding: chunked"),
    "two transfer codings": post("5").replace(
        b"Content-Length: 5", b"Transfer-Encoding: a\r\n" * 2
    )[:-2],
    "a negative length": post("-5"),
    "no length": post(""),
    "a length of 19 digits": post("1" * 19),
    "a body that is too large": post("31"),
    "a chunk of no size": CHUNKED + b"\r\n",
    "a chunk of another size": CHUNKED + b"x\r\n",
    "a chunk of a negative size": CHUNKED + b"1\r\na\r\n-1\r\n",
    "chunks that are too large together": CHUNKED + b"A\r\n0123456789\r\n" * 2 + b"F",
}


def feed(*blocks: bytes) -> Incoming:
    incoming = Incoming(MAX_HEAD, MAX_BODY)
    for block in blocks:
        incoming.feed(block)
    return incoming


@pytest.mark.parametrize("request_", [*WHOLE.values(), *ODD.values()], ids=[*WHOLE, *ODD])
def test_a_request_is_whole_with_its_last_byte_and_not_before(request_: bytes):
    incoming = feed()
    for index in range(len(request_)):
        assert incoming.progress is not Progress.WHOLE, request_[:index]
        incoming.feed(request_[index : index + 1])
    assert incoming.progress is Progress.WHOLE
    assert incoming.data == request_


@pytest.mark.parametrize("request_", [*WHOLE.values(), *ODD.values()], ids=[*WHOLE, *ODD])
def test_it_does_not_matter_how_a_request_is_cut(request_: bytes):
    assert feed(request_).progress is Progress.WHOLE
    for cut in range(1, len(request_)):
        incoming = feed(request_[:cut])
        assert incoming.progress in {Progress.HEAD, Progress.BODY}
        assert incoming.feed(request_[cut:]) is Progress.WHOLE


@pytest.mark.parametrize("request_", WHOLE.values(), ids=WHOLE)
def test_what_follows_a_request_is_kept_with_it(request_: bytes):
    incoming = feed(request_ + GET)
    assert incoming.progress is Progress.WHOLE
    assert incoming.data == request_ + GET


def test_the_body_begins_behind_the_head():
    incoming = feed(post("5")[:-1])
    assert incoming.progress is Progress.HEAD
    assert incoming.feed(b"\n") is Progress.BODY


def test_a_head_that_is_too_long_is_seen_while_it_comes():
    head = b"GET / HTTP/1.1\r\nA: " + b"a" * MAX_HEAD
    incoming = feed(head[:MAX_HEAD])
    assert incoming.progress is Progress.HEAD
    assert incoming.feed(b"a") is Progress.TOO_LONG


def test_a_chunks_line_that_never_ends_is_not_waited_for():
    incoming = Incoming(MAX_HEAD, 10**6)
    assert incoming.feed(CHUNKED + b"1;" + b"a" * 8188) is Progress.BODY
    assert incoming.feed(b"a") is Progress.WHOLE


EXPECTING = post("5", "Expect: 100-Continue")


@pytest.mark.parametrize(
    ("request_", "wants"),
    [
        (EXPECTING, True),
        (CHUNKED[:-2] + b"expect: 100-continue\r\n\r\n", True),
        (b"\r\n" + EXPECTING, True),
        (EXPECTING + b"1", False),
        (EXPECTING.replace(b"HTTP/1.1", b"HTTP/1.0"), False),
        (EXPECTING.replace(b"HTTP/1.1\r\n", b"HTTP/1.0\r\nA: HTTP/1.1\r\n"), False),
        (post("5", "Expect: something"), False),
        (post("31", "Expect: 100-continue"), False),
        (GET[:-2] + b"Expect: 100-continue\r\n\r\n", False),
        (post("5"), False),
    ],
)
def test_a_client_that_waits_to_be_told_to_go_on_is_noticed(request_: bytes, wants: bool):
    assert feed(request_).wants_continue is wants

"""Where a request ends: the same however it is cut, and nothing odd is waited for."""

import time
from itertools import pairwise

import pytest
from gunicorn.config import Config
from gunicorn.http.errors import NoMoreData, ParseException
from gunicorn.http.parser import RequestParser
from hypothesis import example, given
from hypothesis import strategies as st

from tar_gateway.http.framing import IncomingRequest, Progress

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
    "another transfer coding in a line before": CHUNKED[:-2].replace(b"chunked", b"gzip")
    + b"transfer-encoding:Chunked \r\n\r\n1\r\na\r\n0\r\n\r\n",
    "chunks of all that an extension may be": CHUNKED
    + b'1 ;a\t; b = c;d="\\"\xff"\r\nx\r\n0\r\n\r\n',
}

# What a server gets of those in place of their chunks.
JOINED = {
    "chunks": b"d\r\nabc0123456789\r\n0\r\n\r\n",
    "chunks with extensions": b"2\r\nab\r\n0 ;c\r\n\r\n",
    "chunks of all that an extension may be": b"1\r\nx\r\n0\r\n\r\n",
    "a chunk of a negative size": b"1\r\na\r\n-1\r\n",
    "chunks that are too large together": b"14\r\n" + b"0123456789" * 2 + b"\r\nF",
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
    "a chunk that is announced too large": CHUNKED + b"1A\r\n",
    "a chunk larger than any number of a machine": CHUNKED + b"f" * 20 + b"\r\n",
    "a chunk longer than its size": CHUNKED + b"1\r\naxx",
    "a space behind a chunk's size": CHUNKED + b"1 \r\n",
    "an extension without a name": CHUNKED + b"1;\r\n",
    "an extension with a control character": CHUNKED + b"1;a=\1\r\n",
    "trailers that are too large": CHUNKED + b"0\r\n" + b"a" * 28,
    "a transfer coding that has no end": CHUNKED.replace(b"chunked", b"chunked, gzip"),
    "chunks under another name": CHUNKED.replace(b"chunked", b"xchunked"),
    "a length in a line before the chunks": CHUNKED.replace(b"Tr", b"Content-Length: 9\r\nTr"),
}


def feed(*blocks: bytes, max_body: int = MAX_BODY) -> IncomingRequest:
    incoming = IncomingRequest(MAX_HEAD, max_body)
    for block in blocks:
        incoming.feed(block)
    return incoming


def joined(name: str, request: bytes) -> bytes:
    head, end, body = request.partition(b"\r\n\r\n")
    return head + end + JOINED.get(name, body)


@pytest.mark.parametrize("name", [*WHOLE, *ODD])
def test_a_request_is_whole_with_its_last_byte_and_not_before(name: str):
    request_ = (WHOLE | ODD)[name]
    incoming = feed()
    for index in range(len(request_)):
        assert incoming.progress is not Progress.WHOLE, request_[:index]
        incoming.feed(request_[index : index + 1])
    assert incoming.progress is Progress.WHOLE
    assert incoming.data == joined(name, request_)


@pytest.mark.parametrize("name", [*WHOLE, *ODD])
def test_it_does_not_matter_how_a_request_is_cut(name: str):
    request_ = (WHOLE | ODD)[name]
    assert feed(request_).progress is Progress.WHOLE
    for cut in range(1, len(request_)):
        incoming = feed(request_[:cut])
        assert incoming.progress in {Progress.HEAD, Progress.BODY}
        assert incoming.feed(request_[cut:]) is Progress.WHOLE
        assert incoming.data == joined(name, request_)


@pytest.mark.parametrize("name", WHOLE)
def test_what_follows_a_request_is_kept_with_it(name: str):
    incoming = feed(WHOLE[name] + GET)
    assert incoming.progress is Progress.WHOLE
    assert incoming.data == joined(name, WHOLE[name]) + GET


def test_all_that_is_held_is_counted_until_it_is_given_up():
    incoming = feed(CHUNKED, b"3\r\nabc\r\n", b"4\r\nde")
    assert incoming.held == 2 * len(CHUNKED) + len(b"abc") + len(b"4\r\nde")
    incoming.clear()
    assert incoming.held == 0


@pytest.mark.parametrize(
    ("chunks", "on_wire"),
    [
        (b"1\r\na\r\n0\r\n\r\n", 11),
        (b"1\r\na\r\n0\r\nA: b\r\n\r\n", 17),
        (b"1;a=b\r\na\r\n0\r\n\r\n", 15),
        (b"1\r\na\r\n1F\r\n", 6 + 4 + 31 + 2),
        (b"1\r\na\r\n" * 5 + b"0\r\n\r\n", 35),
    ],
)
def test_all_that_a_body_in_chunks_takes_on_the_wire_is_counted(chunks: bytes, on_wire: int):
    pieces = [chunks[at : at + 1] for at in range(len(chunks))]
    for incoming in (feed(CHUNKED + chunks), feed(CHUNKED, *pieces), feed(CHUNKED + chunks + GET)):
        assert incoming.progress is Progress.WHOLE
        assert min(incoming.on_wire, MAX_BODY + 1) == min(on_wire, MAX_BODY + 1)


@pytest.mark.parametrize(
    "endless", [b"1\r\na\r\n", b"1;" + b"a" * 20 + b"\r\na\r\n", b"0", b"0\r\n" + b"A: b\r\n" * 9]
)
def test_what_never_ends_is_waited_for_up_to_the_limit(endless: bytes):
    incoming, sent = feed(CHUNKED), (endless * (MAX_BODY + 1))[: MAX_BODY + 1]
    for at in range(MAX_BODY + 1):
        assert incoming.progress is Progress.BODY
        incoming.feed(sent[at : at + 1])
    assert incoming.progress is Progress.WHOLE
    assert incoming.on_wire == MAX_BODY + 1


# Close to what is a body in chunks, and to what gunicorn takes for one.
almost = st.lists(
    st.sampled_from([b"1", b"0", b"a", b"\r\n", b"1\r\na\r\n", b"0\r\n\r\n", b";a", b" ", b"\t"])
    | st.sampled_from([b"=b", b'="c"', b"A: b\r\n", b"\n", b"\r", b"00", b"f", b'"', b"\\", b"-"]),
    max_size=12,
).map(b"".join)


def as_gunicorn_reads(request: bytes) -> tuple[bytes, bytes] | type[Exception]:
    """Give the body and what is behind it, or what gunicorn finds wrong with it."""
    parser = RequestParser(Config(), iter([request]), ("127.0.0.1", 1))
    try:
        return next(parser).body.read(), parser.unreader.take_buffered()
    except (NoMoreData, ParseException) as error:
        return type(error)


@given(almost, st.lists(st.integers(0, 40), max_size=4))
@example(b"1;a\r\nb\r\n0\r\n\r\n0\r\n\r\n", [])
def test_gunicorn_reads_the_same_of_joined_chunks_as_of_those_that_came(
    body: bytes, cuts: list[int]
):
    request, at = CHUNKED + body, [len(CHUNKED) + cut for cut in sorted(cuts)]
    incoming = feed(
        *(request[start:end] for start, end in pairwise([0, *at, len(request)])), max_body=1000
    )
    if incoming.progress is not Progress.WHOLE:
        return
    assert as_gunicorn_reads(bytes(incoming.data)) == as_gunicorn_reads(request)


def test_many_small_chunks_take_little_time_and_leave_one():
    chunks = b"1\r\na\r\n" * 100_000
    incoming = IncomingRequest(MAX_HEAD, 10**6)
    incoming.feed(CHUNKED)
    begun = time.process_time()
    for at in range(0, len(chunks), 65536):
        incoming.feed(chunks[at : at + 65536])
    incoming.feed(b"0\r\n\r\n")
    assert time.process_time() - begun < 0.5
    assert incoming.data == CHUNKED + b"186a0\r\n" + b"a" * 100_000 + b"\r\n0\r\n\r\n"


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
    incoming = IncomingRequest(MAX_HEAD, 10**6)
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

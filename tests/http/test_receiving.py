"""Responses are read alike in whatever pieces they arrive, each to its end and no further."""

from itertools import cycle
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tar_gateway.http.messages import LONGEST_HEAD, BadMessage
from tar_gateway.http.receiving import Receiver

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\n"


class Outcome(NamedTuple):
    """What was read of a response, the error that ended it, and what came behind it."""

    status: int | None
    content: bytes
    error: type[Exception] | None
    unrequested: bytes


class Wire:
    """A connection over which ``sent`` comes in pieces, ``sizes`` in turn; then it ends."""

    def __init__(self, sent: bytes, sizes: list[int]) -> None:
        self._sent = sent
        self._sizes = cycle(sizes)

    def read(self, limit: int = 1 << 20) -> bytes:
        size = min(limit, next(self._sizes))
        piece, self._sent = self._sent[:size], self._sent[size:]
        return piece

    def rest(self) -> bytes:
        return self.read() + self.rest() if self._sent else b""


def read_one(
    receiver: Receiver, wire: Wire, method: str = "GET", *, limit: int = 1 << 20, direct: bool
) -> Outcome:
    """Read a response; large contents past the receiver where ``direct``."""
    status, content = None, bytearray()
    try:
        receiver.begin(method)
        while (head := receiver.head()) is None:
            receiver.feed(wire.read())
        status = head.status
        while (piece := receiver.content(limit)) != b"":
            if piece is not None:
                assert len(piece) <= limit
                content += piece
            elif direct and (most := receiver.direct()):
                block = wire.read(min(most, limit))
                receiver.took(len(block))
                content += block
            else:
                receiver.feed(wire.read())
    except (BadMessage, ConnectionResetError) as error:
        return Outcome(status, bytes(content), type(error), b"")
    assert receiver.is_over
    return Outcome(status, bytes(content), None, receiver.unrequested + wire.rest())


def read(sent: bytes, method: str = "GET") -> Outcome:
    """Read a response that comes at once."""
    return read_one(Receiver(), Wire(sent, [1 << 20]), method, direct=False)


# --- the framings ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "outcome"),
    [
        (OK + b"12345", Outcome(200, b"12345", None, b"")),
        (OK + b"12345" + OK, Outcome(200, b"12345", None, OK)),
        (OK.replace(b"5", b"0"), Outcome(200, b"", None, b"")),
        (OK.replace(b"\r\n", b"\n") + b"12345", Outcome(200, b"12345", None, b"")),
        (UNTIL_CLOSE, Outcome(200, b"", None, b"")),
        (UNTIL_CLOSE + b"12345", Outcome(200, b"12345", None, b"")),
        (CHUNKED + b"0\r\n\r\n", Outcome(200, b"", None, b"")),
        (CHUNKED + b"5\r\n12345\r\n0\r\n\r\nx", Outcome(200, b"12345", None, b"x")),
        (CHUNKED + b"05 ;a=b\r\n12345\r\n0\r\nA: b\r\n\r\n", Outcome(200, b"12345", None, b"")),
        (CHUNKED + b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n",
         Outcome(200, b"0123456789" * 2, None, b"")),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 1\r\n\r\nx", Outcome(204, b"", None, b"x")),
        (b"HTTP/1.1 304 Not Modified\r\n\r\nx", Outcome(304, b"", None, b"x")),
        (b"HTTP/1.1 101 Switching\r\n\r\nx", Outcome(101, b"", None, b"x")),
    ],
)  # fmt: skip
def test_a_content_ends_where_its_head_tells(sent: bytes, outcome: Outcome):
    assert read(sent) == outcome


@pytest.mark.parametrize("head", [OK, CHUNKED, UNTIL_CLOSE])
def test_an_answer_to_head_ends_with_its_head(head: bytes):
    assert read(head + b"x", "HEAD") == Outcome(200, b"", None, b"x")


def test_an_answer_that_is_announced_is_waited_for():
    hints = b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    assert read(hints + b"HTTP/1.1 100 Continue\r\n\r\n" * 5 + OK + b"12345").content == b"12345"


def test_an_answer_that_is_only_announced_is_given_up():
    assert read(b"HTTP/1.1 100 Continue\r\n\r\n" * 8 + OK + b"12345").error is BadMessage


@pytest.mark.parametrize("sent", [b"", b"H", OK[:-1], OK[:-2], OK, OK + b"1234"])
def test_a_response_of_a_known_length_that_breaks_off_is_noticed(sent: bytes):
    assert read(sent).error is ConnectionResetError


@pytest.mark.parametrize(
    "sent",
    [b"", b"5", b"5\r\n", b"5\r\n1234", b"5\r\n12345", b"5\r\n12345\r\n", b"0\r\n", b"0\r\nA: b"],
)
def test_chunks_that_break_off_are_noticed(sent: bytes):
    assert read(CHUNKED + sent).error is ConnectionResetError


@pytest.mark.parametrize(
    "sent",
    [
        *(b"%s\r\n12345" % size for size in (b"", b" ", b"-5", b"+5", b"0x5", b"5_0", b"g", b";x")),
        *(b"%s\r\n12345" % size for size in (b"5 5", b"5,", b"\xb2", b"5" * 16, b"5\r")),
        b"5\r\n123456\r\n0\r\n\r\n",
        b"5\r\n1234\r\n0\r\n\r\n",
        b"5\n12345\r\n0\r\n\r\n",
        b"5\r\n12345\n0\r\n\r\n",
        b"5\r\n12345\r\n0\n\r\n",
        b"5\r\n12345 \r\n0\r\n\r\n",
        b"5;" + b"x" * 10_000 + b"\r\n",
        b"5;" + b"x" * 10_000,
        b"0\r\n" + b"A: b\r\n" * 10_000,
    ],
)
def test_chunks_that_are_none_are_noticed(sent: bytes):
    assert read(CHUNKED + sent).error is BadMessage


@pytest.mark.parametrize("more", [0, 1, 1000])
@pytest.mark.parametrize("size", [1000, 1 << 20])
def test_a_head_longer_than_the_limit_is_not_read(more: int, size: int):
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nA: \r\n\r\n"
    padded = head[:-4] + b"b" * (LONGEST_HEAD - len(head) + more) + head[-4:]
    outcome = read_one(Receiver(), Wire(padded, [size]), direct=False)
    assert outcome.error is (BadMessage if more else None)


def test_a_head_that_does_not_end_is_given_up():
    receiver = Receiver()
    receiver.begin("GET")
    receiver.feed(OK[:-2] + b"a" * LONGEST_HEAD)
    with pytest.raises(BadMessage):
        receiver.head()


# --- one after the other -----------------------------------------------------------------------


@pytest.mark.parametrize("direct", [False, True])
def test_responses_are_read_one_after_the_other(direct: bool):
    receiver = Receiver()
    for sent in (OK + b"12345", CHUNKED + b"5\r\n12345\r\n0\r\n\r\n", OK + b"12345"):
        assert read_one(receiver, Wire(sent, [7]), direct=direct).content == b"12345"
    assert not receiver.held


def test_what_came_before_its_request_is_not_read():
    receiver = Receiver()
    read_one(receiver, Wire(OK + b"12345" + OK + b"67890", [1 << 20]), direct=False)
    assert receiver.unrequested == OK + b"67890"
    with pytest.raises(BadMessage):
        receiver.begin("GET")


def test_what_is_behind_a_response_is_not_unrequested_while_it_is_read():
    receiver = Receiver()
    receiver.begin("GET")
    receiver.feed(OK + b"12345")
    assert not receiver.unrequested
    assert receiver.held == len(OK) + 5


# --- contents that are read past it ------------------------------------------------------------


def test_the_rest_of_a_content_may_be_read_from_the_connection_itself():
    receiver = Receiver()
    receiver.begin("GET")
    receiver.feed(OK + b"12")
    receiver.head()
    assert receiver.direct() == 0  # what is here comes first
    assert receiver.content(10) == b"12"
    assert (receiver.content(10), receiver.direct()) == (None, 3)
    receiver.took(2)
    assert receiver.direct() == 1
    receiver.took(1)
    assert receiver.is_over
    assert receiver.content(10) == b""


def test_no_more_than_a_chunk_is_read_from_the_connection_itself():
    receiver = Receiver()
    receiver.begin("GET")
    receiver.feed(CHUNKED)
    receiver.head()
    assert receiver.direct() == 0
    receiver.feed(b"5\r\n")
    assert (receiver.content(10), receiver.direct()) == (None, 5)
    receiver.took(5)
    assert receiver.direct() == 0
    receiver.feed(b"\r\n0\r\n\r\n")
    assert receiver.content(10) == b""


def test_an_end_too_early_is_noticed_where_it_is_read_past():
    receiver = Receiver()
    receiver.begin("GET")
    receiver.feed(OK)
    receiver.head()
    receiver.took(0)
    with pytest.raises(ConnectionResetError):
        receiver.content(10)


def test_nothing_that_was_read_is_held():
    receiver = Receiver()
    receiver.begin("GET")
    receiver.feed(OK + b"12345")
    receiver.head()
    receiver.content(5)
    assert receiver._data == b""


# --- any pieces --------------------------------------------------------------------------------

CONTENTS = st.binary(max_size=40)
EXTENSIONS = st.sampled_from([b"", b";a=b", b" ; a"])
TRAILERS = st.sampled_from([b"", b"A: b\r\n", b"A: b\r\nC: d\r\n"])
NEWLINES = st.sampled_from([b"\r\n", b"\n"])


@st.composite
def chunked(draw: st.DrawFn) -> bytes:
    chunks = draw(st.lists(st.binary(min_size=1, max_size=12), max_size=4))
    lines = [b"%x%s\r\n%s\r\n" % (len(each), draw(EXTENSIONS), each) for each in chunks]
    return b"".join(lines) + b"0\r\n" + draw(TRAILERS) + b"\r\n"


@st.composite
def responses(draw: st.DrawFn) -> bytes:
    """Return a response of any framing, with more behind it or damaged, or both or neither."""
    framing = draw(st.sampled_from(["sized", "chunked", "until close", "none"]))
    content = draw(chunked() if framing == "chunked" else CONTENTS)
    lines = {
        "sized": b"Content-Length: %d" % len(content),
        "chunked": b"Transfer-Encoding: chunked",
        "until close": b"X: y",
        "none": b"Content-Length : 0",
    }
    status = b"304 Not Modified" if framing == "none" else b"200 OK"
    head = b"HTTP/1.1 %s\r\n%s\r\nA: b\r\n\r\n" % (status, lines[framing])
    hints = b"HTTP/1.1 103 Early Hints\r\n\r\n" * draw(st.integers(0, 2))
    sent = (hints + head).replace(b"\r\n", draw(NEWLINES)) + content
    sent += draw(st.sampled_from([b"", b"", b"x", OK]))
    if draw(st.booleans()):
        at = draw(st.integers(0, len(sent)))
        sent = sent[:at] + draw(st.binary(max_size=2)) + sent[at + draw(st.integers(0, 2)) :]
    return sent


@given(
    responses(),
    st.lists(st.integers(1, 30), min_size=1, max_size=8),
    st.integers(1, 30),
    st.booleans(),
    st.sampled_from(["GET", "GET", "HEAD"]),
)
def test_any_pieces_are_read_like_the_whole(
    sent: bytes, sizes: list[int], limit: int, direct: bool, method: str
):
    whole = read(sent, method)
    assert read_one(Receiver(), Wire(sent, sizes), method, limit=limit, direct=direct) == whole

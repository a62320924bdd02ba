"""A connection: bytes in whatever pieces they come, and when it may be used again."""

import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
import trustme

from tar_gateway.http.messages import LONGEST_HEAD, BadMessage
from tar_gateway.sources.wire.connection import ChunkedContent, Connection, SizedContent

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"


class Ends:
    """Both ends of a connection, and what was sent to the server's."""

    def __init__(self) -> None:
        self.ours, self.server = socket.socketpair()
        self.connection = Connection(self.ours, 0.3)

    def ask(self, *sent: bytes, end: bool = False):
        for piece in sent:
            self.server.sendall(piece)
        if end:
            self.server.shutdown(socket.SHUT_WR)
        return self.connection.ask("GET", b"asked")


@pytest.fixture
def ends() -> Iterator[Ends]:
    ends = Ends()
    with closing(ends.server), closing(ends.ours):
        yield ends


def dripped(ends: Ends, sent: bytes) -> threading.Thread:
    """Send byte by byte, in another thread."""

    def drip() -> None:
        for index in range(len(sent)):
            ends.server.sendall(sent[index : index + 1])

    thread = threading.Thread(target=drip)
    thread.start()
    return thread


def read_all(content: SizedContent | ChunkedContent, limit: int = 1000) -> bytes:
    return b"".join(iter(lambda: content.read(limit), b""))


def never() -> None:
    raise AssertionError("the content was not read to its end")


def test_a_request_is_sent_as_it_is(ends: Ends):
    ends.ask(OK)
    assert ends.server.recv(100) == b"asked"


@pytest.mark.parametrize("limit", [1, 2, 5, 1000])
def test_a_content_that_comes_with_its_head_or_behind_it_is_the_same(ends: Ends, limit: int):
    for pieces in ([OK + b"12345"], [OK, b"12345"], [OK + b"12", b"345"], [OK[:20], OK[20:]]):
        head = ends.ask(*pieces, *([] if b"5" in pieces[-1][-3:] else [b"12345"]))
        notes: list[str] = []
        content = SizedContent(
            ends.connection, head.length, lambda notes=notes: notes.append("end")
        )
        assert read_all(content, limit) == b"12345"
        assert notes == ["end"]
        assert ends.connection.is_fit()


@pytest.mark.parametrize("newline", [b"\r\n", b"\n"])
def test_an_answer_that_drips_is_read(ends: Ends, newline: bytes):
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"4;x=y\r\n1234\r\n1\r\n5\r\n0\r\nA: b\r\n\r\n"
    thread = dripped(ends, head.replace(b"\r\n", newline) + chunks)
    assert ends.connection.ask("GET", b"").chunked
    assert read_all(ChunkedContent(ends.connection, lambda: None)) == b"12345"
    thread.join()
    assert ends.connection.is_fit()


def test_an_answer_that_is_announced_is_waited_for(ends: Ends):
    assert ends.ask(b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + OK).status == 200


def test_hints_before_an_answer_are_not_the_answer(ends: Ends):
    hints = b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    assert ends.ask(hints + OK).status == 200


def test_an_answer_that_is_only_announced_is_given_up(ends: Ends):
    with pytest.raises(BadMessage):
        ends.ask(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)


@pytest.mark.parametrize("sent", [b"", b"H", OK[:-1], OK[:-2]])
def test_a_head_that_breaks_off_is_none(ends: Ends, sent: bytes):
    with pytest.raises(ConnectionResetError):
        ends.ask(sent, end=True)


@pytest.mark.parametrize("more", [0, 1, 1000])
def test_a_head_longer_than_the_limit_is_not_read(ends: Ends, more: int):
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nA: \r\n\r\n"
    padded = head[:-4] + b"b" * (LONGEST_HEAD - len(head) + more) + head[-4:]
    ends.server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * LONGEST_HEAD)
    if more:
        with pytest.raises(BadMessage):
            ends.ask(padded)
    else:
        assert ends.ask(padded).length == 0


def test_a_head_that_drips_for_longer_than_the_timeout_is_late(ends: Ends):
    over = threading.Event()

    def drip() -> None:
        ends.server.sendall(OK[:-2] + b"A: ")
        while not over.wait(0.01):
            ends.server.sendall(b"b")

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        with pytest.raises(TimeoutError):
            ends.connection.ask("GET", b"")
    finally:
        over.set()
        thread.join()


def test_what_ends_with_the_connection_is_read_to_its_end(ends: Ends):
    head = ends.ask(b"HTTP/1.1 200 OK\r\n\r\n123", b"45", end=True)
    assert head.length is None
    assert read_all(SizedContent(ends.connection, None, never)) == b"12345"


@pytest.mark.parametrize("sent", [b"", b"1234"])
def test_a_content_that_breaks_off_is_noticed(ends: Ends, sent: bytes):
    ends.ask(OK + sent, end=True)
    content = SizedContent(ends.connection, 5, never)
    with pytest.raises(ConnectionResetError):
        read_all(content)


@pytest.mark.parametrize(
    "sent",
    [b"", b"5", b"5\r\n", b"5\r\n1234", b"5\r\n12345", b"5\r\n12345\r\n", b"0\r\n", b"0\r\nA: b"],
)
def test_chunks_that_break_off_are_noticed(ends: Ends, sent: bytes):
    ends.ask(OK + sent, end=True)
    with pytest.raises(ConnectionResetError):
        read_all(ChunkedContent(ends.connection, never))


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
def test_chunks_that_are_none_are_noticed(ends: Ends, sent: bytes):
    ends.server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 256 * 1024)
    ends.ask(OK + sent, end=True)
    with pytest.raises(BadMessage):
        read_all(ChunkedContent(ends.connection, never))


def test_a_connection_is_fit_for_another_request_while_nothing_comes(ends: Ends):
    assert ends.connection.is_fit()
    ends.server.sendall(b"x")
    assert not ends.connection.is_fit()


def test_a_connection_that_the_other_side_has_ended_is_not_fit(ends: Ends):
    ends.server.shutdown(socket.SHUT_WR)
    assert not ends.connection.is_fit()


def test_a_connection_with_more_than_its_answer_is_not_fit(ends: Ends):
    head = ends.ask(OK + b"12345" + OK)
    assert read_all(SizedContent(ends.connection, head.length, lambda: None)) == b"12345"
    assert not ends.connection.is_fit()


# --- over TLS ----------------------------------------------------------------------------------


@pytest.fixture
def tls() -> Iterator[Ends]:
    """A connection whose ends have shaken hands."""
    authority = trustme.CA()
    accepting, asking = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("files.test").configure_cert(accepting)
    authority.configure_trust(asking)
    ends, (ours, theirs) = Ends(), socket.socketpair()
    ends.ours.close()
    ends.server.close()
    with ThreadPoolExecutor(1) as threads:
        accepted = threads.submit(accepting.wrap_socket, theirs, server_side=True)
        wrapped = asking.wrap_socket(ours, server_hostname="files.test")
        ends.server = accepted.result()
    ends.ours, ends.connection = wrapped, Connection(wrapped, 0.3)
    with closing(ends.server), closing(ends.ours):
        yield ends


def test_an_answer_over_tls_is_read_and_leaves_the_connection_fit(tls: Ends):
    head = tls.ask(OK, b"12345")
    assert read_all(SizedContent(tls.connection, head.length, lambda: None)) == b"12345"
    assert tls.connection.is_fit()


def test_more_than_the_answer_in_the_same_record_is_noticed(tls: Ends):
    head = tls.ask(OK, b"12345" + OK)
    assert read_all(SizedContent(tls.connection, head.length, lambda: None)) == b"12345"
    assert not tls.connection.is_fit()


def test_what_has_come_before_a_stop_is_never_given_in_its_encrypted_form(tls: Ends):
    tls.ask(OK, b"1")
    content = SizedContent(tls.connection, 5, lambda: None)
    assert content.read(1) == b"1"
    tls.server.sendall(b"2345")
    tls.connection.stop()
    assert content.read(5) == b"2345"


@pytest.mark.parametrize("kind", ["ends", "tls"])
def test_a_stop_ends_a_read_that_waits_and_gives_nothing_more(kind: str, request):
    ends = request.getfixturevalue(kind)
    ends.ask(OK, b"1")
    content = SizedContent(ends.connection, 5, never)
    assert content.read(1) == b"1"
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(content.read, 5)
        ends.connection.stop()
        with pytest.raises(OSError, match=r"ended too early|EOF|shutdown"):
            waiting.result(10)

"""A connection: bytes in whatever pieces they come, and when it may be used again."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from typing import TypeVar

import pytest
import trustme

from tar_gateway.http.messages import Head
from tar_gateway.sources.wire.connection import Connection, NotThere
from tests.support.scripted import PATIENCE

T = TypeVar("T")

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"


class Waiting(Connection):
    """A connection whose reads wait, in the thread that reads."""

    def ask_and_wait(self, request: bytes) -> Head:
        self.ask("GET", request)
        return self._waited(self.head)

    def read(self, limit: int) -> bytes:
        return self._waited(partial(super().read, limit))

    def _waited(self, step: Callable[[], T]) -> T:
        while True:
            try:
                return step()
            except NotThere as missing:
                self.wait(missing.events, PATIENCE)


class Ends:
    """Both ends of a connection, and what was sent to the server's."""

    def __init__(self) -> None:
        self.ours, self.server = socket.socketpair()
        self.connection = Waiting(self.ours)

    def ask(self, *sent: bytes, end: bool = False):
        for piece in sent:
            self.server.sendall(piece)
        if end:
            self.server.shutdown(socket.SHUT_WR)
        return self.connection.ask_and_wait(b"asked")


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


def read_all(connection: Connection, limit: int = 1000) -> bytes:
    return b"".join(iter(lambda: connection.read(limit), b""))


def test_a_request_is_sent_as_it_is(ends: Ends):
    ends.ask(OK)
    assert ends.server.recv(100) == b"asked"


@pytest.mark.parametrize("limit", [1, 2, 5, 1000])
def test_a_content_that_comes_with_its_head_or_behind_it_is_the_same(ends: Ends, limit: int):
    for pieces in ([OK + b"12345"], [OK, b"12345"], [OK + b"12", b"345"], [OK[:20], OK[20:]]):
        ends.ask(*pieces, *([] if b"5" in pieces[-1][-3:] else [b"12345"]))
        assert read_all(ends.connection, limit) == b"12345"
        assert ends.connection.is_over
        assert ends.connection.is_fit()


def test_a_large_content_is_read_whole(ends: Ends):
    content = bytes(range(256)) * 10_000
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content)
    with ThreadPoolExecutor(1) as threads:
        sent = threads.submit(ends.server.sendall, head + content)
        ends.ask()
        assert read_all(ends.connection, 100_000) == content
        sent.result()
    assert ends.connection.is_fit()


@pytest.mark.parametrize("newline", [b"\r\n", b"\n"])
def test_an_answer_that_drips_is_read(ends: Ends, newline: bytes):
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"4;x=y\r\n1234\r\n1\r\n5\r\n0\r\nA: b\r\n\r\n"
    thread = dripped(ends, head.replace(b"\r\n", newline) + chunks)
    assert ends.connection.ask_and_wait(b"").chunked
    assert read_all(ends.connection) == b"12345"
    thread.join()
    assert ends.connection.is_fit()


def test_what_ends_with_the_connection_is_read_to_its_end(ends: Ends):
    head = ends.ask(b"HTTP/1.1 200 OK\r\n\r\n123", b"45", end=True)
    assert head.length is None
    assert read_all(ends.connection) == b"12345"


@pytest.mark.parametrize("sent", [b"", b"1234"])
def test_a_content_that_breaks_off_is_noticed(ends: Ends, sent: bytes):
    ends.ask(OK + sent, end=True)
    with pytest.raises(ConnectionResetError):
        read_all(ends.connection)


def test_a_connection_is_fit_for_another_request_while_nothing_comes(ends: Ends):
    assert ends.connection.is_fit()
    ends.server.sendall(b"x")
    assert not ends.connection.is_fit()


def test_a_connection_that_the_other_side_has_ended_is_not_fit(ends: Ends):
    ends.server.shutdown(socket.SHUT_WR)
    assert not ends.connection.is_fit()


def test_a_connection_with_more_than_its_answer_is_not_fit(ends: Ends):
    ends.ask(OK + b"12345" + OK)
    assert read_all(ends.connection) == b"12345"
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
    ends.ours, ends.connection = wrapped, Waiting(wrapped)
    with closing(ends.server), closing(ends.ours):
        yield ends


def test_an_answer_over_tls_is_read_and_leaves_the_connection_fit(tls: Ends):
    tls.ask(OK, b"12345")
    assert read_all(tls.connection) == b"12345"
    assert tls.connection.is_fit()


def test_more_than_the_answer_in_the_same_record_is_noticed(tls: Ends):
    tls.ask(OK, b"12345" + OK)
    assert read_all(tls.connection) == b"12345"
    assert not tls.connection.is_fit()


def test_what_has_come_before_a_stop_is_never_given_in_its_encrypted_form(tls: Ends):
    tls.ask(OK, b"1")
    assert tls.connection.read(1) == b"1"
    tls.server.sendall(b"2345")
    tls.connection.stop()
    assert tls.connection.read(5) == b"2345"


@pytest.mark.parametrize("kind", ["ends", "tls"])
def test_a_stop_ends_a_read_that_waits_and_gives_nothing_more(kind: str, request):
    ends = request.getfixturevalue(kind)
    ends.ask(OK, b"1")
    assert ends.connection.read(1) == b"1"
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(ends.connection.read, 5)
        ends.connection.stop()
        with pytest.raises(OSError, match=r"ended too early|EOF|shutdown"):
            waiting.result(10)

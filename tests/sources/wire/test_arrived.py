"""A read asks for what has come: neither for room that stays empty, nor before there is any."""

import socket
import threading
from collections.abc import Iterator

import pytest

from tar_gateway.sources.wire.connection import bytes_ready

Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        far = socket.create_connection(listener.getsockname())
        near, _ = listener.accept()
    with far, near:
        near.settimeout(10)
        yield near, far


def test_it_is_as_much_as_is_there(ends: Ends):
    near, far = ends
    far.sendall(b"12345")
    assert bytes_ready(near, 100) == 5
    assert near.recv(100) == b"12345"


def test_it_is_no_more_than_the_limit(ends: Ends):
    near, far = ends
    far.sendall(b"12345")
    assert bytes_ready(near, 3) == 3


def test_what_is_not_there_is_waited_for(ends: Ends):
    near, far = ends
    asked = threading.Timer(0.05, far.sendall, [b"1234567"])
    asked.start()
    assert bytes_ready(near, 100) == 7
    asked.join()


def test_waiting_takes_no_longer_than_a_read_may(ends: Ends):
    near, _ = ends
    near.settimeout(0.05)
    with pytest.raises(TimeoutError):
        bytes_ready(near, 100)


def test_at_the_end_one_byte_is_asked_for_that_does_not_come(ends: Ends):
    near, far = ends
    far.close()
    assert near.recv(bytes_ready(near, 100)) == b""

"""A content is read by a thread that waits, or by a loop, and is late in the same way."""

import threading
import time
from collections.abc import Callable
from contextlib import closing

import pytest

from tar_gateway import Settings, Upstream
from tar_gateway.errors import SourceError
from tar_gateway.sources import Caller
from tar_gateway.sources.wire.asking import Read, Steps
from tar_gateway.sources.wire.loop import run
from tar_gateway.sources.wire.response import Content
from tests.support.scripted import PATIENCE, Scripted, Wire

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nalpha\r\n"


def by_waiting(content: Content) -> bytes:
    return content.read(100)


def by_a_loop(content: Content) -> bytes:
    def steps() -> Steps[bytes]:
        block: bytes = yield Read(content, 100)
        return block

    return run(steps(), Caller().cancellation)


@pytest.mark.parametrize("read", [by_waiting, by_a_loop])
@pytest.mark.parametrize("before", [b"5;", b"0\r\n"], ids=["a chunk's size", "a trailer"])
def test_a_line_between_chunks_that_drips_is_late(read: Callable[[Content], bytes], before: bytes):
    over = threading.Event()

    def drip(wire: Wire) -> None:
        wire.send(HEAD + before)
        while not over.wait(0.02):
            wire.send(b"a")

    settings = Settings(read_timeout=0.2)
    with Scripted({"/a": drip}) as server, closing(Upstream(server.url, settings)) as upstream:
        response = run(upstream.forward_steps("GET", "a", [], Caller()), Caller().cancellation)
        with closing(response.content):
            assert read(response.content) == b"alpha"
            began = time.monotonic()
            with pytest.raises(SourceError, match="took too long"):
                read(response.content)
            over.set()
    assert time.monotonic() - began < PATIENCE / 2

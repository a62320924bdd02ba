"""A body is compressed block by block: each can be read at once, and a broken one never ends."""

import gzip
import threading
import zlib
from collections.abc import Callable, Iterator

import pytest
from backports import zstd

from tar_gateway.delivery import compression
from tar_gateway.delivery.compression import CODINGS, Compressed
from tar_gateway.errors import BrokenOff, Cancelled
from tests.support.servers import PATIENCE

BLOCKS = [b"alpha" * 20_000, b"beta", bytes(100_000), bytes(range(256)) * 300]


class Blocks:
    """A body that gives blocks, and then raises what it was told to."""

    def __init__(self, *blocks: bytes, error: BaseException | None = None) -> None:
        self._blocks = iter(blocks)
        self._error = error
        self.taken = 0
        self.threads: set[threading.Thread] = set()
        self.closes = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        self.threads.add(threading.current_thread())
        for block in self._blocks:
            self.taken += 1
            return block
        raise self._error or StopIteration

    def close(self) -> None:
        self.closes += 1


def reader(coding: str) -> Callable[[bytes], bytes]:
    """Return what reads a stream as far as it has come."""
    return (
        zlib.decompressobj(31).decompress
        if coding == "gzip"
        else zstd.ZstdDecompressor().decompress
    )


@pytest.fixture(params=["isal.isal_zlib", "zlib", "zstd"])
def coding(request, monkeypatch) -> str:
    """Compress by each library that may be installed."""
    if request.param == "zstd":
        return "zstd"
    library = compression._first_of(request.param)
    monkeypatch.setitem(compression._LIBRARIES, "gzip", library)
    return "gzip"


@pytest.mark.parametrize("is_ahead", [True, False])
def test_every_block_can_be_read_before_the_next_one(coding, is_ahead):
    read = reader(coding)
    compressed = Compressed(Blocks(*BLOCKS), coding, is_ahead=is_ahead)
    for block in BLOCKS:
        assert read(next(compressed)) == block
    assert read(next(compressed)) == b""
    assert list(compressed) == []


def test_all_of_it_is_one_stream_of_its_kind(coding):
    whole = b"".join(Compressed(Blocks(*BLOCKS), coding, is_ahead=True))
    read = gzip.decompress if coding == "gzip" else zstd.decompress
    assert read(whole) == b"".join(BLOCKS)


@pytest.mark.parametrize("is_ahead", [True, False])
def test_what_breaks_off_has_no_end(coding, is_ahead):
    compressed = Compressed(Blocks(*BLOCKS, error=BrokenOff("it broke")), coding, is_ahead=is_ahead)
    sent = b"".join(next(compressed) for _ in BLOCKS)
    for _ in range(2):
        with pytest.raises(BrokenOff):
            next(compressed)
    with pytest.raises(EOFError):  # not even what was sent is a stream that ends
        gzip.decompress(sent) if coding == "gzip" else read_to_the_end(sent)


def read_to_the_end(data: bytes) -> None:
    read = zstd.ZstdDecompressor()
    read.decompress(data)
    if not read.eof:
        raise EOFError


def test_a_body_is_read_ahead_by_another_thread_and_no_further_than_two_blocks():
    body = Blocks(*[b"x" * 1000] * 50)
    compressed = Compressed(body, "gzip", is_ahead=True)
    next(compressed)
    assert body.taken <= 4
    assert body.threads.isdisjoint({threading.current_thread()})
    compressed.close()


def test_a_body_of_one_thread_is_read_by_that_one():
    body = Blocks(*BLOCKS)
    list(Compressed(body, "gzip", is_ahead=False))
    assert body.threads == {threading.current_thread()}


def test_without_another_thread_it_is_read_by_this_one(monkeypatch):
    def none_left(self) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none_left)
    whole = b"".join(Compressed(Blocks(*BLOCKS), "gzip", is_ahead=True))
    assert gzip.decompress(whole) == b"".join(BLOCKS)


class Waiting(Blocks):
    """A body whose next block never comes, until it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.reads, self.closed = threading.Event(), threading.Event()

    def __next__(self) -> bytes:
        self.reads.set()
        assert self.closed.wait(PATIENCE)
        raise Cancelled

    def close(self) -> None:
        super().close()
        self.closed.set()


def test_closing_ends_the_thread_that_waits_for_a_block():
    body = Waiting()
    compressed = Compressed(body, "gzip", is_ahead=True)
    ended: list[BaseException] = []

    def read() -> None:
        try:
            next(compressed)
        except Cancelled as error:
            ended.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    assert body.reads.wait(PATIENCE)
    compressed.close()
    compressed.close()
    thread.join(PATIENCE)
    assert ended
    compressed._blocks._thread.join(PATIENCE)
    assert not compressed._blocks._thread.is_alive()


def test_closing_ends_the_thread_that_waits_for_room():
    compressed = Compressed(Blocks(*[b"x"] * 50), "gzip", is_ahead=True)
    next(compressed)
    compressed.close()
    compressed._blocks._thread.join(PATIENCE)
    assert not compressed._blocks._thread.is_alive()


def test_the_tests_have_all_codings():
    assert {"gzip", "zstd"} == CODINGS

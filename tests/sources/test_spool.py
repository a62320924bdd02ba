"""Members of unknown size are set aside, within one limit, and everything is given back."""

import errno
import math
import os
import tempfile
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tar_gateway.errors import SourceError
from tar_gateway.sources.spool import Spool, SpooledMember, SpoolFile
from tar_gateway.sources.wire.response import Content
from tests.support.fakes import Step, Steps, broken, waited

LARGE = bytes(range(256)) * 1024  # more than is kept in memory


def read_all(content: Content, limit: int = 10_000) -> bytes:
    return b"".join(iter(lambda: content.read(limit), b""))


def hold_refused(spool: Spool, *steps: Step, deadline: float = math.inf) -> SourceError:
    """Hold a content that can't be, and give the error; everything has been given back."""
    content = Steps(*steps)
    used = spool.used
    file = spool.file()
    with pytest.raises(SourceError) as caught:
        waited(file.hold(content, deadline))
    file.close()
    assert content.closed
    assert spool.used == used
    return caught.value


@given(
    blocks=st.lists(st.binary(min_size=1, max_size=50), max_size=10),
    cut=st.tuples(st.integers(0, 500), st.integers(0, 500)),
    limit=st.integers(1, 100),
)
def test_any_slice_of_what_was_held_is_given_in_blocks_of_at_most_the_limit(
    blocks: list[bytes], cut: tuple[int, int], limit: int
):
    whole = b"".join(blocks)
    start, stop = sorted(min(place, len(whole)) for place in cut)
    file = Spool(1000).file()
    spooled = waited(file.hold(Steps(*blocks), math.inf))
    try:
        content = spooled.open(start, stop)
        given_blocks = list(iter(lambda: content.read(limit), b""))
        content.close()
    finally:
        file.close()
    assert b"".join(given_blocks) == whole[start:stop]
    assert all(len(block) <= limit for block in given_blocks)


@pytest.mark.parametrize("data", [b"", b"small", LARGE])
def test_what_is_held_has_a_size_and_takes_that_much_room(data: bytes):
    spool = Spool(len(LARGE))
    content = Steps(data)
    file = spool.file()
    spooled = waited(file.hold(content, math.inf))
    assert (spooled.size, spool.used, content.closes) == (len(data), len(data), 1)
    assert read_all(spooled.open(0, len(data))) == data
    file.close()
    assert spool.used == 0


def test_what_is_held_can_be_read_again():
    file = Spool(100).file()
    spooled = waited(file.hold(Steps(b"0123456789"), math.inf))
    assert [read_all(spooled.open(*cut)) for cut in [(0, 10), (7, 10), (2, 4)]] == [
        b"0123456789",
        b"789",
        b"23",
    ]
    file.close()


def test_closing_twice_gives_back_once():
    spool = Spool(100)
    first, second = spool.file(), spool.file()
    for file in (first, second):
        waited(file.hold(Steps(b"12345"), math.inf))
    first.close()
    first.close()
    assert spool.used == 5
    second.close()


def test_the_limit_itself_fits():
    spool = Spool(10)
    file = spool.file()
    waited(file.hold(Steps(b"01234", b"56789"), math.inf))
    assert spool.used == 10
    file.close()
    assert spool.used == 0


def test_one_byte_more_than_the_limit_is_refused():
    spool = Spool(10)
    error = hold_refused(spool, b"01234", b"56789", b"x")
    assert (error.status, error.transient) == (502, False)
    assert "full, 10 bytes (SPOOL_LIMIT)" in error.reason


def test_the_limit_is_shared_by_all_that_is_held():
    spool = Spool(10)
    first, second = spool.file(), spool.file()
    waited(first.hold(Steps(b"0123456"), math.inf))
    hold_refused(spool, b"0123")
    first.close()
    waited(second.hold(Steps(b"0123"), math.inf))
    second.close()
    assert spool.used == 0


def test_a_content_that_breaks_is_given_back():
    assert hold_refused(Spool(10), b"01234", broken()).reason == "it broke"


def test_a_defect_of_a_content_is_raised_and_everything_given_back():
    spool = Spool(10)
    content = Steps(b"01234", ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        waited(spool.file().hold(content, math.inf))
    assert (spool.used, content.closed) == (0, True)


def test_a_content_that_comes_after_the_deadline_is_late():
    error = hold_refused(Spool(10), b"01234", deadline=time.monotonic() - 1)
    assert error.status == 504


def test_a_disk_without_room_is_no_os_error(monkeypatch: pytest.MonkeyPatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    error = hold_refused(Spool(len(LARGE)), LARGE)
    assert "the temporary disk is full" in error.reason


def test_members_held_at_once_by_many_threads_share_one_file_and_do_not_mix():
    spool = Spool(10**8)
    start = threading.Barrier(8)

    def hold(file: SpoolFile, byte: int) -> SpooledMember:
        start.wait()
        return waited(file.hold(Steps(*[bytes([byte]) * 50_000] * 9), math.inf))

    with closing(spool.file()) as file, ThreadPoolExecutor(8) as threads:
        held = list(threads.map(hold, [file] * 8, range(8)))
        assert [read_all(each.open(0, each.size)) for each in held] == [
            bytes([byte]) * 450_000 for byte in range(8)
        ]
        assert spool.used == 8 * 450_000
    assert spool.used == 0


def test_a_content_is_kept_as_far_as_shows_that_it_is_too_long():
    spool = Spool(100)
    content = Steps(b"01234", b"56789", b"never read")
    file = spool.file()
    spooled = waited(file.hold(content, math.inf, limit=9))
    assert (spooled.size, spool.used, content.closed) == (10, 10, True)
    file.close()


@pytest.mark.parametrize("size", [1000, 66_000])
def test_a_file_holds_one_descriptor_and_little_memory_however_many_members_it_has(size: int):
    before = len(os.listdir("/proc/self/fd"))
    blocks = [bytes(size)] * 2_000
    tracemalloc.start()
    try:
        with closing(Spool(10**9).file()) as file:
            held = [waited(file.hold(Steps(block), math.inf)) for block in blocks]
            assert len(os.listdir("/proc/self/fd")) <= before + 1
            memory = tracemalloc.get_traced_memory()[0]
            assert sum(each.size for each in held) == len(blocks) * size
    finally:
        tracemalloc.stop()
    assert memory < 500 * len(blocks) + 200_000


def test_the_place_of_what_broke_is_used_again():
    spool = Spool(len(LARGE))
    with closing(spool.file()) as file:
        with pytest.raises(SourceError, match="it broke"):
            waited(file.hold(Steps(LARGE[:-1], broken()), math.inf))
        spooled = waited(file.hold(Steps(LARGE), math.inf))
        assert read_all(spooled.open(0, len(LARGE))) == LARGE
        assert spool.used == len(LARGE)
    assert spool.used == 0


def test_what_is_closed_takes_nothing_more_and_gives_nothing():
    spool = Spool(100)
    file = spool.file()
    spooled = waited(file.hold(Steps(b"12345"), math.inf))
    file.close()
    content = Steps(b"12345")
    with pytest.raises(SourceError, match="closed"):
        waited(file.hold(content, math.inf))
    with pytest.raises(SourceError, match="closed"):
        spooled.open(0, 5).read(5)
    assert (spool.used, content.closed) == (0, True)

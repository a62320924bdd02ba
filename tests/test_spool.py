"""Members of untold size are set aside, within one limit, and everything is given back."""

import errno
import math
import tempfile
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tar_gateway.errors import SourceError
from tar_gateway.sources import Content
from tar_gateway.spool import Spool
from tests.fakes import Step, Steps, broken

LARGE = bytes(range(256)) * 1024  # more than is kept in memory


def read_all(content: Content, limit: int = 10_000) -> bytes:
    return b"".join(iter(lambda: content.read(limit), b""))


def hold_refused(spool: Spool, *steps: Step, deadline: float = math.inf) -> SourceError:
    """Hold a content that can't be, and give the error; everything has been given back."""
    content = Steps(*steps)
    used = spool.used
    with pytest.raises(SourceError) as caught:
        spool.hold(content, deadline)
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
    spooled = Spool(1000).hold(Steps(*blocks), math.inf)
    try:
        content = spooled.open(start, stop)
        given_blocks = list(iter(lambda: content.read(limit), b""))
        content.close()
    finally:
        spooled.close()
    assert b"".join(given_blocks) == whole[start:stop]
    assert all(len(block) <= limit for block in given_blocks)


@pytest.mark.parametrize("data", [b"", b"small", LARGE])
def test_what_is_held_has_a_size_and_takes_that_much_room(data: bytes):
    spool = Spool(len(LARGE))
    content = Steps(data)
    spooled = spool.hold(content, math.inf)
    assert (spooled.size, spool.used, content.closes) == (len(data), len(data), 1)
    assert read_all(spooled.open(0, len(data))) == data
    spooled.close()
    assert spool.used == 0


def test_what_is_held_can_be_read_again():
    spooled = Spool(100).hold(Steps(b"0123456789"), math.inf)
    assert [read_all(spooled.open(*cut)) for cut in [(0, 10), (7, 10), (2, 4)]] == [
        b"0123456789",
        b"789",
        b"23",
    ]
    spooled.close()


def test_closing_twice_gives_back_once():
    spool = Spool(100)
    first, second = (spool.hold(Steps(b"12345"), math.inf) for _ in range(2))
    first.close()
    first.close()
    assert spool.used == 5
    second.close()


def test_the_limit_itself_fits():
    spool = Spool(10)
    spool.hold(Steps(b"01234", b"56789"), math.inf).close()
    assert spool.used == 0


def test_one_byte_more_than_the_limit_is_refused():
    spool = Spool(10)
    error = hold_refused(spool, b"01234", b"56789", b"x")
    assert (error.status, error.transient) == (502, False)
    assert "10 bytes" in error.reason


def test_the_limit_is_shared_by_all_that_is_held():
    spool = Spool(10)
    first = spool.hold(Steps(b"0123456"), math.inf)
    hold_refused(spool, b"0123")
    first.close()
    spool.hold(Steps(b"0123"), math.inf).close()
    assert spool.used == 0


def test_a_content_that_breaks_is_given_back():
    assert hold_refused(Spool(10), b"01234", broken()).reason == "it broke"


def test_a_defect_of_a_content_is_raised_and_everything_given_back():
    spool = Spool(10)
    content = Steps(b"01234", ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        spool.hold(content, math.inf)
    assert (spool.used, content.closed) == (0, True)


def test_a_content_that_comes_after_the_deadline_is_late():
    error = hold_refused(Spool(10), b"01234", deadline=time.monotonic() - 1)
    assert error.status == 504


def test_a_disk_without_room_is_no_os_error(monkeypatch: pytest.MonkeyPatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    error = hold_refused(Spool(len(LARGE)), LARGE)
    assert "no room" in error.reason


def test_room_is_counted_right_by_many_threads():
    spool = Spool(10**6)
    start = threading.Barrier(8)

    def work():
        start.wait()
        for _ in range(50):
            spool.hold(Steps(b"a" * 100, b"b" * 100), math.inf).close()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert spool.used == 0


def test_a_content_is_kept_as_far_as_shows_that_it_is_too_long():
    spool = Spool(100)
    content = Steps(b"01234", b"56789", b"never read")
    spooled = spool.hold(content, math.inf, limit=9)
    assert (spooled.size, spool.used, content.closed) == (10, 10, True)
    spooled.close()

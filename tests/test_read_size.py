"""Reads grow while both sides keep up, and shrink for a client that does not."""

from tar_gateway.delivery.fetch import LARGEST, SMALLEST, ReadSize

MIB = 1024 * 1024


def after(*sent: tuple[int, float], times: int = 1) -> ReadSize:
    size = ReadSize()
    for length, seconds in sent * times:
        size.sent(length, seconds)
    return size


def test_a_download_begins_with_the_smallest_reads():
    assert ReadSize().now == SMALLEST


def test_a_few_quick_blocks_prove_nothing_as_sockets_swallow_them():
    assert after((SMALLEST, 0.0), times=63).now == SMALLEST


def test_many_full_and_quick_blocks_double_it():
    assert after((SMALLEST, 0.0), times=64).now == 2 * SMALLEST


def test_each_doubling_takes_as_many_bytes():
    size = ReadSize()
    steps = []
    while size.now < LARGEST:
        before = size.now
        sent = 0
        while size.now == before:
            size.sent(before, 0.0)
            sent += before
        steps.append(sent)
    assert steps == [4 * MIB, 4 * MIB, 4 * MIB]


def test_it_never_grows_beyond_the_largest():
    size = ReadSize()
    for _ in range(10_000):
        size.sent(size.now, 0.0)
    assert size.now == LARGEST


def test_blocks_that_do_not_fill_a_read_prove_nothing():
    assert after((SMALLEST - 1, 0.0), times=1000).now == SMALLEST


def test_one_slow_block_brings_it_back_to_the_smallest():
    size = after((SMALLEST, 0.0), times=64)
    size.sent(100, 0.2)
    assert size.now == SMALLEST


def test_a_block_neither_quick_nor_slow_changes_nothing():
    size = after((SMALLEST, 0.0), times=64)
    size.sent(2 * SMALLEST, 0.05)
    assert size.now == 2 * SMALLEST

"""Sets of bytes: they agree with plain sets of numbers."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tar_gateway.client.spans import Spans

BYTES = 40
pairs = st.tuples(st.integers(0, BYTES), st.integers(0, BYTES)).map(sorted)


def members(spans) -> set[int]:
    return {byte for start, stop in spans for byte in range(start, stop)}


@given(st.lists(pairs))
def test_what_was_added_is_there_in_as_few_spans_as_it_takes(added):
    spans = Spans(added)
    assert members(spans) == members(added)
    assert len(spans) == len(members(added))
    ordered = list(spans)
    assert all(before[1] < after[0] for before, after in pairwise(ordered))


@given(st.lists(pairs), pairs)
def test_what_was_removed_is_not_there(added, removed):
    spans = Spans(added)
    spans.remove(*removed)
    assert members(spans) == members(added) - members([removed])


@given(st.lists(pairs), pairs)
def test_what_is_there_and_what_is_missing_make_the_whole(added, wanted):
    spans = Spans(added)
    there, missing = list(spans.within(*wanted)), list(spans.missing(*wanted))
    assert members(there) == members(added) & members([wanted])
    assert members(missing) == members([wanted]) - members(added)

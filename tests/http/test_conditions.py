"""Preconditions and ranges, by RFC 9110 13.2.2 and 14: one pure decision over header texts."""

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tar_gateway.http.conditions import Conditions, Decision, decide
from tar_gateway.http.validators import Validator

SIZE = 10240
MTIME = 784111777
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
BEFORE = "Sun, 06 Nov 1994 08:49:36 GMT"
AFTER = "Sun, 06 Nov 1994 08:49:38 GMT"

STRONG = Validator.etag("v1", strong=True)
WEAK = Validator.etag("v1", strong=False)

WHOLE = Decision(200, 0, SIZE)
UNCHANGED = Decision(304)
FAILED = Decision(412)
OUTSIDE = Decision(416)


def part(start, stop):
    return Decision(206, start, stop)


def decided(headers, *, method="GET", etag=STRONG, mtime=MTIME, size=SIZE):
    return decide(method, Conditions(**headers), etag=etag, mtime=mtime, size=size)


@pytest.mark.parametrize(
    ("header", "decision"),
    [
        ("bytes=0-0", part(0, 1)),
        ("bytes=0-499", part(0, 500)),
        ("bytes=500-999", part(500, 1000)),
        ("bytes=500-500", part(500, 501)),
        ("bytes=500-", part(500, SIZE)),
        ("bytes=0-", part(0, SIZE)),
        ("bytes=-1", part(SIZE - 1, SIZE)),
        ("bytes=-500", part(SIZE - 500, SIZE)),
        ("bytes=-10240", part(0, SIZE)),
        ("bytes=-10241", part(0, SIZE)),
        ("bytes=0-10239", part(0, SIZE)),
        ("bytes=0-10240", part(0, SIZE)),
        ("bytes=10239-", part(SIZE - 1, SIZE)),
        ("bytes=10239-10239", part(SIZE - 1, SIZE)),
        ("bytes=10239-99999", part(SIZE - 1, SIZE)),
        ("bytes=0-9999999999999999999", part(0, SIZE)),
        ("bytes=00-01", part(0, 2)),
        ("BYTES=0-0", part(0, 1)),
        ("  bytes= 0-0\t ", part(0, 1)),
        # Nothing of it lies in the archive.
        ("bytes=10240-", OUTSIDE),
        ("bytes=10240-10240", OUTSIDE),
        ("bytes=9999999999999999999-", OUTSIDE),
        ("bytes=-0", OUTSIDE),
        # Not understood, or more than one: as if it were not there.
        ("bytes=5-4", WHOLE),
        ("bytes=99999-4", WHOLE),
        ("bytes=-", WHOLE),
        ("bytes=", WHOLE),
        ("bytes", WHOLE),
        ("", WHOLE),
        ("bytes=0", WHOLE),
        ("bytes=a-b", WHOLE),
        ("bytes=0-b", WHOLE),
        ("bytes=+0-1", WHOLE),
        ("bytes=--1", WHOLE),
        ("bytes=0--1", WHOLE),
        ("bytes=0 - 1", WHOLE),
        ("bytes =0-1", WHOLE),
        ("bytes=0-1,2-3", WHOLE),
        ("bytes=0-1,", WHOLE),
        ("bytes=0-1\n", part(0, 2)),
        ("bytes=²-3", WHOLE),
        ("items=0-1", WHOLE),
        ("0-1", WHOLE),
        ("bytes=" + "9" * 20 + "-", WHOLE),
        ("bytes=-" + "9" * 5000, WHOLE),
    ],
)
def test_a_range_is_one_slice_or_416_or_ignored(header, decision):
    assert decided({"range": header}) == decision


@pytest.mark.parametrize(
    ("headers", "decision"),
    [
        ({}, WHOLE),
        # If-Match: compared strongly.
        ({"if_match": '"v1"'}, WHOLE),
        ({"if_match": '"x", "v1"'}, WHOLE),
        ({"if_match": '"x","v1","y"'}, WHOLE),
        ({"if_match": "*"}, WHOLE),
        ({"if_match": " * "}, WHOLE),
        ({"if_match": '"x"'}, FAILED),
        ({"if_match": 'W/"v1"'}, FAILED),
        ({"if_match": '"V1"'}, FAILED),
        ({"if_match": '"v1x"'}, FAILED),
        ({"if_match": "v1"}, FAILED),
        ({"if_match": ""}, FAILED),
        ({"if_match": '"*"'}, FAILED),
        # If-Unmodified-Since: only without If-Match.
        ({"if_unmodified_since": DATE}, WHOLE),
        ({"if_unmodified_since": AFTER}, WHOLE),
        ({"if_unmodified_since": BEFORE}, FAILED),
        ({"if_unmodified_since": "yesterday"}, WHOLE),
        ({"if_match": '"v1"', "if_unmodified_since": BEFORE}, WHOLE),
        ({"if_match": '"x"', "if_unmodified_since": AFTER}, FAILED),
        # If-None-Match: compared weakly.
        ({"if_none_match": '"v1"'}, UNCHANGED),
        ({"if_none_match": 'W/"v1"'}, UNCHANGED),
        ({"if_none_match": '"x", W/"v1"'}, UNCHANGED),
        ({"if_none_match": "*"}, UNCHANGED),
        ({"if_none_match": '"x"'}, WHOLE),
        ({"if_none_match": "v1"}, WHOLE),
        ({"if_none_match": ""}, WHOLE),
        # If-Modified-Since: only without If-None-Match.
        ({"if_modified_since": DATE}, UNCHANGED),
        ({"if_modified_since": AFTER}, UNCHANGED),
        ({"if_modified_since": BEFORE}, WHOLE),
        ({"if_modified_since": "x GMT"}, WHOLE),
        ({"if_none_match": '"x"', "if_modified_since": AFTER}, WHOLE),
        ({"if_none_match": '"v1"', "if_modified_since": BEFORE}, UNCHANGED),
        # What comes first decides.
        ({"if_match": '"x"', "if_none_match": '"v1"'}, FAILED),
        ({"if_match": '"v1"', "if_none_match": '"v1"'}, UNCHANGED),
        ({"if_unmodified_since": BEFORE, "if_modified_since": AFTER}, FAILED),
        ({"if_unmodified_since": DATE, "if_modified_since": DATE}, UNCHANGED),
        ({"if_match": '"x"', "range": "bytes=0-0"}, FAILED),
        ({"if_match": '"x"', "range": "bytes=99999-"}, FAILED),
        ({"if_none_match": '"v1"', "range": "bytes=0-0"}, UNCHANGED),
        ({"if_none_match": '"v1"', "range": "bytes=99999-"}, UNCHANGED),
        ({"if_match": '"v1"', "range": "bytes=0-0"}, part(0, 1)),
        ({"if_match": '"v1"', "range": "bytes=99999-"}, OUTSIDE),
        # If-Range: compared strongly, and a Range that it fails is ignored.
        ({"if_range": '"v1"', "range": "bytes=1-2"}, part(1, 3)),
        ({"if_range": ' "v1" ', "range": "bytes=1-2"}, part(1, 3)),
        ({"if_range": '"x"', "range": "bytes=1-2"}, WHOLE),
        ({"if_range": 'W/"v1"', "range": "bytes=1-2"}, WHOLE),
        ({"if_range": "*", "range": "bytes=1-2"}, WHOLE),
        ({"if_range": "v1", "range": "bytes=1-2"}, WHOLE),
        ({"if_range": "", "range": "bytes=1-2"}, WHOLE),
        ({"if_range": '"x", "v1"', "range": "bytes=1-2"}, WHOLE),
        ({"if_range": DATE, "range": "bytes=1-2"}, WHOLE),
        ({"if_range": '"x"', "range": "bytes=99999-"}, WHOLE),
        ({"if_range": '"v1"', "range": "bytes=99999-"}, OUTSIDE),
        ({"if_range": '"v1"'}, WHOLE),
    ],
)
def test_preconditions_are_taken_in_the_order_of_the_rfc(headers, decision):
    assert decided(headers) == decision


@pytest.mark.parametrize(
    ("headers", "decision"),
    [
        ({"if_match": '"v1"'}, FAILED),
        ({"if_match": 'W/"v1"'}, FAILED),
        ({"if_match": "*"}, WHOLE),
        ({"if_none_match": '"v1"'}, UNCHANGED),
        ({"if_none_match": 'W/"v1"'}, UNCHANGED),
        ({"if_none_match": '"x"'}, WHOLE),
        ({"range": "bytes=1-2"}, WHOLE),
        ({"range": "bytes=99999-"}, WHOLE),
        ({"range": "bytes=1-2", "if_range": 'W/"v1"'}, WHOLE),
        ({"range": "bytes=1-2", "if_range": '"v1"'}, WHOLE),
    ],
)
def test_an_archive_with_a_weak_tag_has_no_ranges_and_no_strong_match(headers, decision):
    assert decided(headers, etag=WEAK) == decision


@pytest.mark.parametrize("header", ["if_modified_since", "if_unmodified_since"])
@pytest.mark.parametrize("date", ["Thu, 01 Jan 1970 00:00:00 GMT", DATE])
def test_an_archive_without_a_date_ignores_conditions_on_dates(header, date):
    assert decided({header: date}, mtime=0) == WHOLE


@pytest.mark.parametrize(
    ("headers", "decision"),
    [
        ({"range": "bytes=1-2"}, WHOLE),
        ({"range": "bytes=99999-"}, WHOLE),
        ({"range": "bytes=1-2", "if_range": '"v1"'}, WHOLE),
        ({"if_none_match": '"v1"'}, UNCHANGED),
        ({"if_modified_since": DATE}, UNCHANGED),
        ({"if_match": '"x"'}, FAILED),
        ({"if_unmodified_since": BEFORE}, FAILED),
    ],
)
def test_head_is_answered_as_get_but_knows_no_ranges(headers, decision):
    assert decided(headers, method="HEAD") == decision


@pytest.mark.parametrize(
    "headers",
    [
        {"range": "bytes=1-2"},
        {"range": "bytes=99999-"},
        {"if_none_match": '"v1"'},
        {"if_modified_since": DATE},
        {"if_match": '"x"'},
        {"if_unmodified_since": BEFORE},
    ],
)
def test_a_post_is_answered_with_the_whole_whatever_it_is_conditional_on(headers):
    assert decided(headers, method="POST") == WHOLE


hostile = st.text(max_size=40) | st.lists(
    st.sampled_from(["bytes", "=", "-", ",", "0", "9" * 19, "9" * 5000, "1", "x GMT", DATE])
    | st.sampled_from(['"v1"', 'W/"v1"', "*", '"', "W/", " ", "\0", "\xff", "²", "\n"]),
    max_size=6,
).map("".join)
ranges = st.builds(
    lambda first, last: f"bytes={first}-{last}",
    st.just("") | st.integers(0, 20000),
    st.just("") | st.integers(0, 20000),
)
any_conditions = st.builds(
    dict,
    **{field.name: st.none() | hostile | ranges for field in fields(Conditions)},
)


@given(
    any_conditions, st.sampled_from(["GET", "HEAD", "POST", ""]), st.sampled_from([STRONG, WEAK])
)
def test_no_header_text_makes_the_decision_raise(headers, method, etag):
    decision = decided(headers, method=method, etag=etag)
    assert decision.status in {200, 206, 304, 412, 416}
    if decision.status == 200:
        assert decision == WHOLE


@given(hostile | ranges, st.integers(1, 20000))
def test_a_206_always_has_a_slice_of_at_least_one_byte_within_the_archive(header, size):
    decision = decided({"range": header}, size=size)
    if decision.status == 206:
        assert 0 <= decision.start < decision.stop <= size
    else:
        assert decision in {Decision(200, 0, size), OUTSIDE}


@given(st.integers(0, 20000), st.integers(0, 20000), st.integers(1, 20000))
def test_a_range_of_two_ends_gives_the_bytes_that_both_it_and_the_archive_have(first, last, size):
    wanted = range(first, last + 1)
    decision = decided({"range": f"bytes={first}-{last}"}, size=size)
    if not wanted:
        assert decision == Decision(200, 0, size)
    elif first >= size:
        assert decision == OUTSIDE
    else:
        assert decision == part(first, min(last + 1, size))

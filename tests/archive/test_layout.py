"""The archive as offsets: every slice is that slice of the whole, and the whole is a tar."""

import hashlib
import io
import os
import subprocess
import sys
import tarfile
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tar_gateway.archive import tar as tar_module
from tar_gateway.archive.format import Borrowed, Literal, Member
from tar_gateway.archive.layout import Layout
from tar_gateway.archive.tar import BLOCK, LAYOUT_VERSION, RECORD
from tar_gateway.http.validators import Validator

GIB = 2**30

STRONG = Validator.etag("1", strong=True)
OTHER = Validator.etag("2", strong=True)
WEAK = Validator.etag("1", strong=False)

# One member for each way in which a header can be written, and each way a body can end.
VARIED = (
    Member("a.txt", 6, 1_600_000_000, validator=STRONG),
    Member("empty", 0),
    Member("d" * 120 + "/" + "split-in-prefix-and-name" * 2, 512, 1, validator=STRONG),
    Member("n" * 300, 513, 8**11, validator=STRONG),
    Member("Füße/日本語.txt", 1024, 253_402_300_799, validator=WEAK),
)

segments_of_names = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\"),
    min_size=1,
    max_size=20,
)
names = st.lists(segments_of_names, min_size=1, max_size=4).map("/".join) | st.builds(
    lambda segment, times: "/".join([segment] * times), segments_of_names, st.integers(1, 120)
)
members = st.builds(
    Member,
    names,
    st.sampled_from([0, 1, 511, 512, 513]) | st.integers(0, 3 * BLOCK),
    st.sampled_from([0, 1, 8**11 - 1, 8**11, 253_402_300_799]) | st.integers(0, 2**40),
)
layouts = st.lists(members, max_size=6).map(Layout)


def data_of(index, size):
    """Make up a member's bytes; no byte is zero, so that none is mistaken for padding."""
    return hashlib.shake_256(b"%d" % index).digest(size).replace(b"\0", b"0")


def made(layout, start=0, stop=None):
    """Make a slice of an archive as a body does: literals, and made-up bytes of members."""
    made_up = {}
    parts = []
    for segment in layout.slice(start, layout.size if stop is None else stop):
        if isinstance(segment, Literal):
            parts.append(segment.data)
            continue
        if segment.index not in made_up:
            made_up[segment.index] = data_of(segment.index, layout.members[segment.index].size)
        parts.append(made_up[segment.index][segment.start : segment.stop])
    return b"".join(parts)


def unpacked(archive):
    """Read an archive with the standard library: name, date and data of each plain file."""
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
        return [(each.name, each.mtime, tar.extractfile(each).read()) for each in tar]


@given(layouts)
def test_an_archive_gives_back_its_members(layout):
    expected = [
        (member.name, member.mtime, data_of(index, member.size))
        for index, member in enumerate(layout.members)
    ]
    assert unpacked(made(layout)) == expected


@given(layouts)
def test_the_predicted_size_is_the_size_that_is_made(layout):
    assert layout.size == len(made(layout))


@given(layouts)
def test_an_archive_is_whole_records_and_ends_in_two_empty_blocks(layout):
    assert layout.size % RECORD == 0
    assert made(layout).endswith(bytes(2 * BLOCK))


@given(layouts, st.data())
def test_any_slice_is_that_slice_of_the_whole(layout, data):
    start = data.draw(st.integers(0, layout.size))
    stop = data.draw(st.integers(start, layout.size))
    assert made(layout, start, stop) == made(layout)[start:stop]


@given(layouts, st.data())
def test_two_slices_that_meet_make_the_whole(layout, data):
    cut = data.draw(st.integers(0, layout.size))
    assert made(layout, 0, cut) + made(layout, cut) == made(layout)


@pytest.mark.parametrize("chosen", [VARIED[:3], VARIED[3:], VARIED[1:2], ()])
def test_every_slice_around_every_boundary_is_that_slice_of_the_whole(chosen):
    layout = Layout(chosen)
    whole = made(layout)
    boundaries = {0, layout.size}
    with tarfile.open(fileobj=io.BytesIO(whole), mode="r:") as tar:
        for each in tar:
            end = each.offset_data + each.size
            boundaries |= {each.offset, each.offset_data - BLOCK, each.offset_data, end}
            boundaries |= {end + -end % BLOCK}
    points = sorted(
        point
        for boundary in boundaries
        for point in (boundary - 1, boundary, boundary + 1)
        if 0 <= point <= layout.size
    )
    wrong = [
        (start, stop)
        for start in points
        for stop in points
        if start <= stop and made(layout, start, stop) != whole[start:stop]
    ]
    assert wrong == []


@given(layouts, st.data())
def test_no_segment_is_empty(layout, data):
    start = data.draw(st.integers(0, layout.size))
    segments = layout.slice(start, data.draw(st.integers(start, layout.size)))
    assert all(len(segment) for segment in segments)


@given(st.lists(members.filter(lambda member: member.size), max_size=6).map(Layout))
def test_padding_and_the_next_header_are_one_literal(layout):
    kinds = [type(segment) for segment in layout.slice(0, layout.size)]
    assert kinds == [Literal, Borrowed] * len(layout.members) + [Literal]


def test_an_empty_member_borrows_nothing():
    kinds = {type(segment) for segment in Layout([Member("empty", 0)]).slice(0, RECORD)}
    assert kinds == {Literal}


def test_literals_stay_small_however_many_members_are_empty():
    layout = Layout([Member(f"empty-{number}", 0) for number in range(1000)])
    lengths = [len(segment) for segment in layout.slice(0, layout.size)]
    assert sum(lengths) == layout.size
    assert max(lengths) < 96 * 1024


@pytest.mark.parametrize(
    ("start", "stop"), [(-1, 0), (1, 0), (0, RECORD + 1), (RECORD + 1, RECORD + 1), (-2, -1)]
)
def test_a_slice_outside_of_the_archive_is_refused(start, stop):
    with pytest.raises(ValueError, match="does not lie in an archive of 10240 bytes"):
        Layout([]).slice(start, stop)


def test_a_slice_of_nothing_has_no_segments():
    layout = Layout(VARIED)
    nothing = [list(layout.slice(point, point)) for point in (0, 1, BLOCK, layout.size)]
    assert nothing == [[], [], [], []]


def test_a_range_deep_in_a_large_member_borrows_that_range_and_no_more():
    layout = Layout([Member("small", 1), Member("large", 9 * GIB), Member("last", 1)])
    body = 2 * BLOCK + 3 * BLOCK
    assert list(layout.slice(body + 5 * GIB, body + 6 * GIB)) == [Borrowed(1, 5 * GIB, 6 * GIB)]


def test_no_members_make_an_empty_archive():
    layout = Layout([])
    assert made(layout) == bytes(RECORD)
    assert unpacked(made(layout)) == []
    assert layout.mtime == 0


def test_an_archive_is_as_new_as_its_newest_member():
    assert Layout([Member("a", 1, 5), Member("b", 1, 7), Member("c", 1, 6)]).mtime == 7


def test_an_archive_with_a_member_of_unknown_date_has_none():
    assert Layout([Member("a", 1, 5), Member("b", 1)]).mtime == 0


# --- the entity tag ---------------------------------------------------------------------------

few_members = st.lists(
    st.builds(
        Member,
        st.sampled_from(["a", "b", "ab", "1:a"]),
        st.sampled_from([0, 1, 11]),
        st.sampled_from([0, 1, 11]),
        validator=st.sampled_from([STRONG, OTHER, WEAK, None]),
    ),
    max_size=3,
)


@given(few_members, few_members)
@example([Member("a", 1, 11)], [Member("a", 11, 1)])
@example(
    [Member("a", 1, 1), Member("b", 1, 1)],
    [Member("a", 1, 1, validator=Validator("b11", strong=True))],
)
def test_archives_have_one_tag_exactly_when_their_members_are_the_same(some, others):
    assert (Layout(some).etag == Layout(others).etag) == (some == others)


@pytest.mark.parametrize(
    "other",
    [
        [Member("b", 1, 2, validator=STRONG), Member("z", 0, 0, validator=STRONG)],
        [Member("a", 2, 2, validator=STRONG), Member("z", 0, 0, validator=STRONG)],
        [Member("a", 1, 3, validator=STRONG), Member("z", 0, 0, validator=STRONG)],
        [Member("a", 1, 2, validator=OTHER), Member("z", 0, 0, validator=STRONG)],
        [Member("z", 0, 0, validator=STRONG), Member("a", 1, 2, validator=STRONG)],
        [Member("a", 1, 2, validator=STRONG)],
        [
            Member("a", 1, 2, validator=STRONG),
            Member("z", 0, 0, validator=STRONG),
            Member("z", 0, 0, validator=STRONG),
        ],
    ],
    ids=["name", "size", "mtime", "validator", "order", "one less", "one more"],
)
def test_another_name_size_date_validator_order_or_number_is_another_tag(other):
    members = [Member("a", 1, 2, validator=STRONG), Member("z", 0, 0, validator=STRONG)]
    assert Layout(members).etag == Layout(list(members)).etag
    assert Layout(members).etag != Layout(other).etag


@pytest.mark.parametrize(
    ("validators", "strong"),
    [
        ([], True),
        ([STRONG], True),
        ([STRONG, OTHER], True),
        ([WEAK], False),
        ([None], False),
        ([STRONG, WEAK], False),
        ([None, STRONG], False),
        ([STRONG, None, OTHER], False),
    ],
)
def test_a_tag_is_strong_only_if_every_member_has_a_strong_validator(validators, strong):
    etag = Layout([Member("a", 1, 2, validator=each) for each in validators]).etag
    assert etag.strong is strong
    assert etag.is_etag
    assert etag.text.startswith("W/") is not strong


def test_a_tag_is_safe_in_a_url():
    opaque = Layout(VARIED).etag.opaque
    assert quote(opaque, safe="") == opaque


def test_a_tag_tells_the_layout_version(monkeypatch):
    before = Layout(VARIED).etag
    monkeypatch.setattr(tar_module, "LAYOUT_VERSION", LAYOUT_VERSION + 1)
    assert Layout(VARIED).etag != before


# --- bytes that never change unnoticed ----------------------------------------------------------


def golden_digest():
    """Digest an archive of every kind of header, and the header of a member of 9 GiB."""
    digest = hashlib.sha256(made(Layout(VARIED)))
    digest.update(made(Layout([Member("large", 9 * GIB, 1)]), 0, 3 * BLOCK))
    return digest.hexdigest()


def test_the_bytes_of_archives_are_those_of_this_layout_version():
    # When this fails, archives that clients hold half of are no longer what they were: raise
    # LAYOUT_VERSION together with this digest, so that no part of the old is joined to the new.
    assert (LAYOUT_VERSION, golden_digest()) == (
        # 2: names that are not ASCII stand in UTF-8 where readers that skip pax records look.
        2,
        "1b2ff824d9a6e4a16abaa560618f9aa6c1e6932ef1ca53d377334101f2c6bde1",
    )


def test_an_archive_whose_bytes_stayed_the_same_keeps_its_tag():
    members = [Member("a.txt", 6, 1_600_000_000, validator=STRONG), Member("é" * 90, 1, 1)]
    assert Layout(members).etag.text == 'W/"tar-6d47a51c45f80ac22706d96a7676c32df3286bd1"'


def test_an_archive_whose_bytes_changed_has_another_tag(monkeypatch):
    now = Layout([Member("é", 1)]).etag
    monkeypatch.setattr(tar_module, "LAYOUT_VERSION", 1)
    assert Layout([Member("é", 1)]).etag != now


def test_neither_locale_nor_time_zone_nor_process_is_in_the_bytes():
    code = (
        "from tests.archive.test_layout import *; print(golden_digest(), Layout(VARIED).etag.text)"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={
                **os.environ,
                "PYTHONUTF8": "0",
                "PYTHONHASHSEED": seed,
                "LC_ALL": "C",
                "TZ": zone,
            },
            capture_output=True,
            check=True,
            text=True,
        ).stdout.split()[0]
        for seed, zone in (("1", "UTC"), ("2", "Asia/Tokyo"))
    }
    assert told == {golden_digest()}


def test_the_members_that_a_slice_has_a_part_of_are_counted():
    layout = Layout([Member(name, 5, 0) for name in "abc"])  # of 1,024 bytes each
    whole = layout.size
    for start, stop, count in [
        *((0, whole, 3), (0, 1, 1), (1023, 1025, 2), (1024, 2048, 1), (1024, 2049, 2)),
        *((3071, whole, 1), (3072, whole, 0), (whole - 1, whole, 0)),
    ]:
        assert layout.count(start, stop) == count

"""Picks and packed names: what was ticked comes back, or an error; never other files."""

import random
import zlib
from base64 import urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tar_gateway.archive.picks import (
    ListingChanged,
    Pick,
    listing_digest,
    pack_names,
    packed,
    read_names,
    read_pick,
    unpacked,
)
from tar_gateway.http.paths import BadName

MADE = 1_700_000_000

NAME = st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1)
NAMES = st.lists(NAME | NAME.map(lambda name: name + "/"), min_size=1, unique=True).map(sorted)


@st.composite
def listings(draw):
    """Give a listing's names in order, and the indices that are ticked."""
    names = draw(NAMES)
    ticked = draw(st.sets(st.integers(0, len(names) - 1), min_size=1))
    return names, sorted(ticked)


def old(names):
    return [(name, MADE - 1) for name in names]


@given(listings(), st.text(st.characters(exclude_categories=["Cs"])))
def test_what_was_ticked_comes_back_from_the_text(listing, directory):
    names, ticked = listing
    directory = directory.rstrip("/") + "/"
    pick = read_pick(str(Pick.of(directory, names, ticked, MADE)), largest=len(names))
    assert pick.directory == directory
    assert pick.count == len(ticked)
    assert pick.names(reversed(old(names))) == [names[index] for index in ticked]


@given(listings(), st.sets(NAME, min_size=1))
def test_entries_that_have_come_since_change_nothing(listing, new):
    names, ticked = listing
    pick = Pick.of("", names, ticked, MADE)
    later = [(name, MADE + 1) for name in new.difference(names)]
    assert pick.names([*old(names), *later]) == [names[index] for index in ticked]


@given(listings(), NAMES)
def test_another_listing_is_noticed(listing, other):
    names, ticked = listing
    pick = Pick.of("", names, ticked, MADE)
    if other != names:
        with pytest.raises(ListingChanged):
            pick.names(old(other))


def test_entries_without_a_date_are_never_taken_for_new_ones():
    pick = Pick.of("", ["a", "b"], [0], MADE)
    with pytest.raises(ListingChanged):
        pick.names([*old(["a", "b"]), ("c", None)])


def test_an_entry_that_only_has_a_new_date_is_still_the_one_that_was_ticked():
    assert Pick.of("", ["a", "b"], [1], MADE).names([("a", 1), ("b", MADE + 9)]) == ["b"]


def test_a_bit_stands_where_the_interface_says():
    names = [f"{number:02}" for number in range(10)]
    pick = Pick.of("d/", names, [0, 8, 9], 35)
    assert pick.bits == bytes([0b1, 0b11])
    assert str(pick) == f"d/:{listing_digest(names)}.z.{packed(pick.bits)}"


@pytest.mark.parametrize(
    ("ticked", "most"),
    [
        (range(10_000), 60),
        (range(0, 10_000, 3), 80),
        (random.Random(1).sample(range(10_000), 20), 130),
        (random.Random(1).sample(range(10_000), 5_000), 1_700),
    ],
)
def test_ten_thousand_ticks_are_a_short_text(ticked, most):
    names = [f"file-{number:05}.bin" for number in range(10_000)]
    assert len(str(Pick.of("", names, ticked, MADE))) <= most


@pytest.mark.parametrize("bits", [b"", b"\1\0", b"\4"])
def test_bits_of_another_number_of_entries_are_no_pick_of_a_listing(bits):
    names = ["a", "b"]
    with pytest.raises(ListingChanged):
        Pick("", listing_digest(names), MADE, bits).names(old(names))


DEFLATED = packed(b"\1")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not <directory>:<digest>"),
        ("abcdefghijkl.z.AQ", "is not <directory>:<digest>"),
        (":abcdefghijkl.z.", "is not <directory>:<digest>"),
        (f":abcdefghijk.z.{DEFLATED}", "is not <directory>:<digest>"),
        (f":abcdefghijkl.Z.{DEFLATED}", "is not <directory>:<digest>"),
        (f"d:abcdefghijkl.z.{DEFLATED}", "without the slash"),
        (":abcdefghijkl.z._w", "is not raw DEFLATE"),
        (f":abcdefghijkl.z.{DEFLATED[:-1]}", "is not"),
        (f":abcdefghijkl.z.{packed(bytes(3))}", "holds more than 2 bytes"),
    ],
)
def test_what_is_no_pick_is_refused(text, reason):
    with pytest.raises(BadName, match=reason):
        read_pick(text, largest=10)


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))))
def test_names_come_back_from_one_value(names):
    names = names or [""]
    assert read_names(pack_names(names), largest=10**6) == names


@given(st.binary(max_size=300), st.integers(0, 300))
def test_no_more_is_unpacked_than_may_be(data, largest):
    if len(data) <= largest:
        assert unpacked(packed(data), largest=largest) == data
    else:
        with pytest.raises(BadName, match="holds more than"):
            unpacked(packed(data), largest=largest)


def test_a_text_that_would_unpack_to_gigabytes_is_refused_without_doing_so():
    bomb = packed(bytes(50_000_000))
    with pytest.raises(BadName, match="holds more than 1000 bytes"):
        read_names(bomb, largest=1000)


def test_more_behind_the_end_and_less_than_all_are_refused():
    raw = zlib.compressobj(9, zlib.DEFLATED, -15)
    whole = raw.compress(b"names") + raw.flush()
    for wrong in (whole + b"x", whole[:-1]):
        with pytest.raises(BadName, match="is not"):
            read_names(urlsafe_b64encode(wrong).decode().rstrip("="), largest=100)


def test_names_that_are_not_utf8_are_refused():
    with pytest.raises(BadName, match="not valid UTF-8"):
        read_names(packed(b"\xff"), largest=100)

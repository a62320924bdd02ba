"""The list of digests: every slice is that slice of the whole, in each format."""

import zlib
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tar_gateway.archive.format import Borrowed, Checksum, Literal, Member
from tar_gateway.archive.layout import Layout
from tar_gateway.archive.sums import Sums
from tar_gateway.archive.tar import TAR
from tar_gateway.archive.zip import ZIP

# So many that the list fills more than one block of a zip.
NAMES = ["f/a.txt", "f/dir/", "f/empty", "f/Q: x", *(f"f/{number:04}.bin" for number in range(900))]
DATA = {name: b"" if name.endswith(("/", "empty")) else name.encode() * 3 for name in NAMES}
SUMS = Sums(NAMES, "f/", {1: b"", 2: b""})
LIST = "".join(
    f"{sha256(data).hexdigest()}  {'./' if 'Q:' in name else ''}{name.removeprefix('f/')}\n"
    for name, data in DATA.items()
    if not name.endswith("/")
).encode()
MEMBERS = [
    *(Member(name, len(data)) for name, data in DATA.items()),
    Member("f/SHA256SUMS", SUMS.size, generated=SUMS),
]


def made(segments):
    """Make the bytes of segments as a body does."""
    parts = []
    for segment in segments:
        if isinstance(segment, Literal):
            parts.append(segment.data)
            continue
        name = MEMBERS[segment.index].name
        data = DATA.get(name, LIST)
        if isinstance(segment, Checksum):
            is_crc = segment.kind == "crc32"
            value = zlib.crc32(data).to_bytes(4, "little") if is_crc else sha256(data).hexdigest()
            value = value if is_crc else value.encode()
            parts.append(value[segment.start : segment.stop])
        else:
            assert isinstance(segment, Borrowed)
            parts.append(data[segment.start : segment.stop])
    return b"".join(parts)


def test_the_list_has_a_line_for_each_file_by_its_name_below_the_folder():
    assert made(SUMS.cut(0, SUMS.size)) == LIST
    assert SUMS.size == len(LIST)


@given(st.lists(st.integers(0, len(LIST)), min_size=2, max_size=2).map(sorted))
def test_every_slice_of_the_list_is_that_slice_of_it(cut):
    assert made(SUMS.cut(*cut)) == LIST[slice(*cut)]


LAYOUTS = {format.name: Layout(MEMBERS, format) for format in (TAR, ZIP)}
WHOLE = {name: made(layout.slice(0, layout.size)) for name, layout in LAYOUTS.items()}


@pytest.mark.parametrize("format", ["tar", "zip"])
def test_it_stands_in_the_archive(format):
    assert len(WHOLE[format]) == LAYOUTS[format].size
    whole = WHOLE[format]
    assert LIST[:60_000] in whole  # less than a block of a zip
    assert LIST[-600:] in whole


@pytest.mark.parametrize("format", ["tar", "zip"])
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_every_slice_is_that_slice_of_the_archive(format, data):
    layout, whole = LAYOUTS[format], WHOLE[format]
    # Mostly where the list and the end are.
    place = st.one_of(st.integers(0, len(whole)), st.integers(len(whole) - 150_000, len(whole)))
    start, stop = sorted((data.draw(place), data.draw(place)))
    assert made(layout.slice(start, stop)) == whole[start:stop]


@pytest.mark.parametrize("format", ["tar", "zip"])
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_what_is_read_again_and_what_passes_are_all_that_a_slice_needs(format, data):
    layout = LAYOUTS[format]
    place = st.one_of(st.integers(0, layout.size), st.integers(layout.size - 1000, layout.size))
    start, stop = sorted((data.draw(place), data.draw(place)))
    again = layout.unread(start, stop)
    known, needed = set(again), set()
    for segment in layout.slice(start, stop):
        if isinstance(segment, Borrowed):
            member = layout.members[segment.index]
            if segment.start == 0 and segment.stop == member.size:
                known.add(segment.index)
        elif isinstance(segment, Checksum) and segment.index < len(NAMES):
            assert segment.index in known
            needed.add(segment.index)
        elif isinstance(segment, Checksum):  # of the list itself
            needed.update(index for index, data in enumerate(DATA.values()) if data)
    assert needed <= known
    assert set(again) <= needed

"""A zip: every slice is that slice of the whole, and all the readers read the whole."""

import io
import subprocess
import zipfile
import zlib
from contextlib import closing
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tar_gateway import BrokenOff, ZipStream, zip_size
from tar_gateway.archive.format import Checksum, Literal, Member
from tar_gateway.archive.layout import Layout
from tar_gateway.archive.zip import BLOCK, LAYOUT_VERSION, ZIP

GIB = 2**30

MEMBERS = (
    Member("a.txt", 6, 1_600_000_000),
    Member("empty", 0),
    Member("dir/", 0),
    Member("one block", BLOCK, 2**31),
    Member("one more", BLOCK + 1, 1_600_000_001),
    Member("Füße/日本語.txt", 2 * BLOCK, 253_402_300_799),
    Member("d" * 100 + "/" + "n" * 200, 200_000, 5),
)


def data_of(member):
    return Random(member.name).randbytes(member.size)


def made(layout, start, stop):
    """Make a slice of an archive as a body does, of members read in blocks of odd sizes."""
    parts = []
    for segment in layout.slice(start, stop):
        if isinstance(segment, Literal):
            parts.append(segment.data)
            continue
        data = data_of(layout.members[segment.index])
        if isinstance(segment, Checksum):
            checksum = zlib.crc32(data).to_bytes(4, "little")
            parts.append(checksum[segment.start : segment.stop])
            continue
        length = 0
        for first in range(segment.start, segment.stop, 50_001):
            block = data[first : min(first + 50_001, segment.stop)]
            is_begun = first == segment.start
            parts.append(segment.blocks.written(first, block, is_begun=is_begun))
            length += len(parts[-1])
        assert length == len(segment)
    return b"".join(parts)


LAYOUT = Layout(MEMBERS, ZIP)
ARCHIVE = made(LAYOUT, 0, LAYOUT.size)
EDGES = [
    edge
    for start in [LAYOUT.place(index)[0] for index in range(len(MEMBERS))] + [len(ARCHIVE) - 700]
    for block in range(4)
    for edge in range(start + block * (BLOCK + 5) - 30, start + block * (BLOCK + 5) + 330)
    if 0 <= edge <= len(ARCHIVE)
]


@settings(deadline=None)
@given(st.lists(st.sampled_from(EDGES), min_size=2, max_size=2).map(sorted))
def test_every_slice_is_that_slice_of_the_whole(cut):
    assert made(LAYOUT, *cut) == ARCHIVE[slice(*cut)]


def test_a_stream_is_as_long_as_was_predicted():
    files = [each for each in MEMBERS if not each.is_directory]
    stream = ZipStream([(each.name, each.size, each.mtime, data_of(each)) for each in files])
    size = zip_size([(each.name, each.size, each.mtime) for each in files])
    archive = b"".join(stream)
    assert len(archive) == size == stream.size
    assert archive == made(Layout(files, ZIP), 0, size)


def test_its_bytes_stay_the_same_for_a_layout_version():
    # LAYOUT_VERSION together with this checksum, so that no part of the old is joined to the new.
    assert (LAYOUT_VERSION, zlib.crc32(ARCHIVE)) == (1, 0x2E95DF41)


def test_python_reads_every_member_its_date_and_mode():
    with zipfile.ZipFile(io.BytesIO(ARCHIVE)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [each.name for each in MEMBERS]
        assert all(archive.read(each.name) == data_of(each) for each in MEMBERS)
        dates = [info.date_time[0] for info in archive.infolist()]
        assert dates == [2020, 1980, 1980, 2038, 2020, 2107, 1980]
        modes = {oct(info.external_attr >> 16) for info in archive.infolist()}
        assert modes == {"0o100644", "0o40755"}


@pytest.mark.parametrize("count", [65_534, 65_535, 70_000])
def test_so_many_members_are_read(count):
    archive = b"".join(ZipStream((f"{number}", 0, 0, None) for number in range(count)))
    assert (b"PK\x06\x06" in archive) == (count >= 65_535)
    with zipfile.ZipFile(io.BytesIO(archive)) as read:
        assert len(read.infolist()) == count


@pytest.mark.parametrize("more", [0, 1])
def test_zip64_is_only_where_a_value_needs_it(more):
    largest = 0xFFFF_FFFF - 1 - 5 * 65_533 + more  # a size of 0xFFFFFFFF stands for ZIP64
    layout = Layout([Member("large", largest)], ZIP)
    header = next(iter(layout.slice(0, 35))).data
    written = (b"\x2d\0", b"\xff" * 8) if more else (b"\x14\0", bytes(8))
    assert (header[4:6], header[18:26]) == written


@pytest.mark.needs("bsdtar")
def test_what_lies_behind_4_gib_is_read_from_a_pipe():
    block, count = bytes(2**20), 4100

    def zeros(start):
        assert start == 0
        return (block for _ in range(count))

    members = [("large", count * len(block), 0, zeros), ("behind", 5, 0, b"alpha")]
    reader = subprocess.Popen(
        ["bsdtar", "xOf", "-", "behind"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with reader, closing(ZipStream(members)) as stream:
        for piece in stream:
            reader.stdin.write(piece)
        found, _ = reader.communicate()
    assert (reader.returncode, found) == (0, b"alpha")


def test_a_told_checksum_that_the_bytes_contradict_breaks_the_archive():
    stream = ZipStream([Member("a", 5, 0, b"alpha", checksum=1)])
    with pytest.raises(BrokenOff, match="CRC-32"):
        list(stream)


def test_a_slice_needs_every_checksum():
    told = Member("a", 5, 0, b"alpha", checksum=zlib.crc32(b"alpha"))
    archive = b"".join(ZipStream([told]))
    assert b"".join(ZipStream([told], start=7, stop=90)) == archive[7:90]
    with pytest.raises(ValueError, match="checksum of every member"):
        ZipStream([Member("a", 5, 0, b"alpha")], start=7)

"""How one member is written: header blocks, their predicted length, padding and trailer."""

import io
import tarfile
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tar_gateway.archive.format import written_name
from tar_gateway.archive.tar import (
    BLOCK,
    FILE_MODE,
    RECORD,
    header,
    header_size,
    is_in_utf8,
    padding_size,
    trailer_size,
)

LARGEST_USTAR_NUMBER = 8**11 - 1  # 11 octal digits

names = st.text(
    st.characters(exclude_categories=["Cs", "Cc"]) | st.just("/"), min_size=1, max_size=400
) | st.text("ab/", min_size=90, max_size=300)
numbers = st.integers(0, 2**63) | st.sampled_from(
    [0, LARGEST_USTAR_NUMBER - 1, LARGEST_USTAR_NUMBER, LARGEST_USTAR_NUMBER + 1]
)


def read_header(name, size=0, mtime=0):
    """Read back with the standard library what `header` wrote; gives its last block's type too."""
    made = header(name, size, mtime)
    return tarfile.TarInfo.frombuf(made[-BLOCK:], "utf-8", "strict"), len(made)


def made_name(name):
    """Return the name that a reader of pax records finds."""
    with tarfile.open(fileobj=io.BytesIO(header(name, 0, 0)), mode="r|") as archive:
        return archive.next().name


@given(names, numbers, numbers)
@example("a" * 100, 0, 0)
@example("c:" + "a" * 97, 0, 0)
@example("a" * 101, 0, 0)
@example("é" * 50, 0, 0)
@example("a", 9 * 2**30, 0)
def test_the_predicted_length_of_a_header_is_the_length_it_has(name, size, mtime):
    assert header_size(name, size, mtime) == len(header(name, size, mtime))


@given(names, numbers, numbers)
@example("a" * 100, LARGEST_USTAR_NUMBER, LARGEST_USTAR_NUMBER)
@example("a/", 0, 0)
@example("\x7f", 1, 1)
@example("a" * 155 + "/" + "b" * 100, 0, 0)
@example("a" * 156 + "/" + "b" * 100, 0, 0)
@example("a" * 155 + "/" + "b" * 101, 0, 0)
@example("a" * 20 + "/" + "b" * 80 + "/" + "c" * 50, LARGEST_USTAR_NUMBER + 1, 0)
@example("é" * 77 + "/" + "b" * 100, 0, 0)
@example("é" * 90, 0, 0)
@example("é" * 490, 0, 0)  # its record is of 991 bytes: one more takes another digit
@example("é" * 496, 0, 0)
def test_a_header_is_byte_for_byte_the_standard_librarys(name, size, mtime):
    info = tarfile.TarInfo(written_name(name))
    info.size, info.mtime, info.mode = size, mtime, FILE_MODE
    if name.endswith("/"):
        info.type, info.mode = tarfile.DIRTYPE, 0o755
    try:
        expected = info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")
    except ValueError:
        expected = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")
    if not name.isascii():  # behind the pax record is a block in UTF-8, where the name fits
        info.size, info.mtime = (n if n <= LARGEST_USTAR_NUMBER else 0 for n in (size, mtime))
        with suppress(ValueError):
            block = info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict")
            expected = expected[:-BLOCK] + block
    assert header(name, size, mtime) == expected


@pytest.mark.parametrize("name", ["Q: notes.txt", "c:a", "z:", "A:..", "c:" + "é" * 60, "c:d/"])
def test_what_looks_like_a_drive_is_written_behind_the_current_directory(name):
    info, length = read_header(name, 1, 1)
    assert written_name(name) == f"./{name}"
    assert made_name(name) == f"./{name.rstrip('/')}"
    assert length == header_size(name, 1, 1)
    assert info.isdir() is name.endswith("/")


@pytest.mark.parametrize("name", ["", "a", "ab:c", "1:c", "é:c", ":a", "a/c:b", "./c:a"])
def test_every_other_name_is_written_as_it_is(name):
    assert written_name(name) == name


NOT_ASCII = [
    "é",
    "Фото 1.jpg",
    "日本語/",
    "é" * 50,
    "ö" * 77 + "/" + "é" * 50,
    "a/" * 50 + "é.txt",
]


@pytest.mark.parametrize(("size", "mtime"), [(5, 7), (LARGEST_USTAR_NUMBER + 1, 7), (5, 8**12)])
@pytest.mark.parametrize("name", NOT_ASCII)
def test_a_reader_that_skips_pax_records_finds_a_name_in_utf_8_where_it_fits(name, size, mtime):
    info, length = read_header(name, size, mtime)
    assert info.name == name.rstrip("/")
    assert info.isdir() is name.endswith("/")
    fits = max(size, mtime) <= LARGEST_USTAR_NUMBER
    assert (info.size, info.mtime) == ((size, mtime) if fits else (info.size, info.mtime))
    assert is_in_utf8(name)
    assert length == 3 * BLOCK


@pytest.mark.parametrize(
    "name", ["a" * 99 + "é", "é" * 78 + "/a", "a/" + "é" * 51, "x" * 156 + "/é"]
)
def test_a_name_that_does_not_fit_is_written_as_ever(name):
    info = tarfile.TarInfo(name)
    info.mode = FILE_MODE
    assert header(name, 0, 0) == info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")
    assert not is_in_utf8(name)


@given(names.filter(lambda name: not name.startswith("/")), numbers, numbers)
def test_every_reader_of_pax_finds_the_same_in_both_places(name, size, mtime):
    made = header(name, size, mtime)
    with tarfile.open(fileobj=io.BytesIO(made), mode="r|", encoding="ascii") as archive:
        found = archive.next()
    assert found is not None
    assert found.name == written_name(name).rstrip("/")
    assert (found.size, found.mtime) == (size, float(mtime) if mtime > 2**50 else mtime)


@given(names, numbers, numbers)
def test_a_header_is_a_whole_number_of_blocks(name, size, mtime):
    length = len(header(name, size, mtime))
    assert length > 0
    assert length % BLOCK == 0


@pytest.mark.parametrize(
    ("name", "size", "mtime"),
    [
        ("a", 0, 0),
        ("a" * 100, 0, 0),
        ("a" * 155 + "/" + "b" * 100, 0, 0),
        ("a", LARGEST_USTAR_NUMBER, 0),
        ("a", 0, LARGEST_USTAR_NUMBER),
    ],
)
def test_what_fits_a_ustar_header_takes_one_block(name, size, mtime):
    made = header(name, size, mtime)
    assert len(made) == header_size(name, size, mtime) == BLOCK
    assert made[257:265] == b"ustar\x0000"


@pytest.mark.parametrize(
    ("name", "size", "mtime"),
    [
        ("é", 0, 0),
        ("a" * 101, 0, 0),
        ("a" * 156 + "/" + "b" * 100, 0, 0),
        ("a/" + "b" * 101, 0, 0),
        ("a", LARGEST_USTAR_NUMBER + 1, 0),
        ("a", 0, LARGEST_USTAR_NUMBER + 1),
    ],
)
def test_what_does_not_fit_a_ustar_header_is_told_in_a_pax_record(name, size, mtime):
    made = header(name, size, mtime)
    assert len(made) == header_size(name, size, mtime) == 3 * BLOCK
    assert made[156:157] == tarfile.XHDTYPE


def test_a_header_names_no_owner_and_a_readable_plain_file():
    info, _ = read_header("a.txt", 5, 1_600_000_000)
    assert (info.name, info.size, info.mtime) == ("a.txt", 5, 1_600_000_000)
    assert (info.uid, info.gid, info.uname, info.gname) == (0, 0, "", "")
    assert info.mode == FILE_MODE == 0o644
    assert info.isreg()


def test_a_name_that_is_no_text_cannot_be_written():
    with pytest.raises(UnicodeEncodeError):
        header("\ud800", 0, 0)


@pytest.mark.parametrize(("size", "padding"), [(0, 0), (1, 511), (511, 1), (512, 0), (513, 511)])
def test_padding_fills_the_last_block(size, padding):
    assert padding_size(size) == padding


@pytest.mark.parametrize(
    ("end", "trailer"),
    [
        (0, RECORD),
        (BLOCK, RECORD - BLOCK),
        (RECORD - 2 * BLOCK, 2 * BLOCK),
        (RECORD - BLOCK, RECORD + BLOCK),
        (RECORD, RECORD),
    ],
)
def test_the_trailer_is_two_blocks_and_what_fills_the_last_record(end, trailer):
    assert trailer_size(end) == trailer


@given(st.integers(0, 2**40).map(lambda blocks: blocks * BLOCK))
def test_an_archive_ends_on_a_record_and_no_record_is_wasted(end):
    trailer = trailer_size(end)
    assert (end + trailer) % RECORD == 0
    assert 2 * BLOCK <= trailer < 2 * BLOCK + RECORD

"""How one member is written: its header blocks and how long they are, and the archive's end.

POSIX.1-1988 ustar where a name, size and date fit, POSIX.1-2001 pax records where they don't.
The header bytes are those of the standard library's tarfile, which takes twenty times as long;
but behind a pax record a name that is not ASCII stands in UTF-8. Nothing here depends on the
clock, the process or the locale: same arguments, same bytes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from tar_gateway.archive.format import Coding, Literal, Member, Segment, bytes_of, written_name

# Part of every ETag. Raise it whenever the same members would give other bytes. Archives whose
# bytes version 2 left as they were keep the one before, so that their downloads can be resumed.
LAYOUT_VERSION = 2

BLOCK = 512
RECORD = 20 * BLOCK
FILE_MODE, DIRECTORY_MODE = 0o644, 0o755

# Fields of the ustar header block: NAME is 100 bytes, and PREFIX, which a slash follows, 155;
# SIZE and MTIME are 11 octal digits.
_USTAR_NAME = 100
_USTAR_PREFIX = 155
_USTAR_NUMBER = 8**11

# What a block is of (TYPEFLAG), each with its MODE.
_FILE, _DIRECTORY, _PAX = b"0", b"5", b"x"
_MODES = {_FILE: FILE_MODE, _DIRECTORY: DIRECTORY_MODE, _PAX: 0}

# What tarfile and star call the member of a pax record.
_PAX_NAME = b"././@PaxHeader"


def header(name: str, size: int, mtime: int) -> bytes:
    """Make the header blocks of a regular file, or of a directory if its name ends with a slash.

    ``size`` in bytes, ``mtime`` in seconds since 1970; both are 0 or more. The result is a
    whole number of 512-byte blocks. Raise `ValueError` for a name that is no text.
    """
    name = written_name(name)
    raw = name.encode()
    kind = _DIRECTORY if name.endswith("/") else _FILE
    split = _split(raw)
    if split is not None and name.isascii() and size < _USTAR_NUMBER and mtime < _USTAR_NUMBER:
        return _block(kind, *split, size, mtime)
    records = _records(raw, size, mtime)
    if split is None or name.isascii():  # a name of which a reader of ustar finds the beginning
        split = b"", name.encode("ascii", "replace")[:_USTAR_NAME]
    size, mtime = (number if number < _USTAR_NUMBER else 0 for number in (size, mtime))
    return (
        _block(_PAX, b"", _PAX_NAME, len(records), 0)
        + records
        + bytes(padding_size(len(records)))
        + _block(kind, *split, size, mtime)
    )


def header_size(name: str, size: int, mtime: int) -> int:
    """Tell the length of `header` in bytes, without making it."""
    name = written_name(name)
    is_small = name.isascii() and size < _USTAR_NUMBER and mtime < _USTAR_NUMBER
    if is_small and (len(name) <= _USTAR_NAME or _split(name.encode()) is not None):
        return BLOCK
    length = len(_records(name.encode(), size, mtime))
    return BLOCK + length + padding_size(length) + BLOCK


def is_in_utf8(name: str) -> bool:
    """Return whether the ustar block holds a name's UTF-8 bytes, for readers that skip pax.

    The library writes ``?`` there for what is not ASCII, so that such a reader unpacks names that
    only differ in such characters as one file.
    """
    return not name.isascii() and _split(written_name(name).encode()) is not None


def _split(name: bytes) -> tuple[bytes, bytes] | None:
    """Split a name into PREFIX and NAME, at the first slash that will do; `None` without one."""
    if len(name) <= _USTAR_NAME:
        return b"", name
    slash = name.find(b"/", len(name) - _USTAR_NAME - 1)
    return (name[:slash], name[slash + 1 :]) if 0 <= slash <= _USTAR_PREFIX else None


def _records(name: bytes, size: int, mtime: int) -> bytes:
    """Write the pax records of what does not fit into a ustar block (pax(1), "pax Header")."""
    records = b""
    if len(name) > _USTAR_NAME or not name.isascii():
        records = _record(b"path", name)
    for keyword, number in ((b"size", size), (b"mtime", mtime)):
        if number >= _USTAR_NUMBER:
            records += _record(keyword, b"%d" % number)
    return records


def _record(keyword: bytes, value: bytes) -> bytes:
    """Write one record, which begins with its own length in decimal digits."""
    rest = b" %b=%b\n" % (keyword, value)
    length = len(rest) + len(str(len(rest)))
    if len(str(length)) > len(str(len(rest))):  # with one digit more it is longer by one
        length += 1
    return b"%d%b" % (length, rest)


@cache
def _same_of_all(kind: bytes) -> tuple[bytes, bytes, int]:
    """Return the fields that are the same in each block of a kind, and their sum.

    They lie between its name and its numbers, and between its checksum and its prefix.
    """
    before = b"%07o\0%07o\0%07o\0" % (_MODES[kind], 0, 0)  # MODE, UID, GID
    # TYPEFLAG, LINKNAME, MAGIC and VERSION; UNAME, GNAME, DEVMAJOR, DEVMINOR
    behind = kind + bytes(100) + b"ustar\x0000" + bytes(32 + 32 + 8 + 8)
    return before, behind, sum(before) + sum(behind)


def _block(kind: bytes, prefix: bytes, name: bytes, size: int, mtime: int) -> bytes:
    before, behind, same = _same_of_all(kind)
    numbers = b"%011o\0%011o\0" % (size, mtime)
    # The sum of all bytes, with blanks in its own place.
    checksum = same + sum(name) + sum(numbers) + sum(prefix) + 8 * ord(" ")
    return b"%b%b%b%06o\0 %b%b" % (
        name.ljust(_USTAR_NAME, b"\0"),
        before,
        numbers,
        checksum,
        behind,
        prefix.ljust(_USTAR_PREFIX + 12, b"\0"),  # and what fills the block
    )


def padding_size(size: int) -> int:
    """Tell how many zero bytes follow ``size`` bytes of data to fill the last block."""
    return -size % BLOCK


def trailer_size(end: int) -> int:
    """Tell how many zero bytes end an archive whose members take ``end`` bytes.

    Two empty blocks, then as many as fill the last record (pax(1), "ustar Interchange Format").
    """
    return 2 * BLOCK + -(end + 2 * BLOCK) % RECORD


@dataclass(frozen=True, slots=True)
class _Tar:
    """The format: header, data and padding of each member, and two empty blocks at the end."""

    name: str = "tar"
    media_type: str = "application/x-tar"
    coding: Coding | None = None
    has_checksums: bool = False

    @property
    def suffix(self) -> str:
        return f".{self.name}"

    def version(self, members: Sequence[Member]) -> int:
        is_new = any(is_in_utf8(member.name) for member in members)
        return LAYOUT_VERSION if is_new else LAYOUT_VERSION - 1

    def size(self, member: Member) -> int:
        before = header_size(member.name, member.size, member.mtime)
        return before + member.size + padding_size(member.size)

    def data_start(self, member: Member) -> int:
        return header_size(member.name, member.size, member.mtime)

    def cut(self, index: int, member: Member, start: int, stop: int) -> Iterator[Segment]:
        body = header_size(member.name, member.size, member.mtime)
        data_end = body + member.size
        if start < body:
            made = header(member.name, member.size, member.mtime)
            yield Literal(made[start : min(stop, body)])
        if start < data_end and stop > body:
            yield from bytes_of(index, member, max(start, body) - body, min(stop, data_end) - body)
        if stop > data_end:
            end = data_end + padding_size(member.size)
            yield Literal(bytes(min(stop, end) - max(start, data_end)))

    def end_size(self, members: Sequence[Member], starts: Sequence[int]) -> int:
        return trailer_size(starts[-1])

    def end(
        self, members: Sequence[Member], starts: Sequence[int], start: int, stop: int
    ) -> Iterator[Segment]:
        yield Literal(bytes(stop - start))


TAR = _Tar()
TAR_GZ = _Tar("tar.gz", "application/gzip", "gzip")
TAR_ZST = _Tar("tar.zst", "application/zstd", "zstd")

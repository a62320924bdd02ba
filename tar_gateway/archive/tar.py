"""How one member is written: its header blocks and how long they are, and the archive's end.

POSIX.1-1988 ustar where a name, size and date fit, POSIX.1-2001 pax records where they don't.
The header bytes are the standard library's; of a plain file's only the fields that differ are
written anew, and behind a pax record a name that is not ASCII stands in UTF-8. Nothing here depends
on the clock, the process or the locale: same arguments, same bytes.
"""

import tarfile
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

# Fields of the ustar header block: NAME is 100 bytes; SIZE and MTIME are 11 octal digits.
_USTAR_NAME = 100
_USTAR_NUMBER = 8**11


def header(name: str, size: int, mtime: int) -> bytes:
    """Make the header blocks of a regular file, or of a directory if its name ends with a slash.

    ``size`` in bytes, ``mtime`` in seconds since 1970; both are 0 or more. The result is a
    whole number of 512-byte blocks.
    """
    name = written_name(name)
    if _is_plain(name, size, mtime) and not name.endswith("/"):
        return _plain_header(name.encode("ascii"), size, mtime)
    made = _library_header(name, size, mtime)
    block = None if name.isascii() else _block_in_utf8(name, size, mtime)
    return made if block is None else made[:-BLOCK] + block


def is_in_utf8(name: str) -> bool:
    """Return whether the ustar block holds a name's UTF-8 bytes, for readers that skip pax."""
    return not name.isascii() and _block_in_utf8(written_name(name), 0, 0) is not None


def _block_in_utf8(name: str, size: int, mtime: int) -> bytes | None:
    """Make the block behind a pax record, `None` where the name is too long for it.

    The library writes ``?`` there for what is not ASCII, so that a reader that skips pax records
    unpacks names that only differ in such characters as one file.
    """
    info = _info(name, size if size < _USTAR_NUMBER else 0, mtime if mtime < _USTAR_NUMBER else 0)
    try:
        return info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict")
    except ValueError:
        return None


def _library_header(name: str, size: int, mtime: int) -> bytes:
    info = _info(name, size, mtime)
    try:
        return info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")
    except ValueError:  # too long, too large or not ASCII for ustar
        return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


def _info(name: str, size: int, mtime: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size
    info.mtime = mtime
    info.mode = FILE_MODE
    if name.endswith("/"):
        info.type = tarfile.DIRTYPE
        info.mode = DIRECTORY_MODE
    return info


def header_size(name: str, size: int, mtime: int) -> int:
    """Tell the length of `header` in bytes, without making it where that is plain."""
    name = written_name(name)
    return BLOCK if _is_plain(name, size, mtime) else len(_library_header(name, size, mtime))


def _is_plain(name: str, size: int, mtime: int) -> bool:
    """Return whether everything fits into the fields of one ustar block."""
    return (
        len(name) <= _USTAR_NAME
        and name.isascii()
        and size < _USTAR_NUMBER
        and mtime < _USTAR_NUMBER
    )


# Fields of a plain file's block: what lies between its name and its numbers, and behind its
# checksum, which is the sum of all bytes with blanks in its own place.
_BEFORE_NUMBERS = slice(100, 124)
_AFTER_CHECKSUM = slice(156, 512)


@cache
def _same_of_all() -> tuple[bytes, bytes, int]:
    """Return those fields, which are the same in every plain file's block, and their sum."""
    block = _library_header("", 0, 0)
    before, after = block[_BEFORE_NUMBERS], block[_AFTER_CHECKSUM]
    return before, after, sum(before) + sum(after) + 8 * ord(" ")


def _plain_header(name: bytes, size: int, mtime: int) -> bytes:
    before, after, same = _same_of_all()
    numbers = b"%011o\0%011o\0" % (size, mtime)
    checksum = same + sum(name) + sum(numbers)
    return b"%b%b%b%06o\0 %b" % (name.ljust(100, b"\0"), before, numbers, checksum, after)


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

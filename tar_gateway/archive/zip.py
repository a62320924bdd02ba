"""How a zip is written (APPNOTE.TXT 6.3.10), so that its length is known and a pipe can read it.

Every file is DEFLATE made of stored blocks (RFC 1951 3.2.4), which ends by itself, with a data
descriptor behind it: Java's ZipInputStream and others refuse stored files with a descriptor. ZIP64
only where a value needs it, for small files in it break Safari, busybox and Java 17. Same
arguments, same bytes.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from tar_gateway.archive.format import (
    Checksum,
    Literal,
    Member,
    Segment,
    bytes_of,
    clipped,
    written_name,
)

# Part of every ETag. Raise it whenever the same members would give other bytes.
LAYOUT_VERSION = 1

# Bytes of one stored block, and of what stands before it.
BLOCK, _BEFORE_BLOCK = 65_535, 5

# The values that stand for "see the ZIP64 record": what is as large needs one (4.4.8, 4.4.21).
_NUMBER, _COUNT = 0xFFFF_FFFF, 0xFFFF

_FILE_MODE, _DIRECTORY_MODE = 0o100_644, 0o040_755
_DESCRIPTOR, _UTF8 = 1 << 3, 1 << 11
_STORED, _DEFLATED = 0, 8
_UNIX = 3 << 8
_VERSION, _VERSION_ZIP64 = 20, 45

_OLDEST, _NEWEST = 315_532_800, 4_354_819_198  # 1980-01-01 00:00:00, 2107-12-31 23:59:58


@dataclass(frozen=True, slots=True)
class StoredBlocks:
    """The stored blocks of a member of ``size`` bytes: what stands before each."""

    size: int

    def between(self, start: int, stop: int) -> int:
        """Return how many bytes are written between the member's bytes ``start`` and ``stop``."""
        return _BEFORE_BLOCK * max(0, (stop - 1) // BLOCK - start // BLOCK)

    def after(self, position: int) -> int:
        """Return where the next block begins behind a member's byte ``position``."""
        return (position // BLOCK + 1) * BLOCK

    def before(self, position: int) -> bytes:
        """Return what stands before the block that begins at a member's byte ``position``."""
        length = min(BLOCK, self.size - position)
        return struct.pack("<BHH", position + length == self.size, length, length ^ 0xFFFF)

    def written(self, start: int, data: bytes, *, is_begun: bool) -> bytes:
        """Return bytes of the member with what stands before the blocks that begin in them.

        Where ``is_begun``, what stands before the byte ``start`` is written already.
        """
        first = -start % BLOCK or (BLOCK if is_begun else 0)
        if first >= len(data):
            return data
        view = memoryview(data)
        parts: list[bytes | memoryview] = []
        position = 0
        for cut in range(first, len(data), BLOCK):
            parts += (view[position:cut], self.before(start + cut))
            position = cut
        return b"".join([*parts, view[position:]])


class _Zip:
    """The format: header, blocks and descriptor of each member, and the central directory."""

    name = "zip"
    suffix = ".zip"
    media_type = "application/zip"
    coding = None
    has_checksums = True

    def version(self, members: Sequence[Member]) -> int:
        return LAYOUT_VERSION

    def size(self, member: Member) -> int:
        if member.is_directory:
            return _header_size(member)
        return _header_size(member) + _deflated_size(member) + _descriptor_size(member)

    def cut(self, index: int, member: Member, start: int, stop: int) -> Iterator[Segment]:
        body = _header_size(member)
        if start < body:
            yield Literal(_header(member)[start : min(stop, body)])
        if member.is_directory:
            return
        data_end = body + _deflated_size(member)
        if start < data_end and stop > body:
            yield from _blocks(index, member, max(start, body) - body, min(stop, data_end) - body)
        if stop > data_end:
            numbers = "<QQ" if _is_large(member) else "<LL"
            descriptor = (
                Literal(b"PK\x07\x08"),
                _checksum(index, member),
                Literal(struct.pack(numbers, _deflated_size(member), member.size)),
            )
            yield from clipped(descriptor, max(start - data_end, 0), stop - data_end)

    def data_start(self, member: Member) -> None:
        """Return nothing: a member's bytes do not stand in one run."""

    def end_size(self, members: Sequence[Member], starts: Sequence[int]) -> int:
        size = sum(map(_entry_size, members, starts))
        return size + len(_end_record(len(members), size, starts[-1]))

    def end(
        self, members: Sequence[Member], starts: Sequence[int], start: int, stop: int
    ) -> Iterator[Segment]:
        yield from clipped(_directory(members, starts), start, stop)


ZIP = _Zip()


def _blocks(index: int, member: Member, start: int, stop: int) -> Iterator[Segment]:
    """Cut a member's blocks: a whole or cut beginning of a block, bytes, another cut beginning."""
    blocks = StoredBlocks(member.size)
    whole = BLOCK + _BEFORE_BLOCK
    number, within = divmod(start, whole)
    if within < _BEFORE_BLOCK:
        before = blocks.before(number * BLOCK)
        yield Literal(before[within : min(_BEFORE_BLOCK, within + stop - start)])
    first = number * BLOCK + max(within - _BEFORE_BLOCK, 0)
    number, within = divmod(stop, whole)
    last = min(number * BLOCK + max(within - _BEFORE_BLOCK, 0), member.size)
    if first < last:
        yield from bytes_of(index, member, first, last, blocks)
    if 0 < within < _BEFORE_BLOCK and number * whole > start:
        yield Literal(blocks.before(number * BLOCK)[:within])
    elif within == _BEFORE_BLOCK and number * whole > start:
        yield Literal(blocks.before(number * BLOCK))


def _checksum(index: int, member: Member) -> Segment:
    return Checksum(index) if member.size else Literal(bytes(4))


def _deflated_size(member: Member) -> int:
    if member.is_directory:
        return 0
    return member.size + _BEFORE_BLOCK * max(1, -(-member.size // BLOCK))


def _is_large(member: Member) -> bool:
    """Return whether a member's sizes need ZIP64: what it is deflated to is the larger one."""
    return _deflated_size(member) >= _NUMBER


def _descriptor_size(member: Member) -> int:
    return 24 if _is_large(member) else 16


def _name(member: Member) -> bytes:
    name = written_name(member.name).encode("utf-8")
    if len(name) > _COUNT:
        raise ValueError(f"a name of {len(name)} bytes is too long for a zip")
    return name


def _about(member: Member, large: bool) -> bytes:
    """Return the fields that header and directory share: from the version to the date."""
    method, flags = (_STORED, 0) if member.is_directory else (_DEFLATED, _DESCRIPTOR)
    if not member.name.isascii():
        flags |= _UTF8
    moment = datetime.fromtimestamp(min(max(member.mtime, _OLDEST), _NEWEST), UTC)
    time = moment.hour << 11 | moment.minute << 5 | moment.second // 2
    date = (moment.year - 1980) << 9 | moment.month << 5 | moment.day
    version = _VERSION_ZIP64 if large else _VERSION
    return struct.pack("<HHHHH", version, flags, method, time, date)


def _date_size(member: Member) -> int:
    return 9 if member.mtime < 2**31 else 0


def _date(member: Member) -> bytes:
    """Return the extended timestamp, in UTC and of one second; empty beyond its 32 bits."""
    return struct.pack("<HHBl", 0x5455, 5, 1, member.mtime) if _date_size(member) else b""


def _zip64(*values: int) -> bytes:
    """Return the extra field of what does not fit into 32 bits. It has to be the first."""
    return struct.pack(f"<HH{len(values)}Q", 1, 8 * len(values), *values) if values else b""


def _header_size(member: Member) -> int:
    extra = (20 if _is_large(member) else 0) + _date_size(member)
    return 30 + len(_name(member)) + extra


def _header(member: Member) -> bytes:
    """Make the local file header (4.3.7). Where a descriptor follows, its sizes are 0."""
    large, name = _is_large(member), _name(member)
    extra = (_zip64(member.size, _deflated_size(member)) if large else b"") + _date(member)
    sizes = struct.pack(
        "<LLLHH", 0, *((_NUMBER, _NUMBER) if large else (0, 0)), len(name), len(extra)
    )
    return b"".join([b"PK\x03\x04", _about(member, large), sizes, name, extra])


def _large_values(member: Member, offset: int) -> list[int]:
    """Return what of a directory's entry needs ZIP64, in the order of 4.5.3."""
    return [each for each in (member.size, _deflated_size(member), offset) if each >= _NUMBER]


def _entry_size(member: Member, offset: int) -> int:
    values = len(_large_values(member, offset))
    return 46 + len(_name(member)) + (4 + 8 * values if values else 0) + _date_size(member)


def _entry(index: int, member: Member, offset: int) -> Iterator[Segment]:
    """Make a central directory's entry (4.3.12)."""
    name, values = _name(member), _large_values(member, offset)
    about = _about(member, bool(values))
    made_by = struct.pack("<H", _UNIX | (_VERSION_ZIP64 if values else _VERSION))
    yield Literal(b"PK\x01\x02" + made_by + about)
    yield _checksum(index, member)
    extra = _zip64(*values) + _date(member)
    attributes = _DIRECTORY_MODE << 16 | 0x10 if member.is_directory else _FILE_MODE << 16
    numbers = struct.pack(
        "<LLHHHHHLL",
        min(_deflated_size(member), _NUMBER),
        min(member.size, _NUMBER),
        len(name),
        len(extra),
        *(0, 0, 0),
        attributes,
        min(offset, _NUMBER),
    )
    yield Literal(b"".join([numbers, name, extra]))


def _directory(members: Sequence[Member], starts: Sequence[int]) -> Iterator[Segment]:
    size = 0
    for index, member in enumerate(members):
        yield from _entry(index, member, starts[index])
        size += _entry_size(member, starts[index])
    yield Literal(_end_record(len(members), size, starts[-1]))


def _end_record(count: int, size: int, offset: int) -> bytes:
    """Make the end of central directory record (4.3.16), behind ZIP64's where it needs one."""
    end = struct.pack(
        "<4sHHHHLLH",
        b"PK\x05\x06",
        *(0, 0),
        *(min(count, _COUNT), min(count, _COUNT)),
        min(size, _NUMBER),
        min(offset, _NUMBER),
        0,
    )
    if count < _COUNT and size < _NUMBER and offset < _NUMBER:
        return end
    made_by = _UNIX | _VERSION_ZIP64
    zip64 = struct.pack(
        "<4sQHHLLQQQQ",
        *(b"PK\x06\x06", 44, made_by, _VERSION_ZIP64, 0, 0, count, count, size, offset),
    )
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, offset + size, 1)
    return zip64 + locator + end

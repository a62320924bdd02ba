"""What stands before a member's data in a tar (POSIX.1-2001 pax), compared with the plan. Pure.

Only what this package writes is accepted: a regular file or a directory, behind pax records of its
path, size and date where these do not fit. Links, devices, sparse files and all else are an error.
"""

import re

from tar_gateway.archive.format import written_name
from tar_gateway.archive.tar import BLOCK
from tar_gateway.client.failures import BrokenArchive
from tar_gateway.client.plan import Planned
from tar_gateway.http.paths import shown

_KINDS = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"6": "a pipe",
    b"7": "a contiguous file",
    b"S": "a sparse file",
    b"L": "a GNU long name",
    b"K": "a GNU long link",
    b"g": "a global pax header",
}
_RECORD = re.compile(rb"([1-9][0-9]{0,9}) ([a-z]+)=")
_OCTAL = re.compile(rb"[0-7]{1,11}[ \0]*")


def check_header(member: Planned, raw: bytes) -> None:
    """Check the whole header of a member against the plan. Raise `BrokenArchive`."""
    records: dict[bytes, bytes] = {}
    position = 0
    if raw[156:157] == b"x":
        _check_block(member, raw[:BLOCK])
        length = _octal(member, raw[124:136])
        position = BLOCK + length + -length % BLOCK
        records = _records(member, raw[BLOCK : BLOCK + length])
        if any(raw[BLOCK + length : position]):
            raise _wrong(member, "has something behind its pax records")
    block = raw[position:]
    if len(block) != BLOCK:
        raise _wrong(member, "has another length than the plan says")
    _check_block(member, block)
    kind = block[156:157]
    if kind != (b"5" if member.is_directory else b"0"):
        raise _wrong(member, f"is that of {_KINDS.get(kind, 'something else')}")
    if any(block[157:257]):
        raise _wrong(member, "names a link")
    name = records.get(b"path") or _ustar_name(block)
    # The record of a directory may lack the slash, which its kind says as well.
    if name.rstrip(b"/") != written_name(member.name).encode("utf-8").rstrip(b"/"):
        raise _wrong(member, f"is that of {shown(name.decode('utf-8', 'backslashreplace'))}")
    told = records.get(b"size")
    size = _octal(member, block[124:136]) if told is None else _decimal(member, told)
    told = records.get(b"mtime")
    mtime = _octal(member, block[136:148]) if told is None else _decimal(member, told)
    if (size, mtime) != (member.size, member.mtime):
        raise _wrong(member, f"says {size} bytes of {mtime}, not {member.size} of {member.mtime}")


def _check_block(member: Planned, block: bytes) -> None:
    if block[257:265] != b"ustar\x0000":
        raise _wrong(member, "is not one of ustar")
    told = _octal(member, block[148:156])
    if told != sum(block) - sum(block[148:156]) + 8 * 0x20:
        raise _wrong(member, "has a wrong checksum")


def _ustar_name(block: bytes) -> bytes:
    name, prefix = block[:100].partition(b"\0")[0], block[345:500].partition(b"\0")[0]
    return prefix + b"/" + name if prefix else name


def _records(member: Planned, raw: bytes) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    position = 0
    while position < len(raw):
        match = _RECORD.match(raw, position)
        if match is None or raw[(end := position + int(match[1])) - 1 : end] != b"\n":
            raise _wrong(member, "has a pax record that is none")
        if match[2] not in {b"path", b"size", b"mtime"} or match[2] in found:
            raise _wrong(member, f"has a pax record of its {shown(match[2].decode())}")
        found[match[2]] = raw[match.end() : end - 1]
        if end <= match.end():
            raise _wrong(member, "has a pax record that is none")
        position = end
    return found


def _octal(member: Planned, field: bytes) -> int:
    match = _OCTAL.fullmatch(field)
    if match is None:
        raise _wrong(member, "has a number that is none")
    return int(field.rstrip(b" \0"), 8)


def _decimal(member: Planned, text: bytes) -> int:
    if not re.fullmatch(rb"[0-9]{1,19}", text):
        raise _wrong(member, "has a number that is none")
    return int(text)


def _wrong(member: Planned, what: str) -> BrokenArchive:
    return BrokenArchive(f"the archive is broken: the header of {shown(member.name)} {what}")

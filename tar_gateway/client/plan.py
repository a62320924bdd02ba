"""The plan of an archive (`docs/plan.schema.json`), read as if an enemy had written it."""

import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from tar_gateway.archive.bundle import FORMATS, archive_filename, check_apart
from tar_gateway.archive.tar import BLOCK, padding_size
from tar_gateway.client.failures import BrokenArchive
from tar_gateway.http.paths import BadName, check_name, shown

# What our own directories are called; a member of such a name could stand among their files.
OWN_PREFIX = ".tar-gateway-"

_LARGEST = 1 << 62  # bytes, or seconds: what no file system has
_LONGEST_HEADER = 64 * 1024
"""Bytes before a member's data: names of 4 KiB in pax records take a sixth of it."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One member: sizes and offsets in bytes, ``mtime`` in seconds since 1970 (0 for unknown).

    ``data_offset`` is `None` where the data is not in one run, ``offset`` where nothing has one.
    """

    name: str
    size: int
    mtime: int
    offset: int | None
    data_offset: int | None
    validator: str | None = None

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory, which has no bytes."""
        return self.name.endswith("/")

    @property
    def span(self) -> tuple[int, int]:
        """The bytes of a tar that are this member's: header, data and padding."""
        assert self.offset is not None
        assert self.data_offset is not None
        return self.offset, self.data_offset + self.size + padding_size(self.size)


class Plan:
    """An archive's members in order, and the places of their bytes."""

    def __init__(self, document: dict[str, Any]) -> None:
        """Check a document that was read. Raise `BrokenArchive`."""
        self.filename: str = _named(document.get("filename"))
        self.format: str = document["format"]
        self.size: int | None = _number(document["size"], "size") if document["size"] else None
        self.etag: str | None = _text(document["etag"])
        self.link: str | None = _text(document["link"])
        self.members: Sequence[Planned] = document["members"]
        self.missing: list[str] = [str(each.get("name")) for each in document["missing"]]
        _check_names(self.members)
        if self.is_tar:
            self._check_places()
            self._starts = [member.span[0] for member in self.members]

    @property
    def is_tar(self) -> bool:
        """Whether it is a tar that is not compressed, so that its bytes have known places."""
        return self.format == "tar"

    @property
    def end(self) -> int:
        """The first byte behind a tar's members."""
        return self.members[-1].span[1] if self.members else 0

    def index_at(self, position: int) -> int:
        """Return which member of a tar a byte belongs to; the number of members for the end."""
        if position >= self.end:
            return len(self.members)
        return bisect_right(self._starts, position) - 1

    def changes(self, other: "Plan") -> list[str]:
        """Return the names of members that are others in another plan, or are in one only."""
        mine, theirs = ({m.name: _version(m) for m in plan.members} for plan in (self, other))
        return [name for name in mine | theirs if mine.get(name) != theirs.get(name)]

    def digests(self) -> Iterator[str]:
        """Return a short digest of each member's name and version."""
        for member in self.members:
            yield sha256(repr((member.name, _version(member))).encode()).hexdigest()[:16]

    def _check_places(self) -> None:
        position = 0
        for member in self.members:
            if member.offset != position or member.data_offset is None:
                raise BrokenArchive(f"the plan's offset of {shown(member.name)} is wrong")
            before = member.data_offset - position
            if before % BLOCK or not BLOCK <= before <= _LONGEST_HEADER:
                raise BrokenArchive(f"the plan's data offset of {shown(member.name)} is wrong")
            if member.is_directory and member.size:
                raise BrokenArchive(f"the directory {shown(member.name)} has a size in the plan")
            position = member.span[1]
        if self.size is None or self.size % BLOCK or self.size < position + 2 * BLOCK:
            raise BrokenArchive("the plan's size is not that of its members")


def read_plan(data: bytes) -> Plan:
    """Read a plan. Raise `ValueError` for what is none, or was cut off; `BrokenArchive`."""
    document = json.loads(data, object_pairs_hook=_object)
    if not isinstance(document, dict):
        raise ValueError("not an object")  # noqa: TRY004
    absent = {"filename", "format", "size", "etag", "link", "members", "missing"} - set(document)
    if absent:
        raise ValueError(f"without {', '.join(sorted(absent))}")
    if not isinstance(document["members"], list) or not isinstance(document["missing"], list):
        raise ValueError("members are not a list")  # noqa: TRY004
    if document["format"] not in {*FORMATS, "tar.gz", "tar.zst"}:
        raise ValueError("of an unknown format")
    if not all(isinstance(member, Planned) for member in document["members"]):
        raise BrokenArchive("the plan has a member without name, size and mtime")
    if not all(isinstance(each, dict) for each in document["missing"]):
        raise BrokenArchive("the plan names what is missing without a name")
    return Plan(document)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any] | Planned:
    """Keep a member as the few values that matter: a dictionary takes ten times as much."""
    values = dict(pairs)
    if not {"name", "size", "mtime"} <= set(values):
        return values
    name = values["name"]
    if not isinstance(name, str):
        raise BrokenArchive("the plan has a member whose name is not a text")
    return Planned(
        name,
        _number(values["size"], "size"),
        _number(values["mtime"], "mtime"),
        _offset(values.get("offset")),
        _offset(values.get("data_offset")),
        _text(values.get("validator")),
    )


def _number(value: object, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _LARGEST:
        raise BrokenArchive(f"the plan has a {what} that is no number of its kind")
    return value


def _offset(value: object) -> int | None:
    return None if value is None else _number(value, "offset")


def _text(value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise BrokenArchive("the plan has a text that is none")
    return value


def _named(value: object) -> str:
    if not isinstance(value, str):
        raise BrokenArchive("the plan has no file name")
    try:
        archive_filename(value)
    except BadName as error:
        raise BrokenArchive(f"the plan's file name {shown(value)} {error}") from error
    return value


def _check_names(members: Iterable[Planned]) -> None:
    names = []
    for member in members:
        try:
            check_name(member.name.removesuffix("/"))
        except BadName as error:
            raise BrokenArchive(f"the member {shown(member.name)} {error}") from error
        if member.name.lower().startswith(OWN_PREFIX):
            raise BrokenArchive(f"the member {shown(member.name)} has a name of our own state")
        names.append(member.name)
    check_side_by_side(names)


def check_side_by_side(names: Sequence[str], *, strict: bool = False) -> None:
    """Refuse names that can't lie side by side: as ``STRICT_NAMES`` does, if ``strict``."""
    try:
        check_apart(names, strict=strict)
    except BadName as error:
        raise BrokenArchive(f"the archive can't be unpacked here: {error}") from error


def _version(member: Planned) -> tuple[object, ...]:
    return member.size, member.mtime, member.validator

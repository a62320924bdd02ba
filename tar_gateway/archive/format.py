"""What an archive is made of, whatever its format: members, segments, and what a format says.

The formats are alternatives of one protocol, each in a file of its own. Pure.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal as OneOf
from typing import Protocol, TypeAlias

from tar_gateway.http.validators import Validator

Kind: TypeAlias = OneOf["crc32", "sha256"]
"""A checksum as an archive writes it: four bytes, the lowest first, or 64 hexadecimal digits."""

WIDTH: dict[Kind, int] = {"crc32": 4, "sha256": 64}
"""How many bytes of an archive a checksum takes."""


Coding: TypeAlias = OneOf["gzip", "zstd"]
"""What compresses a whole archive. No two releases of one need to make the same bytes."""


class Generated(Protocol):
    """The content of a member that the archive makes of the checksums of others."""

    size: int
    """Its length in bytes."""

    def cut(self, start: int, stop: int) -> "Iterator[Segment]":
        """Return its bytes ``start`` to ``stop``: literals and checksums."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file of an archive.

    ``name`` is what it is called there, with a slash at the end of a directory's; ``size`` in
    bytes; ``mtime`` in seconds since 1970 (0 where unknown). ``data`` is what a `TarStream`
    gives as its bytes and means nothing to the layout; ``validator`` proves two fetches of the
    member to be of one version; ``checksum`` is the CRC-32 of its bytes where the source tells it.
    ``literal`` is the whole of a member that is the archive's own, and ``generated`` is that of one
    that is made of the others.
    """

    name: str
    size: int
    mtime: int = 0
    data: object = field(default=None, repr=False)
    validator: Validator | None = None
    checksum: int | None = None
    literal: bytes | None = field(default=None, repr=False)
    generated: Generated | None = field(default=None, repr=False)

    @property
    def is_directory(self) -> bool:
        """Whether this is a directory, which has no bytes and is always the same."""
        return self.name.endswith("/")

    @property
    def is_own(self) -> bool:
        """Whether its bytes are the archive's own, and come from no source."""
        return self.literal is not None or self.generated is not None


class Blocks(Protocol):
    """What a format writes between the bytes of a member."""

    def between(self, start: int, stop: int) -> int:
        """Return how many bytes it writes between the member's bytes ``start`` and ``stop``."""

    def after(self, position: int) -> int:
        """Return where the next block begins behind a member's byte ``position``."""

    def before(self, position: int) -> bytes:
        """Return what stands before the block that begins at a member's byte ``position``."""

    def written(self, start: int, data: bytes, *, is_begun: bool) -> bytes:
        """Return the member's bytes from ``start`` on with what is written before and in them.

        Where ``is_begun``, what stands before the byte ``start`` is written already.
        """


@dataclass(frozen=True, slots=True)
class Literal:
    """A run of bytes that belong to the archive itself: headers, padding, trailer."""

    data: bytes

    def __len__(self) -> int:
        return len(self.data)


@dataclass(frozen=True, slots=True)
class Borrowed:
    """Bytes ``start`` to ``stop`` of the member with this ``index``, and what ``blocks`` adds.

    Before the byte ``start`` itself nothing is added: it is a literal of its own.
    """

    index: int
    start: int
    stop: int
    blocks: Blocks | None = None

    def __len__(self) -> int:
        count = self.stop - self.start
        return count if self.blocks is None else count + self.blocks.between(self.start, self.stop)


@dataclass(frozen=True, slots=True)
class Checksum:
    """Bytes ``start`` to ``stop`` of a checksum of the member with this ``index``.

    Their number is known; their values are told, or known once the member has been read.
    """

    index: int
    kind: Kind = "crc32"
    start: int = 0
    stop: int = 4

    def __len__(self) -> int:
        return self.stop - self.start


Segment: TypeAlias = Literal | Borrowed | Checksum


def bytes_of(
    index: int, member: Member, start: int, stop: int, blocks: Blocks | None = None
) -> Iterator[Segment]:
    """Return bytes ``start`` to ``stop`` of a member: borrowed, unless they are the archive's."""
    if not member.is_own:
        yield Borrowed(index, start, stop, blocks)
        return
    while start < stop:
        end = stop if blocks is None else min(stop, blocks.after(start))
        if member.generated is not None:
            yield from member.generated.cut(start, end)
        elif member.literal is not None:
            yield Literal(member.literal[start:end])
        if blocks is not None and end < stop:
            yield Literal(blocks.before(end))
        start = end


class Format(Protocol):
    """How members become bytes. Same members, same bytes: no clock, no process, no locale."""

    @property
    def name(self) -> str:
        """What requests call it; begins the opaque text of an ETag."""

    @property
    def suffix(self) -> str:
        """What a file's name ends with."""

    @property
    def media_type(self) -> str:
        """What a response is said to be."""

    @property
    def coding(self) -> Coding | None:
        """What the archive is compressed by; its length is not known beforehand then."""

    @property
    def has_checksums(self) -> bool:
        """Whether bytes of the archive depend on the bytes of members elsewhere in it."""

    def version(self, members: Sequence[Member]) -> int:
        """Return the version of the layout of these: another one where the bytes are others."""

    def size(self, member: Member) -> int:
        """Return how many bytes a member takes, with what stands before and behind it."""

    def data_start(self, member: Member) -> int | None:
        """Return how many bytes stand before a member's data, `None` where it is in no one run."""

    def cut(self, index: int, member: Member, start: int, stop: int) -> Iterator[Segment]:
        """Return bytes ``start`` to ``stop`` of what a member takes, as far as there are any."""

    def end_size(self, members: Sequence[Member], starts: Sequence[int]) -> int:
        """Return how many bytes end the archive.

        ``starts`` are the offsets of the members, and last of the end.
        """

    def end(
        self, members: Sequence[Member], starts: Sequence[int], start: int, stop: int
    ) -> Iterator[Segment]:
        """Return bytes ``start`` to ``stop`` of what ends the archive."""


def clipped(segments: Iterable[Segment], start: int, stop: int) -> Iterator[Segment]:
    """Cut bytes ``start`` to ``stop`` out of literals and checksums in a row."""
    position = 0
    for segment in segments:
        length = len(segment)
        first, last = max(start - position, 0), min(stop - position, length)
        position += length
        if first < last:
            match segment:
                case Literal(data=data):
                    yield Literal(data[first:last])
                case Checksum(index=index, kind=kind, start=before):
                    yield Checksum(index, kind, before + first, before + last)
        if position >= stop:
            return


def written_name(name: str) -> str:
    """Return a name as it is written: behind ``./`` where it begins with a letter and a colon.

    bsdtar takes these for a drive and leaves them out, on every system, and so would a program on
    Windows: ``Q: notes.txt`` would be unpacked as `` notes.txt``.
    """
    is_drive = name[1:2] == ":" and name[0].isascii() and name[0].isalpha()
    return f"./{name}" if is_drive else name

"""The archive as offsets: where every header, body, padding and trailer byte stands.

Known from names, sizes and dates alone, before the first byte of any member. Pure: this file
knows nothing of requests, sources or servers, and does no IO.
"""

import hashlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from tar_gateway.archive import tar
from tar_gateway.http.validators import Validator

# Part of every ETag. Raise it whenever the same members would give other bytes. Archives whose
# bytes version 2 left as they were keep the one before, so that their downloads can be resumed.
LAYOUT_VERSION = 2

# Begins every ETag's opaque text, so that a condition on an archive is known as one.
ETAG_PREFIX = "tar-"


@dataclass(frozen=True, slots=True)
class Member:
    """One file of an archive.

    ``name`` is what it is called there, with a slash at the end of a directory's; ``size`` in
    bytes; ``mtime`` in seconds since 1970 (0 where unknown). ``data`` is what a `TarStream`
    gives as its bytes and means nothing to the layout; ``validator`` proves two fetches of the
    member to be of one version. ``literal`` is the whole of a member that is the archive's own.
    """

    name: str
    size: int
    mtime: int = 0
    data: object = field(default=None, repr=False)
    validator: Validator | None = None
    literal: bytes | None = field(default=None, repr=False)

    @property
    def is_directory(self) -> bool:
        """Whether this is a directory, which has no bytes and is always the same."""
        return self.name.endswith("/")


@dataclass(frozen=True, slots=True)
class Literal:
    """A run of bytes that belong to the archive itself: headers, padding, trailer."""

    data: bytes

    def __len__(self) -> int:
        return len(self.data)


@dataclass(frozen=True, slots=True)
class Borrowed:
    """Bytes ``start`` to ``stop`` of the member with this ``index``."""

    index: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


Segment = Literal | Borrowed


class Layout:
    """Members in order, and the place of each byte of the archive that they make."""

    __slots__ = ("__dict__", "_starts", "members", "size")

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = tuple(members)
        # Where each member's header starts, and at the end where the trailer does: 8 bytes a
        # member, so that a hundred thousand of them stay small.
        self._starts = array("Q", [0])
        position = 0
        for member in self.members:
            position += (
                tar.header_size(member.name, member.size, member.mtime)
                + member.size
                + tar.padding_size(member.size)
            )
            self._starts.append(position)
        self.size: int = position + tar.trailer_size(position)
        """Length of the whole archive in bytes: always a multiple of 10,240."""

    @cached_property
    def etag(self) -> Validator:
        """The archive's entity tag (RFC 9110 8.8.3): weak unless every validator is strong."""
        is_new = any(tar.is_in_utf8(member.name) for member in self.members)
        version = LAYOUT_VERSION if is_new else LAYOUT_VERSION - 1
        digest = hashlib.sha256(b"tar_gateway %d\n" % version)
        strong = True
        for member in self.members:
            validator = member.validator
            strong = strong and (
                member.is_directory or (validator is not None and validator.strong)
            )
            for text in (
                member.name,
                str(member.size),
                str(member.mtime),
                validator.text if validator else "",
            ):
                raw = text.encode("utf-8")
                digest.update(b"%d:" % len(raw) + raw)
        return Validator.etag(ETAG_PREFIX + digest.hexdigest()[:40], strong=strong)

    @property
    def mtime(self) -> int:
        """The newest member's date, in seconds since 1970; 0 unless every member has one.

        Of a member without a date nobody can say that it has not changed since some other.
        """
        dates = [member.mtime for member in self.members if not member.is_directory]
        return max(dates) if dates and all(dates) else 0

    def slice(self, start: int, stop: int) -> Iterator[Segment]:
        """Return the segments that make bytes ``start`` to ``stop`` of the archive, in order.

        Raise `ValueError` for a slice that does not lie in ``0 <= start <= stop <= size``.
        """
        if not 0 <= start <= stop <= self.size:
            raise ValueError(f"{start}-{stop} does not lie in an archive of {self.size} bytes")
        return _joined(self._cut(start, stop))

    def count(self, start: int, stop: int) -> int:
        """Return how many members bytes ``start`` to ``stop`` of the archive have a part of."""
        first = bisect_right(self._starts, start) - 1
        return max(0, min(bisect_left(self._starts, stop), len(self.members)) - first)

    def _cut(self, start: int, stop: int) -> Iterator[Segment]:
        first = bisect_right(self._starts, start) - 1
        for index in range(first, len(self.members)):
            offset = self._starts[index]
            if offset >= stop:
                return
            yield from self._cut_member(index, start - offset, stop - offset)
        trailer = self._starts[-1]
        if stop > trailer:
            yield Literal(bytes(stop - max(start, trailer)))

    def _cut_member(self, index: int, start: int, stop: int) -> Iterator[Segment]:
        """Cut one member's blocks; ``start`` and ``stop`` count from its header."""
        member = self.members[index]
        entry = self._starts[index + 1] - self._starts[index]
        body = entry - member.size - tar.padding_size(member.size)
        data_end = body + member.size
        start = max(start, 0)
        if start < body:
            made = tar.header(member.name, member.size, member.mtime)
            yield Literal(made[start : min(stop, body)])
        if start < data_end and stop > body:
            first, last = max(start, body) - body, min(stop, data_end) - body
            if member.literal is None:
                yield Borrowed(index, first, last)
            else:
                yield Literal(member.literal[first:last])
        if stop > data_end:
            yield Literal(bytes(min(stop, entry) - max(start, data_end)))


def _joined(segments: Iterator[Segment]) -> Iterator[Segment]:
    """Join neighbouring literals and drop empty segments.

    One padding and the next header are one write; a bounded number of literals is joined, so
    that a hundred thousand empty members do not become one block.
    """
    pending: list[bytes] = []
    length = 0
    for segment in segments:
        if not len(segment):
            continue
        if isinstance(segment, Borrowed):
            if pending:
                yield Literal(b"".join(pending))
                pending, length = [], 0
            yield segment
            continue
        pending.append(segment.data)
        length += len(segment.data)
        if length >= 64 * 1024:
            yield Literal(b"".join(pending))
            pending, length = [], 0
    if pending:
        yield Literal(b"".join(pending))

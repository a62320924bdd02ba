"""The archive as offsets: where every header, body, padding and trailer byte stands.

Known from names, sizes and dates alone, before the first byte of any member. Pure: this file
knows nothing of requests, sources or servers, and does no IO.
"""

import hashlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property

from tar_gateway.archive.format import Borrowed, Checksum, Format, Literal, Member, Segment
from tar_gateway.archive.tar import TAR
from tar_gateway.http.validators import Validator


class Layout:
    """Members in order, and the place of each byte of the archive that they make."""

    __slots__ = ("__dict__", "_starts", "format", "members", "size")

    def __init__(self, members: Sequence[Member], format: Format = TAR) -> None:
        self.members = tuple(members)
        self.format = format
        # Where each member's header starts, and at the end where the archive's end does: 8 bytes
        # a member, so that a hundred thousand of them stay small.
        self._starts = array("Q", [0])
        position = 0
        for member in self.members:
            position += format.size(member)
            self._starts.append(position)
        self.size: int = position + format.end_size(self.members, self._starts)
        """Length of the whole archive in bytes."""

    def is_version(self, text: str, formats: Mapping[str, Format]) -> bool:
        """Return whether this is the opaque text of the members' tag, in whatever format.

        So a version that was seen of one is a condition for another as well.
        """
        name = text.rpartition("-")[0]
        if name == self.format.name or name not in formats:
            return text == self.etag.opaque
        return text == Layout(self.members, formats[name]).etag.opaque

    @cached_property
    def etag(self) -> Validator:
        """The archive's entity tag (RFC 9110 8.8.3): weak unless every validator is strong."""
        digest = hashlib.sha256(b"tar_gateway %d\n" % self.format.version(self.members))
        strong = True
        for member in self.members:
            validator = member.validator
            strong = strong and (
                member.is_directory or (validator is not None and validator.strong)
            )
            texts = [
                member.name,
                str(member.size),
                str(member.mtime),
                validator.text if validator else "",
            ]
            if self.format.has_checksums and not member.is_own:  # those told are among the bytes
                texts.append("" if member.checksum is None else str(member.checksum))
            for text in texts:
                raw = text.encode("utf-8")
                digest.update(b"%d:" % len(raw) + raw)
        return Validator.etag(f"{self.format.name}-{digest.hexdigest()[:40]}", strong=strong)

    @cached_property
    def has_checksums(self) -> bool:
        """Whether bytes of the archive are computed of members elsewhere in it."""
        return self.format.has_checksums or self.digests is not None

    @property
    def digests(self) -> int | None:
        """The index of the member that lists the others' digests, `None` where there is none."""
        last = len(self.members) - 1
        return last if self.members and self.members[last].generated is not None else None

    @cached_property
    def is_told(self) -> bool:
        """Whether every byte that is not a member's own is known before a member is read."""
        return not self.has_checksums or not any(map(self._is_unread, self.members))

    def _is_unread(self, member: Member) -> bool:
        """Return whether a member has to be read for a checksum of it."""
        if member.is_own or not member.size:
            return False
        return member.checksum is None or self.digests is not None

    def takes_ranges(self, limit: int) -> bool:
        """Return whether parts of the archive are made, which can be put to other parts.

        Where checksums are not told, all members have to be read for those at its end. ``limit``
        is how many bytes may be.
        """
        if self.format.coding is not None or not self.etag.strong:
            return False
        if self.is_told:
            return True
        return self._borrowed_size <= limit

    @cached_property
    def _borrowed_size(self) -> int:
        return sum(member.size for member in self.members if not member.is_own)

    def unread(self, start: int, stop: int) -> list[int]:
        """Return the members whose checksums bytes ``start`` to ``stop`` need, and do not bring.

        So those of which a part, or all, stands before ``start``. In the order of need.
        """
        if not start or self.is_told:
            return []
        first = bisect_right(self._starts, start) - 1
        found: set[int] = set()
        passing = first + 1  # from which member on all bytes are there
        for index in dict.fromkeys((first, len(self.members) - 1)):
            for segment in self._cut_member(index, start, stop):
                if isinstance(segment, Borrowed) and index == first and not segment.start:
                    passing = first
                elif isinstance(segment, Checksum):
                    found.update(self._needs(segment))
        for segment in self._cut_end(start, stop):
            if isinstance(segment, Checksum):
                found.update(self._needs(segment))
        # What stands behind the member that they begin in is needed before all else.
        return sorted(
            (each for each in found if each < passing), key=lambda each: (each != first, each)
        )

    def _needs(self, checksum: Checksum) -> Iterable[int]:
        """Return the members that have to be read for a checksum."""
        index, member = checksum.index, self.members[checksum.index]
        if member.generated is not None:
            return (each for each, listed in enumerate(self.members) if self._is_unread(listed))
        is_told = checksum.kind == "crc32" and member.checksum is not None
        return () if is_told or not self._is_unread(member) else (index,)

    @property
    def mtime(self) -> int:
        """The newest member's date, in seconds since 1970; 0 unless every member has one.

        Of a member without a date nobody can say that it has not changed since some other.
        """
        dates = [
            member.mtime
            for member in self.members
            if not (member.is_directory or member.generated is not None)
        ]
        return max(dates) if dates and all(dates) else 0

    def place(self, index: int) -> tuple[int | None, int | None]:
        """Return the offsets of a member's first header byte and of its first byte of data.

        The latter is `None` where the format does not write the data in one run, and both are
        where it compresses the archive.
        """
        if self.format.coding is not None:
            return None, None
        offset, before = self._starts[index], self.format.data_start(self.members[index])
        return offset, None if before is None else offset + before

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
            if self._starts[index] >= stop:
                return
            yield from self._cut_member(index, start, stop)
        yield from self._cut_end(start, stop)

    def _cut_member(self, index: int, start: int, stop: int) -> Iterator[Segment]:
        """Cut what bytes ``start`` to ``stop`` of the archive have of one member, if anything."""
        if not 0 <= index < len(self.members):
            return
        offset = self._starts[index]
        first, last = max(start - offset, 0), min(stop, self._starts[index + 1]) - offset
        if first < last:
            yield from self.format.cut(index, self.members[index], first, last)

    def _cut_end(self, start: int, stop: int) -> Iterator[Segment]:
        end = self._starts[-1]
        if stop > end:
            yield from self.format.end(self.members, self._starts, max(start - end, 0), stop - end)


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
        if not isinstance(segment, Literal):
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

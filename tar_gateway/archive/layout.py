"""The archive as offsets: where every header, body, padding and trailer byte stands.

Known from names, sizes and dates alone, before the first byte of any member. Pure: this file
knows nothing of requests, sources or servers, and does no IO.
"""

import hashlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property

from tar_gateway.archive.format import Format, Literal, Member, Segment
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
            if self.format.has_checksums:  # those that are told are among the bytes
                texts.append("" if member.checksum is None else str(member.checksum))
            for text in texts:
                raw = text.encode("utf-8")
                digest.update(b"%d:" % len(raw) + raw)
        return Validator.etag(f"{self.format.name}-{digest.hexdigest()[:40]}", strong=strong)

    @cached_property
    def takes_ranges(self) -> bool:
        """Whether any part can be made without reading other members, and put to other parts."""
        return self.etag.strong and self.is_told

    @cached_property
    def is_told(self) -> bool:
        """Whether every byte that is not a member's own is known before a member is read."""
        return not self.format.has_checksums or all(
            member.checksum is not None or not member.size for member in self.members
        )

    @property
    def mtime(self) -> int:
        """The newest member's date, in seconds since 1970; 0 unless every member has one.

        Of a member without a date nobody can say that it has not changed since some other.
        """
        dates = [member.mtime for member in self.members if not member.is_directory]
        return max(dates) if dates and all(dates) else 0

    def place(self, index: int) -> tuple[int, int | None]:
        """Return the offsets of a member's first header byte and of its first byte of data.

        The latter is `None` where the format does not write the data in one run.
        """
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
            offset = self._starts[index]
            if offset >= stop:
                return
            entry = self._starts[index + 1] - offset
            first_byte, last_byte = max(start - offset, 0), min(stop - offset, entry)
            yield from self.format.cut(index, self.members[index], first_byte, last_byte)
        end = self._starts[-1]
        if stop > end:
            cut = (max(start - end, 0), stop - end)
            yield from self.format.end(self.members, self._starts, *cut)


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

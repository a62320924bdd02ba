"""The checksums of an archive's members, computed while their bytes pass, or read for them again.

Which of them an archive has, its layout says: the CRC-32 of a zip, and the digests of a list.
"""

from array import array
from collections.abc import Callable, Generator
from contextlib import closing
from hashlib import sha256
from importlib import import_module
from typing import Protocol, Self, cast
from zlib import crc32 as library_crc32

from tar_gateway.archive.format import Borrowed, Checksum, Literal
from tar_gateway.archive.layout import Layout
from tar_gateway.errors import SourceError

Crc32 = Callable[[bytes, int], int]


def _fastest() -> Crc32:
    """Return the fastest CRC-32 that is installed: isal's, zlib-ng's, or the standard library's."""
    for name in ("isal.isal_zlib", "zlib_ng.zlib_ng"):
        try:
            return cast(Crc32, import_module(name).crc32)
        except ImportError:
            continue
    return library_crc32


crc32 = _fastest()

IS_FAST = crc32 is not library_crc32
"""Whether a CRC-32 costs so little that it is computed even where no archive needs it."""


class Passed(Protocol):
    """Is told the checksums of a member that has passed, `None` for one that was not computed."""

    def __call__(self, index: int, crc: int | None, digest: bytes | None) -> None:
        """Take note."""


class Again(Protocol):
    """Reads members again whose checksums are needed and did not pass."""

    def would_wait(self, index: int) -> bool:
        """Return whether a member's checksums are not known yet."""

    def wait(self, index: int) -> None:
        """Return once they are known. Raise `BrokenOff` or `Cancelled`."""

    def close(self) -> None:
        """Read nothing more. May be called again, and from any thread."""


class Table:
    """The checksums of an archive's members as far as they are known: 5 bytes each, or 37.

    One thread may set a member's while others look.
    """

    def __init__(self, count: int, *, has_digests: bool) -> None:
        self._known = bytearray(count)
        self._crcs = array("I", bytes(4 * count))
        self._digests = bytearray(32 * count if has_digests else 0)

    def set(self, index: int, crc: int | None, digest: bytes | None) -> None:
        """Keep what is known of a member: all that the archive has of it."""
        if crc is not None:
            self._crcs[index] = crc
        if digest is not None and self._digests:
            self._digests[32 * index : 32 * index + 32] = digest
        self._known[index] = 1  # only now, for those who look meanwhile

    def has(self, index: int) -> bool:
        """Return whether a member's checksums are known."""
        return self._known[index] == 1

    def copy(self, index: int, other: Self) -> None:
        """Take over what another table has of the same member."""
        digest = other.digest(index) if other._digests else None
        self.set(index, other.crc(index), digest)

    def crc(self, index: int) -> int:
        """Return a CRC-32 that is known."""
        return self._crcs[index]

    def digest(self, index: int) -> bytes:
        """Return a SHA-256 that is known."""
        return bytes(self._digests[32 * index : 32 * index + 32])


class Checksums:
    """The checksums of one pass over an archive's bytes, or a part of them.

    What has passed is kept in ``table``, and ``passed`` is told of it. What has not is waited for
    from ``again``. ``crc`` and ``digest`` say what is computed where that is not what the archive
    has; ``is_checked`` says so of whether it is held to what was told.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        table: Table | None = None,
        passed: Passed | None = None,
        again: Again | None = None,
        crc: bool | None = None,
        digest: bool | None = None,
        is_checked: bool | None = None,
    ) -> None:
        self._layout = layout
        self._members = layout.members
        self._has_crc = layout.format.has_checksums if crc is None else crc
        self._has_digest = layout.digests is not None if digest is None else digest
        self._is_checked = layout.format.has_checksums if is_checked is None else is_checked
        self._table = table or table_of(layout)
        self._passed = passed
        self._again = again
        self._of_list: int | None = None

    def passing(
        self, segment: Borrowed, blocks: Generator[bytes | None, None, None]
    ) -> Generator[bytes | None, None, None]:
        """Return a segment's bytes as they are written, of those of the member.

        Raise `SourceError` at the end of a whole member whose bytes contradict what was told.
        """
        member = self._members[segment.index]
        is_whole = segment.start == 0 and segment.stop == member.size
        has_crc = is_whole and self._has_crc
        digest = sha256() if is_whole and self._has_digest else None
        position, crc, writes = segment.start, 0, segment.blocks
        with closing(blocks):
            for block in blocks:
                if block is None:
                    yield None
                    continue
                if has_crc:
                    crc = crc32(block, crc)
                if digest is not None:
                    digest.update(block)
                start, position = position, position + len(block)
                is_begun = start == segment.start
                yield writes.written(start, block, is_begun=is_begun) if writes else block
                del block  # not held while the next one is read
        if has_crc and self._is_checked and member.checksum not in {None, crc}:
            raise SourceError(f"its CRC-32 is {crc:08x}, and {member.checksum:08x} was told of it")
        if is_whole:
            self._note(segment.index, crc if has_crc else None, digest.digest() if digest else None)

    def _note(self, index: int, crc: int | None, digest: bytes | None) -> None:
        if self._layout.has_checksums:
            self._table.set(index, crc, digest)
        if self._passed is not None:
            self._passed(index, crc, digest)

    def would_wait(self, checksum: Checksum) -> bool:
        """Return whether a member is being read again for a checksum."""
        member = self._members[checksum.index]
        if member.is_own or (checksum.kind == "crc32" and member.checksum is not None):
            return False
        return self._again is not None and self._again.would_wait(checksum.index)

    def value(self, checksum: Checksum) -> bytes:
        """Return a checksum's bytes, once they are known. Raise `BrokenOff` or `Cancelled`.

        Of a member that was not told of, it has passed before or is being read again.
        """
        value = self._digest(checksum) if checksum.kind == "sha256" else self._crc(checksum)
        return value[checksum.start : checksum.stop]

    def close(self) -> None:
        """Read nothing again any more. May be called again, and from any thread."""
        if self._again is not None:
            self._again.close()

    def _digest(self, checksum: Checksum) -> bytes:
        self._wait(checksum.index)
        return self._table.digest(checksum.index).hex().encode("ascii")

    def _crc(self, checksum: Checksum) -> bytes:
        member = self._members[checksum.index]
        if member.generated is not None:
            value = self._crc_of_list()
        elif member.checksum is not None:
            value = member.checksum
        else:
            self._wait(checksum.index)
            value = self._table.crc(checksum.index)
        return value.to_bytes(4, "little")

    def _crc_of_list(self) -> int:
        """Return the CRC-32 of the list of digests, whose bytes may not have been asked for."""
        if self._of_list is None:
            crc, content = 0, self._members[-1].generated
            assert content is not None
            for segment in content.cut(0, content.size):
                match segment:
                    case Literal(data=data):
                        crc = crc32(data, crc)
                    case Checksum():
                        crc = crc32(self.value(segment), crc)
            self._of_list = crc
        return self._of_list

    def _wait(self, index: int) -> None:
        if self._again is not None and not self._table.has(index):
            self._again.wait(index)
        # The layout and what is read again are held to each other, so this cannot be.
        assert self._table.has(index), "a checksum is needed before its member has passed"


def table_of(layout: Layout) -> Table:
    """Return an empty table for an archive."""
    count = len(layout.members) if layout.has_checksums else 0
    return Table(count, has_digests=layout.digests is not None)

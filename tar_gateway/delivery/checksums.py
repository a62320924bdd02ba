"""The CRC-32 of members, computed while their bytes pass, for formats that write it."""

from array import array
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from importlib import import_module
from typing import cast

from tar_gateway.archive.format import Borrowed, Checksum, Member
from tar_gateway.errors import SourceError

Crc32 = Callable[[bytes, int], int]


def _fastest() -> Crc32:
    """Return the fastest CRC-32 that is installed: isal's, zlib-ng's, or the standard library's."""
    for name in ("isal.isal_zlib", "zlib_ng.zlib_ng"):
        try:
            return cast(Crc32, import_module(name).crc32)
        except ImportError:
            continue
    return cast(Crc32, import_module("zlib").crc32)


crc32 = _fastest()


class Checksums:
    """What is known of the members' checksums: told beforehand, or computed by `passing`."""

    def __init__(self, members: Sequence[Member]) -> None:
        self._members = members
        self._computed = array("I", bytes(4 * len(members)))

    def passing(
        self, segment: Borrowed, blocks: Generator[bytes | None, None, None]
    ) -> Generator[bytes | None, None, None]:
        """Return a segment's bytes as they are written, of those of the member.

        Raise `SourceError` at the end of a whole member whose bytes contradict what was told.
        """
        position, computed = segment.start, 0
        with closing(blocks):
            for block in blocks:
                if block is None:
                    yield None
                    continue
                computed = crc32(block, computed)
                start, position = position, position + len(block)
                is_begun = start == segment.start
                blocks_of = segment.blocks
                yield blocks_of.written(start, block, is_begun=is_begun) if blocks_of else block
                del block  # not held while the next one is read
        member = self._members[segment.index]
        if segment.start > 0 or segment.stop < member.size:
            return
        if member.checksum not in {None, computed}:
            raise SourceError(
                f"its CRC-32 is {computed:08x}, and {member.checksum:08x} was told of it"
            )
        self._computed[segment.index] = computed

    def value(self, segment: Checksum) -> bytes:
        """Return a checksum's bytes. Where none was told, the whole member has passed before."""
        told = self._members[segment.index].checksum
        value = self._computed[segment.index] if told is None else told
        return value.to_bytes(4, "little")[segment.start : segment.stop]

"""The content of SHA256SUMS, as ``sha256sum -c`` reads it: a line for each file of an archive.

How long each line is follows from the names alone. Pure.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256

from tar_gateway.archive.format import WIDTH, Checksum, Literal, Segment, clipped, written_name

_EMPTY = sha256(b"").hexdigest().encode("ascii")


class Sums:
    """Lines of the SHA-256 and the name of each member that is no directory.

    ``names`` are those of all members before, in order, and begin with ``folder``, which the lines
    leave out: they are read where the list itself stands. ``literals`` are the members whose bytes
    are known, by their indexes.
    """

    def __init__(self, names: Sequence[str], folder: str, literals: Mapping[int, bytes]) -> None:
        self._names = names
        self._folder = folder
        self._literals = literals
        self._starts = array("Q", [0])
        for name in names:
            length = 0 if name.endswith("/") else WIDTH["sha256"] + len(self._behind(name))
            self._starts.append(self._starts[-1] + length)
        self.size: int = self._starts[-1]

    def cut(self, start: int, stop: int) -> Iterator[Segment]:
        """Return bytes ``start`` to ``stop`` of the lines."""
        first = max(0, bisect_right(self._starts, start) - 1)
        for index in range(first, len(self._names)):
            begin = self._starts[index]
            if begin >= stop:
                return
            if begin < self._starts[index + 1]:
                yield from clipped(self._line(index), max(start - begin, 0), stop - begin)

    def _line(self, index: int) -> Iterator[Segment]:
        known = self._literals.get(index)
        if known is None:
            yield Checksum(index, "sha256", 0, WIDTH["sha256"])
        else:
            yield Literal(sha256(known).hexdigest().encode("ascii") if known else _EMPTY)
        yield Literal(self._behind(self._names[index]))

    def _behind(self, name: str) -> bytes:
        """Return what stands behind a checksum. No name has anything that is to be escaped."""
        return f"  {written_name(name.removeprefix(self._folder))}\n".encode()

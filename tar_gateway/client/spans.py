"""Which bytes are there: spans that do not touch, and what is missing between them. Pure."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator

Span = tuple[int, int]
"""The first byte, and the first one behind the last."""


class Spans:
    """A set of bytes, as few spans as it takes, in order."""

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        self._spans: list[Span] = []
        for start, stop in spans:
            self.add(start, stop)

    def __iter__(self) -> Iterator[Span]:
        return iter(self._spans)

    def __len__(self) -> int:
        return sum(stop - start for start, stop in self._spans)

    def add(self, start: int, stop: int) -> None:
        """Add bytes ``start`` to ``stop``, which may be there already."""
        if start >= stop:
            return
        first = bisect_left(self._spans, start, key=lambda span: span[1])
        last = first
        while last < len(self._spans) and self._spans[last][0] <= stop:
            start, stop = min(start, self._spans[last][0]), max(stop, self._spans[last][1])
            last += 1
        self._spans[first:last] = [(start, stop)]

    def remove(self, start: int, stop: int) -> None:
        """Remove bytes ``start`` to ``stop``."""
        kept: list[Span] = []
        for first, last in self._spans:
            kept += [(first, min(last, start)), (max(first, stop), last)]
        self._spans = [(first, last) for first, last in kept if first < last]

    def within(self, start: int, stop: int) -> Iterator[Span]:
        """Return what is there of bytes ``start`` to ``stop``."""
        first = bisect_left(self._spans, start + 1, key=lambda span: span[1])
        for index in range(first, len(self._spans)):
            begin, end = self._spans[index]
            if begin >= stop:
                return
            yield max(begin, start), min(end, stop)

    def missing(self, start: int, stop: int) -> Iterator[Span]:
        """Return what is not there of bytes ``start`` to ``stop``."""
        position = start
        for begin, end in self.within(start, stop):
            if position < begin:
                yield position, begin
            position = end
        if position < stop:
            yield position, stop

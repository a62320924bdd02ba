"""Which bytes of an archive have arrived, and which members are complete by that."""

from collections.abc import Iterable
from threading import Lock

from tar_gateway.client.plan import Plan
from tar_gateway.client.spans import Span, Spans


class Ledger:
    """Told of every byte once. Safe for threads. Without a plan's places it knows no members."""

    def __init__(self, plan: Plan | None, there: Spans) -> None:
        self._plan = plan if plan is not None and plan.is_tar else None
        self._spans = there
        self._left: dict[int, int] = {}
        self._lock = Lock()
        if self._plan is not None:
            for start, stop in there:
                self._cover(start, stop)

    def cover(self, start: int, stop: int) -> list[int]:
        """Note bytes that have arrived, and return the members that are complete by them."""
        if start == stop:
            return []
        with self._lock:
            self._spans.add(start, stop)
            return self._cover(start, stop) if self._plan is not None else []

    def forget(self, spans: Iterable[Span]) -> None:
        """Note that bytes are not there after all."""
        with self._lock:
            for start, stop in spans:
                self._spans.remove(start, stop)
            self._left.clear()
            if self._plan is not None:
                for start, stop in self._spans:
                    self._cover(start, stop)

    def spans(self) -> Spans:
        """Return a copy of what is there."""
        with self._lock:
            return Spans(self._spans)

    def is_complete(self, index: int) -> bool:
        """Return whether all bytes of a member of a tar are there."""
        assert self._plan is not None
        span = self._plan.members[index].span
        with self._lock:
            return not any(self._spans.missing(*span))

    def begun(self) -> list[int]:
        """Return the members of which some bytes are there, and some are not."""
        with self._lock:
            return sorted(self._left)

    def _cover(self, start: int, stop: int) -> list[int]:
        assert self._plan is not None
        complete = []
        members = self._plan.members
        for index in range(self._plan.index_at(start), len(members)):
            first, last = members[index].span
            if first >= stop:
                break
            left = self._left.pop(index, last - first) - (min(stop, last) - max(start, first))
            if left:
                self._left[index] = left
            else:
                complete.append(index)
        return complete

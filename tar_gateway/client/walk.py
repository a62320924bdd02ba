"""A run of an archive's bytes, taken apart by the plan and checked against it, piece by piece."""

from collections.abc import Iterator
from typing import Protocol

from tar_gateway.client.failures import BrokenArchive
from tar_gateway.client.header import check_header
from tar_gateway.client.plan import Plan

View = memoryview


class Sink(Protocol):
    """Where bytes go. ``by_member``: members are put into their places one by one."""

    by_member: bool

    def raw(self, position: int, data: View) -> None:
        """Take bytes of the archive, from ``position`` on."""

    def data(self, index: int, position: int, data: View) -> None:
        """Take bytes of a member, from its byte ``position`` on."""


class Walk:
    """Takes the bytes from ``start`` on, and gives them to a sink once they are checked.

    ``start`` is a member's first header byte, or lies in its data: a header is checked as a whole.
    ``safe`` is where one could go on.
    """

    def __init__(self, plan: Plan | None, start: int, sink: Sink) -> None:
        self._plan = plan if plan is not None and plan.is_tar else None
        self._sink = sink
        self._index = self._plan.index_at(start) if self._plan is not None else 0
        self._header = bytearray()
        self._position = start
        self.safe = start

    @property
    def name(self) -> str | None:
        """The name of the member that comes next."""
        if self._plan is None or self._index == len(self._plan.members):
            return None
        return self._plan.members[self._index].name

    def feed(self, block: bytes) -> Iterator[None]:
        """Take the next bytes; stop wherever it is worth noting how far this is safe.

        Raise `BrokenArchive` for bytes that the plan does not allow.
        """
        view = memoryview(block)
        start = self._position
        self._position += len(view)
        if self._plan is None:
            self._sink.raw(start, view)
            self.safe = self._position
            yield
            return
        taken = 0
        while taken < len(view):
            index = self._index
            taken += self._take(self._plan, start + taken, view[taken:])
            if self._index > index and self._sink.by_member:
                yield
        self._sink.raw(start, view)
        yield

    def _take(self, plan: Plan, position: int, view: View) -> int:
        """Take bytes of one kind, and return how many these were."""
        if self._index == len(plan.members):
            _check_zeros(view, position)
            self.safe = position + len(view)
            return len(view)
        member = plan.members[self._index]
        offset, end = member.span
        assert member.data_offset is not None
        if position < member.data_offset:
            count = min(len(view), member.data_offset - position)
            self._header += view[:count]
            if len(self._header) == member.data_offset - offset:
                check_header(member, bytes(self._header))
                self._header.clear()
                self.safe = member.data_offset
            elif position + count == member.data_offset:
                raise BrokenArchive("a header was not taken from its beginning")
        elif position < member.data_offset + member.size:
            count = min(len(view), member.data_offset + member.size - position)
            self._sink.data(self._index, position - member.data_offset, view[:count])
            self.safe = position + count
        else:
            count = min(len(view), end - position)
            _check_zeros(view[:count], position)
        if position + count == end:
            self.safe = end
            self._index += 1
        return count


def _check_zeros(view: View, position: int) -> None:
    if view.tobytes().strip(b"\0"):
        raise BrokenArchive(f"the archive is broken: there are bytes behind a member at {position}")

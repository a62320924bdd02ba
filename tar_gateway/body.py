"""A slice of a plan's archive as a WSGI iterable: where layout and sources meet.

Each block is given as soon as it is there. A body either gives every byte it promised or
raises, and then the server cuts the connection.
"""

import logging
from collections.abc import Generator, Iterator
from itertools import islice

from tar_gateway.errors import (
    BrokenOff,
    MemberChanged,
    MembersChanged,
    MembersFailed,
    SourceError,
)
from tar_gateway.fetch import Fetch, Pace
from tar_gateway.layout import Borrowed, Literal, Segment
from tar_gateway.planner import Plan, member_fault
from tar_gateway.retry import Retry
from tar_gateway.settings import Settings

# Large enough that a read's fixed costs don't show, small enough for many downloads at once.
READ_SIZE = 128 * 1024

log = logging.getLogger(__name__)


class Body:
    """Bytes ``start`` to ``stop`` of the archive; owns the plan and closes it."""

    def __init__(self, plan: Plan, start: int, stop: int, settings: Settings) -> None:
        self._plan = plan
        self._retry = Retry.from_settings(settings)
        self._pace = Pace.from_settings(settings)
        self._segments = plan.layout.slice(start, stop)
        self._waiting: list[Segment] = []
        self._fetch: Fetch | None = None
        self._left = stop - start
        self._blocks = self._walk()
        self._stopped = False
        self._closed = False

    def prime(self) -> None:
        """Open the first member, so that what is wrong with it still gets a status.

        Raises `MembersFailed`, or `MembersChanged` for what a new plan may put right; the body
        is closed then.
        """
        # A header may come first; after two literals (members without bytes) nothing can go
        # wrong for long enough.
        for segment in islice(self._segments, 2):
            self._waiting.append(segment)
            if isinstance(segment, Borrowed):
                try:
                    self._open(segment).open()
                except SourceError as error:
                    self.close()
                    faults = [member_fault(self._plan.bundle.members[segment.index], error)]
                    if isinstance(error, MemberChanged):
                        raise MembersChanged(faults) from error
                    raise MembersFailed(faults) from error
                return

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        self._check_wanted()
        block = next(self._blocks)
        # It may have come from a connection that was cut off under the reader's hands.
        self._check_wanted()
        return block

    def stop(self) -> None:
        """Let the client's thread, which may be waiting for the source, break off."""
        self._stopped = True
        fetch = self._fetch
        if fetch is not None:
            fetch.stop()

    def close(self) -> None:
        """Give back everything that is held. May be called again."""
        if not self._closed:
            self._closed = True
            try:
                self._blocks.close()
                if self._fetch is not None:
                    self._fetch.close()
            finally:
                self._plan.close()

    def _check_wanted(self) -> None:
        if self._stopped:
            raise BrokenOff("the client has left")

    def _walk(self) -> Generator[bytes, None, None]:
        for segment in self._in_order():
            match segment:
                case Literal():
                    self._left -= len(segment)
                    yield segment.data
                case Borrowed():
                    yield from self._borrow(segment)
        if self._left:
            # The layout and the fetches are held to their lengths, so this can't be; if it is,
            # a broken connection is still better than a short archive that ends cleanly.
            raise BrokenOff(f"{self._left} bytes are missing at the end")

    def _in_order(self) -> Iterator[Segment]:
        yield from self._waiting
        self._waiting.clear()
        yield from self._segments

    def _borrow(self, segment: Borrowed) -> Iterator[bytes]:
        try:
            fetch = self._fetch or self._open(segment)
            while block := fetch.read(READ_SIZE):
                self._left -= len(block)
                yield block
        except SourceError as error:
            self._check_wanted()
            path = self._plan.bundle.members[segment.index].path
            log.warning("broken off at the member %r: %s", path, error.reason)
            raise BrokenOff(f"the member {path!r} failed: {error.reason}") from error
        fetch.close()
        self._fetch = None

    def _open(self, segment: Borrowed) -> Fetch:
        """Make the fetch of a segment, known to `stop` before it waits for anything."""
        self._fetch = Fetch(
            self._plan,
            segment.index,
            segment.start,
            segment.stop,
            retry=self._retry,
            pace=self._pace,
        )
        if self._stopped:
            self._fetch.stop()
        return self._fetch

"""A slice of a plan's archive as a WSGI iterable: where layout and sources meet.

Each block is given as soon as it is there. A body either gives every byte it promised or
raises, and then the server cuts the connection.
"""

import logging
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from itertools import islice

from tar_gateway.archive.format import Borrowed, Checksum, Literal, Segment
from tar_gateway.delivery.ahead import Prefetch, Slot
from tar_gateway.delivery.checksums import Checksums
from tar_gateway.delivery.fetch import Fetch, FetchRules, ReadSize
from tar_gateway.delivery.plan import Plan, member_fault
from tar_gateway.delivery.threads import FetcherPool
from tar_gateway.errors import (
    BrokenOff,
    Cancelled,
    MemberChanged,
    MembersChanged,
    MembersFailed,
    SourceError,
)

# Bytes; small pieces that are there at once leave together, up to about so many.
JOINED = 64 * 1024

# Segments that are looked through for the first member: a header may come before it; after two
# literals (members without bytes) nothing can go wrong for long enough.
_OPENED_WITHIN = 2

# Seconds that a block waits for more of them, where they are being fetched.
SOON = 0.002

log = logging.getLogger(__name__)


class Body:
    """Bytes ``start`` to ``stop`` of the archive; owns the plan and closes it.

    One thread reads it. Another may close it meanwhile.
    """

    def __init__(
        self,
        plan: Plan,
        start: int,
        stop: int,
        rules: FetchRules,
        fetchers: FetcherPool | None = None,
        *,
        checksums: Checksums | None = None,
    ) -> None:
        self._plan = plan
        self._rules = rules
        self._segments = plan.layout.slice(start, stop)
        self._checksums = checksums
        if checksums is None and plan.layout.has_checksums:
            self._checksums = Checksums(plan.layout)
        self._ahead: Prefetch | None = None
        if fetchers is not None and plan.is_concurrent and rules.ahead:
            self._ahead = Prefetch(self._segments, fetchers, self._fetch_of, rules.ahead)
        self._waiting: list[Segment] = []
        self._fetch: Fetch | None = None
        self._read_size = ReadSize()
        self._patience = SOON
        self._left = stop - start
        self._blocks = self._walk()
        self._closed = False
        # Held by the thread that reads, and kept for good by the one that releases what is held.
        self._in_use = threading.Lock()

    def prime(self) -> None:
        """Open the first member, so that what is wrong with it still gets a status.

        Raise `MembersFailed`, `MembersChanged` for what a new plan may put right, or `Cancelled`;
        the body is closed then.
        """
        for segment in islice(self._segments, _OPENED_WITHIN):
            self._waiting.append(segment)
            if isinstance(segment, Borrowed):
                self._prime(segment)
                return

    def _prime(self, first: Borrowed) -> None:
        try:
            self._open(first).open()
        except SourceError as error:
            self.close()
            members = self._plan.bundle.members
            faults, total = [member_fault(members[first.index], error)], len(members)
            gone = self._plan.bundle.missing != "fail" and faults[0].is_missing
            if gone or isinstance(error, MemberChanged):
                raise MembersChanged(faults, total=total) from error
            raise MembersFailed(faults, total=total) from error
        except Cancelled:
            self.close()
            raise

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if not self._in_use.acquire(blocking=False):
            if self._closed:
                raise Cancelled
            raise RuntimeError("a body is read by one thread at a time")
        try:
            self._plan.cancellation.check()
            block = next(self._blocks)
            # It may have come from a connection that was cut off under the reader's hands.
            self._plan.cancellation.check()
        finally:
            self._in_use.release()
            if self._closed:  # while this thread was reading
                self._release()
        return block

    def close(self) -> None:
        """Release everything that is held. May be called again, and from any thread.

        A thread that is reading is made to break off, and releases the rest as it does.
        """
        self._closed = True
        with ExitStack() as steps:
            steps.callback(self._release)
            if self._ahead is not None:
                steps.callback(self._ahead.close)
            if self._checksums is not None:
                steps.callback(self._checksums.close)
            # The first step: a reader that finds nothing more ahead knows why.
            steps.callback(self._plan.cancellation.cancel)

    def _release(self) -> None:
        """Release what a reading thread uses, once, unless one is reading."""
        if self._in_use.acquire(blocking=False):
            with ExitStack() as steps:  # each step is made, even if another one raises
                steps.callback(self._plan.close)
                steps.callback(self._close_fetch)
                steps.callback(self._blocks.close)

    def _close_fetch(self) -> None:
        if self._fetch is not None:
            self._fetch.close()

    def _walk(self) -> Generator[bytes, None, None]:
        """Return the pieces; small ones that are there at once leave together."""
        ready: list[bytes] = []
        count = 0
        for piece in self._pieces():
            if piece is not None:
                ready.append(piece)
                count += len(piece)
            if ready and (piece is None or count >= JOINED):
                self._left -= count
                yield ready[0] if len(ready) == 1 else b"".join(ready)
                ready, count = [], 0
                self._patience = SOON
        if ready:
            self._left -= count
            yield b"".join(ready)
        self._plan.cancellation.check()
        if self._left:
            # The layout and the fetches are held to their lengths, so this can't be; if it is,
            # a broken connection is still better than a short archive that ends cleanly.
            raise BrokenOff(f"{self._left} bytes are missing at the end")

    def _pieces(self) -> Iterator[bytes | None]:
        """Return the bytes in order, and `None` before anything that may have to be waited for."""
        for segment, slot in self._in_order():
            if isinstance(segment, Literal):
                yield segment.data
                continue
            if isinstance(segment, Checksum):
                assert self._checksums is not None
                if self._checksums.would_wait(segment):
                    yield None
                yield self._checksums.value(segment)
                continue
            try:
                blocks = (
                    self._fetched(self._fetch or self._open(segment))
                    if slot is None
                    else self._fetched_ahead(slot)
                )
                if self._checksums is None:
                    yield from blocks
                else:
                    yield from self._checksums.passing(segment, blocks)
            except SourceError as error:
                yield None  # what was right up to here is worth having: it can be resumed
                self._plan.failed()
                path = self._plan.bundle.members[segment.index].path
                log.warning("broken off at the member %r: %s", path, error.for_operator)
                raise BrokenOff(error, path) from error

    def _in_order(self) -> Iterator[tuple[Segment, Slot | None]]:
        if self._ahead is not None:
            self._ahead.fill()
        for segment in self._waiting:
            yield segment, None
        self._waiting.clear()
        if self._ahead is not None:
            yield from self._ahead
        else:
            for segment in self._segments:
                yield segment, None

    def _fetched(self, fetch: Fetch) -> Generator[bytes | None, None, None]:
        """Fetch a member in this thread, each block on its way before the next is read."""
        self._fetch = fetch
        yield None
        while block := fetch.read(self._read_size.now):
            length = len(block)
            yield block
            block = b""  # not held while the next one is read
            before = time.monotonic()
            yield None
            self._read_size.sent(length, time.monotonic() - before)
        fetch.close()
        self._fetch = None

    def _fetched_ahead(self, slot: Slot) -> Generator[bytes | None, None, None]:
        """Return what a thread has fetched of a member, or fetch it here if none is at it."""
        assert self._ahead is not None
        try:
            if self._patience > 0 and self._ahead.would_wait(slot):
                before = time.monotonic()
                self._ahead.gather(slot, JOINED, self._patience)
                self._patience -= time.monotonic() - before
            if self._ahead.claim(slot):
                yield from self._fetched(slot.fetch)
                return
            while True:
                if self._ahead.would_wait(slot):
                    yield None
                blocks = self._ahead.take(slot)
                if not blocks:
                    return
                yield from blocks
        finally:
            self._ahead.release(slot)

    def _open(self, segment: Borrowed) -> Fetch:
        """Make the fetch of a segment, known to `close` before it waits for anything."""
        self._fetch = self._fetch_of(segment)
        return self._fetch

    def _fetch_of(self, segment: Borrowed) -> Fetch:
        return Fetch(self._plan, segment.index, segment.start, segment.stop, self._rules)

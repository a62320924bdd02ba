"""The small members that come after the one being sent, fetched before their turn.

Order is kept by the body, which takes them one by one. What is fetched ahead is bounded in
bytes, for each download and for the process; large members are never opened ahead, since
their connections would wait unused until the upstream closes them.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing

from tar_gateway.archive.format import Borrowed, Segment
from tar_gateway.delivery.fetch import Fetch
from tar_gateway.delivery.threads import PATIENT, FetcherPool
from tar_gateway.errors import Cancelled
from tar_gateway.sources.wire.calling import FIRST, GROWTH, LATE, LatencyMeter

# Bytes; larger ones keep the wire full by themselves.
SMALL = 256 * 1024

# Segments that are looked at ahead, at the most: their headers are made by then.
_WINDOW = 512

_READ_SIZE = 64 * 1024


class Slot:
    """One small member of the window, with the state of its fetching."""

    __slots__ = ("abandoned", "awaited", "blocks", "ended", "error", "fetch", "reserved", "taken")

    def __init__(self, fetch: Fetch, length: int) -> None:
        self.fetch = fetch
        self.reserved = length  # bytes of the process's memory
        self.taken = False  # somebody fetches it, or has
        self.abandoned = False  # nobody wants it any more
        self.awaited = False  # the body waits for it, and has to be told
        self.blocks: deque[bytes] = deque()  # what came and was not given yet
        self.ended = False  # nothing more comes: that was all, or there is an error
        self.error: BaseException | None = None


class Prefetch:
    """A download's segments in order, the small members among them fetched ahead.

    ``limit`` is in bytes. Iterated by one thread, it yields each segment with its slot, or with
    `None` where the body has to fetch it itself. Any thread may close it meanwhile; what waits
    for a slot then raises `Cancelled`.
    """

    def __init__(
        self,
        segments: Iterator[Segment],
        fetchers: FetcherPool,
        make_fetch: Callable[[Borrowed], Fetch],
        limit: int,
    ) -> None:
        self._segments = segments
        self._fetchers = fetchers
        self._make_fetch = make_fetch
        self._limit = limit
        self._window: deque[tuple[Segment, Slot | None]] = deque()
        self._todo: deque[Slot] = deque()
        self._held = 0
        self._workers = 0
        self._wanted = FIRST
        self._waiting = LatencyMeter()
        self._closed = False
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)

    def __iter__(self) -> Iterator[tuple[Segment, Slot | None]]:
        while True:
            self.fill()
            with self._lock:
                if not self._window:
                    return
                first = self._window[0]
            yield first
            # Only now: what is closed in between is still in the window.
            with self._lock:
                if self._window:
                    self._window.popleft()

    def claim(self, slot: Slot) -> bool:
        """Return whether no thread has begun with a slot; it is the body's to fetch then."""
        with self._lock:
            mine = not slot.taken
            slot.taken = True
        return mine

    def would_wait(self, slot: Slot) -> bool:
        """Return whether nothing of a slot is there that was not given yet."""
        return not (slot.blocks or slot.ended)

    def gather(self, slot: Slot, size: int, seconds: float) -> None:
        """Wait so long at the most for ``size`` bytes from this slot on, the current one.

        Where members are there in no time, waking up for each costs more than fetching it.
        Nothing is waited for unless somebody is at this one already.
        """
        last = slot
        window = self._window  # replaced, not changed, by another thread
        for segment, each in window:
            if each is not None:
                last = last if each.ended else each
            elif isinstance(segment, Borrowed):
                break
            size -= len(segment)
            if size <= 0:
                break
        if slot.taken:
            self._wait(last, lambda: last.ended, seconds)

    def take(self, slot: Slot) -> list[bytes]:
        """Return what has come of a slot, waiting for it; nothing at its end.

        Raise what fetching raised.
        """
        while self.would_wait(slot):
            if self._closed:
                raise Cancelled
            seconds = LATE if self._wanted < self._fetchers.share else PATIENT
            if not self._wait(slot, lambda: self._closed or not self.would_wait(slot), seconds):
                with self._lock:
                    self._grow(self._wanted)
        blocks = []
        while slot.blocks:
            blocks.append(slot.blocks.popleft())
        if not blocks and slot.error is not None:
            raise slot.error
        return blocks

    def release(self, slot: Slot) -> None:
        """Release a slot's memory, once its bytes are on their way. May be called again."""
        with self._lock:
            reserved, slot.reserved = slot.reserved, 0
            self._held -= reserved
        if reserved:
            self._fetchers.memory.release(reserved)

    def close(self) -> None:
        """Fetch nothing more. What is under way is given back as it ends."""
        with self._lock:
            self._closed = True
            self._changed.notify_all()
            self._todo.clear()
            window, self._window = self._window, deque()
            # Whoever is still at one releases it at its end.
            slots = [slot for _, slot in window if slot is not None]
            for slot in slots:
                slot.abandoned = True
            idle = [slot for slot in slots if slot.ended or not slot.taken]
        for slot in idle:
            self.release(slot)

    def fill(self) -> None:
        """Look further ahead, as far as the bounds allow, and put threads to work."""
        if len(self._window) > _WINDOW // 2 or self._closed:
            return  # several at once cost less than one each time
        with self._lock:
            while len(self._window) < _WINDOW and self._held < self._limit and not self._closed:
                segment = next(self._segments, None)
                if segment is None:
                    break
                self._window.append((segment, self._slot(segment)))
            self._set_to_work()

    def _slot(self, segment: Segment) -> Slot | None:
        if not isinstance(segment, Borrowed) or len(segment) > SMALL:
            return None
        if not self._fetchers.memory.take(len(segment)):
            return None
        self._held += len(segment)
        slot = Slot(self._make_fetch(segment), len(segment))
        self._todo.append(slot)
        return slot

    def _wait(self, slot: Slot, is_met: Callable[[], bool], seconds: float) -> bool:
        """Wait so long for something to be met of a slot. Return whether it is."""
        with self._changed:
            # First this and then a look; who fetches does it the other way round. So one of
            # both sees the other, though not every block is worth a lock.
            slot.awaited = True
            met = self._changed.wait_for(is_met, seconds)
            slot.awaited = False
        return met

    def _grow(self, count: int) -> None:
        """Set more threads to work, where so many were too few."""
        self._wanted = max(self._wanted, min(self._fetchers.share, count * GROWTH))
        self._set_to_work()

    def _set_to_work(self) -> None:
        while self._workers < min(self._wanted, len(self._todo)) and not self._closed:
            try:
                self._fetchers.work(self._step)
            except RuntimeError:  # the process is ending; the body fetches the rest itself
                return
            self._workers += 1

    def _step(self) -> bool:
        """Fetch the next slot in some thread. Return whether there was any."""
        with self._lock:
            while self._todo and self._todo[0].taken:
                self._todo.popleft()
            if not self._todo:
                self._workers -= 1
                return False
            slot = self._todo.popleft()
            slot.taken = True
            count = self._workers
        began = time.monotonic()
        try:
            with closing(slot.fetch) as fetch:
                while block := fetch.read(_READ_SIZE):
                    slot.blocks.append(block)
                    self._tell(slot)
        except BaseException as raised:  # noqa: BLE001 - raised again by the body
            slot.error = raised
        with self._lock:
            if self._waiting.took(time.monotonic() - began):
                self._grow(count)
            slot.ended = True
            abandoned = slot.abandoned
        self._tell(slot)
        if abandoned:
            self.release(slot)
        return True

    def _tell(self, slot: Slot) -> None:
        if slot.awaited:
            with self._changed:
                self._changed.notify()

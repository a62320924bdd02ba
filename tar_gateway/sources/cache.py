"""What was found out a moment ago, or is being found out, for all who ask the same."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from tar_gateway.sources.wire.cancellation import Cancellation

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _CacheEntry(Generic[T]):
    value: T
    weight: int
    until: float


class ExpiringCache(Generic[T]):
    """Values by key, each for ``seconds`` after it was kept, however often it is recalled.

    Their weights are ``capacity`` together at the most: the oldest are forgotten first. What is
    out of date is let go when something is kept or forgotten. Safe to use from many threads.
    """

    def __init__(self, seconds: float, capacity: int) -> None:
        self._seconds = seconds
        self._capacity = capacity
        self._weight = 0
        self._lock = threading.Lock()
        self._kept: OrderedDict[bytes, _CacheEntry[T]] = OrderedDict()

    def recall(self, key: bytes) -> T | None:
        """Return what was kept under a key, `None` where that was not, or too long ago."""
        if not self._kept:  # without the lock, which threads would hand to each other
            return None
        with self._lock:
            kept = self._kept.get(key)
        return kept.value if kept is not None and kept.until > time.monotonic() else None

    def keep(self, key: bytes, value: T, weight: int) -> None:
        """Keep a value, in the place of what there was under its key."""
        with self._lock:
            self._drop(key)
            self._kept[key] = _CacheEntry(value, weight, time.monotonic() + self._seconds)
            self._weight += weight
            self._drop_oldest()

    def forget(self, key: bytes) -> None:
        """Let go of what was kept under a key, if anything was."""
        with self._lock:
            self._drop(key)
            self._drop_oldest()

    def _drop(self, key: bytes) -> None:
        if (kept := self._kept.pop(key, None)) is not None:
            self._weight -= kept.weight

    def _drop_oldest(self) -> None:
        """Drop what is out of date, and as much more as there is no room for."""
        now = time.monotonic()
        while self._kept:
            key, oldest = next(iter(self._kept.items()))
            if self._weight <= self._capacity and oldest.until > now:
                return
            self._drop(key)


class Flight(Generic[T]):
    """What is being found out, for all who wait for it.

    ``cancellation`` is for what is asked: it is cancelled once no one waits any more.
    """

    def __init__(self, cancellation: Cancellation | None = None) -> None:
        self.cancellation = cancellation or Cancellation()
        self.waiting: set[threading.Event] = set()
        self.value: T | None = None
        self.error: Exception | None = None
        self.is_open = True
        self.has_parted = False

    def part(self) -> None:
        """Send the others on: each has to find out alone."""
        self.has_parted = True
        self.end()

    def end(self) -> None:
        """Let no one join any more, and wake all who wait."""
        self.is_open = False
        for woken in tuple(self.waiting):
            woken.set()


class SingleFlight(Generic[T]):
    """Lets what several want at the same time be found out once. Safe to use from many threads.

    It goes on while any of them waits for it: a client that leaves, be it the one whose thread
    does it, costs the others nothing.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[Hashable, Flight[T]] = {}

    def find(
        self,
        key: Hashable,
        cancellation: Cancellation,
        deadline: float,
        make: Callable[[Flight[T]], T],
    ) -> tuple[T | None, bool]:
        """Return a value, and whether this thread has made it.

        ``make`` is called by the first who asks. The others get `None` where it parts from them,
        and at their ``deadline`` (a `time.monotonic` moment). What it raises is raised for all;
        for those others whose own ``cancellation`` is cancelled, `Cancelled` is.
        """
        woken = threading.Event()
        with self._lock:
            flight = self._flights.get(key)
            leads = flight is None or not flight.is_open
            if flight is None or leads:
                flight = self._flights[key] = Flight()
            flight.waiting.add(woken)

        def leave() -> None:
            woken.set()
            with self._lock:
                flight.waiting.discard(woken)
                is_last = not flight.waiting
                flight.is_open = flight.is_open and not is_last
            if is_last:
                flight.cancellation.cancel()

        cancellation.add(leave)
        try:
            if leads:
                self._make(key, flight, make)
            else:
                woken.wait(max(0, deadline - time.monotonic()))
                cancellation.check()
        finally:
            cancellation.remove(leave)
            leave()
        if flight.has_parted and not leads:
            return None, False
        if flight.error is not None:
            raise flight.error
        return flight.value, leads

    def _make(self, key: Hashable, flight: Flight[T], make: Callable[[Flight[T]], T]) -> None:
        try:
            flight.value = make(flight)
        except Exception as error:  # noqa: BLE001 - raised again for each who waits
            flight.error = error
        finally:
            with self._lock:
                if self._flights.get(key) is flight:
                    del self._flights[key]
                flight.end()

"""What was found out a moment ago, for those who ask the same again within seconds."""

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

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

"""A bounded count that many threads take of and release."""

import threading


class Budget:
    """``limit`` units, bytes as a rule, for all that share it. It never waits."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._used = 0
        self._lock = threading.Lock()

    @property
    def used(self) -> int:
        """Units that are taken now."""
        return self._used

    def take(self, count: int) -> bool:
        """Take so many units. Return whether there were as many; else none is taken."""
        with self._lock:
            if self._used + count > self.limit:
                return False
            self._used += count
            return True

    def release(self, count: int) -> None:
        """Return units, so that others can take them."""
        with self._lock:
            self._used -= count

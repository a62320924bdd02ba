"""The end of a download before its end: whoever waits for a source on its behalf is told."""

import threading
from collections.abc import Callable


class Cancellation:
    """Ends what one plan waits for, in whichever threads. Cancelled once, and for good."""

    def __init__(self) -> None:
        self.event = threading.Event()
        """Set once it is cancelled, for those who wait for time to pass."""
        # Held while an end is made: what was removed is somebody else's from then on.
        self._lock = threading.Lock()
        self._ends: set[Callable[[], None]] = set()

    @property
    def is_cancelled(self) -> bool:
        """Whether nobody wants the download any more."""
        return self.event.is_set()

    def cancel(self) -> None:
        """Let everything end that was added and not removed. May be called again."""
        with self._lock:
            self.event.set()
            ends, self._ends = self._ends, set()
            for end in ends:
                end()

    def add(self, end: Callable[[], None]) -> None:
        """Have ``end`` called, from another thread, on cancelling; at once where that has been.

        It must neither wait nor raise, and is told apart from others by equality.
        """
        with self._lock:
            if self.event.is_set():
                end()
            else:
                self._ends.add(end)

    def remove(self, end: Callable[[], None]) -> None:
        """Have ``end`` called no more. It never is once this has returned."""
        with self._lock:
            self._ends.discard(end)

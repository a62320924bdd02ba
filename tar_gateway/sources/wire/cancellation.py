"""The end of a request before its end: what waits for a source on its behalf is told.

Each request has one cancellation, and each of its plans a child of that.
"""

import threading
from collections.abc import Callable
from contextlib import suppress

from tar_gateway.errors import Cancelled


class Cancellation:
    """Ends what a request waits for, in whichever threads. Cancelled once, and for good.

    Adding and removing take no lock, for many threads do so for every small file, and would hand
    it to each other. Whoever takes an end out of the dict, in one step, is the one to make it.
    """

    def __init__(self, parent: "Cancellation | None" = None) -> None:
        self.event = threading.Event()
        """Set once it is cancelled, for those who wait for time to pass."""
        self._ends: dict[Callable[[], None], None] = {}
        self._lock = threading.Lock()  # held while ends are made
        self._parent = parent

    def child(self) -> "Cancellation":
        """Return one that is cancelled with this one, and also alone."""
        child = Cancellation(self)
        self.add(child.cancel)
        return child

    @property
    def is_cancelled(self) -> bool:
        """Whether nobody wants the download any more."""
        return self.event.is_set()

    def check(self) -> None:
        """Raise `Cancelled` once it is cancelled."""
        if self.event.is_set():
            raise Cancelled

    def cancel(self) -> None:
        """Let everything end that was added and not removed. May be called again."""
        with self._lock:
            self.event.set()
            with suppress(KeyError):  # it is empty
                while True:
                    end, _ = self._ends.popitem()
                    end()
        if self._parent is not None:
            self._parent._took(self.cancel)  # without its lock, which may be held for this

    def add(self, end: Callable[[], None]) -> None:
        """Have ``end`` called, from another thread, on cancelling; at once where that has been.

        It must neither wait nor raise, and is told apart from others by equality.
        """
        self._ends[end] = None
        if self.event.is_set() and self._took(end):
            end()

    def remove(self, end: Callable[[], None]) -> None:
        """Have ``end`` called no more. It never is once this has returned."""
        if not self._took(end):
            with self._lock:  # it may just be being called
                pass

    def _took(self, end: Callable[[], None]) -> bool:
        try:
            del self._ends[end]
        except KeyError:
            return False
        return True

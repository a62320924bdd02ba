"""The threads that ask the source ahead of need, and the memory they may fill.

One set for a process's downloads. Work is done a turn at a time, and whoever has more to do
stands at the end of the queue again, so that no download waits for all of another's.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tar_gateway.sources.budget import Budget
from tar_gateway.sources.wire.tally import Listener

T = TypeVar("T")

# Pieces of work in one turn: enough that a thread's hand-over costs little beside them.
TURN = 8

# Seconds between two looks of who waits while there are no more threads.
PATIENT = 0.1


class FetcherPool:
    """``threads`` threads, and ``memory`` bytes for what they bring. Threads start when needed.

    ``listener`` is told how many are busy.
    """

    def __init__(self, threads: int, memory: int, listener: Listener | None = None) -> None:
        self.share = max(1, threads * 3 // 4)
        """Threads for one download at the most: one whose source hangs leaves some to others."""
        self._listener = listener or Listener()
        self.memory = Budget(memory)
        """Bytes that may be fetched before their turn."""
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="tar-gateway-fetch")

    def call(self, function: Callable[[], None]) -> None:
        """Call a function, which raises nothing, in some thread.

        Raise `RuntimeError` once closed.
        """
        self._pool.submit(self._busy, function)

    def work(self, step: Callable[[], bool]) -> None:
        """Call ``step`` in some thread, again and again until it says that nothing is left.

        Raise `RuntimeError` once closed.
        """
        self._pool.submit(self._turn, step)

    def close(self) -> None:
        """End the threads, once they have nothing under way."""
        self._pool.shutdown()

    def _turn(self, step: Callable[[], bool]) -> None:
        if not self._busy(lambda: all(step() for _ in range(TURN))):
            return
        try:
            self.work(step)
        except RuntimeError:  # it is closing: what has begun is finished here
            while step():
                pass

    def _busy(self, function: Callable[[], T]) -> T:
        self._listener.fetchers_busy(1)
        try:
            return function()
        finally:
            self._listener.fetchers_busy(-1)

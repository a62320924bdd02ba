"""The threads that ask the source ahead of need, and the memory they may fill.

One set for a process's downloads. Work is done a turn at a time, and whoever has more to do
stands at the end of the queue again, so that no download waits for all of another's.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tar_gateway.sources.budget import Budget
from tar_gateway.sources.wire.tally import Listener

# Pieces of work in one turn: enough that a thread's hand-over costs little beside them.
TURN = 8

# Threads that work begins with. Where nothing is waited for, more would only be in each other's
# way; where answers take longer than QUICK seconds, or none has come within LATE, GROWTH times as
# many wait at once.
FIRST = 2
GROWTH = 4
QUICK = 0.001
LATE = 0.002

# Seconds between two looks of who waits while there are no more threads.
PATIENT = 0.1


class LatencyMeter:
    """Tells from how long answers took whether they are waited for.

    It takes two in a row: a single one may be late because the machine is busy.
    """

    def __init__(self) -> None:
        self._in_a_row = 0

    def took(self, seconds: float) -> bool:
        """Take another response into account."""
        self._in_a_row = self._in_a_row + 1 if seconds > QUICK else 0
        return self._in_a_row > 1


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

    def work(self, step: Callable[[], bool]) -> None:
        """Call ``step`` in some thread, again and again until it says that nothing is left.

        Raise `RuntimeError` once closed.
        """
        self._pool.submit(self._turn, step)

    def close(self) -> None:
        """End the threads, once they have nothing under way."""
        self._pool.shutdown()

    def _turn(self, step: Callable[[], bool]) -> None:
        self._listener.fetchers_busy(1)
        try:
            for _ in range(TURN):
                if not step():
                    return
        finally:
            self._listener.fetchers_busy(-1)
        try:
            self.work(step)
        except RuntimeError:  # it is closing: what has begun is finished here
            while step():
                pass

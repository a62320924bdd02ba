"""How much to read at once: more makes a download cheaper, less lets many share the memory.

Whatever the size, a read gives what is there and never waits to be filled.
"""

SMALLEST = 64 * 1024
# Larger ones are no cheaper: they do not stay in a processor's cache between two copies.
LARGEST = 512 * 1024

# Seconds that sending a block takes where the client keeps up, and where it does not.
_QUICK = 0.02
_SLOW = 0.1

# Bytes. The sockets between us and a slow client swallow some MiB at any speed, so it takes so
# much in full blocks, quickly sent, to show that a client is fast enough for larger ones.
_SHOWN = 4 * 1024 * 1024


class ReadSize:
    """The size in bytes for a download's next read, ``now``, from how the last ones went."""

    def __init__(self) -> None:
        self.now = SMALLEST
        self._quick = 0

    def sent(self, length: int, seconds: float) -> None:
        """Take into account that a block of ``length`` bytes took so long to send."""
        if seconds > _SLOW:
            self.now = SMALLEST
            self._quick = 0
        elif length == self.now and seconds < _QUICK:
            self._quick += length
            if self._quick >= _SHOWN and self.now < LARGEST:
                self.now *= 2
                self._quick = 0

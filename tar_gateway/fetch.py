"""One member's slice as an unbroken run of bytes, however often the source breaks."""

from tar_gateway.errors import SourceError
from tar_gateway.planner import Plan
from tar_gateway.retry import pause
from tar_gateway.sources import Content


class Fetch:
    """Reads bytes ``start`` to ``stop`` of the plan's member ``index``.

    A fetch that breaks for a passing reason goes on from its last good byte, after up to
    ``retries`` attempts that bring nothing. Raises `SourceError` when made or read, if that
    does not help. Whoever holds it closes it.
    """

    def __init__(self, plan: Plan, index: int, start: int, stop: int, *, retries: int) -> None:
        self._plan = plan
        self._index = index
        self._start = start
        self._position = start
        self._stop = stop
        self._retries = retries
        self._failed = 0
        self._content: Content | None = None
        while self._content is None:
            self._open()

    def read(self, limit: int) -> bytes:
        """Give what is there, at least 1 byte and at most ``limit``; ``b""`` at the end."""
        while True:
            if self._content is None:
                self._open()
                continue
            try:
                block = self._content.read(limit)
            except SourceError as error:
                self.close()
                self._count(error)
                continue
            if block:
                self._position += len(block)
                self._failed = 0
            return block

    def close(self) -> None:
        """Give back what the source opened. May be called again."""
        if self._content is not None:
            self._content.close()
            self._content = None

    def _open(self) -> None:
        try:
            self._content = self._plan.open(self._index, self._position, self._stop)
        except SourceError as error:
            self._count(error)

    def _count(self, error: SourceError) -> None:
        """Raise the error for good, or wait as long as befits its number."""
        self._failed += 1
        started = self._position > self._start
        if (
            not error.transient
            or self._failed > self._retries
            or (started and not self._plan.can_resume(self._index))
        ):
            raise error
        pause(self._failed)

"""When to ask a source again, and after how long."""

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self, TypeVar

from tar_gateway.errors import Cancelled, SourceError
from tar_gateway.settings import Settings
from tar_gateway.sources.wire.asking import Pause, Steps
from tar_gateway.sources.wire.cancellation import Cancellation
from tar_gateway.sources.wire.tally import Tally

# Pauses grow to so many times the first.
_LONGEST = 20

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Retry:
    """How often to ask again, and how long to wait before.

    ``limit`` further attempts, the first of them after ``pause`` seconds; an upstream's own
    wish is obeyed for up to ``longest_wish`` seconds.
    """

    limit: int
    pause: float
    longest_wish: float
    clock: Callable[[], float] = time.monotonic

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Take the numbers from the settings."""
        return cls(settings.retries, settings.retry_pause, settings.retry_after_limit)

    def wait(
        self,
        failed: int,
        error: SourceError,
        cancellation: Cancellation,
        *,
        tally: Tally | None = None,
        deadline: float = math.inf,
    ) -> Steps[None]:
        """Wait before the next attempt after ``failed`` ones, or raise the last one's error.

        Raise it when it is no passing one, when the attempts are used up or ``deadline`` is
        over, and `Cancelled` once that is so. Pauses double each time and are spread, so that
        many that failed together don't come back together. ``tally`` counts the attempts.
        """
        if cancellation.is_cancelled:
            raise Cancelled from error
        if not error.transient or failed > self.limit or self.clock() > deadline:
            raise error
        pause = self._longest_pause(failed) * random.uniform(0.5, 1)  # noqa: S311 - spreads load, guards nothing
        pause = max(pause, min(error.retry_after, self.longest_wish))
        yield Pause(0 if error.elsewhere else pause)
        if tally is not None:
            tally.retried()

    def span(self, took: float) -> float:
        """Return the seconds after which the last attempt fails, where each takes ``took``."""
        pauses = sum(self._longest_pause(failed) for failed in range(1, self.limit + 1))
        return pauses + (self.limit + 1) * took

    def _longest_pause(self, failed: int) -> float:
        return self.pause * float(min(_LONGEST, 2 ** (failed - 1)))

    def call(
        self,
        ask: Callable[[], Steps[T]],
        cancellation: Cancellation,
        *,
        tally: Tally | None = None,
        deadline: float = math.inf,
    ) -> Steps[T]:
        """Ask, and ask again while the failure is a passing one and ``deadline`` is not over.

        ``deadline`` is a moment by the clock. Nothing is asked once ``cancellation`` is
        cancelled: that raises `Cancelled`.
        """
        failed = 0
        while True:
            cancellation.check()
            try:
                return (yield from ask())
            except SourceError as error:
                failed += 1
                yield from self.wait(failed, error, cancellation, tally=tally, deadline=deadline)

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
    wish is obeyed for up to ``longest_wish`` seconds. What is known to be there is tried for
    ``patience`` seconds in place of these attempts while its server is away, and for
    ``refused_for`` while it takes no more requests.
    """

    limit: int
    pause: float
    longest_wish: float
    patience: float = 0
    refused_for: float = 0
    clock: Callable[[], float] = time.monotonic

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Take the numbers from the settings."""
        return cls(
            settings.retries,
            settings.retry_pause,
            settings.retry_after_limit,
            settings.retry_for,
            settings.plan_timeout,
        )

    def wait(
        self,
        failed: int,
        error: SourceError,
        cancellation: Cancellation,
        *,
        tally: Tally | None = None,
        deadline: float = math.inf,
        since: float | None = None,
    ) -> Steps[None]:
        """Wait before the next attempt after ``failed`` ones, or raise the last one's error.

        Raise it when it is no passing one, when the attempts are used up or ``deadline`` is
        over, and `Cancelled` once that is so. Pauses double each time and are spread, so that
        many that failed together don't come back together. ``tally`` counts the attempts. ``since``
        is the moment of the first failure where it is known to be there.
        """
        if cancellation.is_cancelled:
            raise Cancelled from error
        if not self._may_pass(failed, error, since) or self.clock() > deadline:
            raise error
        pause = self._longest_pause(failed) * random.uniform(0.5, 1)  # noqa: S311 - spreads load, guards nothing
        pause = max(pause, min(error.retry_after, self.longest_wish))
        yield Pause(0 if error.elsewhere else pause)
        if tally is not None:
            tally.retried()

    def _may_pass(self, failed: int, error: SourceError, since: float | None) -> bool:
        if error.transient and failed <= self.limit:
            return True
        if since is None or not self.limit or not (error.transient or error.given_up):
            return False
        return self.clock() <= since + (self.refused_for if error.refused else self.patience)

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
        is_there: Callable[[], bool] = lambda: False,
    ) -> Steps[T]:
        """Ask, and ask again while the failure is a passing one and ``deadline`` is not over.

        ``deadline`` is a moment by the clock. Nothing is asked once ``cancellation`` is
        cancelled: that raises `Cancelled`. ``is_there`` tells whether the server has answered
        others, so that one that is away, or takes no more requests, is worth the patience.
        """
        failed = 0
        since: float | None = None
        while True:
            cancellation.check()
            try:
                return (yield from ask())
            except SourceError as error:
                failed += 1
                if since is None and (error.is_away and is_there()):
                    since = self.clock()
                steps = self.wait(
                    failed, error, cancellation, tally=tally, deadline=deadline, since=since
                )
                yield from steps

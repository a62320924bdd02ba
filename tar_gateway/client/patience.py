"""How often and how late it is asked again: attempts count from the last byte that arrived."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from tar_gateway.client.failures import NetworkError

LONGEST_PAUSE = 3600.0
"""Seconds that a server may ask to wait (Retry-After); one that asks for more is not waited for."""


@dataclass(frozen=True, slots=True)
class Patience:
    """At most ``attempts`` in a row without a byte; before each twice as many seconds as before."""

    attempts: int = 9
    first_pause: float = 0.25
    longest_pause: float = 30.0


class Attempts:
    """Those of one stream. ``wait`` waits so many seconds, and says whether to stop instead."""

    def __init__(
        self,
        patience: Patience,
        wait: Callable[[float], bool],
        notice: Callable[[str, float], object],
    ) -> None:
        self._patience = patience
        self._wait = wait
        self._notice = notice
        self._failed = 0

    def progress(self) -> None:
        """Say that bytes have arrived."""
        self._failed = 0

    def failed(self, error: NetworkError) -> None:
        """Wait before the next one, or raise the error if there is none."""
        self._failed += 1
        if error.is_final or self._failed >= self._patience.attempts:
            raise error
        pause = min(
            self._patience.first_pause * 2.0 ** (self._failed - 1), self._patience.longest_pause
        )
        # Many clients of one server that was away must not all come back at once.
        pause *= random.uniform(0.75, 1.25)  # noqa: S311 - no secret
        if error.pause is not None:
            if error.pause > LONGEST_PAUSE:
                raise error
            pause = max(pause, error.pause)
        self._notice(str(error), pause)
        if self._wait(pause):
            raise error

"""When to ask a source again, and after how long."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

from tar_gateway.errors import SourceError

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0

T = TypeVar("T")


def pause(attempt: int) -> None:
    """Wait before the next attempt, ``attempt`` being how many have failed: 1 or more.

    Twice as long each time, and spread, so that many that failed together don't come back
    together.
    """
    longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (attempt - 1))
    time.sleep(longest * random.uniform(0.5, 1))  # noqa: S311 - spreads load, guards nothing


def with_retries(ask: Callable[[], T], retries: int) -> T:
    """Ask, and ask again up to ``retries`` times while the failure is a passing one."""
    attempt = 0
    while True:
        try:
            return ask()
        except SourceError as error:
            attempt += 1
            if not error.transient or attempt > retries:
                raise
        pause(attempt)

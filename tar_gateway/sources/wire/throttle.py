"""How many requests a server takes of one caller, once it has said that they are too many.

Additive increase, multiplicative decrease: each refusal halves how many are under way at once, each
response lets one more in after as many as there are. Nothing is asked here.
"""

import random
import threading
import time
from collections.abc import Callable

from tar_gateway.settings import Settings
from tar_gateway.sources.wire.asking import Pause, Steps
from tar_gateway.sources.wire.response import Response

# What a server answers to whom it wants to ask less (RFC 6585 4, RFC 9110 15.6.4).
REFUSED = frozenset({429, 503})

# Requests under way at once beyond which nothing is held back any more.
_ENOUGH = 256

# Those that a caller is taken to have under way when it is refused for the first time.
_FIRST = 32

# Seconds between two looks whether one more may go: about what a response takes.
_LOOK = 0.02

# Callers of one server that are held back; beyond it the one that was refused first is let go.
_MOST_CALLERS = 10_000


class Throttle:
    """One caller's requests to one server. Safe to use from many threads."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._longest_wish = settings.retry_after_limit
        self._pause = settings.retry_pause
        self._clock = clock
        self._lock = threading.Lock()
        self._allowed = float(_FIRST)
        self._under_way = 0
        self._refusals = 0  # in a row
        self._refused_at = 0.0
        self._not_before = 0.0

    @property
    def is_over(self) -> bool:
        """Whether the server takes as much again as it did before."""
        return self._allowed > _ENOUGH

    def seconds_to_wait(self) -> float:
        """Let a request go and return 0, or return how long to wait before the next look."""
        with self._lock:
            now = self._clock()
            if now < self._not_before:
                # Spread, so that what was held back together does not go together.
                return (self._not_before - now) * random.uniform(1, 1.1)  # noqa: S311 - guards nothing
            if self._under_way >= self._allowed:
                return _LOOK
            self._under_way += 1
            return 0

    def answered(self, response: Response | None, began: float) -> None:
        """Take note of a response, `None` where there was none, to what began at that moment."""
        with self._lock:
            self._under_way = max(0, self._under_way - 1)
            if response is None:
                return
            if response.status not in REFUSED:
                self._allowed += 1 / self._allowed
                self._refusals = 0
            elif began >= self._refused_at:  # else it went before the last refusal was known
                now = self._refused_at = self._clock()
                self._allowed = max(1.0, min(self._allowed, self._under_way + 1) / 2)
                self._refusals = min(self._refusals + 1, 5)
                wish = response.retry_after() or self._pause * 2**self._refusals
                self._not_before = now + min(wish, self._longest_wish)


class Throttles:
    """Those of all callers that a server has refused; others are not held back."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._of: dict[int, Throttle] = {}

    def held_back(self, steps: Steps[Response], caller: int) -> Steps[Response]:
        """Send a request when its caller may, who is told apart by the number ``caller``."""
        throttle = self._of.get(caller)
        while throttle is not None and (seconds := throttle.seconds_to_wait()):
            yield Pause(seconds)
        began = time.monotonic()
        response: Response | None = None
        try:
            response = yield from steps
        finally:
            if throttle is None and response is not None and response.status in REFUSED:
                throttle = self._of.setdefault(caller, Throttle(self._settings))
                if len(self._of) > _MOST_CALLERS:
                    self._of.pop(next(iter(self._of)), None)
            if throttle is not None:
                throttle.answered(response, began)
                if throttle.is_over:
                    self._of.pop(caller, None)
        return response

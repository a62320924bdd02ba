"""Whether a server is worth asking: what its last failures say of the next request.

Nothing is asked here, and no server is chosen: that is for those who hold several.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from tar_gateway.errors import SourceError
from tar_gateway.settings import Settings
from tar_gateway.sources.wire.asking import Steps
from tar_gateway.sources.wire.response import Content
from tar_gateway.sources.wire.retry import Retry

# A server is not given up on before it has failed for so many seconds.
_LEAST = 0.5

# Seconds between two requests to a server that is given up on and can't be reached.
_AGAIN = 1.0

log = logging.getLogger(__name__)

T = TypeVar("T")


class Health:
    """One server's failures since it last worked. Safe to use from many threads.

    After a failure the server is *left alone* for ``settings.upstream_pause`` seconds, where
    another can do its work. It is *given up on* once it has failed for twice as long as one
    request with all its further attempts takes, so that whoever began late has had them too:
    then it is asked once and not again, and while it can't even be reached, by one request a
    second for all. ``called`` is what the log calls it, ``clock`` counts seconds.
    """

    def __init__(
        self, called: str, settings: Settings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._called = called
        self._pause = settings.upstream_pause
        self._retry = Retry.from_settings(settings)
        self._clock = clock
        self._lock = threading.Lock()
        self._failing = False
        self._since = 0.0  # the first of these failures
        self._last = 0.0  # the last of them
        self._probe = 0.0  # when one request may try it again
        self._given_up = False
        self._unreachable: SourceError | None = None  # the last failure, if it was one
        self._asked = 0.0

    @property
    def is_failing(self) -> bool:
        """Whether its last failure came after its last success."""
        return self._failing

    @property
    def last_failure(self) -> float:
        """When it last failed, by the clock."""
        return self._last

    def is_resting(self) -> bool:
        """Return whether others should be asked first.

        When the pause is over one caller is told no, and tries; the others wait for what comes
        of it, for another pause at the most.
        """
        if not self._failing:
            return False
        with self._lock:
            now = self._clock()
            if self._failing and now < self._probe:
                return True
            self._probe = now + self._pause
            return False

    def track(self, steps: Steps[T]) -> Steps[T]:
        """Ask the server, and remember whether it worked.

        Raise what asking raises. A failure of a server that is given up on is no passing one;
        where it can't be reached, it is told without asking.
        """
        began = self._begin()
        try:
            result = yield from steps
        except SourceError as error:
            if not (error.transient or error.unreachable):
                self._worked(began)
                raise
            known = self._failed(error, began)
            if known is error:
                raise
            raise known from error
        self._worked(began)
        return result

    def tracked(self, content: Content) -> Content:
        """Return a content whose failures are remembered as well."""
        began = self._clock()

        def noted(error: SourceError) -> SourceError:
            return self._failed(error, began) if error.transient else error

        return HealthContent(content, noted)

    def _begin(self) -> float:
        now = self._clock()
        if self._failing:
            with self._lock:
                if self._given_up and self._unreachable and self._is_asked(now):
                    raise self._unreachable.but()
                self._asked = now
        return now

    def _is_asked(self, now: float) -> bool:
        return now - self._asked < min(_AGAIN, self._pause)

    def _worked(self, began: float) -> None:
        if self._failing:
            with self._lock:
                # What was asked before the failure says nothing of the time after it.
                if began >= self._last and self._failing:
                    self._failing = self._given_up = False
                    log.info("%s works again", self._called)

    def _failed(self, error: SourceError, began: float) -> SourceError:
        """Remember a failure; gives the error to raise, of which no more is asked if it lasts."""
        now = self._clock()
        with self._lock:
            if not self._failing or now - self._last > self._pause:
                self._since = now
                log.warning("%s fails: %s", self._called, error.for_operator)
            self._failing = True
            self._last = now
            self._probe = now + self._pause
            self._unreachable = error.but(transient=False) if error.unreachable else None
            patience = max(_LEAST, 2 * self._retry.span(now - began))
            self._given_up = now - self._since > patience
            if not self._given_up or error.retry_after:
                return error
        return error.but(transient=False)


class HealthContent:
    """A content whose failures ``noted`` hears of, and returns the error to raise."""

    def __init__(self, content: Content, noted: Callable[[SourceError], SourceError]) -> None:
        self._content = content
        self._noted = noted

    def read(self, limit: int) -> bytes:
        """Return what is there. Raise `SourceError` when the bytes stop coming."""
        try:
            return self._content.read(limit)
        except SourceError as error:
            known = self._noted(error)
            if known is error:
                raise
            raise known from error

    def failed(self, error: SourceError) -> SourceError:
        """Tell of a failure that its reader has found, and return the error to raise."""
        if isinstance(self._content, HealthContent):
            error = self._content.failed(error)
        return self._noted(error)

    def close(self) -> None:
        """Close the content itself."""
        self._content.close()

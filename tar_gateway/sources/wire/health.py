"""Whether a server is worth asking: what its last failures say of the next request.

Nothing is asked here, and no server is chosen: that is for those who hold several.
"""

import logging
import math
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from tar_gateway.errors import SourceError
from tar_gateway.settings import Settings
from tar_gateway.sources.wire.asking import Steps
from tar_gateway.sources.wire.caller import Caller
from tar_gateway.sources.wire.response import Content, ContentOf, failed
from tar_gateway.sources.wire.retry import Retry
from tar_gateway.sources.wire.tally import Failures, Place

# So many paths say that a server has failed, and not what is at one of them.
_SEVERAL = 3

# A server is not given up on before it has failed for so many seconds.
_LEAST = 0.5

# Seconds between two requests to a server that is given up on and can't be reached.
_AGAIN = 1.0

log = logging.getLogger(__name__)

T = TypeVar("T")


class Health:
    """One server's failures since it last worked. Safe to use from many threads.

    What fails may be a matter of one path, and who asks chooses the paths: a server has failed
    where several say so, or where it can't be reached. Until then only a path that failed is *left
    alone* there for ``settings.upstream_pause`` seconds, where another server can do the work.

    It is *given up on* once it has failed for twice as long as one request with all its further
    attempts takes, so that whoever began late has had them too: then it is asked once and not
    again. Each download knows this for itself; but while the server can't even be reached, it is
    asked by one request a second for all. ``called`` is what the log calls it, ``place`` what
    metrics do, ``clock`` counts seconds.
    """

    def __init__(
        self,
        called: str,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
        *,
        place: Place | None = None,
    ) -> None:
        self._place = place
        self._is_told = False  # whether it works, to those who count
        self._called = called
        self._pause = settings.upstream_pause
        self._retry = Retry.from_settings(settings)
        self._clock = clock
        self._lock = threading.Lock()
        # When one request may try again: by path, and by `None` once the server has failed.
        self._probes: dict[str | None, float] = {}
        self._last = 0.0  # the last failure
        self._down = Failures()  # to reach it
        self._unreachable: SourceError | None = None  # what is told without asking
        self._asked = 0.0

    @property
    def is_failing(self) -> bool:
        """Whether anything failed since its last success."""
        return bool(self._probes)

    @property
    def last_failure(self) -> float:
        """When it last failed, by the clock."""
        return self._last

    def has_failed(self, path: str) -> bool:
        """Return whether it has failed, at this path at least."""
        return self._key(path) in self._probes

    def is_resting(self, path: str) -> bool:
        """Return whether others should be asked first.

        When the pause is over one caller is told no, and tries; the others wait for what comes
        of it, for another pause at the most.
        """
        if not self._probes:
            return False
        with self._lock:
            now = self._clock()
            key = self._key(path)
            if now < self._probes.get(key, math.inf):
                return key in self._probes
            self._probes[key] = now + self._pause
            return False

    def track(self, steps: Steps[T], path: str, caller: Caller) -> Steps[T]:
        """Ask the server, and remember whether it worked.

        Raise what asking raises. A failure of a server that is given up on is no passing one;
        where it can't be reached, it is told without asking.
        """
        began = self._begin()
        try:
            result = yield from steps
        except SourceError as error:
            if error.of_server and not (error.transient or error.unreachable):
                self._worked(began, caller)  # it has said no
            known = self._failed(error, began, path, caller)
            if known is error:
                raise
            raise known from error
        self._worked(began, caller)
        return result

    def tracked(self, content: Content, path: str, caller: Caller) -> Content:
        """Return a content whose failures are remembered as well."""
        began = self._clock()
        return HealthContent(content, lambda error: self._failed(error, began, path, caller))

    def _tell(self, caller: Caller, *, is_up: bool) -> None:
        self._is_told = True
        if self._place is not None:
            caller.tally.listener.works(self._place, is_up=is_up)

    def _key(self, path: str) -> str | None:
        return None if None in self._probes else path.partition("?")[0]

    def _begin(self) -> float:
        now = self._clock()
        if self._probes:
            with self._lock:
                if self._unreachable and now - self._asked < min(_AGAIN, self._pause):
                    raise self._unreachable.but()
                self._asked = now
        return now

    def _worked(self, began: float, caller: Caller) -> None:
        failures = caller.tally.failures
        if not self._is_told:
            self._tell(caller, is_up=True)
        if self._probes or failures:
            with self._lock:
                # What was asked before the failure says nothing of the time after it.
                if began >= self._last:
                    if None in self._probes:
                        log.info("%s works again", self._called)
                        self._tell(caller, is_up=True)
                    self._probes.clear()
                    self._unreachable, self._down = None, Failures()
                if self in failures and began >= failures[self].last:
                    del failures[self]

    def _failed(self, error: SourceError, began: float, path: str, caller: Caller) -> SourceError:
        """Remember a failure; return the error to raise, of which no more is asked if it lasts."""
        if not error.of_server or not (error.transient or error.unreachable):
            return error
        now = self._clock()
        patience = max(_LEAST, 2 * self._retry.span(now - began))
        with self._lock:
            if now - self._last > self._pause:
                self._probes.clear()
            self._last = now
            key = self._key(path)
            if error.unreachable or len({*self._probes, key}) >= _SEVERAL:
                if None not in self._probes:
                    log.warning("%s fails: %s", self._called, error.for_operator)
                    self._tell(caller, is_up=False)
                key = None
            self._probes[key] = now + self._pause
            failures = caller.tally.failures.setdefault(self, Failures())
            given_up = failures.add(path.partition("?")[0], now, self._pause) > patience
            given_up = given_up and len(failures.paths) >= _SEVERAL
            if error.unreachable:
                given_up |= self._down.add("", now, self._pause) > patience
            lasting = error.but(transient=False, given_up=True)
            self._unreachable = lasting if given_up and error.unreachable else None
            if not given_up or error.retry_after:
                return error
        return lasting


class HealthContent(ContentOf):
    """A content whose failures ``noted`` hears of, and returns the error to raise."""

    def __init__(self, content: Content, noted: Callable[[SourceError], SourceError]) -> None:
        super().__init__(content)
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
        return self._noted(failed(self._content, error))

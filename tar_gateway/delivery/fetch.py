"""One member's slice as an unbroken run of bytes, however often the source breaks."""

import time
from dataclasses import dataclass
from typing import Self

from tar_gateway.delivery.pace import Pace, PaceMeter
from tar_gateway.delivery.plan import Plan
from tar_gateway.errors import SourceError
from tar_gateway.settings import Settings
from tar_gateway.sources.wire.loop import run
from tar_gateway.sources.wire.response import Content
from tar_gateway.sources.wire.retry import Retry


@dataclass(frozen=True, slots=True)
class FetchRules:
    """How members are fetched: how often tried, how fast, and how many bytes ahead of need."""

    retry: Retry
    pace: Pace
    ahead: int = 0

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Take the numbers from the settings."""
        return cls(
            Retry.from_settings(settings), Pace.from_settings(settings), settings.fetch_ahead
        )


class Fetch:
    """Bytes ``start`` to ``stop`` of the plan's member ``index``: neither more nor less.

    A fetch that breaks for a passing reason goes on from its last good byte, until as many
    attempts as ``rules`` allow have brought nothing: once bytes have begun, or while its server is
    away, those that fit into their patience. One that is too slow is broken off and
    counts as an attempt too, whatever it brought. Whoever holds it closes it. Once the plan is
    cancelled a read that waits raises, and nothing is asked for again.
    """

    def __init__(self, plan: Plan, index: int, start: int, stop: int, rules: FetchRules) -> None:
        self._plan = plan
        self._index = index
        self._start = start
        self._position = start
        self._stop = stop
        self._retry = rules.retry
        self._meter = PaceMeter(rules.pace)
        self._failed = 0
        self._failing_since = 0.0
        self._slow = 0
        self._content: Content | None = None

    def open(self) -> None:
        """Open the slice, unless it is open. Raise `SourceError` when that can't be done."""
        while self._content is None:
            self._meter.begin()
            try:
                self._content = self._plan.open(self._index, self._position, self._stop)
            except SourceError as error:
                self._fail(error)

    def read(self, limit: int) -> bytes:
        """Return what is there, at least 1 byte and at most ``limit``; ``b""`` at the end.

        Raise `SourceError` when the bytes don't come, or are not as many as was promised.
        """
        while True:
            self._break_off_if_slow()
            self.open()
            assert self._content is not None
            before = time.monotonic()
            try:
                block = self._content.read(limit)
                self._check_length(block)
            except SourceError as error:
                self.close()
                if self._position == self._stop and error.transient and self._is_proved():
                    return b""  # only the response's end is missing, and the length is proved
                self._fail(error)
                continue
            if block:
                self._failed = 0
                self._position += len(block)
                self._meter.add(time.monotonic() - before, len(block))
            return block

    def close(self) -> None:
        """Release what the source opened. May be called again."""
        if self._content is not None:
            content, self._content = self._content, None
            content.close()

    def _check_length(self, block: bytes) -> None:
        # Sources check this themselves; but the archive's rightness rests on it.
        if not block and self._position < self._stop:
            raise SourceError("it ended too early", transient=True)
        if self._position + len(block) > self._stop:
            raise SourceError("it is longer than was promised")

    def _break_off_if_slow(self) -> None:
        """End an attempt that drips, once it was waited for long enough to tell."""
        if self._content is None or not self._meter.is_over or self._position == self._stop:
            return
        if self._meter.is_kept:
            self._slow = 0
        else:
            slow = self._meter.missed(self._content)
            self.close()
            self._slow += 1
            self._wait(self._slow, slow)
        self._meter.begin()

    def _fail(self, error: SourceError) -> None:
        """Wait before another attempt at what has brought nothing since it failed first."""
        if not self._failed:
            self._failing_since = time.monotonic()
        self._failed += 1
        began = self._position > self._start or error.is_away
        self._wait(self._failed, error, since=self._failing_since if began else None)

    def _wait(self, failed: int, error: SourceError, *, since: float | None = None) -> None:
        """Wait before another attempt, or raise the error where there can be none."""
        started = self._position > self._start
        if started and not self._is_proved():
            raise error
        cancellation, tally = self._plan.cancellation, self._plan.tally
        run(self._retry.wait(failed, error, cancellation, tally=tally, since=since), cancellation)
        if started:
            self._plan.tally.resumed()

    def _is_proved(self) -> bool:
        return self._plan.is_proved(self._index)


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

"""A response's bytes as they come over a connection, which is given back once all were read."""

import time
from collections.abc import Callable

from tar_gateway.errors import Cancelled, SourceError
from tar_gateway.http.messages import BadMessage, Head
from tar_gateway.sources.wire.cancellation import Cancellation
from tar_gateway.sources.wire.connecting import Pooled
from tar_gateway.sources.wire.connection import NotThere

Release = Callable[[Pooled, bool], None]
"""Takes a connection back, and is told whether it may be used again."""

Fault = Callable[[Exception, Cancellation], SourceError | Cancelled]
"""Makes of what went wrong what is raised."""


class WireContent:
    """The content of the response with this ``head``. A read waits ``timeout`` seconds at most.

    A loop, which waits for many, sets ``waits`` to false while it reads: what is not there then
    raises `NotThere`.
    """

    def __init__(
        self,
        pooled: Pooled,
        head: Head,
        cancellation: Cancellation,
        *,
        keeps: bool,
        timeout: float,
        release: Release,
        fault: Fault,
    ) -> None:
        # Taken out in one step by whoever gives it back: servers may close while others read.
        self._held = [pooled]
        self._cancellation = cancellation
        self._keeps = keeps
        self._release = release
        self._fault = fault
        self.timeout = timeout
        self.waits = True
        """Whether a read waits in its thread."""
        self.is_late = False
        """Whether it was waited for in vain: the next read says so."""
        self._wire = pooled.wire
        self._is_over = False  # told apart from the connection's, which others use afterwards
        self._note_end()

    @property
    def pooled(self) -> Pooled | None:
        """The connection, until it was given back."""
        return self._held[0] if self._held else None

    def read(self, limit: int) -> bytes:
        """Return what is there, as `Content.read` does. Raise `SourceError` or `Cancelled`."""
        self._cancellation.check()
        try:
            block = self._read(limit)
        except (OSError, BadMessage) as error:
            raise self._fault(error, self._cancellation) from error
        if not block:
            self._cancellation.check()  # the end may be the one that was made so
        for pooled in self._held if block else ():
            pooled.owner = None  # there was content, which chunks do not tell before
        self._note_end()
        return block

    def close(self) -> None:
        """Give the connection back, to be closed if there is more to come."""
        self._give_back(read=False)

    def _read(self, limit: int) -> bytes:
        deadline = None  # of the whole read: a chunk's line that drips is late as well
        while not self._is_over:
            if self.is_late:
                raise TimeoutError
            try:
                return self._wire.read(limit)
            except NotThere as missing:
                if not self.waits:
                    raise
                now = time.monotonic()
                deadline = deadline or now + self.timeout
                self._cancellation.add(self._wire.stop)
                try:
                    self._wire.wait(missing.events, deadline - now)
                finally:
                    self._cancellation.remove(self._wire.stop)
        return b""

    def _note_end(self) -> None:
        if not self._is_over and self._wire.is_over:
            self._is_over = True
            self._give_back(read=True)

    def _give_back(self, *, read: bool) -> None:
        try:
            pooled = self._held.pop()
        except IndexError:  # it was given back
            return
        self._release(pooled, read and self._keeps)

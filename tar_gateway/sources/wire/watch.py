"""What a loop waits at: its sockets, each registered for as long as it is held, and a wake-up.

A loop that asks one question over one connection, as a thread does that fetches one member, needs
neither selector nor wake-up: to make both costs more than the question.
"""

import math
import os
import select
import selectors
import socket
import threading
from contextlib import suppress
from functools import partial

from tar_gateway.sources.wire.cancellation import Cancellation
from tar_gateway.sources.wire.connecting import Pooled


class Watch:
    """A selector of connections, that ends its waiting once ``cancellation`` is cancelled."""

    def __init__(self, cancellation: Cancellation) -> None:
        self._cancellation = cancellation
        self._only: Pooled | None = None  # the connection to wait at while there is no selector
        self._selector: selectors.BaseSelector | None = None
        self._waker: _Waker | None = None

    def want(self, pooled: Pooled, events: int) -> None:
        """Wait at a connection for these events of `selectors` from now on."""
        if pooled.events == events:
            return
        if self._selector is None and self._only in {None, pooled}:
            self._only = pooled
        elif pooled.events:
            self._opened().modify(pooled.descriptor, events, pooled)
        else:
            pooled.descriptor = pooled.sock.fileno()
            self._opened().register(pooled.descriptor, events, pooled)
        pooled.events = events

    def forget(self, pooled: Pooled) -> None:
        """Wait at a connection no more. To be called before it is closed, or another's."""
        if pooled is self._only:
            self._only = None
        elif pooled.events:
            self._opened().unregister(pooled.descriptor)
        pooled.events = 0

    def ready(self, wait: float) -> list[Pooled]:
        """Return the connections that are ready, waiting ``wait`` seconds at most.

        Raise `Cancelled`.
        """
        if self._selector is None:
            return self._ready_alone(wait)
        found = self._selector.select(None if wait == math.inf else max(0.0, wait))
        self._cancellation.check()
        ready = []
        for key, _ in found:
            if isinstance(key.data, _Waker):
                key.data.clear()
            else:
                ready.append(key.data)
        return ready

    def wake(self) -> None:
        """End the waiting, from any thread."""
        if self._waker is not None:
            self._waker.wake()

    def open(self) -> None:
        """Be ready to be woken."""
        self._opened()

    def close(self) -> None:
        """Close what it waits by, and no connection."""
        if self._only is not None:
            self.forget(self._only)
        if self._selector is not None and self._waker is not None:
            self._cancellation.remove(self._waker.wake)
            for key in [*self._selector.get_map().values()]:
                if key.data is not self._waker:
                    key.data.events = 0
            self._selector.close()
            self._waker.close()

    def _opened(self) -> selectors.BaseSelector:
        if self._selector is None:
            # Looked up when it is used: gevent puts its own in this place.
            self._selector = selectors.DefaultSelector()
            self._waker = _Waker()
            self._selector.register(self._waker.descriptor, selectors.EVENT_READ, self._waker)
            self._cancellation.add(self._waker.wake)
            if self._only is not None:
                pooled, events = self._only, self._only.events
                self.forget(pooled)
                self.want(pooled, events)
        return self._selector

    def _ready_alone(self, wait: float) -> list[Pooled]:
        """Wait at the only connection, or for time to pass. What cancels it ends it."""
        pooled = self._only
        if pooled is None:
            self._cancellation.event.wait(None if wait == math.inf else max(0.0, wait))
            self._cancellation.check()
            return []
        poll = select.poll()
        poll.register(pooled.sock, _POLLED[pooled.events])
        end = partial(_end, pooled.sock)
        self._cancellation.add(end)
        try:
            found = poll.poll(None if wait == math.inf else max(0.0, wait) * 1000)
        finally:
            self._cancellation.remove(end)
        self._cancellation.check()
        return [pooled] if found else []


def _end(wire: socket.socket) -> None:
    """Make a connection ready for whoever waits at it, in another thread."""
    # Not TLS's own way, which would write. The other side may have ended it meanwhile.
    with suppress(OSError):
        socket.socket.shutdown(wire, socket.SHUT_RDWR)


_POLLED = {
    selectors.EVENT_READ: select.POLLIN,
    selectors.EVENT_WRITE: select.POLLOUT,
    selectors.EVENT_READ | selectors.EVENT_WRITE: select.POLLIN | select.POLLOUT,
}


class _Waker:
    """A descriptor that other threads make readable.

    Under a lock, and only while it is open: its number may be another socket's afterwards.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.descriptor, self._writes = os.pipe()
        self._set = False
        self._closed = False

    def wake(self) -> None:
        with self._lock:
            if not (self._set or self._closed):
                self._set = True
                os.write(self._writes, b"\0")

    def clear(self) -> None:
        with self._lock:
            if self._set:
                self._set = False
                os.read(self.descriptor, 1)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            os.close(self.descriptor)
            os.close(self._writes)

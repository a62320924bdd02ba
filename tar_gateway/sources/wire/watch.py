"""What a loop waits at: its sockets, each registered for as long as it is held, and a wake-up."""

import math
import os
import selectors
import threading

from tar_gateway.sources.wire.cancellation import Cancellation
from tar_gateway.sources.wire.connecting import Pooled


class Watch:
    """A selector of connections, that ends its waiting once ``cancellation`` is cancelled."""

    def __init__(self, cancellation: Cancellation) -> None:
        self._cancellation = cancellation
        self._selector: selectors.BaseSelector | None = None
        self._waker: _Waker | None = None

    def want(self, pooled: Pooled, events: int) -> None:
        """Wait at a connection for these events of `selectors` from now on."""
        if pooled.events == events:
            return
        selector = self._opened()
        if pooled.events:
            selector.modify(pooled.descriptor, events, pooled)
        else:
            pooled.descriptor = pooled.sock.fileno()
            selector.register(pooled.descriptor, events, pooled)
        pooled.events = events

    def forget(self, pooled: Pooled) -> None:
        """Wait at a connection no more. To be called before it is closed, or another's."""
        if pooled.events:
            pooled.events = 0
            self._opened().unregister(pooled.descriptor)

    def ready(self, wait: float) -> list[Pooled]:
        """Return the connections that are ready, waiting ``wait`` seconds at most.

        Raise `Cancelled`.
        """
        found = self._opened().select(None if wait == math.inf else max(0.0, wait))
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
        return self._selector


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

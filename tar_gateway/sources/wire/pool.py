"""One HTTP server and the connections to it, shared by those who ask it at the same time.

Requests go out and responses come back as they are. What is asked for, on whose authority, and
what a response means is not known here, nor how many questions are waited for at once: that is
`tar_gateway.sources.wire.loop`'s.
"""

import logging
import math
import ssl
import threading
import time
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

from tar_gateway.errors import Cancelled, SourceError
from tar_gateway.http.messages import host_field, identifies, request_head
from tar_gateway.settings import Settings
from tar_gateway.sources.wire.cancellation import Cancellation
from tar_gateway.sources.wire.connecting import Addresses, Plain, Pooled, Tls
from tar_gateway.sources.wire.faults import cause_of, fault_of_wire
from tar_gateway.sources.wire.response import Headers

PORTS: Final = {"http": 80, "https": 443}

# Sent unless the request has its own.
_OWN_HEADERS: Final = {"User-Agent": "tar_gateway", "Accept-Encoding": "identity"}

# Idle connections that are kept: room for what many downloads return at once.
_KEPT: Final = 256

# Connections that a loop may have beside others that have all the rest, and in all as a multiple
# of those that may be under way: what stands still in a send has connections, and asks nothing.
_LEAST_SHARE: Final = 4
_MOST: Final = 2

# Seconds for a look whether a server is there: who asks, a balancer, waits no longer.
REACH: Final = 2.0

log = logging.getLogger(__name__)


class Origin:
    """The scheme, host and port of ``url``. Safe to use from many threads.

    Timeouts come from ``settings``; ``called`` is what errors call the server, and ``tls`` is
    used where the scheme is https. Connections open when they are needed, so one that is made
    before a fork may be used after it.
    """

    def __init__(
        self, url: str, settings: Settings, *, called: str, tls: ssl.SSLContext | None
    ) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._called = called
        self.connect_timeout = settings.connect_timeout
        self.read_timeout = settings.read_timeout
        self._keep_alive = settings.keep_alive
        self._most = settings.fetch_parallel
        self._host = host_field(parts.hostname, parts.port, PORTS[parts.scheme])
        self._netloc = parts.netloc.rpartition("@")[2]
        self._place = (parts.hostname.replace("%25", "%"), parts.port or PORTS[parts.scheme])
        self._addresses = Addresses(*self._place)
        self._tls = tls if parts.scheme == "https" else None
        self._lock = threading.Lock()
        self._idle: dict[Pooled, None] = {}  # in the order in which they were returned
        self._under_way = 0  # connections in the hands of loops that do not stand still
        self._users = 0  # those loops
        self._held = 0  # connections in the hands of all loops
        self._closed = False
        self._caught = False  # with bytes that were not requested

    def render(self, method: str, target: str, headers: Headers) -> tuple[bytes, bool]:
        """Return a request as it is sent, and whether it makes its connection the caller's own.

        ``target`` is the path and query, ``headers`` are all that are sent. Raise `ValueError` for
        what can't be sent.
        """
        given = {name.lower() for name, _ in headers}
        sent = {name: value for name, value in _OWN_HEADERS.items() if name.lower() not in given}
        sent.update(headers)
        return request_head(method, target, self._host, sent), identifies(sent)

    def of_status(self, status: int) -> SourceError:
        """Return what is wrong with a status that no response has."""
        return SourceError(f"{self._called} sent the invalid status {status}")

    def fault(self, error: Exception, cancellation: Cancellation) -> SourceError | Cancelled:
        """Return what went wrong: in a response's words, and its cause in the system's."""
        if cancellation.is_cancelled:
            return Cancelled()
        fault = fault_of_wire(error, self._called)
        fault.cause = f"{cause_of(error)} ({self._netloc})"
        return fault

    def close(self) -> None:
        """Close the connections that are not in use, and keep none any more."""
        self._closed = True
        while self._idle:
            self._close_idle(math.inf)

    def connect(self) -> Pooled:
        """Begin to open a connection. Raise `NotConnected`."""
        host, port = self._place
        pooled = Tls(host, port, ssl_context=self._tls) if self._tls else Plain(host, port)
        try:
            pooled.begin(self._addresses)
        except BaseException:
            pooled.close()
            raise
        return pooled

    def idle(self, key: int) -> Pooled | None:
        """Return an open connection that no one else uses, for the caller of this key."""
        if not self._idle:
            return None
        idle = [*self._idle]
        # Its own first, so that the others stay for others, and what came late is noticed.
        for owner in (key, None):
            for pooled in reversed(idle):
                # In one step and without the lock: whoever takes one out has it.
                if pooled.owner == owner and self._idle.pop(pooled, self) is None:
                    if self.is_usable(pooled):
                        return pooled
                    self.end(pooled)
        return None

    def keep(self, pooled: Pooled) -> None:
        """Keep a connection that may be used again, until somebody wants it."""
        if pooled.wire.has_unrequested(look=False):
            self._catch()
        if self._closed or self._caught:
            pooled.close()
            return
        pooled.idle_since = time.monotonic()
        self._idle[pooled] = None
        self._close_idle(pooled.idle_since - self._keep_alive)

    def end(self, pooled: Pooled) -> None:
        """Close an idle connection that can't be used again, and look at why."""
        if pooled.wire.has_unrequested():
            self._catch()
        pooled.close()

    def is_usable(self, pooled: Pooled) -> bool:
        """Return whether an idle connection may be used: nothing came that was not requested."""
        is_fresh = pooled.idle_since > time.monotonic() - self._keep_alive
        return is_fresh and not self._caught and pooled.wire.is_fit()

    def _close_idle(self, since: float) -> None:
        """Close what has been idle since before a moment, and the oldest beyond those kept."""
        with suppress(StopIteration, KeyError, RuntimeError):  # another thread was faster
            while (pooled := next(iter(self._idle))).idle_since < since or len(self._idle) > _KEPT:
                del self._idle[pooled]
                pooled.close()

    def _catch(self) -> None:
        """Use no connection again: what comes late is read as the next request's response."""
        if not self._caught:
            self._caught = True
            log.warning(
                "%s sent bytes that were not requested (%s): no connection to it is used again",
                self._called,
                self._netloc,
            )
        while self._idle:
            self._close_idle(math.inf)


class Share:
    """One loop's share of a server's connections: as many as `FETCH_PARALLEL` allows for each.

    No one waits for another here: a loop that has connections asks again as each of its responses
    comes, and one that has none may always open one. While a loop is ``parked``, its thread sends
    to a client and asks nothing, so that its connections count for nobody else.
    """

    __slots__ = ("_origin", "_parked", "held")

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._parked = False
        self.held = 0
        """Connections that the loop has, idle ones among them."""

    def take(self, *, urgent: bool) -> bool:
        """Take room for one more connection. Return whether there was any.

        ``urgent`` is what the client is waiting for: it never waits for what is ahead of need.
        """
        origin, held = self._origin, self.held
        with origin._lock:
            if held and not urgent:
                least = min(_LEAST_SHARE, origin._most)
                share = max(least, origin._most // origin._users)
                if (
                    held >= share
                    or (held >= least and origin._under_way >= origin._most)
                    or origin._held >= _MOST * origin._most
                ):
                    return False
            self._count(1)
        return True

    def give(self) -> None:
        """Give room back."""
        with self._origin._lock:
            self._count(-1)

    @property
    def is_exceeded(self) -> bool:
        """Whether it has more connections than are its own, since others have come."""
        origin = self._origin
        return self.held > max(_LEAST_SHARE, origin._most // max(1, origin._users))

    def park(self, *, parked: bool) -> None:
        """Count its connections for nothing, or again."""
        if self.held and parked is not self._parked:
            with self._origin._lock:
                change = -1 if parked else 1
                self._origin._users += change
                self._origin._under_way += change * self.held
                self._parked = parked

    def close(self) -> None:
        """Give all room back."""
        with self._origin._lock:
            self._count(-self.held)

    def _count(self, change: int) -> None:
        origin, held = self._origin, self.held + change
        origin._held += change
        if not self._parked:
            origin._under_way += change
            origin._users += bool(held) - bool(self.held)
        self.held = held
        self._parked = self._parked and bool(held)

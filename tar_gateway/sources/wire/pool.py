"""One HTTP server and the connections to it: the only file that knows urllib3.

Requests go out and responses come back as they are. What is asked for, on whose authority, and
what a response means is not known here. urllib3 opens connections. What travels on them is known
to `tar_gateway.sources.wire.connection`, since urllib3's own way costs five times as much.
"""

import errno
import logging
import math
import socket
import ssl
import time
from contextlib import suppress
from typing import Any, Final, cast
from urllib.parse import urlsplit

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    SSLError,
)

from tar_gateway.errors import Cancelled, SourceError
from tar_gateway.http.messages import (
    BadLength,
    BadMessage,
    Head,
    host_field,
    identifies,
    request_head,
)
from tar_gateway.settings import Settings
from tar_gateway.sources.wire.caller import Caller
from tar_gateway.sources.wire.cancellation import Cancellation
from tar_gateway.sources.wire.connection import Connection
from tar_gateway.sources.wire.response import Headers, Response
from tar_gateway.sources.wire.tls import lowered, tls_cause

PORTS: Final = {"http": 80, "https": 443}

# Sent unless the request has its own.
_OWN_HEADERS: Final = {"User-Agent": "tar_gateway", "Accept-Encoding": "identity"}

# Idle connections that are kept: room for what many downloads return at once.
_KEPT: Final = 256

# Seconds for which an idle connection is as good as one in use. A server that has too much to do
# must not be asked all twice.
_SURE: Final = 1.0

# Seconds that a response is given at the least, however long connecting took.
_LEAST: Final = 0.01

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
        self._settings = settings
        self._host = host_field(parts.hostname, parts.port, PORTS[parts.scheme])
        self._netloc = parts.netloc.rpartition("@")[2]
        self._place = (parts.hostname.replace("%25", "%"), parts.port or PORTS[parts.scheme])
        self._tls = tls if parts.scheme == "https" else None
        # In the order in which they were returned, without a lock: threads that fetch small files
        # would hand it to each other for every request. Whoever takes one out has it.
        self._idle: dict[_Pooled, None] = {}
        self._closed = False
        self._caught = False  # with bytes that were not requested

    def request(
        self,
        method: str,
        target: str,
        headers: Headers,
        caller: Caller,
        *,
        timeout: float | None = None,
    ) -> Response:
        """Send one request, and return the response once its headers are there.

        ``target`` is the path and query as they are sent, ``headers`` are all that are sent;
        ``timeout`` is in seconds, for the response's headers, and comes before the settings.
        Redirects are responses like any other. Raise `SourceError` when there is no response. Once
        the caller's cancellation is cancelled, this and the content's reads raise `Cancelled`,
        also where they are waiting.
        """
        cancellation = caller.cancellation
        cancellation.check()
        given = {name.lower() for name, _ in headers}
        sent = {name: value for name, value in _OWN_HEADERS.items() if name.lower() not in given}
        sent.update(headers)
        try:
            request = request_head(method, target, self._host, sent)
            pooled, head = self._ask(method, request, caller, timeout)
        except (HTTPError, OSError, ValueError, BadMessage) as error:
            raise self.fault(error, cancellation) from error
        if not 200 <= head.status < 600:
            self.release(pooled, cancellation, keep=False)
            raise SourceError(f"{self._called} sent the invalid status {head.status}")
        # Content that comes late, where there should be none, is read as the next response.
        pooled.owner = None if head.length else caller.key
        keeps = head.keeps and not identifies(sent)
        content = _Content(self, pooled, head, cancellation, keeps=keeps)
        return Response(head.status, head.fields, content, values=head.values)

    def _ask(
        self, method: str, request: bytes, caller: Caller, timeout: float | None, anew: bool = False
    ) -> tuple["_Pooled", Head]:
        """Send a request, by a new connection if ``anew``, and read its response's head.

        An idle connection may have died without a sign. So it is given no longer than connecting.
        """
        began = time.monotonic()
        connecting = timeout or self._settings.connect_timeout
        pooled = self._connect(connecting) if anew else self._take(caller.key, connecting)
        doubtful = began - pooled.idle_since > _SURE
        try:
            given = self._settings.read_timeout
            if timeout is not None:
                given = max(_LEAST, timeout - (time.monotonic() - began))
            pooled.wire.give(min(self._settings.connect_timeout, given / 2) if doubtful else given)
            caller.cancellation.add(pooled.wire.stop)
            head = pooled.wire.ask(method, request)
            pooled.wire.give(given)
        except BaseException as error:
            self.release(pooled, caller.cancellation, keep=False)
            if doubtful and isinstance(error, OSError) and not caller.cancellation.is_cancelled:
                return self._ask(method, request, caller, timeout and timeout / 2, anew=True)
            raise
        return pooled, head

    def release(self, pooled: "_Pooled", cancellation: Cancellation, *, keep: bool) -> None:
        """Take a connection back, and close it if it can't be used again."""
        # First, for it may be somebody else's from then on.
        cancellation.remove(pooled.wire.stop)
        if keep and pooled.wire.has_unrequested(look=False):
            self._catch()
        if not keep or self._closed or self._caught:
            pooled.close()
            return
        pooled.idle_since = time.monotonic()
        self._idle[pooled] = None
        self._close_idle(pooled.idle_since - self._settings.keep_alive)

    def fault(self, error: Exception, cancellation: Cancellation) -> SourceError | Cancelled:
        """Return what went wrong: in a response's words, and its cause in the system's."""
        if cancellation.is_cancelled:
            return Cancelled()
        fault = _fault(error, self._called)
        fault.cause = f"{_cause(error)} ({self._netloc})"
        return fault

    def close(self) -> None:
        """Close the connections that are not in use, and keep none any more."""
        self._closed = True
        while self._idle:
            self._close_idle(math.inf)

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

    def _take(self, key: int, timeout: float) -> "_Pooled":
        """Return a connection that no one else uses, open: an idle one, or else a new one."""
        idle, oldest = [*self._idle], time.monotonic() - self._settings.keep_alive
        # Its own first, so that the others stay for others, and what came late is noticed.
        for owner in (key, None):
            for pooled in reversed(idle):
                if pooled.owner == owner and self._idle.pop(pooled, self) is None:
                    if pooled.wire.is_fit() and pooled.idle_since > oldest:
                        return pooled
                    if pooled.wire.has_unrequested():
                        self._catch()
                    pooled.close()
        return self._connect(timeout)

    def _connect(self, timeout: float) -> "_Pooled":
        host, port = self._place
        pooled = _Tls(host, port, ssl_context=self._tls) if self._tls else _Plain(host, port)
        try:
            pooled.timeout = timeout
            pooled.connect()
            assert pooled.sock is not None
            pooled.wire = Connection(pooled.sock, timeout)
        except BaseException:
            pooled.close()
            raise
        return pooled


class _Plain(HTTPConnection):
    """urllib3's connection, on which `wire` is spoken instead of its own HTTP."""

    wire: Connection
    owner: int | None = None
    """The one caller that may use it next, `None` if any may."""
    idle_since: float = math.inf
    """When it was returned the last time, by `time.monotonic`."""


class _Tls(HTTPSConnection):
    """The same over TLS."""

    wire: Connection
    owner: int | None = None
    idle_since: float = math.inf

    def connect(self) -> None:
        """Connect, and take no end for one that TLS does not vouch for.

        RFC 9112 9.8: without a length, a connection that is merely cut is a file that is cut.
        """
        super().connect()
        cast(Any, self.sock).suppress_ragged_eofs = False


_Pooled = _Plain | _Tls


class _Content:
    """A response's bytes; its connection goes back to the origin once all were read."""

    def __init__(
        self,
        origin: Origin,
        pooled: _Pooled,
        head: Head,
        cancellation: Cancellation,
        *,
        keeps: bool,
    ) -> None:
        self._origin = origin
        # Taken out in one step by whoever gives it back: servers may close while others read.
        self._held = [pooled]
        self._cancellation = cancellation
        self._keeps = keeps
        self._wire = pooled.wire
        self._is_over = False  # told apart from the connection's, which others use afterwards
        self._note_end()

    def read(self, limit: int) -> bytes:
        try:
            block = b"" if self._is_over else self._wire.read(limit)
        except (OSError, BadMessage) as error:
            raise self._origin.fault(error, self._cancellation) from error
        if not block:
            self._cancellation.check()  # the end may be the one that was made so
        for pooled in self._held if block else ():
            pooled.owner = None  # there was content, which chunks do not tell before
        self._note_end()
        return block

    def close(self) -> None:
        self._give_back(read=False)

    def _note_end(self) -> None:
        if self._wire.is_over:
            self._is_over = True
            self._give_back(read=True)

    def _give_back(self, *, read: bool) -> None:
        try:
            pooled = self._held.pop()
        except IndexError:  # it was given back
            return
        self._origin.release(pooled, self._cancellation, keep=read and self._keeps)


# How a TLS connection tells that the other side has ended it.
_ENDED = (ssl.SSLEOFError, ssl.SSLZeroReturnError)

_OURS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL}


def _is_ours(error: NewConnectionError) -> bool:
    """Return whether this machine had not what it takes to connect."""
    if isinstance(error, NameResolutionError):
        # To look a name up takes a descriptor as well, and the error does not say so.
        try:
            socket.socket().close()
        except OSError:
            return True
    return getattr(error.__cause__, "errno", None) in _OURS


def _fault(error: Exception, called: str) -> SourceError:
    match error:
        case NewConnectionError():  # a ConnectTimeoutError too, so it comes first
            ours = _is_ours(error)
            reason = f"{called} cannot be reached"
            if ours:
                reason = f"the gateway has no file descriptor or port left to connect to {called}"
            return SourceError(reason, transient=True, unreachable=not ours, of_server=not ours)
        case ConnectTimeoutError() | TimeoutError():
            reason, unreachable = f"{called} took too long", isinstance(error, ConnectTimeoutError)
            return SourceError(reason, status=504, transient=True, unreachable=unreachable)
        case SSLError() | ssl.SSLError() if not isinstance(error, _ENDED):
            reason = f"the TLS connection to {called} failed"
            return SourceError(reason, unreachable=True)
        case BadLength():
            return SourceError(f"{called} sent an invalid Content-Length")
        case ValueError():
            return SourceError(f"the request to {called} is invalid")
        case _:
            return SourceError(f"{called} broke the connection", transient=True)


def _cause(error: BaseException) -> str:
    """Return what went wrong in the system's own words, for an operator."""
    if isinstance(error, HTTPError) and error.__cause__ is not None:
        error = error.__cause__  # urllib3 wraps what the system said
    match error:
        case ssl.SSLError():
            return tls_cause(error)
        case ConnectTimeoutError() | TimeoutError():
            return "connection timed out"
        case OSError() if error.strerror:
            return lowered(error.strerror)
        case _:
            return str(error) or type(error).__name__

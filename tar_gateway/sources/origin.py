"""One HTTP server over pooled connections: the only file that knows urllib3.

Requests go out and answers come back as they are. What is asked for, on whose authority, and
what an answer means is not known here.
"""

import socket
import ssl
from contextlib import suppress
from io import DEFAULT_BUFFER_SIZE
from typing import Final
from urllib.parse import urlsplit

from urllib3 import BaseHTTPResponse, HTTPConnectionPool, HTTPSConnectionPool, Timeout
from urllib3.connection import HTTPConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    InvalidHeader,
    LocationParseError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)

from tar_gateway.errors import SourceError
from tar_gateway.settings import Settings
from tar_gateway.sources.arrived import arrived
from tar_gateway.sources.http import Answer, Headers

PORTS: Final = {"http": 80, "https": 443}

# Sent unless the request has its own. urllib3 would ask for compressed files otherwise.
_OWN_HEADERS: Final = {"User-Agent": "tar_gateway", "Accept-Encoding": "identity"}

# Idle connections that are kept. urllib3 warns of each that it can't keep, so there is room for
# what many downloads give back at once.
_KEPT: Final = 256

# Seconds for a look whether a server is there: who asks, a balancer, waits no longer.
REACH: Final = 2.0


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
        timeout = Timeout(connect=settings.connect_timeout, read=settings.read_timeout)
        # Without `block` a pool opens as many connections as are needed: nothing waits for one,
        # and none that is lost leaves a hole.
        if parts.scheme == "https":
            assert tls is not None
            self._pool: HTTPConnectionPool = HTTPSConnectionPool(
                parts.hostname, parts.port, timeout=timeout, maxsize=_KEPT, ssl_context=tls
            )
        else:
            self._pool = HTTPConnectionPool(
                parts.hostname, parts.port, timeout=timeout, maxsize=_KEPT
            )

    def request(
        self, method: str, target: str, headers: Headers, timeout: float | None = None
    ) -> Answer:
        """Send one request, and give the answer once its headers are there.

        ``target`` is the path and query as they are sent; ``timeout`` is in seconds, for the
        whole request, and comes before the settings. Redirects are answers like any other.
        Raises `SourceError` when there is no answer.
        """
        given = {name.lower() for name, _ in headers}
        sent = {name: value for name, value in _OWN_HEADERS.items() if name.lower() not in given}
        sent.update(headers)
        try:
            response = self._pool.urlopen(
                method,
                target,
                headers=sent,
                timeout=self._pool.timeout if timeout is None else Timeout(timeout),
                redirect=False,
                retries=False,
                assert_same_host=False,
                preload_content=False,
                decode_content=False,
            )
        except (HTTPError, OSError, ValueError) as error:
            raise _fault(error, self._called) from error
        received = [(key, value) for key, value in response.headers.iteritems()]
        content = _Content(response, self._called)
        if not 200 <= response.status < 600:
            content.close()
            raise SourceError(f"{self._called} answered with the status {response.status}")
        if method == "HEAD":
            content.read(1)  # there is nothing; having seen it lets the connection be kept
        return Answer(response.status, received, content)

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._pool.close()


class _Content:
    """A response's bytes; its connection goes back to the pool however it ends."""

    def __init__(self, response: BaseHTTPResponse, called: str) -> None:
        self._response = response
        self._called = called
        self._is_bare = False  # what came together with the headers has been read
        self._closed = False

    def read(self, limit: int) -> bytes:
        try:
            if self._is_bare and (wire := self._wire()):
                limit = arrived(wire, limit)
            # read1 gives what is there; read and stream would wait for all of the limit.
            block = self._response.read1(limit)
        except (HTTPError, OSError, ValueError) as error:
            raise _fault(error, self._called) from error
        # Nothing is kept back of what came with the headers where there was room for all of it.
        self._is_bare = self._is_bare or limit >= DEFAULT_BUFFER_SIZE
        return block

    def stop(self) -> None:
        # It may have ended meanwhile, and its connection be released: then nothing waits.
        with suppress(RuntimeError, ValueError, TypeError, OSError):
            self._response.shutdown()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        # Closing alone would lose the connection's place in the pool; releasing alone would
        # hand a connection with a half-read answer to the next request.
        self._response.close()
        self._response.release_conn()

    def _wire(self) -> socket.socket | None:
        """Give the socket that the next bytes come from as they are, if there is such a one."""
        connection = self._response.connection
        # Between chunks there are lengths, and reading them reads on into what follows.
        if not isinstance(connection, HTTPConnection) or self._response.chunked:
            return None
        return connection.sock


def _fault(error: Exception, called: str) -> SourceError:
    match error:
        case NewConnectionError():  # a ConnectTimeoutError too, so it comes first
            return SourceError(f"{called} cannot be reached", transient=True, unreachable=True)
        case ConnectTimeoutError() | ReadTimeoutError() | TimeoutError():
            reason, unreachable = f"{called} took too long", isinstance(error, ConnectTimeoutError)
            return SourceError(reason, status=504, transient=True, unreachable=unreachable)
        case SSLError():
            reason = f"{called}'s TLS certificate or connection is not right"
            return SourceError(reason, unreachable=True)
        case InvalidHeader():
            return SourceError("the answer's Content-Length is not a length")
        case LocationParseError() | ValueError():
            return SourceError(f"{called}'s address is not right")
        case _:
            return SourceError(f"{called} broke the connection", transient=True)

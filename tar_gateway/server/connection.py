"""A client's connection under `worker.GatewayWorker`: what has arrived, and when it is late."""

import errno
import math
import socket
import time
from contextlib import suppress

from gunicorn.http.parser import Parser
from gunicorn.http.unreader import SocketUnreader
from gunicorn.workers.gthread import TConn

from tar_gateway.http.framing import IncomingRequest

_BLOCK = 64 * 1024

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection(TConn):
    """A client's connection, and what has arrived of its next request."""

    incoming: IncomingRequest
    deadline = math.inf
    """When its client is late, by the monotonic clock."""
    lingers = False
    """Whether it has had its last response."""
    is_given_up = False
    """Whether it was closed because there was no thread for it."""

    def wait_for_data(self, _timeout: float | None) -> bool:
        """Return at once: a thread is given it only when there is something to read."""
        return True

    def init(self) -> None:
        """Set up the parser as gunicorn does, and give it what was read so far."""
        super().init()
        parser = self.parser
        if isinstance(parser, Parser) and not isinstance(parser.unreader, _Unreader):
            begun = parser.unreader.take_buffered()
            parser.unreader = _Unreader(self)
            parser.unreader.unread(begun)

    def tell_to_continue(self) -> None:
        """Ask for the body of a client that waits for that, unless it takes nothing."""
        with suppress(OSError):  # it has left, or takes nothing: which shows soon
            self.sock.send(_CONTINUE, socket.MSG_DONTWAIT)

    def take_left(self) -> bytes:
        """Return what has arrived behind a request that was answered."""
        assert isinstance(self.parser, Parser)
        return self.parser.unreader.take_buffered() + self.incoming.take(len(self.incoming.data))


class _Unreader(SocketUnreader):
    """Reads for the parser: what has arrived, and more until its connection's deadline.

    What has arrived is given piece by piece: all at once gunicorn would copy for each read.
    """

    def __init__(self, conn: Connection) -> None:
        super().__init__(conn.sock)
        self._conn = conn

    def chunk(self, _size_hint: int | None = None) -> bytes:
        if self._conn.incoming.data:
            return self._conn.incoming.take(_BLOCK)
        remaining = self._conn.deadline - time.monotonic()
        if remaining > 0:
            before = self.sock.gettimeout()
            self.sock.settimeout(remaining)
            try:
                return self.sock.recv(_BLOCK)
            except TimeoutError:
                pass
            finally:
                self.sock.settimeout(before)
        raise ConnectionResetError(errno.ECONNRESET, "the client is too slow")

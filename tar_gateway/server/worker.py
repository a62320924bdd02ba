"""gunicorn's threaded worker, with its threads for answers alone.

gunicorn's own gives a thread to each new connection and each request that has begun, and keeps
all others waiting while a client that has its response doesn't close. Here the one thread that
polls reads requests until they are whole and lingers behind last responses, without waiting for
anyone: slow clients hold no thread.

Made for gunicorn 27: each override says what it replaces.
"""

import errno
import math
import os
import selectors
import socket
import time
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from types import FrameType

from gunicorn.http import Request
from gunicorn.http.errors import ParseException
from gunicorn.util import write_nonblock
from gunicorn.workers.gthread import TConn, ThreadWorker

from tar_gateway.errors import Busy, HeaderTooLarge, Refusal, RequestTimeout
from tar_gateway.http.framing import IncomingRequest, Progress
from tar_gateway.server.connection import Connection
from tar_gateway.server.failures import ErrorBoundary, refusal_of
from tar_gateway.server.logger import JsonLogger
from tar_gateway.settings import Settings
from tar_gateway.web.problem import problem

# Bytes of a request's line and headers: eight times the longest header that gunicorn takes.
_MAX_HEAD = 64 * 1024

# Bytes that a process holds of all requests that are not whole. Beyond it those with a large
# body are told to come back; all others go on as ever.
_MAX_HELD = 64 * 1024 * 1024

# Seconds to read on behind a last response, so that the client gets all of it before a reset.
_LINGER = 2.0

# Seconds between two looks at who is late; and without accepting, after the system had no room
# for one more connection.
_INTERVAL = 0.5

_BLOCK = 64 * 1024


class GatewayWorker(ThreadWorker):
    """The worker class, ``tar_gateway.server.worker.GatewayWorker``.

    ``settings`` are the gateway's, set by `gunicorn_conf` in each worker: the clients' timeouts
    and ``max_body``: a larger body is read by a thread.
    """

    settings = Settings()

    def init_process(self) -> None:
        """Begin with nothing, and run until the worker ends."""
        self._waiting: dict[Connection, None] = {}  # those in the poller, longest first
        self._held = 0  # bytes of requests that are not whole
        self._busy = 0  # requests in threads
        self._accept_from = self._look_at = 0.0  # by the monotonic clock
        # TLS and other protocols than HTTP/1 are read by a thread from the first byte on.
        self._reads_ahead = (
            not self.cfg.is_ssl
            and self.cfg.protocol == "http"
            and self.cfg.http2_cleartext == "off"
        )
        super().init_process()

    def load_wsgi(self) -> None:
        """Load the application, and guard it."""
        super().load_wsgi()
        guarded = ErrorBoundary(self.wsgi, self.log.exception)  # type: ignore[arg-type] # same thing
        self.wsgi = guarded  # type: ignore[assignment]

    # --- accepting ---------------------------------------------------------------------------

    def set_accept_enabled(self, enabled: bool | None) -> None:
        """Take connections as long as a thread is free to answer one.

        gunicorn counts connections instead, those that need no thread among them.
        """
        can = self._busy < self.cfg.threads and time.monotonic() >= self._accept_from
        super().set_accept_enabled(bool(enabled) and can)

    def accept(self, listener: socket.socket) -> None:
        """Take a connection, and wait for its request: gunicorn takes a thread for that.

        Where the system has no room gunicorn's worker ends, and all its downloads with it.
        """
        self._accept(listener)

    def _accept(self, listener: socket.socket) -> bool:
        """Take a connection if there is one, and tell whether there was."""
        try:
            client, address = listener.accept()
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ECONNABORTED):
                self.log.warning("Cannot take a connection: %s", error.strerror)
                self._accept_from = time.monotonic() + _INTERVAL
                self.set_accept_enabled(False)
            return False
        if self.nr_conns + 1 >= self.worker_connections and self._waiting:
            # The one that waits longest makes room, or a few slow clients could keep all out.
            self._close(next(iter(self._waiting)))
        self.nr_conns += 1
        conn = Connection(self.cfg, client, address, listener.getsockname())
        self._expect(conn, self.settings.client_header_timeout)
        return True

    # --- waiting in the poller ---------------------------------------------------------------

    def _expect(self, conn: Connection, seconds: float) -> None:
        conn.incoming = IncomingRequest(_MAX_HEAD, self.settings.max_body)
        self._wait(conn, seconds)

    def _wait(self, conn: Connection, seconds: float) -> None:
        conn.deadline = time.monotonic() + seconds
        conn.sock.setblocking(False)
        self._waiting[conn] = None
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._on_readable, conn))

    def _wait_no_more(self, conn: Connection) -> None:
        del self._waiting[conn]
        self.poller.unregister(conn.sock)
        self._held -= conn.incoming.held

    def _on_readable(self, conn: Connection, _client: socket.socket) -> None:
        if conn not in self._waiting:  # it had to make room for one that came at the same time
            return
        if not (self._reads_ahead or conn.lingers):
            self._answer(conn)
            return
        try:
            block = conn.sock.recv(_BLOCK)
        except BlockingIOError:
            return
        except OSError:
            block = b""
        if not block:
            self._close(conn)
        elif not conn.lingers:
            self._feed(conn, block)

    def _feed(self, conn: Connection, block: bytes) -> None:
        """Add bytes to a request, and do what is to be done next about it."""
        incoming = conn.incoming
        before = incoming.progress if incoming.data else None
        held = incoming.held
        progress = incoming.feed(block)
        self._held += incoming.held - held
        if progress is Progress.WHOLE:
            self._answer(conn)
        elif progress is Progress.TOO_LONG:
            self._refuse(conn, HeaderTooLarge("the request's line and headers are too long"))
        elif self._held > _MAX_HELD and incoming.held > _MAX_HEAD:
            again = [("Retry-After", str(round(self.settings.client_body_timeout)))]
            self._refuse(conn, Busy("too much is being sent at once", headers=again))
        elif progress is not before and progress is Progress.HEAD:
            conn.deadline = time.monotonic() + self.settings.client_header_timeout
        elif progress is not before:
            conn.deadline = time.monotonic() + self.settings.client_body_timeout
            if incoming.wants_continue:
                conn.tell_to_continue()

    def _answer(self, conn: Connection) -> None:
        """Hand a connection to a thread."""
        self._wait_no_more(conn)
        conn.deadline = time.monotonic() + self.settings.client_header_timeout
        self.enqueue_req(conn)

    def _refuse(self, conn: Connection, refusal: Refusal) -> None:
        self._log_refused(conn.client, refusal)
        with suppress(OSError):  # then the client has left
            conn.sock.send(_last_answer(refusal))
        self._linger(conn)

    def _log_refused(self, address: object, refusal: Refusal) -> None:
        host = str(address[0]) if isinstance(address, tuple) else ""  # a unix socket's client
        if isinstance(self.log, JsonLogger):
            self.log.refused(host, refusal)
        else:
            self.log.warning("Refused %s: %d, %s", host, refusal.status, refusal.detail)

    def _linger(self, conn: Connection) -> None:
        """Say that nothing more comes, and read on for a while.

        gunicorn does that at a stretch, in the thread that polls for all others.
        """
        if conn in self._waiting:
            self._wait_no_more(conn)
        conn.lingers = True
        conn.incoming.clear()
        try:
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:  # the client is gone, or the application has closed it
            self._close(conn)
        else:
            self._wait(conn, _LINGER)

    def _close(self, conn: Connection) -> None:
        if conn in self._waiting:
            self._wait_no_more(conn)
        self.nr_conns -= 1
        conn.close()

    def murder_pending(self) -> None:
        """End the wait of those that are late; gunicorn calls it whenever it has polled."""
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + _INTERVAL
        for conn in [conn for conn in self._waiting if conn.deadline <= now]:
            if conn.incoming.data:
                self._refuse(conn, RequestTimeout("the request did not arrive in time"))
            else:
                self._close(conn)

    # --- in a thread and back ----------------------------------------------------------------

    def enqueue_req(self, conn: TConn) -> None:
        """Hand a connection to a thread, and take no more when that was the last."""
        self._busy += 1
        if self._busy >= self.cfg.threads:
            self.set_accept_enabled(False)
        try:
            super().enqueue_req(conn)
        except RuntimeError as error:  # the system has no thread left
            self.log.warning("Cannot answer a connection: %s", error)
            self._busy -= 1
            assert isinstance(conn, Connection)
            conn.is_given_up = True  # a thread there is may come upon it yet
            self._close(conn)
            # Which Python 3.11's pool counts as one idle thread more, and starts none for the
            # next connection. The threads that this pool has end with what they are about.
            self.tpool.shutdown(wait=False)
            self.tpool = self.get_thread_pool()

    def handle(self, conn: TConn) -> bool:
        """Answer what has come on a connection, in a thread."""
        assert isinstance(conn, Connection)
        return False if conn.is_given_up else bool(super().handle(conn))

    def handle_request(self, req: Request, conn: TConn) -> bool:
        """Answer a request; a client that takes nothing is a line, where gunicorn has a traceback.

        Runs in a thread. The time for the body begins.
        """
        assert isinstance(conn, Connection)
        conn.deadline = time.monotonic() + self.settings.client_body_timeout
        req.body.on_wire = conn.incoming.on_wire  # type: ignore[union-attr] # for `read_body`
        if self._reads_ahead:  # gunicorn would wait until the client takes it
            if req._expected_100_continue and not conn.incoming.wants_continue:  # type: ignore[attr-defined]
                conn.tell_to_continue()
            req._expected_100_continue = False  # type: ignore[attr-defined] # not in the stubs
        try:
            return super().handle_request(req, conn)
        except (TimeoutError, BlockingIOError):
            self.log.info("Cut off %s %s: the client took too little", req.method, req.path)
            return False

    def handle_error(
        self,
        req: Request | None,
        client: socket.socket,
        addr: str | int | tuple[str, int],
        exc: BaseException,
    ) -> None:
        """Refuse what is no request, or say that the application failed.

        gunicorn quotes the line at fault to the client and in its log. Runs in a thread.
        """
        refusal = refusal_of(exc)
        if refusal is not None:
            self._log_refused(addr, refusal)
            with suppress(OSError):  # then the client has left
                write_nonblock(client, _last_answer(refusal))
            return
        if req is not None:
            req.uri = req.path  # gunicorn logs it, and a query may hold a signature
        super().handle_error(req, client, addr, exc)

    def _keepalive_after(self, conn: Connection, keepalive: bool) -> bool:
        """Keep a connection if no body is left to be read from it: gunicorn waits for that.

        Nor is a malformed rest answered, which gunicorn does: the request was.
        """
        conn.deadline = -math.inf
        try:
            return keepalive and bool(conn.parser.finish_body())  # type: ignore[union-attr]
        except (OSError, ParseException):
            return False

    def finish_request(self, conn: TConn, fs: Future[bool]) -> None:
        """Wait for the next request or linger.

        gunicorn counts a response that broke off twice, so that it takes ever more connections,
        and an application's SystemExit ends it.
        """
        assert isinstance(conn, Connection)
        self._busy -= 1
        if fs.cancelled() or fs.exception() is not None or not fs.result():
            self._linger(conn)
            return
        block = conn.take_left()  # of the next request, read ahead
        if not (self.alive or block):
            self._linger(conn)
            return
        self._expect(conn, self.cfg.keepalive)
        if block:
            self._feed(conn, block)

    # --- stopping ----------------------------------------------------------------------------

    def _cap_keepalive(self, deadline: float) -> None:
        """Begin to stop: serve who has connected, refuse who comes now, close who is idle.

        gunicorn leaves the listening sockets open until the last download has ended, and whoever
        connects meanwhile waits for nothing. ``deadline`` is by the monotonic clock.
        """
        self.alive = False
        for listener in self.sockets:
            while self._accept(listener):
                pass
            listener.close()
        self.wait_for_and_dispatch_events(0)  # what has arrived is no longer idle
        for conn in [conn for conn in self._waiting if not conn.incoming.data]:
            if conn.initialized and not conn.lingers:
                self._linger(conn)
            else:  # a new one may be just about to ask
                conn.deadline = min(conn.deadline, deadline)

    def handle_quit(self, _sig: int, _frame: FrameType | None) -> None:
        """Stop at once, with all downloads.

        gunicorn waits for its pool's lock, which the interrupted thread may hold, and then at
        exit for all the pool's threads.
        """
        self.alive = False
        self.cfg.worker_int(self)
        os._exit(0)


def _last_answer(refusal: Refusal) -> bytes:
    """Return a refusal as the last response on a connection."""
    status, headers, body = problem(refusal, None)
    lines = [f"HTTP/1.1 {status} {status.phrase}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body

"""A small real file server on a loopback port, and the gateway in front of it.

It knows validators, preconditions and ranges, and remembers every request it gets.
"""

import math
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate, parsedate_to_datetime
from hashlib import sha256
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import SHUT_RDWR, socket
from ssl import SSLContext, SSLError
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote
from wsgiref.validate import validator

from webtest import TestApp

from tar_gateway import Gateway, Settings, Upstream

MTIME = 1_600_000_000
TEXT = ("Content-Type", "text/plain")


@dataclass(frozen=True, slots=True)
class File:
    """A file as it is served; ``etag`` is made of the content unless given, `None` for none."""

    content: bytes
    mtime: int | None = MTIME
    etag: str | None = ""
    more: tuple[tuple[str, str], ...] = ()
    """Headers besides."""

    def headers(self) -> dict[str, str]:
        tag = f'"{sha256(self.content).hexdigest()[:12]}"' if self.etag == "" else self.etag
        dated = {} if self.mtime is None else {"Last-Modified": formatdate(self.mtime, usegmt=True)}
        tagged = {} if tag is None else {"ETag": tag}
        return {"Content-Type": "application/octet-stream", **dated, **tagged, **dict(self.more)}


@dataclass(frozen=True, slots=True)
class Canned:
    """A response that is given whatever was asked, its headers as they stand."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    length: int | None = None
    """The Content-Length when it is not the body's; the connection is cut after the body."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it arrived; header names are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]


@dataclass
class FilesUpstream:
    """Serves ``files`` by their decoded path without the leading slash, or a directory.

    ``credentials`` is the Authorization that every request must carry. ``before`` is called
    with each request before it is answered, and may change ``files``. ``tls`` makes it https.
    """

    files: dict[str, File | Canned | bytes] = field(default_factory=dict)
    directory: Path | None = None
    credentials: str | None = None
    before: Callable[[Request], object] = lambda _: None
    tls: SSLContext | None = None
    requests: list[Request] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.upstream = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        if error is None:
            assert not self._server.defects, self._server.defects

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}/"

    @property
    def connections(self) -> int:
        """How many are open now."""
        return len(self._server.connections)

    def asked(self, method: str) -> list[Request]:
        return [request for request in self.requests if request.method == method]

    def find(self, path: str) -> File | Canned:
        found: File | Canned | bytes | None = self.files.get(path)
        if found is None and self.directory is not None and (self.directory / path).is_file():
            place = self.directory / path
            found = File(place.read_bytes(), int(place.stat().st_mtime))
        if found is None:
            return Canned(404, (TEXT,), b"nothing here")
        return File(found) if isinstance(found, bytes) else found


@contextmanager
def gateway_to(
    upstream: FilesUpstream, *, base: str = "", environ: Mapping[str, Any] | None = None, **settings
) -> Iterator[TestApp]:
    """Give a gateway to an upstream, held to PEP 3333 on both sides; bare, it is ``.gateway``."""
    chosen = Settings(retries=0, **settings)
    gateway = Gateway(Upstream(upstream.url + base, chosen), chosen)
    app = TestApp(validator(gateway), extra_environ=dict(environ or {}), lint=True)
    app.gateway = gateway
    try:
        yield app
    finally:
        gateway.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that closing the server waits for them
    upstream: FilesUpstream

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.defects: list[str] = []
        self.connections: set[socket] = set()

    def get_request(self) -> tuple[socket, Any]:
        connection, address = super().get_request()
        if self.upstream.tls is not None:  # the handshake is the handler's, at its first read
            connection = self.upstream.tls.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        self.connections.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        self.defects.append("a handler raised; its traceback stands in the output")
        super().handle_error(request, client_address)

    def server_close(self) -> None:
        for connection in list(self.connections):
            try:
                connection.shutdown(SHUT_RDWR)  # ends a wait for the next request
            except OSError:
                continue  # it has ended by itself
        super().server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def handle(self) -> None:
        try:
            super().handle()
        except (ConnectionError, SSLError):
            self.close_connection = True  # the gateway had enough, or did not like the certificate

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent."""

    def do_GET(self) -> None:
        upstream = self.server.upstream
        target = self.requestline.split(" ")[1]
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, target, headers)
        upstream.requests.append(request)
        upstream.before(request)
        if upstream.credentials not in {None, headers.get("authorization")}:
            challenge = ("WWW-Authenticate", 'Basic realm="files"')
            return self._send(Canned(401, (TEXT, challenge), b"who are you?"))
        found = upstream.find(unquote(target.partition("?")[0])[1:])
        return self._send(found if isinstance(found, Canned) else _answer(found, headers))

    do_HEAD = do_GET  # noqa: N815 - called so by the base

    def _send(self, answer: Canned) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        if answer.status not in {204, 304}:
            length = len(answer.body) if answer.length is None else answer.length
            self.send_header("Content-Length", str(length))
            self.close_connection |= answer.length is not None
        self.end_headers()
        if self.command != "HEAD" and answer.status not in {204, 304}:
            self.wfile.write(answer.body)


def _date(text: str | None) -> float:
    try:
        return parsedate_to_datetime(text).timestamp() if text else math.inf
    except ValueError:
        return math.inf


def _answer(file: File, asked: Mapping[str, str]) -> Canned:
    headers = tuple(file.headers().items())
    etag = file.headers().get("ETag")
    whole = file.content
    late = (file.mtime or 0) > _date(asked.get("if-unmodified-since"))
    if asked.get("if-match", etag) != etag or late:
        return Canned(HTTPStatus.PRECONDITION_FAILED, (TEXT,))
    if etag is not None and asked.get("if-none-match") == etag:
        return Canned(HTTPStatus.NOT_MODIFIED, headers[1:])
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", asked.get("range", ""))
    if match is None or asked.get("if-range", etag) != etag:
        return Canned(HTTPStatus.OK, (*headers, ("Accept-Ranges", "bytes")), whole)
    start, stop = int(match[1]), min(int(match[2] or len(whole)) + 1, len(whole))
    if start >= len(whole):
        told = ("Content-Range", f"bytes */{len(whole)}")
        return Canned(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, (TEXT, told))
    told = ("Content-Range", f"bytes {start}-{stop - 1}/{len(whole)}")
    return Canned(HTTPStatus.PARTIAL_CONTENT, (*headers, told), whole[start:stop])

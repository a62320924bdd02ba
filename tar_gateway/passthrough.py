"""Plain requests, passed to the upstream and back as a reverse proxy for files does."""

import logging
import socket
import struct
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from urllib.parse import quote
from wsgiref.types import StartResponse, WSGIEnvironment

from tar_gateway.environ import passed_headers, path_of, query_of
from tar_gateway.errors import BrokenOff, SourceError, UpstreamFailed
from tar_gateway.headers import end_to_end
from tar_gateway.sources import Content
from tar_gateway.sources.http import Answer
from tar_gateway.sources.upstream import Upstream

_READ_SIZE = 128 * 1024

log = logging.getLogger(__name__)


def pass_through(
    upstream: Upstream, environ: WSGIEnvironment, start_response: StartResponse
) -> Iterable[bytes]:
    """Answer a GET or HEAD with what the upstream answers to it.

    Raises `UpstreamFailed` where that can't be had, before anything was said.
    """
    method, path = environ["REQUEST_METHOD"], path_of(environ)
    try:
        answer = upstream.forward(method, path, query_of(environ), passed_headers(environ))
        headers, length = _headers(answer, upstream, quote_mount(environ))
    except SourceError as error:
        raise UpstreamFailed(error.reason, status=error.status) from error
    try:
        start_response(f"{answer.status} {_phrase(answer.status)}", headers)
    except BaseException:
        answer.content.close()
        raise
    return Passed(answer.content, path, length, environ.get("gunicorn.socket"))


def quote_mount(environ: WSGIEnvironment) -> str:
    """Give the path that the application is mounted at, as a URL writes it."""
    return quote(environ.get("SCRIPT_NAME", "").encode("latin-1", "replace"))


class Passed:
    """An upstream's content as a WSGI iterable, each block as soon as it is there."""

    def __init__(
        self, content: Content, path: str, length: int | None, client: socket.socket | None
    ) -> None:
        self._content = content
        self._path = path
        self._length = length
        self._client = client

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            block = self._content.read(_READ_SIZE)
        except SourceError as error:
            log.warning("broken off in the plain file %r: %s", self._path, error.reason)
            if self._length is None and self._client is not None:
                _reset_on_close(self._client)
            raise BrokenOff(f"the plain file {self._path!r} failed: {error.reason}") from error
        if not block:
            raise StopIteration
        return block

    def close(self) -> None:
        """Give the upstream's connection back. May be called again."""
        self._content.close()


def _headers(
    answer: Answer, upstream: Upstream, mount: str
) -> tuple[list[tuple[str, str]], int | None]:
    """Give the headers that go back to the client, and the content's length where it is told."""
    try:
        length = answer.length()
    except SourceError:
        answer.content.close()
        raise
    headers = []
    for name, value in end_to_end(answer.headers):
        match name.lower():
            case "content-length" | "date" | "server":
                continue  # written below, or by the server that speaks to the client
            case "location":
                below = upstream.location(value)
                headers.append((name, value if below is None else f"{mount}/{below}"))
            case _:
                headers.append((name, value))
    if length is not None:
        headers.append(("Content-Length", str(length)))
    return headers, length


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def _reset_on_close(client: socket.socket) -> None:
    # Without a Content-Length a plain close looks like a clean end to a proxy that speaks
    # HTTP/1.0 to us; a reset never does.
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

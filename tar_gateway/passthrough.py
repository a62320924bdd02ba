"""Plain requests, passed to the upstream and back as a reverse proxy for files does."""

import logging
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from urllib.parse import quote
from wsgiref.types import StartResponse, WSGIEnvironment

from tar_gateway.body import READ_SIZE
from tar_gateway.client import Delivery
from tar_gateway.environ import passed_headers, path_of, query_of
from tar_gateway.errors import BrokenOff, SourceError, UpstreamFailed
from tar_gateway.headers import end_to_end
from tar_gateway.retry import Retry
from tar_gateway.settings import Settings
from tar_gateway.sources import Content
from tar_gateway.sources.http import Answer
from tar_gateway.sources.upstream import Upstream

log = logging.getLogger(__name__)


def pass_through(
    upstream: Upstream,
    environ: WSGIEnvironment,
    start_response: StartResponse,
    settings: Settings,
) -> Iterable[bytes]:
    """Answer a GET or HEAD with what the upstream answers to it.

    Raises `UpstreamFailed` where that can't be had, before anything was said.
    """
    method, path = environ["REQUEST_METHOD"], path_of(environ)
    retry = Retry.from_settings(settings)
    try:
        headers = passed_headers(environ)
        answer = retry.call(lambda: upstream.forward(method, path, query_of(environ), headers))
        received, length = _headers(answer, upstream, _mount(environ))
    except SourceError as error:
        raise UpstreamFailed(error.reason, status=error.status) from error
    try:
        start_response(f"{answer.status} {_phrase(answer.status)}", received)
        passed = _Passed(answer.content, path)
        return Delivery(passed, environ, settings.write_timeout, measured=length is not None)
    except BaseException:
        answer.content.close()
        raise


def _mount(environ: WSGIEnvironment) -> str:
    """Give the path that the application is mounted at, as a URL writes it."""
    return quote(environ.get("SCRIPT_NAME", "").encode("latin-1", "replace"))


class _Passed:
    """An upstream's content block by block, each as soon as it is there."""

    def __init__(self, content: Content, path: str) -> None:
        self._content = content
        self._path = path
        self._stopped = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            block = self._content.read(READ_SIZE)
        except SourceError as error:
            if not self._stopped:
                log.warning("broken off in the plain file %r: %s", self._path, error.reason)
            raise BrokenOff(f"the plain file {self._path!r} failed: {error.reason}") from error
        if self._stopped:
            raise BrokenOff("the client has left")
        if not block:
            raise StopIteration
        return block

    def stop(self) -> None:
        self._stopped = True
        self._content.stop()

    def close(self) -> None:
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

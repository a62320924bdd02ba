"""Plain requests, passed to the upstream and back as a reverse proxy for files does."""

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from tar_gateway.access.authority import Authority
from tar_gateway.access.credentials import Hop, passed_headers
from tar_gateway.delivery.pace import Pace, PaceMeter
from tar_gateway.delivery.whole import blocks_of
from tar_gateway.errors import BrokenOff, SourceError, UpstreamFailed
from tar_gateway.http.conditions import Conditions
from tar_gateway.http.environ import (
    conditions_of,
    mount_of,
    path_of,
    reference_of,
    spelled_reference_of,
)
from tar_gateway.http.headers import end_to_end
from tar_gateway.settings import Settings
from tar_gateway.sources import Caller
from tar_gateway.sources.stepwise import FileServer
from tar_gateway.sources.wire.asking import Steps
from tar_gateway.sources.wire.cancellation import Cancellation
from tar_gateway.sources.wire.loop import run
from tar_gateway.sources.wire.response import Content, Response
from tar_gateway.sources.wire.retry import Retry
from tar_gateway.web.endpoint import Endpoint
from tar_gateway.web.file_list import Step, lists_files, next_step
from tar_gateway.web.observe.download import Download

_READ_SIZE = 128 * 1024

log = logging.getLogger(__name__)


class PassThrough:
    """Answers GET and HEAD with what the upstream answers to them.

    A response that is a list of files becomes the archive that it lists. Raise `Refusal`,
    before anything was said, where there is no response of the upstream's.
    """

    def __init__(
        self,
        upstream: FileServer,
        bundles: Endpoint,
        settings: Settings,
        hop: Hop,
        authority: Authority | None = None,
    ) -> None:
        self._upstream = upstream
        self._bundles = bundles
        self._settings = settings
        self._hop = hop
        self._authority = authority
        self._retry = Retry.from_settings(settings)
        self._pace = Pace.from_settings(settings)
        self._next_step = partial(next_step, formats=settings.archive_files)

    def __call__(
        self, download: Download, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Answer a request (PEP 3333); ``environ`` is what the upstream is to see of it."""
        caller = replace(download.caller(self._settings.forward_headers), environ=environ)
        authority, gone = self._authority, caller.cancellation
        caller.tally.expect(1 if authority is None else 2)
        try:
            if authority is not None:  # before the upstream hears of the request
                run(self._retry.call(lambda: authority.permit_plain(caller), gone), gone)
            # Of its own, as a list that comes too late ends what is asked, and not the request.
            caller = replace(caller, cancellation=gone.child())
            return self._answer(download, caller, start_response)
        except SourceError as error:
            raise UpstreamFailed.of(error) from error

    def _answer(
        self, download: Download, caller: Caller, start_response: StartResponse
    ) -> Iterable[bytes]:
        method, conditions = caller.environ["REQUEST_METHOD"], conditions_of(caller.environ)
        listed: Response | None = None
        if self._next_step(method, conditions) is Step.TRY:
            listed = self._ask_for_list(caller)
        if listed is not None:
            return self._archive(listed, caller, download, start_response)
        response = self._ask(method, caller, conditions=True)
        with ExitStack() as held:
            held.callback(response.content.close)
            match self._next_step(method, conditions, response.status, response.headers):
                case Step.READ:
                    listed = response
                case Step.TRY:
                    listed = self._ask_for_list(caller)
                case Step.ASK:
                    held.close()
                    listed = self._ask_for_list(caller)
                    if listed is None:
                        raise UpstreamFailed("the upstream lists its files only once", status=502)
            if listed is not None:
                return self._archive(listed, caller, download, start_response)
            passed = self._pass_on(response, caller, download, start_response)
            held.pop_all()  # the server closes what is passed on
            return passed

    def _ask_for_list(self, caller: Caller) -> Response | None:
        """Ask by a plain GET. Return `None` where the response is no list of files."""
        listed = self._ask("GET", caller, conditions=False)
        if self._next_step("GET", Conditions(), listed.status, listed.headers) is Step.READ:
            return listed
        listed.content.close()
        return None

    def _reference(self, environ: Mapping[str, Any]) -> str:
        """Return what is asked for: as the client spelled it, unless it was judged before."""
        judged = self._authority is not None or self._settings.signing_keys_file is not None
        return reference_of(environ) if judged else spelled_reference_of(environ)

    def _ask(self, method: str, caller: Caller, *, conditions: bool) -> Response:
        path, gone = self._reference(caller.environ), caller.cancellation
        headers = passed_headers(caller, self._hop, conditions=conditions)

        def ask() -> Steps[Response]:
            return self._upstream.forward_steps(method, path, headers, caller)

        return run(self._retry.call(ask, gone, tally=caller.tally), gone)

    def _pass_on(
        self,
        response: Response,
        caller: Caller,
        download: Download,
        start_response: StartResponse,
    ) -> Iterable[bytes]:
        lists = not self._settings.archive_files
        if not lists and response.status in {200, 206} and lists_files(response.headers):
            # It names places that no client should know, and leaves them to a server in front.
            raise UpstreamFailed("the list of files is not for a format made here", status=502)
        headers, length = _headers(response, self._upstream, caller.environ, lists=lists)
        path, meter = path_of(caller.environ), PaceMeter(self._pace)
        passed = _PlainBody(response.content, path, download.cancellation, meter)
        try:
            passed.prime()
        except SourceError:
            if response.status < 400 or length is None:
                raise
            # An error announced with the file's length, and without content: it has said all.
            headers[-1], length = ("Content-Length", "0"), 0
        headers.append(("Server-Timing", download.timing()))
        start_response(f"{response.status} {_phrase(response.status)}", headers)
        download.promised = length or 0
        return passed

    def _archive(
        self,
        listed: Response,
        caller: Caller,
        download: Download,
        start_response: StartResponse,
    ) -> Iterable[bytes]:
        with closing(listed.content):
            body = self._bundles.read_list(blocks_of(listed.content), caller.cancellation)
        return self._bundles.answer_list(download, start_response, body, listed.headers)


class _PlainBody:
    """An upstream's content block by block, each as soon as it is there."""

    def __init__(self, content: Content, path: str, gone: Cancellation, meter: PaceMeter) -> None:
        self._content = content
        self._path = path
        self._gone = gone
        self._meter = meter
        self._first: bytes | None = None

    def prime(self) -> None:
        """Wait for the first block, so that what is wrong with it still gets a status.

        No server sends the headers before it has one. Raise `SourceError` or `Cancelled`.
        """
        self._first = b""  # there is nothing else where this raises
        self._first = self._content.read(_READ_SIZE)
        self._gone.check()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            first, self._first = self._first, None
            block = self._read() if first is None else first
        except SourceError as error:
            log.warning("broken off in the plain file %r: %s", self._path, error.for_operator)
            raise BrokenOff(error, self._path, called="plain file") from error
        self._gone.check()
        if not block:
            raise StopIteration
        return block

    def _read(self) -> bytes:
        before = time.monotonic()
        block = self._content.read(_READ_SIZE)
        self._meter.add(time.monotonic() - before, len(block))
        if self._meter.is_over:
            if not self._meter.is_kept:
                self._meter.missed(self._content)  # told only: nothing can resume a plain file
            self._meter.begin()
        return block

    def close(self) -> None:
        self._content.close()


def _headers(
    response: Response, upstream: FileServer, environ: Mapping[str, Any], *, lists: bool
) -> tuple[list[tuple[str, str]], int | None]:
    """Return the headers that go back to the client, and the content's length where it is told."""
    length = response.length()
    headers = []
    for name, value in end_to_end(response.headers, lists=lists):
        match name.lower():
            case "content-length" | "date" | "server" | "server-timing" | "x-request-id":
                continue  # written by us, or by the server that speaks to the client
            case "location":
                below = upstream.own_path(value, reference_of(environ))
                headers.append((name, value if below is None else f"{mount_of(environ)}/{below}"))
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

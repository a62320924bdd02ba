"""A wrapper around a WSGI application that exists: bundles of its answers, all else untouched."""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import chain
from typing import cast
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from tar_gateway.archive_files import concerns_archive, is_list, join_list
from tar_gateway.endpoint import METHODS, Endpoint
from tar_gateway.environ import conditions_of, wants_part
from tar_gateway.errors import InternalError, Refusal, SourceError, UpstreamFailed
from tar_gateway.problem import refuse
from tar_gateway.settings import Settings
from tar_gateway.sources import Source
from tar_gateway.sources.subrequest import AppAnswer, Subrequests, plain_get

log = logging.getLogger(__name__)

_Headers = list[tuple[str, str]]
_Answer = Callable[[], Iterable[bytes]]
_Write = Callable[[bytes], object]


class BundleMiddleware:
    """A WSGI application around another one, ``app``.

    A GET, HEAD or POST with the parameter is answered with an archive. Its members are
    sub-requests to ``app`` by the same caller, or files of ``source`` where one is given.
    Everything else reaches ``app`` untouched; an answer of its with ``X-Archive-Files: tar``
    becomes the archive that it lists. One serves many threads.
    """

    def __init__(
        self,
        app: WSGIApplication,
        source: Source | None = None,
        settings: Settings | None = None,
    ) -> None:
        self._app = app
        self._settings = settings or Settings()
        self._bundles = Endpoint(source or Subrequests(app), self._settings)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request (PEP 3333)."""
        request = _Request(environ, start_response)
        if environ["REQUEST_METHOD"] in METHODS and self._bundles.takes(environ):
            return self._guard(request, lambda: self._bundles(environ, start_response))
        if request.wants_part and concerns_archive(conditions_of(environ)):
            archive = self._from_new_list(request)
            if archive is not None:
                return archive
        iterable = self._app(environ, request.start_response)
        if request.listed is not None:
            return self.replace(request, iterable)
        return iterable if request.started else _Late(self, request, iterable)

    def close(self) -> None:
        """End the threads."""
        self._bundles.close()

    def replace(self, request: "_Request", iterable: Iterable[bytes]) -> Iterable[bytes]:
        """Answer with the archive that an application's answer lists, and close that answer."""
        try:
            if not request.wants_part:
                blocks = chain(request.written, iterable)
                return self._from_list(request, blocks, request.listed or [])
            # It answered to what is the archive's, so it is asked for the list itself.
            archive = self._from_new_list(request)
        finally:
            _close(iterable)
        if archive is None:
            return self._guard(request, _not_listed_again)
        return archive

    def _from_new_list(self, request: "_Request") -> Iterable[bytes] | None:
        """Ask the application by a plain GET; `None` if what it answers is no list."""
        try:
            answer = AppAnswer(self._app, plain_get(request.environ))
        except SourceError:  # it stands in the log; what the application makes of it is its own
            return None
        with closing(answer):
            if not is_list(answer.headers):
                return None
            return self._from_list(request, iter(lambda: answer.read(65536), b""), answer.headers)

    def _from_list(
        self, request: "_Request", blocks: Iterable[bytes], headers: _Headers
    ) -> Iterable[bytes]:
        # Outside the guard: what an application raises while it gives its list is its own.
        body = join_list(blocks, self._settings.max_body)
        return self._guard(
            request,
            lambda: self._bundles.answer_list(request.environ, request.answer_by, body, headers),
        )

    def _guard(self, request: "_Request", answer: _Answer) -> Iterable[bytes]:
        """Answer, or say why not."""
        refusal: Refusal
        try:
            return answer()
        except Refusal as error:
            refusal = error
        except Exception:
            log.exception("a defect in answering %r", request.environ.get("PATH_INFO"))
            refusal = InternalError()
        vary = self._settings.forward_headers
        return refuse(refusal, request.environ, request.answer_by, vary=vary)


def _not_listed_again() -> Iterable[bytes]:
    raise UpstreamFailed("the application lists its files only once", status=502)


class _Request:
    """One request to the application, whose ``start_response`` is listened to."""

    def __init__(self, environ: WSGIEnvironment, start_response: StartResponse) -> None:
        self.environ = environ
        self.answer_by = start_response
        self.wants_part = wants_part(environ)
        self.started = False
        self.listed: _Headers | None = None
        self.written: list[bytes] = []

    def start_response(self, status: str, headers: _Headers, *exc_info: object) -> _Write:
        """Pass on what the application says, unless it is a list of files."""
        self.started = True
        # To a condition or a range, which are the archive's, a list may be answered otherwise.
        if is_list(headers) and (status.startswith("200") or self.wants_part):
            self.listed = headers
            return self.written.append
        self.listed = None
        return cast(Callable[..., _Write], self.answer_by)(status, headers, *exc_info)


class _Late:
    """The iterable of an application that says nothing before it is iterated."""

    def __init__(
        self, middleware: BundleMiddleware, request: _Request, iterable: Iterable[bytes]
    ) -> None:
        self._middleware = middleware
        self._request = request
        self._iterable = iterable
        self._blocks = iter(iterable)
        self._archive: Iterable[bytes] | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._archive is None:
            block = next(self._blocks, None)
            if self._request.listed is None:
                if block is None:
                    raise StopIteration
                return block
            drawn = () if block is None else (block,)
            self._archive = self._middleware.replace(self._request, chain(drawn, self._blocks))
            self._blocks = iter(self._archive)
        return next(self._blocks)

    def close(self) -> None:
        try:
            _close(self._archive)
        finally:
            _close(self._iterable)


def _close(iterable: object) -> None:
    close = getattr(iterable, "close", None)
    if close is not None:
        close()

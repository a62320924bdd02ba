"""A wrapper around a WSGI application that exists: bundles of its responses, all else untouched."""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import cast
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from tar_gateway.access.authority import Authority
from tar_gateway.access.credentials import Hop, caller_of
from tar_gateway.delivery.whole import blocks_of
from tar_gateway.errors import Refusal, SourceError, UpstreamFailed
from tar_gateway.http.conditions import Conditions
from tar_gateway.http.environ import conditions_of
from tar_gateway.settings import Settings
from tar_gateway.sources import Source
from tar_gateway.sources.spool import Spool
from tar_gateway.sources.subrequest import AppResponse, Subrequests, plain_get
from tar_gateway.sources.wire.tally import Listener
from tar_gateway.web.browse.pages import Pages, is_directory, varied
from tar_gateway.web.door import Door
from tar_gateway.web.endpoint import METHODS, Endpoint
from tar_gateway.web.file_list import Step, next_step
from tar_gateway.web.observe.download import Download

_Headers = list[tuple[str, str]]
_Write = Callable[[bytes], object]

_NONE = object()  # an application may give `None` for a block, which is its server's to judge


class BundleMiddleware:
    """A WSGI application around another one, ``app``.

    A GET, HEAD or POST with the parameter is answered with an archive. Its members are
    sub-requests to ``app`` by the same caller, or files of ``source`` where one is given.
    Everything else reaches ``app`` untouched; a response of its with ``X-Archive-Files: tar``
    becomes the archive that it lists. With ``browse``, in place of the setting, a browser is shown
    a page to pick files from where ``app`` lists a directory. ``listener`` is told of what all its
    downloads do, as `Metrics` is. One serves many threads. Raise `SettingsError` for a file of
    signing keys that has become wrong.
    """

    def __init__(
        self,
        app: WSGIApplication,
        source: Source | None = None,
        settings: Settings | None = None,
        listener: Listener | None = None,
        *,
        browse: bool | None = None,
    ) -> None:
        self._app = app
        settings = settings or Settings()
        if browse is not None:
            settings = replace(settings, browse=browse)
        self._settings = settings
        self._spool = Spool(settings.spool_limit)
        source = source or Subrequests(app, self._spool, settings)
        hop = Hop.before(source, settings)
        self._door = Door(settings, hop, listener)
        self._authority = Authority.from_settings(settings, hop)
        permit = self._authority.permit if self._authority else None
        self._bundles = Endpoint(source, settings, permit, listener, spool=self._spool)
        asks = 1 if permit is None else 2
        self._pages = Pages(self._bundles.lister, settings, self._door.links, asks=asks)
        self._hop = hop

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request (PEP 3333)."""
        request = _Request(environ, start_response, self._settings)
        is_preflight = self._door.cross_origin.is_preflight(environ)
        if (is_preflight or request.method in METHODS) and self._bundles.takes(environ):
            by_form = self._pages.takes_form(environ)
            return self._door(environ, start_response, self._pages if by_form else self._bundles)
        if self._settings.browse and is_directory(environ):
            if (page := self._page(environ, start_response)) is not None:
                return page
            request.answer_by = varied(start_response)
        if request.next_step(request.method, request.conditions) is Step.TRY:
            archive = self._from_new_list(request)
            if archive is not None:
                return archive
        iterable = self._app(environ, request.start_response)
        if request.step is None:
            return _LateArchive(request, iterable, self._replace)
        if request.step is Step.PASS:
            return iterable
        return self._replace(request, iterable, lambda: _close(iterable))

    def _page(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes] | None:
        """Answer with the page of a directory; `None` where the application lists none."""
        if not self._pages.takes(environ):
            return None
        caller = caller_of(environ, self._settings.forward_headers, self._hop)
        try:
            listing = self._pages.listing(environ, caller)
        except (SourceError, Refusal):  # the application says it in its own words
            return None

        def show(_: Download, start_response: StartResponse) -> Iterable[bytes]:
            return self._pages.show(environ, listing, start_response)

        return self._door(environ, start_response, show)

    def close(self) -> None:
        """End the threads, and close the connections to the authority."""
        self._bundles.close()
        if self._authority is not None:
            self._authority.close()

    def _replace(
        self, request: "_Request", blocks: Iterable[bytes], close: Callable[[], None]
    ) -> Iterable[bytes]:
        """Answer in place of an application's response, once that is closed.

        It may hold what the application needs for its next answer, such as a lock.
        """
        step, (status, headers) = request.step, request.said
        try:
            reads = step is Step.READ
            body = self._bundles.read_list(request.listed_by(blocks)) if reads else None
        except UpstreamFailed as error:
            return self._refuse(request, error)
        finally:
            close()
        if body is not None:
            return self._from_list(request, body, headers)
        archive = self._from_new_list(request)
        if archive is not None:
            return archive
        if step is Step.ASK:
            text = "the application lists no files to a plain GET"
            return self._refuse(request, UpstreamFailed(text, status=502))
        request.answer_by(status, headers)
        return ()  # a response to HEAD has no body

    def _from_new_list(self, request: "_Request") -> Iterable[bytes] | None:
        """Ask the application by a plain GET; `None` if its response is not a list."""
        try:
            environ = plain_get(request.environ)
            with closing(AppResponse(self._app, environ, self._spool.file())) as answer:
                said = (answer.status, answer.headers)
                if request.next_step("GET", Conditions(), *said) is not Step.READ:
                    return None
                body = self._bundles.read_list(blocks_of(answer))
        except UpstreamFailed as error:
            return self._refuse(request, error)
        except SourceError:  # it stands in the log; what the application makes of it is its own
            return None
        return self._from_list(request, body, answer.headers)

    def _from_list(self, request: "_Request", body: bytes, headers: _Headers) -> Iterable[bytes]:
        def answer(download: Download, start_response: StartResponse) -> Iterable[bytes]:
            return self._bundles.answer_list(download, start_response, body, headers)

        return self._door(request.environ, request.answer_by, answer, check=False)

    def _refuse(self, request: "_Request", refusal: UpstreamFailed) -> Iterable[bytes]:
        def answer(download: Download, _: StartResponse) -> Iterable[bytes]:
            download.kind = "bundle"
            raise refusal

        return self._door(request.environ, request.answer_by, answer, check=False)


class _Request:
    """One request to the application, whose ``start_response`` is listened to."""

    def __init__(
        self, environ: WSGIEnvironment, start_response: StartResponse, settings: Settings
    ) -> None:
        self.environ = environ
        self.answer_by = start_response
        self.method = environ["REQUEST_METHOD"]
        self.conditions = conditions_of(environ)
        self.next_step = partial(next_step, formats=settings.archive_files)
        self.is_late = False
        """Whether the server has begun to send what there is."""
        self.step: Step | None = None
        """What to do with the response, once it has started."""
        self.said: tuple[str, _Headers] = ("", [])
        """The status and headers of a response that is not passed on at once."""
        self._settings = settings
        self._reads_list = False
        self._written: list[bytes] = []
        self._length = 0

    def start_response(
        self, status: str, headers: _Headers, *exc_info: object, **named: object
    ) -> _Write:
        """Pass on what the application says, unless it is a list of files."""
        if self._reads_list:
            # Part of what it said is taken for said, so that this is too late (PEP 3333).
            raise _error_of(*exc_info, *named.values())
        self.step = self.next_step(self.method, self.conditions, _code(status), headers)
        if self.step is Step.TRY and (self.is_late or exc_info or named):
            self.step = Step.PASS
        if self.step is not Step.PASS:
            self.said = (status, headers)
            return self._write
        return cast(Callable[..., _Write], self.answer_by)(status, headers, *exc_info, **named)

    def listed_by(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """Return what the application writes and what it yields, in that order."""
        self._reads_list = True
        for block in chain(blocks, (b"",)):
            yield from self._written
            self._written.clear()
            yield block

    def _write(self, block: bytes) -> None:
        if self._length <= self._settings.max_body:  # otherwise it is too long already
            self._length += len(block)
            self._written.append(block)


def _code(status: str) -> int:
    return int(status[:3]) if re.match(r"[0-9]{3}", status) else 0


def _error_of(exc_info: object = None, *_: object) -> BaseException:
    if isinstance(exc_info, tuple) and isinstance(exc_info[1], BaseException):
        return exc_info[1]
    return AssertionError("start_response was called twice without exc_info")


class _LateArchive:
    """The iterable of an application that may turn out to list files while it is iterated."""

    def __init__(
        self,
        request: _Request,
        iterable: Iterable[bytes],
        replace: Callable[[_Request, Iterable[bytes], Callable[[], None]], Iterable[bytes]],
    ) -> None:
        self._replace = replace
        self._request = request
        request.is_late = True
        self._iterable = iterable
        self._closed = False
        self._blocks: Iterator[bytes] | None = None
        self._archive: Iterable[bytes] | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._blocks is None:
            self._blocks = iter(self._iterable)
        drawn = next(self._blocks, _NONE)
        if self._archive is not None or self._request.step in {None, Step.PASS}:
            if drawn is _NONE:
                raise StopIteration
            return cast(bytes, drawn)
        blocks = self._blocks if drawn is _NONE else chain((cast(bytes, drawn),), self._blocks)
        self._archive = self._replace(self._request, blocks, self._close_answer)
        self._blocks = iter(self._archive)
        return next(self._blocks)

    def close(self) -> None:
        try:
            _close(self._archive)
        finally:
            self._close_answer()

    def _close_answer(self) -> None:
        if not self._closed:
            self._closed = True
            _close(self._iterable)


def _close(iterable: object) -> None:
    close = getattr(iterable, "close", None)
    if close is not None:
        close()

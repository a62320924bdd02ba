"""Shows directories to browsers, and turns what their forms say into links."""

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from wsgiref.types import StartResponse, WSGIEnvironment

from tar_gateway.access.links import Browsing, SignedLinks
from tar_gateway.archive.picks import ListingChanged, names_as_they_were
from tar_gateway.delivery.lister import Lister
from tar_gateway.errors import PreconditionFailed, SourceError, UpstreamFailed
from tar_gateway.http.environ import (
    check_no_encoded_slash,
    check_same_site,
    header_of,
    path_of,
    query_of,
    read_body,
)
from tar_gateway.http.paths import shown
from tar_gateway.settings import Settings
from tar_gateway.sources import Caller, Listing
from tar_gateway.sources.wire.loop import run
from tar_gateway.web.browse import texts
from tar_gateway.web.browse.form import Selection, read_selection, shortest_query
from tar_gateway.web.browse.page import COLUMNS, View, render
from tar_gateway.web.browse.shell import Look
from tar_gateway.web.observe.download import Download
from tar_gateway.web.problem import wants_page

# Parameters of a page's own; others belong to the upstream or the application.
_OWN = frozenset({"browse", "sort"})
_OF_A_LINK = frozenset({"signature", "expires", "key_id"})


class Pages:
    """The pages of directories that ``lister`` lists, where ``settings.browse`` is on.

    ``links`` are what a page's own link must be signed by, if it must be. ``asks`` is how many
    questions a listing costs. Raise `SettingsError` for a style that can't be read.
    """

    def __init__(
        self, lister: Lister, settings: Settings, links: SignedLinks | None, *, asks: int = 1
    ) -> None:
        self._lister = lister
        self._settings = settings
        self._links = links
        self._asks = asks
        self.look = Look.from_settings(settings)

    def takes(self, environ: WSGIEnvironment) -> bool:
        """Return whether a browser asks for a directory that may be shown to it."""
        if not (self._settings.browse and is_directory(environ)):
            return False
        parts = [part for part in query_of(environ).split("&") if part]
        names = {part.partition("=")[0] for part in parts}
        own = _OWN if self._links is None else _OWN | _OF_A_LINK
        if self._links is not None and "browse" not in names:
            return False
        return names <= own and wants_page(environ.get("HTTP_ACCEPT"))

    def takes_form(self, environ: WSGIEnvironment) -> bool:
        """Return whether a request is a page's form."""
        query = query_of(environ)
        parameter = self._settings.parameter
        return (
            self._settings.browse
            and environ["REQUEST_METHOD"] == "POST"
            and {parameter, "pick"} <= set(query.split("&"))
        )

    def listing(self, environ: WSGIEnvironment, caller: Caller) -> Listing:
        """List the directory that is asked for. Raise `SourceError`."""
        check_no_encoded_slash(environ)
        caller.tally.expect(self._asks)
        return self._list(path_of(environ), caller)

    def _list(self, path: str, caller: Caller) -> Listing:
        deadline = time.monotonic() + self._settings.plan_timeout
        steps = self._lister.steps(path, caller, deadline, deep=False, told=None)
        return run(steps, caller.cancellation)

    def show(
        self, environ: WSGIEnvironment, listing: Listing, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Answer with the page of a listing."""
        right = self._right(environ)
        sort = query_of(environ).partition("sort=")[2].partition("&")[0]
        view = View(
            path_of(environ),
            listing.entries,
            int(time.time()),
            sort=sort if sort.removeprefix("-") in COLUMNS else COLUMNS[0],
            user_agent=header_of(environ, "User-Agent") or "",
            parameter=self._settings.parameter,
            max_members=self._settings.max_members,
            has_files=self._settings.pass_through,
        )
        if right is not None:
            view = replace(view, sign=right.sign, is_whole=False)
        page = render(view, self.look)
        headers = [
            ("Content-Type", "text/html; charset=utf-8"),
            ("Content-Length", str(len(page))),
            ("Cache-Control", "private, no-store"),
            ("Vary", ", ".join(("Accept", *self._settings.forward_headers))),
            *self.look.policy(picks=True),
        ]
        start_response("200 OK", headers)
        return () if environ["REQUEST_METHOD"] == "HEAD" else (page,)

    def __call__(self, download: Download, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a form with the way to its archive: a redirect, or to a script JSON."""
        environ = download.environ
        check_same_site(environ)
        check_no_encoded_slash(environ)
        selection = read_selection(read_body(environ, self._settings.max_body), self._settings)
        caller = download.caller(self._settings.forward_headers)
        caller.tally.expect(self._asks * len(selection.ticked))
        listed = self._listed(path_of(environ), selection, caller)
        link = "?" + shortest_query(selection, listed, self._settings)
        right = self._right(environ)
        if right is not None:
            link = right.sign(link)
        body, kind = json.dumps({"link": link}).encode() + b"\n", "application/json"
        status, headers = "200 OK", []
        if wants_page(environ.get("HTTP_ACCEPT")):
            body, kind = texts.SEE_ARCHIVE.encode() + b"\n", "text/plain; charset=utf-8"
            status, headers = "303 See Other", [("Location", link)]
        headers += [
            ("Content-Type", kind),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("Vary", "Accept"),
            ("X-Content-Type-Options", "nosniff"),
        ]
        start_response(status, headers)
        return (body,)

    def _listed(self, path: str, selection: Selection, caller: Caller) -> list[list[str]]:
        """Return the names of each ticked directory as they were. Raise `Refusal`."""
        names = []
        for each in selection.ticked:
            directory = path + each.directory
            try:
                listing = self._list(directory, caller)
                rows = ((entry.marked, entry.mtime) for entry in listing.entries)
                names.append(names_as_they_were(rows, each.digest, each.time))
            except SourceError as error:
                raise UpstreamFailed.of(error, reading=_called(directory)) from error
            except ListingChanged as error:
                changed = PreconditionFailed(f"{_called(directory)} has changed since it was shown")
                changed.directory = directory
                raise changed from error
        return names

    def _right(self, environ: WSGIEnvironment) -> Browsing | None:
        return None if self._links is None else self._links.browsing(environ)


def _called(directory: str) -> str:
    return f"the directory {shown(directory)}" if directory else "the directory"


def is_directory(environ: WSGIEnvironment) -> bool:
    """Return whether a request is for what a directory's URL shows."""
    ends = environ.get("PATH_INFO", "").endswith("/")
    return ends and environ["REQUEST_METHOD"] in {"GET", "HEAD"}


def denied(error: SourceError) -> UpstreamFailed:
    """Return the refusal of a directory that this caller may not see."""
    refusal = UpstreamFailed.of(error)
    refusal.detail = texts.DENIED
    return refusal


def varied(start_response: StartResponse) -> StartResponse:
    """Return a `start_response` that tells caches that browsers are shown something else."""

    def start(
        status: str, headers: list[tuple[str, str]], *exc_info: object
    ) -> Callable[[bytes], object]:
        said = any(n.lower() == "vary" and "accept" in v.lower().split(", ") for n, v in headers)
        given = headers if said else [*headers, ("Vary", "Accept")]
        return start_response(status, given, *exc_info)  # type: ignore[arg-type]

    return start

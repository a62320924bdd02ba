"""A bundle request from beginning to end: request, bundle, plan, slice, body.

Both faces, the gateway and the middleware, answer bundles with this and nothing else.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from itertools import islice
from wsgiref.types import StartResponse, WSGIEnvironment

from tar_gateway.access.authority import Authority
from tar_gateway.archive.bundle import DEFAULT_FILENAME, Bundle, Entry, default_filename
from tar_gateway.archive.layout import Borrowed, Layout
from tar_gateway.delivery.body import OPENED_WITHIN, Body
from tar_gateway.delivery.manifest import read_manifest
from tar_gateway.delivery.plan import Plan
from tar_gateway.delivery.planner import Planner
from tar_gateway.delivery.threads import FetcherPool
from tar_gateway.errors import (
    BadRequest,
    ContentTooLarge,
    MembersChanged,
    MethodNotAllowed,
    PreconditionFailed,
    RangeNotSatisfiable,
    Refusal,
    UnsupportedMediaType,
)
from tar_gateway.http.conditions import Decision, decide
from tar_gateway.http.environ import conditions_of, mount_of, path_of, query_of, read_body
from tar_gateway.http.headers import attachment
from tar_gateway.http.validators import Validator
from tar_gateway.settings import Settings
from tar_gateway.sources import Caller, Source
from tar_gateway.sources.spool import Spool
from tar_gateway.sources.wire.tally import Listener
from tar_gateway.web.client import Delivery
from tar_gateway.web.file_list import kept_headers, passed_names, read_list
from tar_gateway.web.observe.download import Download
from tar_gateway.web.query import (
    Query,
    is_bundle,
    json_bundle,
    list_bundle,
    pinned_query,
    read_form,
    read_query,
)

METHODS = ("GET", "HEAD", "POST")


# Bytes; nginx as it comes refuses a response whose headers don't fit into 4 KiB.
LONGEST_LINK = 2048


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a request wants: of which bundle and version, for whom, and under which conditions.

    ``vary`` names the headers that decide who may have what; ``kept`` are headers of an
    application's that go along with the archive, for one that it has listed itself.
    """

    download: Download
    bundle: Bundle
    caller: Caller
    vary: tuple[str, ...]
    version: str | None = None
    kept: Sequence[tuple[str, str]] | None = None

    @property
    def environ(self) -> WSGIEnvironment:
        return self.download.environ

    @property
    def method(self) -> str:
        return str(self.environ["REQUEST_METHOD"])

    def decide(self, layout: Layout) -> Decision:
        """Decide what to answer. Raise `PreconditionFailed` or `RangeNotSatisfiable`."""
        decision = decide(
            self.method,
            conditions_of(self.environ),
            etag=layout.etag,
            mtime=layout.mtime,
            size=layout.size,
        )
        if decision.status == 412 or self.version not in {None, layout.etag.opaque}:
            raise PreconditionFailed("the bundle is not the version that the request is about")
        if decision.status == 416:
            raise RangeNotSatisfiable(layout.size)
        return decision


class Endpoint:
    """Answers bundle requests with members of one source.

    ``authority`` is asked before each, where the settings name one. ``spool`` is the room for
    members of unknown size, where the source sets bytes aside as well.
    """

    def __init__(
        self,
        source: Source,
        settings: Settings,
        listener: Listener | None = None,
        *,
        spool: Spool | None = None,
    ) -> None:
        self._source = source
        self._settings = settings
        self._fetchers = FetcherPool(settings.fetch_parallel, settings.fetch_ahead_total, listener)
        url = settings.auth_request
        self.authority = Authority(url, settings) if url else None
        self._permit = self.authority.permit if self.authority else None
        self._planner = Planner(source, settings, self._fetchers, self._permit, spool)

    def takes(self, environ: WSGIEnvironment) -> bool:
        """Return whether a request asks for a bundle, whatever its method."""
        return is_bundle(environ.get("QUERY_STRING", ""), self._settings.parameter)

    def __call__(self, download: Download, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a bundle request. Raise `Refusal` before anything was said."""
        environ = download.environ
        download.kind = "bundle"
        method = environ["REQUEST_METHOD"]
        if method not in METHODS:
            raise MethodNotAllowed(METHODS)
        caller = download.caller(self._settings.forward_headers)
        directory = _directory_of(environ)
        listed = read_query(query_of(environ), self._settings)
        bundle = self._bundle(environ, method, listed, directory, caller)
        vary = self._settings.forward_headers
        wanted = _Asked(download, bundle, caller, vary=vary, version=listed.version)
        return self._answer(wanted, start_response)

    def answer_list(
        self,
        download: Download,
        start_response: StartResponse,
        body: bytes,
        headers: Sequence[tuple[str, str]],
    ) -> Iterable[bytes]:
        """Answer a request with the archive that an application's list of files describes.

        ``body`` is the list and ``headers`` are its own; see `tar_gateway.web.file_list`.
        Raise `Refusal` before anything was said.
        """
        environ = download.environ
        download.kind = "bundle"
        if len(body) > self._settings.max_body:
            raise ContentTooLarge(
                f"the list of files is larger than {self._settings.max_body} bytes"
            )
        members = read_list(body, mount_of(environ), self._settings)
        try:
            filename = default_filename(_directory_of(environ))
        except BadRequest:  # a path that means something to the application
            filename = DEFAULT_FILENAME
        bundle = Bundle(members, filename)
        names = dict.fromkeys([*self._settings.forward_headers, *passed_names(headers)])
        wanted = _Asked(
            download,
            bundle,
            download.caller(names),
            vary=tuple(names),
            kept=kept_headers(headers),
        )
        return self._answer(wanted, start_response)

    def _answer(self, wanted: _Asked, start_response: StartResponse) -> Iterable[bytes]:
        """Plan, decide and deliver."""
        download = wanted.download
        download.members = len(wanted.bundle.members)
        try:
            plan, decision, body = self._prepare(wanted)
        except MembersChanged:
            # Nothing was said yet, so the plan can be made anew.
            plan, decision, body = self._prepare(wanted, anew=True)
        try:
            headers = self._headers(plan, decision, wanted)
            start_response(f"{decision.status} {HTTPStatus(decision.status).phrase}", headers)
            if body is None:
                return ()
            download.promised = decision.stop - decision.start
            return Delivery(body, download, self._settings.write_timeout, measured=True)
        except BaseException:
            if body is not None:
                body.close()
            raise

    def close(self) -> None:
        """End the threads, and close the connections to the authority."""
        self._fetchers.close()
        if self.authority is not None:
            self.authority.close()

    def _bundle(
        self,
        environ: WSGIEnvironment,
        method: str,
        listed: Query,
        directory: str,
        caller: Caller,
    ) -> Bundle:
        """Read what the request asks for: from its query, its body, or a manifest."""
        settings = self._settings
        if method == "POST":
            if listed != Query(()):
                raise BadRequest(
                    f"a POST says everything in its body: use ?{settings.parameter} alone"
                )
            return self._posted(environ, directory)
        if listed.manifest is None:
            return list_bundle(listed, directory, settings)
        manifest = read_manifest(
            self._planner,
            Entry(directory + listed.manifest, listed.manifest),
            caller,
            settings,
        )
        return json_bundle(manifest, directory, settings, filename=listed.filename)

    def _posted(self, environ: WSGIEnvironment, directory: str) -> Bundle:
        settings = self._settings
        media_type = environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
        if media_type == "application/json":
            body = read_body(environ, settings.max_body)
            return json_bundle(body, directory, settings)
        if media_type == "application/x-www-form-urlencoded":
            body = read_body(environ, settings.max_body)
            return list_bundle(read_form(body, settings), directory, settings)
        raise UnsupportedMediaType(
            "a list of members is sent as application/x-www-form-urlencoded or application/json"
        )

    def _prepare(self, wanted: _Asked, *, anew: bool = False) -> tuple[Plan, Decision, Body | None]:
        """Plan, decide what to answer, and open the first member that the response needs.

        There is no body where the headers say all. Raise `MembersChanged` where that member
        has changed since it was asked about.
        """
        plan = None if anew else self._recall(wanted)
        if plan is None:
            plan = self._planner.plan(wanted.bundle, wanted.caller)
        wanted.download.planned()
        try:
            decision = wanted.decide(plan.layout)
            if wanted.method == "HEAD" or decision.status == 304:
                plan.close()
                return plan, decision, None
            body = Body(plan, decision.start, decision.stop, self._settings, self._fetchers)
            body.prime()
        except BaseException:
            plan.close()
            raise
        return plan, decision, body

    def _recall(self, wanted: _Asked) -> Plan | None:
        """Return a plan of a moment ago, for a part that begins with a member and nothing else.

        That member is opened before anything is said, and shows whether its version is still
        there. What is said of the whole has to be true now.
        """
        if conditions_of(wanted.environ).range is None:
            return None
        plan = self._planner.recall(wanted.bundle, wanted.caller)
        if plan is None:
            return None
        try:
            decision = wanted.decide(plan.layout)
        except Refusal:
            return None
        if decision.status != HTTPStatus.PARTIAL_CONTENT:
            return None
        begin = islice(plan.layout.slice(decision.start, decision.stop), OPENED_WITHIN)
        return plan if any(isinstance(segment, Borrowed) for segment in begin) else None

    def _headers(self, plan: Plan, decision: Decision, wanted: _Asked) -> list[tuple[str, str]]:
        layout = plan.layout
        ranges = wanted.method != "POST" and layout.etag.strong
        headers = [
            ("ETag", layout.etag.text),
            ("Cache-Control", "private, no-transform"),
            ("Accept-Ranges", "bytes" if ranges else "none"),
        ]
        if layout.mtime:
            headers.append(("Last-Modified", formatdate(layout.mtime, usegmt=True)))
        if wanted.vary:
            headers.append(("Vary", ", ".join(wanted.vary)))
        if wanted.kept is not None:
            headers.extend(wanted.kept)
        elif ranges and (link := _pinned_link(wanted.environ, layout.etag)):
            headers.append(("Link", link))
        if decision.status == 304:
            return headers
        if decision.status == 206:
            span = f"bytes {decision.start}-{decision.stop - 1}/{layout.size}"
            headers.append(("Content-Range", span))
            wanted.download.range = span
        if not any(name.lower() == "content-disposition" for name, _ in headers):
            headers.append(("Content-Disposition", attachment(plan.bundle.filename)))
        return [
            *headers,
            ("Content-Type", "application/x-tar"),
            ("Content-Length", str(decision.stop - decision.start)),
            ("X-Content-Type-Options", "nosniff"),
            # nginx would otherwise keep blocks back, and the rest of a large archive on disk.
            ("X-Accel-Buffering", "no"),
            ("Server-Timing", wanted.download.timing()),
        ]


def _directory_of(environ: WSGIEnvironment) -> str:
    """Return the directory that members are relative to, as ``""`` or ``"a/b/"``."""
    path = path_of(environ)
    return path if path.endswith("/") or not path else path + "/"


def _pinned_link(environ: WSGIEnvironment, etag: Validator) -> str | None:
    """Return a link to this very version of the archive, for clients that resume blindly.

    A client that sends a Range without If-Range would put parts of two versions together;
    at this URL it gets 412 instead. Left out where a proxy might refuse so long a header.
    """
    link = f'<?{pinned_query(query_of(environ), etag.opaque)}>; rel="bookmark"'
    return link if len(link) <= LONGEST_LINK else None

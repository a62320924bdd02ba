"""A bundle request from beginning to end: request, bundle, plan, slice, body.

Both faces, the gateway and the middleware, answer bundles with this and nothing else.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from wsgiref.types import StartResponse, WSGIEnvironment

from tar_gateway.body import Body
from tar_gateway.bundle import (
    Bundle,
    Listed,
    is_bundle,
    json_bundle,
    list_bundle,
    pinned_query,
    read_form,
    read_query,
)
from tar_gateway.client import Delivery
from tar_gateway.conditions import Conditions, Decision, decide
from tar_gateway.environ import caller_of, conditions_of, path_of, query_of, read_body
from tar_gateway.errors import (
    BadRequest,
    MembersChanged,
    MethodNotAllowed,
    PreconditionFailed,
    RangeNotSatisfiable,
    UnsupportedMediaType,
)
from tar_gateway.headers import attachment
from tar_gateway.layout import Layout
from tar_gateway.manifest import read_manifest
from tar_gateway.planner import Plan, Planner
from tar_gateway.retry import Retry
from tar_gateway.settings import Settings
from tar_gateway.sources import Caller, Source

METHODS = ("GET", "HEAD", "POST")


# Bytes; nginx as it comes refuses an answer whose headers don't fit into 4 KiB.
LONGEST_LINK = 2048


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Of which version, and for whom, a request wants what part of an archive."""

    method: str
    caller: Caller
    conditions: Conditions
    version: str | None

    def decide(self, layout: Layout) -> Decision:
        """Decide what to answer. Raises `PreconditionFailed` or `RangeNotSatisfiable`."""
        decision = decide(
            self.method, self.conditions, etag=layout.etag, mtime=layout.mtime, size=layout.size
        )
        if decision.status == 412 or self.version not in {None, layout.etag.opaque}:
            raise PreconditionFailed("the bundle is not the version that the request is about")
        if decision.status == 416:
            raise RangeNotSatisfiable(layout.size)
        return decision


class Endpoint:
    """Answers bundle requests with members of one source."""

    def __init__(self, source: Source, settings: Settings) -> None:
        self._source = source
        self._settings = settings
        self._planner = Planner(source, settings)

    def takes(self, environ: WSGIEnvironment) -> bool:
        """Tell whether a request asks for a bundle, whatever its method."""
        return is_bundle(query_of(environ), self._settings.parameter)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a bundle request. Raises `Refusal` before anything was said."""
        method = environ["REQUEST_METHOD"]
        if method not in METHODS:
            raise MethodNotAllowed(METHODS)
        caller = caller_of(environ, self._settings.forward_headers)
        directory = _directory_of(environ)
        listed = self._listed(environ)
        bundle = self._bundle(environ, method, listed, directory, caller)
        wanted = _Wanted(method, caller, conditions_of(environ), listed.version)
        try:
            plan, decision, body = self._prepare(bundle, wanted)
        except MembersChanged:
            # Nothing was said yet, so the plan can be made anew.
            plan, decision, body = self._prepare(bundle, wanted)
        try:
            headers = self._headers(plan, decision, method)
            if method != "POST" and (link := _pinned_link(environ, plan)):
                headers.append(("Link", link))
            start_response(f"{decision.status} {HTTPStatus(decision.status).phrase}", headers)
            if body is None:
                return ()
            return Delivery(body, environ, self._settings.write_timeout, measured=True)
        except BaseException:
            if body is not None:
                body.close()
            raise

    def close(self) -> None:
        """End the threads."""
        self._planner.close()

    def _listed(self, environ: WSGIEnvironment) -> Listed:
        settings = self._settings
        return read_query(
            query_of(environ), parameter=settings.parameter, max_members=settings.max_members
        )

    def _bundle(
        self,
        environ: WSGIEnvironment,
        method: str,
        listed: Listed,
        directory: str,
        caller: Caller,
    ) -> Bundle:
        """Read what the request asks for: from its query, its body, or a manifest."""
        settings = self._settings
        limit = settings.max_members
        if method == "POST":
            if listed != Listed(()):
                raise BadRequest(
                    f"a POST says everything in its body: use ?{settings.parameter} alone"
                )
            return self._posted(environ, directory)
        if listed.manifest is None:
            return list_bundle(listed, directory)
        manifest = read_manifest(
            self._source,
            directory + listed.manifest,
            caller,
            limit=settings.max_body,
            retry=Retry.from_settings(settings),
        )
        return json_bundle(manifest, directory, max_members=limit, filename=listed.filename)

    def _posted(self, environ: WSGIEnvironment, directory: str) -> Bundle:
        settings = self._settings
        limit = settings.max_members
        media_type = environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
        if media_type == "application/json":
            body = read_body(environ, settings.max_body)
            return json_bundle(body, directory, max_members=limit)
        if media_type == "application/x-www-form-urlencoded":
            body = read_body(environ, settings.max_body)
            form = read_form(body, parameter=settings.parameter, max_members=limit)
            return list_bundle(form, directory)
        raise UnsupportedMediaType(
            "a list of members is sent as application/x-www-form-urlencoded or application/json"
        )

    def _prepare(self, bundle: Bundle, wanted: _Wanted) -> tuple[Plan, Decision, Body | None]:
        """Plan, decide what to answer, and open the first member that the answer needs.

        There is no body where the headers say all. Raises `MembersChanged` where that member
        has changed since it was asked about.
        """
        plan = self._planner.plan(bundle, wanted.caller)
        try:
            decision = wanted.decide(plan.layout)
            if wanted.method == "HEAD" or decision.status == 304:
                plan.close()
                return plan, decision, None
            body = Body(plan, decision.start, decision.stop, self._settings)
            body.prime()
        except BaseException:
            plan.close()
            raise
        return plan, decision, body

    def _headers(self, plan: Plan, decision: Decision, method: str) -> list[tuple[str, str]]:
        layout = plan.layout
        ranges = method != "POST" and layout.etag.strong
        headers = [
            ("ETag", layout.etag.text),
            ("Cache-Control", "private, no-transform"),
            ("Accept-Ranges", "bytes" if ranges else "none"),
        ]
        if layout.mtime:
            headers.append(("Last-Modified", formatdate(layout.mtime, usegmt=True)))
        if self._settings.forward_headers:
            headers.append(("Vary", ", ".join(self._settings.forward_headers)))
        if decision.status == 304:
            return headers
        if decision.status == 206:
            span = f"bytes {decision.start}-{decision.stop - 1}/{layout.size}"
            headers.append(("Content-Range", span))
        return [
            *headers,
            ("Content-Type", "application/x-tar"),
            ("Content-Length", str(decision.stop - decision.start)),
            ("Content-Disposition", attachment(plan.bundle.filename)),
            ("X-Content-Type-Options", "nosniff"),
            # nginx would otherwise keep blocks back, and the rest of a large archive on disk.
            ("X-Accel-Buffering", "no"),
        ]


def _directory_of(environ: WSGIEnvironment) -> str:
    """Give the directory that members are relative to, as ``""`` or ``"a/b/"``."""
    path = path_of(environ)
    return path if path.endswith("/") or not path else path + "/"


def _pinned_link(environ: WSGIEnvironment, plan: Plan) -> str | None:
    """Give a link to this very version of the archive, for clients that resume blindly.

    A client that sends a Range without If-Range would put parts of two versions together;
    at this URL it gets 412 instead. Left out where a proxy might refuse so long a header, and
    where there are no ranges anyway.
    """
    if not plan.layout.etag.strong:
        return None
    link = f'<?{pinned_query(query_of(environ), plan.layout.etag.opaque)}>; rel="bookmark"'
    return link if len(link) <= LONGEST_LINK else None

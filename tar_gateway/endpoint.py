"""A bundle request from beginning to end: request, bundle, plan, slice, body.

Both faces, the gateway and the middleware, answer bundles with this and nothing else.
"""

from collections.abc import Iterable
from email.utils import formatdate
from http import HTTPStatus
from wsgiref.types import StartResponse, WSGIEnvironment

from tar_gateway.body import Body
from tar_gateway.bundle import (
    Bundle,
    is_bundle,
    json_bundle,
    list_bundle,
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
from tar_gateway.planner import Plan, Planner
from tar_gateway.settings import Settings
from tar_gateway.sources import Caller, Source

METHODS = ("GET", "HEAD", "POST")


class Endpoint:
    """Answers bundle requests with members of one source."""

    def __init__(self, source: Source, settings: Settings) -> None:
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
        bundle = self._bundle(environ, method)
        caller = caller_of(environ, self._settings.forward_headers)
        conditions = conditions_of(environ)
        try:
            plan, decision, body = self._prepare(bundle, caller, method, conditions)
        except MembersChanged:
            # Nothing was said yet, so the plan can be made anew.
            plan, decision, body = self._prepare(bundle, caller, method, conditions)
        headers = self._headers(plan, decision, method)
        start_response(f"{decision.status} {HTTPStatus(decision.status).phrase}", headers)
        if body is None:
            return ()
        return Delivery(body, environ, self._settings.write_timeout, measured=True)

    def close(self) -> None:
        """End the threads."""
        self._planner.close()

    def _bundle(self, environ: WSGIEnvironment, method: str) -> Bundle:
        """Read what the request asks for, from its query or its body."""
        settings = self._settings
        parameter, limit = settings.parameter, settings.max_members
        path = path_of(environ)
        directory = path if path.endswith("/") or not path else path + "/"
        query = read_query(query_of(environ), parameter=parameter, max_members=limit)
        if method != "POST":
            return list_bundle(query, directory)
        if query.members:
            raise BadRequest(f"a POST names its members in the body: use ?{parameter} alone")
        media_type = environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
        if media_type == "application/json":
            body = read_body(environ, settings.max_body)
            return json_bundle(body, directory, max_members=limit)
        if media_type == "application/x-www-form-urlencoded":
            body = read_body(environ, settings.max_body)
            form = read_form(body, parameter=parameter, max_members=limit)
            return list_bundle(form, directory)
        raise UnsupportedMediaType(
            "a list of members is sent as application/x-www-form-urlencoded or application/json"
        )

    def _prepare(
        self, bundle: Bundle, caller: Caller, method: str, conditions: Conditions
    ) -> tuple[Plan, Decision, Body | None]:
        """Plan, decide what to answer, and open the first member that the answer needs.

        There is no body where the headers say all. Raises `MembersChanged` where that member
        has changed since it was asked about.
        """
        plan = self._planner.plan(bundle, caller)
        try:
            decision = _decide(method, conditions, plan)
            if method == "HEAD" or decision.status == 304:
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


def _decide(method: str, conditions: Conditions, plan: Plan) -> Decision:
    layout = plan.layout
    decision = decide(method, conditions, etag=layout.etag, mtime=layout.mtime, size=layout.size)
    if decision.status == 412:
        raise PreconditionFailed("the bundle is not the version that the request is about")
    if decision.status == 416:
        raise RangeNotSatisfiable(layout.size)
    return decision

"""Errors before the first byte, as answers (RFC 9457): JSON, or a page for a browser."""

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, unquote, unquote_plus, urljoin, urlsplit, urlunsplit
from wsgiref.types import StartResponse, WSGIEnvironment

from webob.acceptparse import create_accept_header

from tar_gateway.errors import MembersFailed, Refusal
from tar_gateway.http.environ import mount_of, query_of
from tar_gateway.http.headers import page_policy
from tar_gateway.web.browse.error_page import LONGEST_DETAIL, NO_WAYS, Ways, error_page, short
from tar_gateway.web.browse.shell import PLAIN, Look


def problem(
    refusal: Refusal,
    accept: str | None,
    *,
    vary: Sequence[str] = (),
    request_id: str | None = None,
    look: Look = PLAIN,
    ways: Ways = NO_WAYS,
) -> tuple[HTTPStatus, list[tuple[str, str]], bytes]:
    """Return the status, headers and body that tell a client of a refusal.

    ``accept`` is the request's Accept header: HTML where it prefers that, JSON otherwise. ``ways``
    are what a person may do about it, who quotes ``request_id`` to an operator.
    """
    policy: Iterable[tuple[str, str]]
    if wants_page(accept):
        body = error_page(refusal, look, ways, request_id)
        media_type, policy = "text/html; charset=utf-8", look.policy()
    else:
        media_type, policy = "application/problem+json", page_policy()
        body = _json(refusal, request_id)
    headers = [
        ("Content-Type", media_type),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        *policy,
        ("Vary", ", ".join(("Accept", *vary))),
        *refusal.headers,
    ]
    return refusal.status, headers, body


def refuse(
    refusal: Refusal,
    environ: WSGIEnvironment,
    start_response: StartResponse,
    *,
    vary: Sequence[str] = (),
    request_id: str | None = None,
    look: Look = PLAIN,
    ways: Ways = NO_WAYS,
) -> Iterable[bytes]:
    """Answer a request with a refusal (PEP 3333), a browser that has to log in with a redirect."""
    if (place := _login_for(refusal, environ)) is not None:
        body = b"Log in first.\n"
        headers = [
            ("Location", place),
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("Vary", ", ".join(("Accept", *vary))),
        ]
        start_response("303 See Other", headers)
        return () if environ["REQUEST_METHOD"] == "HEAD" else (body,)
    status, headers, body = problem(
        refusal,
        environ.get("HTTP_ACCEPT"),
        vary=vary,
        request_id=request_id,
        look=look,
        ways=ways,
    )
    start_response(f"{status} {status.phrase}", headers)
    return () if environ["REQUEST_METHOD"] == "HEAD" else (body,)


def _login_for(refusal: Refusal, environ: WSGIEnvironment) -> str | None:
    """Return where to log in, and come back from to this request, if that is what a browser needs.

    A POST can't be repeated by a redirect: it comes back to its path.
    """
    fault = refusal.login if isinstance(refusal, MembersFailed) else None
    if fault is None or fault.login is None or not wants_page(environ.get("HTTP_ACCEPT")):
        return None
    mount, path = mount_of(environ), environ.get("PATH_INFO", "")
    query = query_of(environ) if environ["REQUEST_METHOD"] != "POST" else ""
    back = mount + quote(path.encode("latin-1", "replace")) + (f"?{query}" if query else "")
    place = quote(fault.login.encode("latin-1", "replace"), safe="%:/?#[]@!$&'()*+,;=-._~")
    member = f"{unquote(mount)}/{fault.path}"
    with suppress(ValueError):  # it is no URL, but the application's own word
        return _with_way_back(urljoin(quote(member), place), member, back)
    return place


# A login elsewhere may be told of one here, which is told where to go on.
_NESTED = 2


def _with_way_back(place: str, member: str, back: str, nested: int = _NESTED) -> str:
    """Write ``back`` where a parameter of ``place`` names the member's own URL."""
    parts = urlsplit(place)
    pairs = []
    for pair in parts.query.split("&"):
        name, _, raw = pair.partition("=")
        value = unquote_plus(raw)
        target = urlsplit(value)
        if unquote(target.path) == member:
            value = urlunsplit((target.scheme, target.netloc, *back.partition("?")[::2], ""))
        elif nested and target.query:
            value = _with_way_back(value, member, back, nested - 1)
        pairs.append(pair if value == unquote_plus(raw) else f"{name}={quote(value, safe='')}")
    return parts._replace(query="&".join(pairs)).geturl()


def wants_page(accept: str | None) -> bool:
    """Return whether an Accept header prefers a page, as a browser's does, to JSON."""
    # What is not an Accept header accepts anything, as WebOb reads it.
    offers: Iterable[tuple[str, float]] = create_accept_header(accept).acceptable_offers(
        ["application/problem+json", "text/html", "application/json"]
    )
    best = next(iter(offers), ("application/problem+json", 1.0))
    return best[0] == "text/html"


def _json(refusal: Refusal, request_id: str | None) -> bytes:
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": refusal.status.phrase,
        "status": int(refusal.status),
        "detail": short(refusal.detail, LONGEST_DETAIL),
    }
    if request_id is not None:
        document["request_id"] = request_id
    if isinstance(refusal, MembersFailed):
        document["count"] = refusal.count
        document["members"] = [
            {"path": short(fault.path), "status": fault.status, "reason": short(fault.reason)}
            for fault in refusal.faults
        ]
    return json.dumps(document, ensure_ascii=False).encode("utf-8") + b"\n"

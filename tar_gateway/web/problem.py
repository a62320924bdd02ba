"""Errors before the first byte, as answers (RFC 9457): JSON, or a page for a browser."""

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from html import escape
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, unquote, unquote_plus, urljoin, urlsplit, urlunsplit
from wsgiref.types import StartResponse, WSGIEnvironment

from webob.acceptparse import create_accept_header

from tar_gateway.errors import MembersFailed, Refusal
from tar_gateway.http.environ import mount_of, query_of
from tar_gateway.http.headers import page_policy

# Characters of a path or reason, and of a sentence that quotes some: an error is no larger than
# 100 of these make it, whatever was asked for.
_LONGEST = 200
_LONGEST_DETAIL = 1000

_STYLE = (
    "body { font: 1em/1.5 system-ui, sans-serif; max-width: 45em; margin: 3em auto; "
    "padding: 0 1em; overflow-wrap: anywhere } code { background: #8882; padding: .1em .3em }"
)

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
<p>{detail}.</p>
{members}</body>
</html>
"""


def problem(
    refusal: Refusal, accept: str | None, *, vary: Sequence[str] = ()
) -> tuple[HTTPStatus, list[tuple[str, str]], bytes]:
    """Return the status, headers and body that tell a client of a refusal.

    ``accept`` is the request's Accept header: HTML where it prefers that, JSON otherwise.
    """
    if _wants_page(accept):
        media_type, body, style = "text/html; charset=utf-8", _page(refusal), _STYLE
    else:
        media_type, body, style = "application/problem+json", _json(refusal), None
    headers = [
        ("Content-Type", media_type),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        *page_policy(style),
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
    status, headers, body = problem(refusal, environ.get("HTTP_ACCEPT"), vary=vary)
    start_response(f"{status} {status.phrase}", headers)
    return () if environ["REQUEST_METHOD"] == "HEAD" else (body,)


def _login_for(refusal: Refusal, environ: WSGIEnvironment) -> str | None:
    """Return where to log in, and come back from to this request, if that is what a browser needs.

    A POST can't be repeated by a redirect: it comes back to its path.
    """
    fault = refusal.login if isinstance(refusal, MembersFailed) else None
    if fault is None or fault.login is None or not _wants_page(environ.get("HTTP_ACCEPT")):
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


def _wants_page(accept: str | None) -> bool:
    # What is not an Accept header accepts anything, as WebOb reads it.
    offers: Iterable[tuple[str, float]] = create_accept_header(accept).acceptable_offers(
        ["application/problem+json", "text/html", "application/json"]
    )
    best = next(iter(offers), ("application/problem+json", 1.0))
    return best[0] == "text/html"


def _short(text: str, longest: int = _LONGEST) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _json(refusal: Refusal) -> bytes:
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": refusal.status.phrase,
        "status": int(refusal.status),
        "detail": _short(refusal.detail, _LONGEST_DETAIL),
    }
    if isinstance(refusal, MembersFailed):
        document["count"] = refusal.count
        document["members"] = [
            {"path": _short(fault.path), "status": fault.status, "reason": _short(fault.reason)}
            for fault in refusal.faults
        ]
    return json.dumps(document, ensure_ascii=False).encode("utf-8") + b"\n"


def _page(refusal: Refusal) -> bytes:
    members = ""
    if isinstance(refusal, MembersFailed):
        rows = (
            f"<li><code>{escape(_short(fault.path))}</code>: {escape(_short(fault.reason))}</li>\n"
            for fault in refusal.faults
        )
        members = f"<ul>\n{''.join(rows)}</ul>\n"
        if (more := refusal.count - len(refusal.faults)) > 0:
            members += f"<p>And {more} more.</p>\n"
    title = f"{refusal.status.value} {refusal.status.phrase}"
    detail = _short(refusal.detail[:1].upper() + refusal.detail[1:], _LONGEST_DETAIL)
    page = _PAGE.format(style=_STYLE, title=title, detail=escape(detail), members=members)
    return page.encode("utf-8")

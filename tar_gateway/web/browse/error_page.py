"""Errors for people: what is wrong, with which files, and what can be done about it.

Pure: a refusal in, HTML out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from tar_gateway.errors import ContentTooLarge, MembersFailed, PreconditionFailed, Refusal
from tar_gateway.http.environ import mount_of, query_of
from tar_gateway.http.paths import url_path
from tar_gateway.settings import Settings
from tar_gateway.web.browse import texts
from tar_gateway.web.browse.names import name_in_html
from tar_gateway.web.browse.shell import Look
from tar_gateway.web.query import is_bundle, is_plain_bundle

# Characters of a path or reason, and of a sentence that quotes some: an error is no larger than
# 100 of these make it, whatever was asked for.
_LONGEST = 200
LONGEST_DETAIL = 1000


@dataclass(frozen=True, slots=True)
class Ways:
    """What a person may do about an error, as references.

    ``others`` is the bundle without what is missing, ``directory`` the page of one that has
    changed. ``is_selected``: what was asked for was selected on a page, which is still there.
    """

    others: str | None = None
    directory: str | None = None
    is_selected: bool = False


NO_WAYS = Ways()


def ways_on(refusal: Refusal, environ: Mapping[str, Any], settings: Settings) -> Ways:
    """Find what a person may do about an error. A signed link can be given no other meaning."""
    if len(environ.get("QUERY_STRING", "")) > settings.max_query:
        return NO_WAYS  # and nothing is made of it
    query, parameter = query_of(environ), settings.parameter
    signed = settings.signing_keys_file is not None
    others = directory = None
    if isinstance(refusal, MembersFailed) and environ["REQUEST_METHOD"] == "GET":
        some = refusal.count < refusal.total and all(fault.is_missing for fault in refusal.faults)
        said = is_plain_bundle(query, "missing") or is_plain_bundle(query, "plan")
        if some and is_bundle(query, parameter) and not (said or signed):
            others = f"?{query}&missing=report"
    if isinstance(refusal, PreconditionFailed) and refusal.directory is not None and not signed:
        directory = f"{mount_of(environ)}/{url_path(refusal.directory)}"
    return Ways(others, directory, settings.browse and is_bundle(query, parameter))


def error_page(refusal: Refusal, look: Look, ways: Ways, request_id: str | None) -> bytes:
    """Return a refusal as a page."""
    detail = short(refusal.detail[:1].upper() + refusal.detail[1:], LONGEST_DETAIL)
    title = f"{refusal.status.value} {refusal.status.phrase}"
    parts = [f"<h1>{title}</h1>", f"<p>{escape(detail, quote=False)}.</p>", *_members(refusal)]
    if isinstance(refusal, ContentTooLarge) and ways.is_selected:
        parts.append(f"<p>{texts.LESS}</p>")
    if ways.others is not None:
        link = f'<a class="button main" rel=nofollow href="{escape(ways.others)}">'
        parts.append(f"<p>{link}{texts.OTHERS}</a> <span>{texts.OTHERS_HOW}</span></p>")
    if ways.directory is not None:
        link = f'<a class="button main" href="{escape(ways.directory)}">{texts.AGAIN}</a>'
        parts.append(f"<p>{link} <span>{texts.CHANGED_HOW}</span></p>")
    elif ways.is_selected:
        parts.append(f"<p>{texts.BACK}</p>")
    if request_id is not None:
        parts.append(
            f"<p class=id>{texts.REQUEST.format(id=f'<code>{escape(request_id)}</code>')}</p>"
        )
    body = "\n".join(parts)
    top = f"<header><p class=title>{escape(look.title)}</p></header>"
    return look.document(title, f"{top}\n<main class=error>\n{body}\n</main>")


def _members(refusal: Refusal) -> list[str]:
    if not isinstance(refusal, MembersFailed):
        return []
    rows = (
        f"<li><code>{name_in_html(short(fault.path))}</code>: {escape(short(fault.reason))}</li>"
        for fault in refusal.faults
    )
    more = refusal.count - len(refusal.faults)
    after = [f"<p>{texts.MORE.format(count=more)}</p>"] if more > 0 else []
    return ["<ul>", *rows, "</ul>", *after]


def short(text: str, longest: int = _LONGEST) -> str:
    """Cut a text off where it is longer than an error has room for."""
    return text if len(text) <= longest else text[: longest - 1] + "…"

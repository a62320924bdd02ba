"""The plan of an archive as JSON, in place of the archive: sent in pieces, whatever it lists.

Its closing bracket comes last, so that a plan that was cut off is no JSON. It has no length and no
ranges. `docs/plan.schema.json` describes it.
"""

import json
from collections.abc import Iterable, Iterator
from hashlib import sha256
from http import HTTPStatus
from wsgiref.types import StartResponse, WSGIEnvironment

from tar_gateway.access.links import without_signature
from tar_gateway.delivery.plan import Plan
from tar_gateway.delivery.selection import Asked
from tar_gateway.errors import MemberFault
from tar_gateway.http.environ import query_of
from tar_gateway.http.validators import Validator
from tar_gateway.settings import Settings
from tar_gateway.web.observe.download import Download
from tar_gateway.web.query import archive_query, is_plain_bundle, pinned_query

# Members of one piece: some ten kilobytes.
_AT_ONCE = 100


class PlanDocument:
    """A plan as pieces of JSON, and its entity tag; owns the plan and closes it.

    ``link`` is a reference to this version of the archive. With ``hides_places`` it says nothing
    of where members come from, but their names only.
    """

    def __init__(self, plan: Plan, filename: str, link: str | None, *, hides_places: bool) -> None:
        self._plan = plan
        self._hides_places = hides_places
        layout = plan.layout
        self._head: dict[str, object] = {
            "filename": filename,
            "format": layout.format.name,
            "size": None if layout.format.coding else layout.size,
            "etag": None if layout.format.coding else layout.etag.text,
            "link": link,
        }
        self._pieces = self._walk()
        self.etag = self._etag()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        self._plan.cancellation.check()
        return next(self._pieces).encode("utf-8")

    def close(self) -> None:
        """Close the plan. May be called again."""
        self._plan.close()

    def _etag(self) -> Validator:
        """Make a tag of all that the document says; the archive's own covers all but the paths."""
        digest = sha256(_text(self._head).encode("utf-8"))
        digest.update(self._plan.layout.etag.text.encode("utf-8"))
        for fault in self._plan.missing:
            digest.update(_text(self._missing(fault)).encode("utf-8"))
        for entry in () if self._hides_places else self._plan.bundle.members:
            digest.update(entry.path.encode("utf-8") + b"\0")  # which is in no name
        return Validator.etag(f"plan-{digest.hexdigest()[:40]}", strong=True)

    def _walk(self) -> Iterator[str]:
        yield _text(self._head)[:-1] + ', "members": ['
        yield from _listed(map(self._member, range(len(self._plan.bundle.members))))
        yield '], "missing": ['
        yield from _listed(map(self._missing, self._plan.missing))
        yield "]}\n"

    def _member(self, index: int) -> dict[str, object]:
        member, entry = self._plan.layout.members[index], self._plan.bundle.members[index]
        offset, data_offset = self._plan.layout.place(index)
        said: dict[str, object] = {
            "name": member.name,
            "size": member.size,
            "mtime": member.mtime,
            "offset": offset,
            "data_offset": data_offset,
        }
        if not self._hides_places:
            said["path"] = entry.path or None
            said["validator"] = member.validator.text if member.validator else None
        return said

    def _missing(self, fault: MemberFault) -> dict[str, object]:
        said: dict[str, object] = {
            "name": fault.name,
            "status": fault.status,
            "reason": fault.reason,
        }
        return said if self._hides_places else {**said, "path": fault.path}


def _text(value: dict[str, object]) -> str:
    return json.dumps(value, ensure_ascii=False)


def _listed(values: Iterable[dict[str, object]]) -> Iterator[str]:
    """Return the text between an array's brackets, some values at a time."""
    ready: list[str] = []
    before = "\n"
    for value in values:
        ready.append(before + _text(value))
        before = ",\n"
        if len(ready) == _AT_ONCE:
            yield "".join(ready)
            ready.clear()
    yield "".join(ready)


def _link(asked: Asked, environ: WSGIEnvironment, etag: Validator, *, signed: bool) -> str | None:
    """Return a reference to this version of the archive, `None` where the request has no URL of it.

    A body is no part of a URL, and a link that was signed for the plan alone opens nothing else.
    """
    query = query_of(environ)
    if asked.method == "POST" or (signed and is_plain_bundle(without_signature(query), "plan")):
        return None
    return "?" + pinned_query(archive_query(query), etag.opaque)


def answer_plan(
    download: Download,
    asked: Asked,
    plan: Plan,
    start_response: StartResponse,
    settings: Settings,
) -> Iterable[bytes]:
    """Answer with a plan, which is closed with the response. Raise `PreconditionFailed`."""
    signed = settings.signing_keys_file is not None
    try:
        link = _link(asked, download.environ, plan.layout.etag, signed=signed)
        document = PlanDocument(plan, asked.bundle.filename, link, hides_places=signed)
        status = asked.decide_about(document.etag).status
        kept_for = "no-cache, no-store" if plan.no_store else "no-cache"
        headers = [
            ("ETag", document.etag.text),
            ("Cache-Control", f"private, {kept_for}, no-transform"),
            ("Accept-Ranges", "none"),
        ]
        if asked.bundle.missing != "fail":
            headers.append(("Bundle-Missing", str(len(plan.missing))))
        if names := ", ".join(settings.forward_headers):
            headers.append(("Vary", names))
        if status != 304:
            headers += [
                ("Content-Type", "application/json"),
                ("X-Content-Type-Options", "nosniff"),
                ("Cross-Origin-Resource-Policy", "same-origin"),
                ("Server-Timing", download.timing()),
            ]
        start_response(f"{status} {HTTPStatus(status).phrase}", headers)
        if status == 304 or asked.method == "HEAD":
            plan.close()
            return ()
        return document
    except BaseException:
        plan.close()
        raise

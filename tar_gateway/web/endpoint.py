"""A bundle request from beginning to end: request, bundle, plan, slice, body.

Both faces, the gateway and the middleware, answer bundles with this and nothing else.
"""

import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from email.utils import formatdate
from hashlib import sha256
from http import HTTPStatus
from wsgiref.types import StartResponse, WSGIEnvironment

from tar_gateway.archive.bundle import Bundle, Entry, default_filename
from tar_gateway.delivery.lister import Lister
from tar_gateway.delivery.manifest import read_manifest
from tar_gateway.delivery.planner import Planner
from tar_gateway.delivery.selection import Asked, Selection, Selector
from tar_gateway.delivery.threads import FetcherPool
from tar_gateway.delivery.whole import ended_at, read_whole
from tar_gateway.errors import (
    BadRequest,
    ContentTooLarge,
    MethodNotAllowed,
    NotAcceptable,
    PreconditionFailed,
    TooSlow,
    UnsupportedMediaType,
    UpstreamFailed,
)
from tar_gateway.http.environ import (
    check_destination,
    check_no_encoded_slash,
    conditions_of,
    mount_of,
    path_of,
    query_of,
    read_body,
    shows_breaks,
)
from tar_gateway.http.headers import attachment, forbids_storing
from tar_gateway.http.validators import Validator
from tar_gateway.settings import Settings
from tar_gateway.sources import Caller, Permit, Source
from tar_gateway.sources.spool import Spool
from tar_gateway.sources.wire.cancellation import Cancellation
from tar_gateway.sources.wire.tally import Listener
from tar_gateway.web.file_list import format_of, kept_headers, passed_names, read_list
from tar_gateway.web.json_list import json_bundle
from tar_gateway.web.observe.download import Download
from tar_gateway.web.plan_json import answer_plan
from tar_gateway.web.query import (
    Query,
    is_bundle,
    is_plain_bundle,
    list_bundle,
    pinned_query,
    read_form,
    read_form_data,
    read_query,
)

METHODS = ("GET", "HEAD", "POST")

# Bytes; nginx as it comes refuses a response whose headers don't fit into 4 KiB.
LONGEST_LINK = 2048


class Endpoint:
    """Answers bundle requests with members of one source.

    ``permit`` is asked before each, where there is one. ``spool`` is the room for members of
    unknown size, where the source sets bytes aside as well.
    """

    def __init__(
        self,
        source: Source,
        settings: Settings,
        permit: Permit | None = None,
        listener: Listener | None = None,
        *,
        spool: Spool | None = None,
    ) -> None:
        self._settings = settings
        self._fetchers = FetcherPool(settings.fetch_parallel, settings.fetch_ahead_total, listener)
        self._planner = Planner(source, settings, self._fetchers, permit, spool)
        self._selector = Selector(
            self._planner,
            self._fetchers,
            reread_limit=settings.reread_limit,
            checksum_memory=settings.checksum_memory,
        )

    @property
    def lister(self) -> Lister:
        """What lists directories as bundles do."""
        return self._planner.lister

    def takes(self, environ: WSGIEnvironment) -> bool:
        """Return whether a request asks for a bundle, whatever its method."""
        return is_bundle(environ.get("QUERY_STRING", ""), self._settings.parameter)

    def __call__(self, download: Download, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a bundle request. Raise `Refusal` before anything was said."""
        environ = download.environ
        download.become_bundle()
        method = environ["REQUEST_METHOD"]
        if method not in METHODS:
            raise MethodNotAllowed(METHODS)
        check_destination(environ)
        check_no_encoded_slash(environ)
        caller = download.caller(self._settings.forward_headers)
        directory = _directory_of(environ)
        listed = read_query(query_of(environ), self._settings)
        bundle = self._bundle(environ, method, listed, directory, caller)
        asked = Asked(bundle, caller, method, conditions_of(environ), listed.version)
        if listed.is_plan:
            download.members = len(bundle.members)
            plan = self._selector.plan(asked, download.planned)
            return answer_plan(download, asked, plan, start_response, self._settings)
        if bundle.format.coding is not None and not shows_breaks(environ):
            raise NotAcceptable(
                f"{bundle.format.name} has no length, and this connection would not show that it "
                "was cut off: use format=tar or format=zip, or HTTP/1.1"
            )
        return self._answer(download, asked, start_response, self._settings.forward_headers)

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
        download.become_bundle()
        if len(body) > self._settings.max_body:
            raise ContentTooLarge(
                f"the list of files is larger than {self._settings.max_body} bytes"
            )
        format = format_of(headers, self._settings.archive_files)
        members = read_list(body, mount_of(environ), self._settings)
        try:
            filename = default_filename(_directory_of(environ), format.suffix)
        except BadRequest:  # a path that means something to the application
            filename = default_filename("", format.suffix)
        cache_control = [value for name, value in headers if name.lower() == "cache-control"]
        names = dict.fromkeys([*self._settings.forward_headers, *passed_names(headers)])
        asked = Asked(
            Bundle(members, filename, no_store=forbids_storing(cache_control), format=format),
            download.caller(names),
            environ["REQUEST_METHOD"],
            conditions_of(environ),
        )
        return self._answer(download, asked, start_response, names, kept_headers(headers))

    def _answer(
        self,
        download: Download,
        asked: Asked,
        start_response: StartResponse,
        vary: Iterable[str],
        kept: Sequence[tuple[str, str]] | None = None,
    ) -> Iterable[bytes]:
        """Select and deliver.

        ``vary`` names the headers that decide who may have what; ``kept`` are headers of an
        application's that go along with an archive that it has listed itself.
        """
        download.members = len(asked.bundle.members)
        selection = self._selector.select(asked, download.planned)
        download.members = len(selection.plan.bundle.members)  # what directories have become
        body, decision = selection.body, selection.decision
        try:
            headers = _headers(download, asked, selection, vary, kept)
            start_response(f"{decision.status} {HTTPStatus(decision.status).phrase}", headers)
            if body is None:
                return ()
            if selection.plan.layout.format.coding is None:
                download.promised = decision.stop - decision.start
            return body
        except BaseException:
            if body is not None:
                body.close()
            raise

    def read_list(self, blocks: Iterable[bytes], cancellation: Cancellation | None = None) -> bytes:
        """Read a list of files, as far as shows whether it is too long, in the time of a plan.

        ``cancellation`` is what the blocks wait by, and no one else: it is cancelled after that
        time. Raise `UpstreamFailed` where they come too slowly.
        """
        deadline = time.monotonic() + self._settings.plan_timeout
        limit, pace = self._settings.max_body, self._planner.rules.pace
        try:
            with ended_at(deadline, cancellation) if cancellation else nullcontext():
                return read_whole(blocks, limit=limit, deadline=deadline, pace=pace)
        except TooSlow as error:
            raise UpstreamFailed.of(error, reading="the list of files") from error

    def close(self) -> None:
        """End the threads."""
        self._fetchers.close()

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
            plainly = is_plain_bundle(environ.get("QUERY_STRING", ""), settings.parameter)
            if replace(listed, is_plan=False) != Query(()) or not plainly:
                raise BadRequest(
                    f"a POST says everything in its body: use ?{settings.parameter} alone"
                )
            return self._posted(environ, directory)
        wanted = listed.manifest_sha256
        if listed.manifest is None:
            if wanted is not None:
                raise BadRequest("manifest_sha256= is of a manifest: name it by manifest=")
            return list_bundle(listed, directory, settings)
        manifest, no_store = read_manifest(
            self._planner,
            Entry(directory + listed.manifest, listed.manifest),
            caller,
            settings.max_body,
        )
        if wanted is not None and sha256(manifest).hexdigest() != wanted.lower():
            raise PreconditionFailed("the manifest is not the one that manifest_sha256= is of")
        bundle = json_bundle(manifest, directory, settings, listed.options)
        return replace(bundle, no_store=no_store)

    def _posted(self, environ: WSGIEnvironment, directory: str) -> Bundle:
        settings = self._settings
        content_type = environ.get("CONTENT_TYPE", "")
        media_type = content_type.partition(";")[0].strip().lower()
        if media_type == "application/json":
            body = read_body(environ, settings.max_body)
            return json_bundle(body, directory, settings)
        if media_type == "application/x-www-form-urlencoded":
            body = read_body(environ, settings.max_body)
            return list_bundle(read_form(body, settings), directory, settings)
        if media_type == "multipart/form-data":
            body = read_body(environ, settings.max_body)
            return list_bundle(read_form_data(body, content_type, settings), directory, settings)
        raise UnsupportedMediaType(
            "a list of members is sent as application/json, multipart/form-data "
            "or application/x-www-form-urlencoded"
        )


def _headers(
    download: Download,
    asked: Asked,
    selection: Selection,
    vary: Iterable[str],
    kept: Sequence[tuple[str, str]] | None,
) -> list[tuple[str, str]]:
    layout, decision = selection.plan.layout, selection.decision
    ranges = asked.method != "POST" and selection.takes_ranges
    kept_for = "no-cache, no-store" if selection.plan.no_store else "no-cache"
    is_measured = layout.format.coding is None
    headers = [
        *([("ETag", layout.etag.text)] if is_measured else []),
        # A cache asks again: otherwise it may show for days what was changed or denied meanwhile.
        ("Cache-Control", f"private, {kept_for}, no-transform"),
        ("Accept-Ranges", "bytes" if ranges else "none"),
    ]
    if mtime := asked.mtime(layout):
        headers.append(("Last-Modified", formatdate(mtime, usegmt=True)))
    if asked.bundle.missing != "fail":
        headers.append(("Bundle-Missing", str(len(selection.plan.missing))))
    if names := ", ".join(vary):
        headers.append(("Vary", names))
    if kept is not None:
        headers.extend(kept)
    elif ranges and (link := _pinned_link(download.environ, layout.etag)):
        headers.append(("Link", link))
    if decision.status == 304:
        return headers
    if decision.status == 206:
        span = f"bytes {decision.start}-{decision.stop - 1}/{layout.size}"
        headers.append(("Content-Range", span))
        download.range = span
    told = {name.lower() for name, _ in headers}
    if "content-disposition" not in told:
        headers.append(("Content-Disposition", attachment(asked.bundle.filename)))
    if "cross-origin-resource-policy" not in told:
        # No page of another site has it as a part of itself (Fetch, "CORP check").
        headers.append(("Cross-Origin-Resource-Policy", "same-origin"))
    return [
        *headers,
        ("Content-Type", layout.format.media_type),
        *([("Content-Length", str(decision.stop - decision.start))] if is_measured else []),
        ("X-Content-Type-Options", "nosniff"),
        # nginx would otherwise keep blocks back, and the rest of a large archive on disk.
        ("X-Accel-Buffering", "no"),
        ("Server-Timing", download.timing()),
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

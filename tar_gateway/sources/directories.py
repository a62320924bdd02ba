"""What one server is asked for its directories, and how far its listings are believed.

A listing is believed until a GET says something else of a member: from then on, for a while, the
server's listings count as names only, and each member is asked about.
"""

import logging
import math
import time
from collections.abc import Callable
from contextlib import closing

from tar_gateway.errors import SettingsError, SourceError
from tar_gateway.http.validators import Validator, read_date
from tar_gateway.settings import Settings
from tar_gateway.sources import Listed, Listing, Stat
from tar_gateway.sources.judgement import read_all
from tar_gateway.sources.listing.found import BadListing, Found, checked
from tar_gateway.sources.listing.kinds import KINDS, Kind
from tar_gateway.sources.wire.asking import Steps, discard
from tar_gateway.sources.wire.response import Headers, Response, fault_of

log = logging.getLogger(__name__)

DOUBT = 600
"""Seconds in which a server's listings count as names only, once one was wrong."""

Ask = Callable[[str, str, Headers], Steps[Response]]
"""Asks one server: a method, a reference, and the headers of the request."""


Fault = Callable[[Response, str], SourceError]
"""Makes an error of a response that is a refusal, and of the reference that was asked for."""


class Directories:
    """One server's listings. ``server`` is what logs call it, and told by its listings' stats.

    With ``settings`` that list nothing, or without any, every directory is an error. Raise
    `SettingsError` for a kind that is not of HTTP servers.
    """

    def __init__(
        self,
        server: str,
        settings: Settings | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._server = server
        name = settings.listed_by if settings else None
        if name is not None and name not in KINDS:
            raise SettingsError(f"LISTINGS is '{name}', which only an {name}:// upstream has")
        self._kind = None if name is None else KINDS[name]
        self._limit = settings.max_listing if settings else 0
        self._exact = settings is not None and settings.listing_exact
        self._clock = clock
        self._doubted_until = -math.inf

    def list(self, ask: Ask, path: str, at: str, fault: Fault = fault_of) -> Steps[Listing]:
        """Ask for a directory, and read its listing.

        ``path`` is its reference, ``at`` its URL's path as its server shows it. Raise `SourceError`
        for anything that is not a whole listing of the expected kind; ``fault`` makes it of a
        response that is a refusal.
        """
        kind = self._kind
        if kind is None:
            raise SourceError("directories are not listed here: name the files in it", status=404)
        response = yield from ask(kind.method, path + kind.query, kind.headers)
        with closing(response.content):
            if response.status != kind.status or response.redirected:
                yield from discard(response)
                raise _without_webdav(response, kind) or fault(response, path)
            if response.coding(path):
                raise SourceError("its listing is sent encoded, though the plain one was asked for")
            body = yield from read_all(response, self._limit)
        media_type = (response.get("content-type") or "").partition(";")[0].strip().lower()
        try:
            names = checked(kind.read(body, media_type, at))
        except BadListing as error:
            raise SourceError(f"this directory cannot be listed: {error}") from error
        believed = self._exact and self._clock() >= self._doubted_until
        entries = (self._listed(each, response, believed=believed) for each in names.found)
        return Listing(tuple(entries), response.no_store(), unusable=names.unusable)

    def contradicted(self, path: str, stat: Stat, said: str) -> None:
        """Hear what a GET says of a member that a listing of this server has told of otherwise."""
        if stat.told_by != self._server:
            return
        self._doubted_until = self._clock() + DOUBT
        told = f"{stat.size} bytes" + (f", {stat.validator.text}" if stat.validator else "")
        log.warning(
            "the listing of %s says of %r: %s; its response: %s. For %d seconds its listings count "
            "as names only (listing_exact = no makes that permanent)",
            *(self._server, path, told, said, DOUBT),
        )

    def _listed(self, found: Found, response: Response, *, believed: bool) -> Listed:
        validator = response.judged(found.etag, found.modified)
        date, stat = read_date(found.modified), None
        # A date that is not strong yet, and a weak tag, may be of two versions: the file is asked.
        if believed and found.size is not None and validator is not None and validator.strong:
            stat = Stat(found.size, date or 0, validator, told_by=self._server)
        return Listed(
            *(found.name, found.is_directory, stat),
            size=found.size,
            mtime=date,
            tells_etag=found.etag is not None,
        )


def version_of(stat: Stat, *, by_etag: bool) -> Validator | None:
    """Return what a listed member gives to the archive's entity tag, however it was learned.

    ``by_etag`` says that the listing tells entity tags; the date counts where it does not. A tag
    that is weak for a while makes the archive's weak with the same opaque text.
    """
    validator = stat.validator
    if not by_etag or validator is None:
        return stat.dated or validator
    tag = validator.text if validator.is_etag else validator.beside
    if tag is None:
        return validator
    return Validator(tag.removeprefix("W/"), strong=not tag.startswith("W/"))


def _without_webdav(response: Response, kind: Kind) -> SourceError | None:
    """Say that a server knows no PROPFIND, where a response to it shows that."""
    if kind.status != 207 or response.status not in {200, 405, 501}:
        return None
    return SourceError(
        f"its server does not list by WebDAV: it answered PROPFIND with {response.status}"
    )

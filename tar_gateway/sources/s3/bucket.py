"""Members from a bucket of an object store, by the gateway's own credentials."""

import re
from base64 import b64decode
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Final

from tar_gateway.errors import ContentTooLarge, SourceError
from tar_gateway.settings import Settings
from tar_gateway.settings.buckets import bucket_and_prefix, is_bucket
from tar_gateway.settings.types import check_base_url
from tar_gateway.sources import Caller, Listing, Stat, UnknownSize
from tar_gateway.sources.judgement import read_all, stat_of
from tar_gateway.sources.listing.found import BadListing
from tar_gateway.sources.listing.s3 import Page, read_keys
from tar_gateway.sources.members import open_slice
from tar_gateway.sources.s3.composing import CHECKSUM_MODE, Scope, Wish
from tar_gateway.sources.s3.directories import Directories
from tar_gateway.sources.s3.refusals import archived
from tar_gateway.sources.s3.store import Store
from tar_gateway.sources.stepwise import Remote
from tar_gateway.sources.wire.asking import Steps, discard
from tar_gateway.sources.wire.health import Health
from tar_gateway.sources.wire.loop import run
from tar_gateway.sources.wire.pool import REACH
from tar_gateway.sources.wire.response import Content, Headers, Response, failure_of
from tar_gateway.sources.wire.tally import Place

# What of an object's headers a client gets. The store's own tell of its keys and accounts.
_SHOWN: Final = frozenset(
    {
        *("accept-ranges", "cache-control", "content-disposition", "content-encoding"),
        *("content-language", "content-length", "content-range", "content-type", "date"),
        *("etag", "expires", "last-modified"),
    }
)

# Missing files of one download for which the store is asked whether they are directories.
_EXPLAINED = 10

# Entries of listings for each member that a bundle may have.
_SEEN = 10

_ARCHIVED = frozenset({"GLACIER", "DEEP_ARCHIVE"})
_RESTORED = 'ongoing-request="false"'


class S3(Remote):
    """A bucket of an object store; members are the objects below its prefix.

    ``url`` is ``s3://bucket/prefix/``. ``endpoint`` is the URL of a store of one's own, ``region``
    and ``profile`` name the bucket's region and the credentials' profile; without them the settings
    decide. ``location`` is what metrics call the place that it stands at. Only GET and HEAD of a
    key and lists below the prefix are asked, and nothing that a caller sends goes along but a range
    and conditions. Safe to use from many threads, and after a fork. Raise `SettingsError` for what
    can't be used.
    """

    def __init__(
        self,
        url: str,
        settings: Settings | None = None,
        *,
        endpoint: str | None = None,
        region: str | None = None,
        profile: str | None = None,
        location: str = "/",
    ) -> None:
        settings = settings or Settings()
        settings = replace(
            settings,
            s3_endpoint=endpoint or settings.s3_endpoint,
            s3_region=region or settings.s3_region,
            s3_profile=profile or settings.s3_profile,
        )
        if not is_bucket(url):
            raise TypeError(f'it takes a bucket such as S3("s3://bucket/prefix/"), not {url!r}')
        self.url = check_base_url(url)
        self.is_private = not settings.s3_public
        self._settings = settings
        self._scope = Scope(*bucket_and_prefix(self.url), settings.s3_endpoint)
        place = Place(self.url, location)
        self._store = Store(self._scope, settings, place)
        self.health = Health(self.url, settings, place=place)

    def __repr__(self) -> str:
        return f"S3({self.url!r})"

    def cache_key(self, caller: Caller) -> tuple[tuple[str, str], ...]:
        """Return nothing: what the store answers depends on no caller."""
        return ()

    def stat_steps(self, path: str, caller: Caller) -> Steps[Stat | UnknownSize]:
        """Learn an object's size, date, entity tag and checksum. Raise `SourceError`."""
        return self.health.track(self._stat(path, caller), path, caller)

    def open_steps(
        self, path: str, start: int, stop: int, stat: Stat, caller: Caller
    ) -> Steps[Content]:
        """Open a slice of an object. Raise `SourceError`."""
        steps = self._open(path, start, stop, stat, caller)
        content = yield from self.health.track(steps, path, caller)
        return self.health.tracked(content, path, caller)

    def list_steps(self, path: str, caller: Caller, *, deep: bool = False) -> Steps[Listing]:
        """List the keys of a directory, and with ``deep`` of all below. Raise `SourceError`."""
        return self.health.track(self._list(path, caller, deep=deep), path, caller)

    def forward_steps(
        self, method: str, path: str, headers: Headers, caller: Caller
    ) -> Steps[Response]:
        """Answer a plain request. Raise `SourceError`, also for what the store refuses."""
        steps = self._forward(method, path, headers, caller)
        response = yield from self.health.track(steps, path, caller)
        return replace(response, content=self.health.tracked(response.content, path, caller))

    def own_path(self, url: str, path: str) -> None:
        """Return `None`: no place that a store names is told to anyone."""

    def reach(self) -> int:
        """Ask for one key, within seconds. Return the response's status, 403 or 404 as well.

        Raise `SourceError` if nothing answers, or does not take the gateway's credentials.
        """
        caller = Caller()
        target = self._scope.list_target(self._scope.prefix, limit=1)
        try:
            response = run(
                self._store.ask("GET", target, (), caller, timeout=REACH), caller.cancellation
            )
        except SourceError as error:
            if error.status in {403, 404}:
                return error.status
            raise
        response.content.close()
        return response.status

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._store.close()

    def _stat(self, path: str, caller: Caller) -> Steps[Stat]:
        response = yield from self._ask_file("HEAD", path, [CHECKSUM_MODE], caller)
        with closing(response.content):
            told = _told(response)
        if told.size or (told.validator and told.validator.text == _EMPTY):
            return told
        # Proxies that know HEAD badly say so as well, and no byte would contradict it.
        response = yield from self._ask_file("GET", path, [CHECKSUM_MODE], caller)
        with closing(response.content):
            return _told(response)

    def _open(self, path: str, start: int, stop: int, stat: Stat, caller: Caller) -> Steps[Content]:
        def ask(headers: Headers) -> Steps[Response]:
            return _as_stored((yield from self._ask_file("GET", path, headers, caller)))

        return open_slice(ask, path, start, stop, stat)

    def _forward(self, method: str, path: str, headers: Headers, caller: Caller) -> Steps[Response]:
        wish = Wish.of(method, headers)
        asked = [*wish.conditions, *wish.range, *wish.if_range]
        method = "HEAD" if method == "HEAD" else "GET"
        response = yield from self._ask_file(method, path, asked, caller)
        if response.status == 412 and wish.if_range:  # of another version there is only the whole
            yield from discard(response)
            response = yield from self._ask_file(method, path, wish.conditions, caller)
        shown = [pair for pair in response.headers if pair[0].lower() in _SHOWN]
        if response.status in {200, 206}:
            return _with(response, shown)
        yield from discard(response)  # which may name bucket and key
        kept = [pair for pair in shown if not pair[0].lower().startswith("content-")]
        kept += [pair for pair in shown if pair[0].lower() == "content-range"]
        length = [] if response.status == 304 else [("Content-Length", "0")]
        return Response(response.status, [*kept, *length], _Nothing())

    def _ask_file(
        self, method: str, path: str, headers: Headers, caller: Caller
    ) -> Steps[Response]:
        """Ask for an object. Raise `SourceError`, which says of a directory that it is one."""
        key = self._scope.key(path)
        target = self._scope.object_target(key)
        try:
            return (yield from self._store.ask(method, target, headers, caller))
        except SourceError as error:
            if error.status == 404:
                yield from self._explain(key, caller)
            raise

    def _explain(self, key: str, caller: Caller) -> Steps[None]:
        """Raise `SourceError` where a key is not there because it is a directory's, or the bucket.

        Asked for the first of a download: a missing file may cost no more than a request.
        """
        asked, this = caller.tally.confirmed, _Explained(key)
        if sum(isinstance(each, _Explained) for each in tuple(asked)) >= _EXPLAINED:
            return
        asked.add(this)
        target = self._scope.list_target(f"{key}/", limit=1)
        try:
            response = yield from self._store.ask("GET", target, (), caller)
            page = yield from self._page(response, f"{key}/")
        except SourceError as error:
            if error.status == 403:  # it may not list
                return
            asked.discard(this)
            raise
        if page.objects or page.prefixes:
            raise SourceError(
                "it is a directory: with a slash at its end it stands for all files in it",
                status=404,
            )

    def _list(self, path: str, caller: Caller, *, deep: bool) -> Steps[Listing]:
        settings = self._settings
        if settings.listed_by is None:
            raise SourceError("directories are not listed here: name the files in it", status=404)
        prefix = self._scope.prefix_of(path)
        found, requests, names, token = Directories(prefix, deep=deep), 0, 0, None
        while True:
            target = self._scope.list_target(prefix, deep=deep, token=token)
            response = yield from self._store.ask("GET", target, (), caller)
            page = yield from self._page(response, prefix)
            requests += 1
            try:
                names += found.add(page)
            except BadListing as error:
                raise _not_listed(error) from error
            if page.token is None:
                break
            if names > _SEEN * settings.max_members or requests >= settings.max_listings:
                raise ContentTooLarge(
                    f"the directory has more keys than the {names} that were listed: MAX_LISTINGS "
                    "or MAX_MEMBERS allows no more"
                )
            if page.token == token:
                raise _not_listed(BadListing("its listing does not go on"))
            token = page.token
        if path and not found.exists:
            raise SourceError("it does not exist", status=404)
        return found.listing(requests)

    def _page(self, response: Response, prefix: str) -> Steps[Page]:
        with closing(response.content):
            if response.status != 200:
                raise failure_of(response, "the upstream")
            body = yield from read_all(response, self._settings.max_listing)
        try:
            return read_keys(body, prefix)
        except BadListing as error:
            raise _not_listed(error) from error


# The tag of no bytes, where a store makes tags by MD5.
_EMPTY = '"d41d8cd98f00b204e9800998ecf8427e"'


@dataclass(frozen=True, slots=True)
class _Explained:
    """A key that is not there, and about which the store was asked once more."""

    key: str


class _Nothing:
    """A content of no bytes."""

    def read(self, limit: int) -> bytes:
        return b""

    def close(self) -> None:
        pass


def _not_listed(error: BadListing) -> SourceError:
    return SourceError(f"this directory cannot be listed: {error}")


def _as_stored(response: Response) -> Response:
    """Return a response for the object's own bytes: its coding is a note of who stored it."""
    kept = [pair for pair in response.headers if pair[0].lower() != "content-encoding"]
    return _with(response, kept)


def _told(response: Response) -> Stat:
    """Return what a response says of the whole object. Raise `SourceError`."""
    if response.status != 200:
        raise failure_of(response, "the upstream")
    if (size := response.length()) is None:
        raise SourceError("its store told no size", transient=True)
    is_restored = _RESTORED in (response.get("x-amz-restore") or "")
    if response.get("x-amz-storage-class") in _ARCHIVED and not is_restored:
        raise archived()
    # Its tag is what listings tell too, so an archive's is the same by either.
    return replace(stat_of(response, size), dated=None, checksum=_checksum(response))


def _with(response: Response, headers: Headers) -> Response:
    """Return a response with these headers in place of its own."""
    return replace(response, headers=headers, values={})


def _checksum(head: Response) -> int | None:
    """Return the CRC-32 of the whole object, where the store tells it.

    A composite one is of the parts' checksums. Stores that do not say which it is are believed of
    objects that were not made of parts.
    """
    told = head.get("x-amz-checksum-crc32") or ""
    kind = head.get("x-amz-checksum-type")
    of_parts = "-" in (head.get("etag") or "")
    if kind != "FULL_OBJECT" and (kind is not None or of_parts):
        return None
    if not re.fullmatch("[A-Za-z0-9+/]{6}==", told):
        return None
    return int.from_bytes(b64decode(told), "big")

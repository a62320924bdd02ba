"""An archive of data at hand, for a view of any framework: no upstream, no request."""

import asyncio
import math
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import formatdate
from http import HTTPStatus
from typing import ClassVar, TypeAlias
from wsgiref.types import StartResponse, WSGIEnvironment

from tar_gateway.archive.bundle import Bundle, Entry, check_apart
from tar_gateway.archive.format import Format, Member
from tar_gateway.archive.layout import Layout
from tar_gateway.archive.tar import TAR
from tar_gateway.archive.zip import ZIP
from tar_gateway.delivery.body import Body
from tar_gateway.delivery.fetch import FetchRules
from tar_gateway.delivery.plan import Plan
from tar_gateway.errors import BrokenOff, SourceError
from tar_gateway.http.conditions import decide
from tar_gateway.http.environ import conditions_of
from tar_gateway.http.headers import attachment
from tar_gateway.http.paths import BadName, check_name, shown
from tar_gateway.http.validators import Validator
from tar_gateway.settings import Settings
from tar_gateway.sources import Caller, Stat
from tar_gateway.sources.data import DataMembers, wrong_data

# No pace is asked of data at hand: retrying would not make it faster.
_RULES = FetchRules.from_settings(Settings(min_read_rate=0, retries=0))


class _Stream:
    """An archive as an iterable of bytes, in the format of a subclass."""

    _format: ClassVar[Format]

    def __init__(
        self,
        members: Iterable[Member | tuple[str, int, float | datetime, object]],
        *,
        start: int = 0,
        stop: int | None = None,
    ) -> None:
        given = (each if isinstance(each, Member) else _member(*each) for each in members)
        listed = _checked(given)
        entries = (Entry(each.name, each.name, checksum=each.checksum) for each in listed)
        bundle = Bundle(tuple(entries), "", format=self._format)
        nobody = Caller()
        stats = [Stat(member.size, member.mtime, member.validator) for member in listed]
        references = (requested.reference for requested in bundle.members)
        held = ((stat, member.data) for stat, member in zip(stats, listed, strict=True))
        self._source = DataMembers(dict(zip(references, held, strict=True)))
        plan = self._plan = Plan(self._source, nobody, bundle, stats, {})
        self._mtime = max((stat.mtime for stat in stats), default=0)
        stop = plan.layout.size if stop is None else stop
        if not 0 <= start <= stop <= plan.layout.size:
            raise ValueError(f"{start}-{stop} is outside an archive of {plan.layout.size} bytes")
        if stop - start < plan.layout.size and not plan.layout.is_told:
            raise ValueError("a slice of a zip needs the checksum of every member")
        self.size = stop - start
        """How many bytes the stream gives: its exact Content-Length."""
        self._body = Body(plan, start, stop, _RULES)
        # No byte of theirs is ever fetched, so they are looked at before all others.
        empty = (each.name for each in listed if not each.size and each.data is not None)
        self._unchecked = iter([Entry(name, name) for name in empty])

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        for requested in self._unchecked:
            self._check_empty(requested)
        return next(self._body)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Give the same blocks, each read by one thread of this stream's while others are served.

        No block is read before the last one was taken. The stream is closed at its end, and when
        who iterates is cancelled.
        """
        loop, thread = asyncio.get_running_loop(), ThreadPoolExecutor(1, "tar-gateway-stream")
        try:
            while (block := await loop.run_in_executor(thread, next, self, None)) is not None:
                yield block
        finally:
            self.close()
            thread.shutdown(wait=False)

    def respond(
        self, environ: WSGIEnvironment, start_response: StartResponse, *, filename: str
    ) -> Iterable[bytes]:
        """Answer a WSGI request (PEP 3333) with the archive, a range of it, 304, 412 or 416.

        It is for a stream of the whole archive. Ranges need the ``validator`` of every `Member`,
        such as ``Validator.etag("7", strong=True)``. Without it the archive's tag is weak, and a
        304 rests on names, sizes and dates alone.
        """
        layout, method = self._plan.layout, environ["REQUEST_METHOD"]
        takes_ranges = layout.takes_ranges(0)
        decision = decide(
            *(method, conditions_of(environ)),
            etag=layout.etag,
            mtime=self._mtime,
            size=layout.size,
            takes_ranges=takes_ranges,
        )
        headers = [
            ("ETag", layout.etag.text),
            ("Accept-Ranges", "bytes" if takes_ranges else "none"),
            ("Cache-Control", "private, no-cache, no-transform"),
        ]
        if self._mtime:
            headers.append(("Last-Modified", formatdate(self._mtime, usegmt=True)))
        if decision.status in {200, 206}:
            headers += [
                ("Content-Type", layout.format.media_type),
                ("Content-Length", str(decision.stop - decision.start)),
                ("Content-Disposition", attachment(filename)),
            ]
        if decision.status == 206:
            span = f"bytes {decision.start}-{decision.stop - 1}/{layout.size}"
            headers.append(("Content-Range", span))
        elif decision.status == 416:
            headers.append(("Content-Range", f"bytes */{layout.size}"))
        start_response(f"{decision.status} {HTTPStatus(decision.status).phrase}", headers)
        if method == "HEAD" or decision.status not in {200, 206}:
            self.close()
            return ()
        if decision.status == 206:
            self._body = Body(self._plan, decision.start, decision.stop, _RULES)
            self.size = decision.stop - decision.start
        return self

    def close(self) -> None:
        """Close the data of all members. May be called again, and before the end."""
        try:
            self._body.close()
        finally:
            self._source.close()

    def _check_empty(self, requested: Entry) -> None:
        nobody = Caller()
        stat = self._source.stat(requested.reference, nobody)
        try:
            with closing(self._source.open(requested.reference, 0, 0, stat, nobody)) as content:
                if content.read(1):
                    raise SourceError("it is longer than was promised")
        except SourceError as error:
            raise BrokenOff(error, requested.path) from error


class TarStream(_Stream):
    """An archive as an iterable of bytes: a WSGI body, or what a framework streams.

    ``members`` are `Member` objects in order, or tuples of name, size, date (seconds since 1970
    or a `datetime`) and data. Of a date only whole seconds are kept, and one before 1970 is
    written as 1970. A member's data is bytes, an iterable of bytes, a binary file, or a callable
    that is given an offset and returns one of those from there on; it is closed with the stream.
    ``start`` and ``stop`` choose a slice of the archive in bytes, for a response to a range, which
    `respond` answers by itself. An ASGI framework iterates it by ``async for``.

    Raise `ValueError` for a name that no archive may hold, a name twice, data or a date of another
    kind, and a slice outside the archive; `TypeError` for a validator that is none. While iterated,
    raises `BrokenOff` when a member's data is longer or shorter than its size, or fails: a server
    then cuts the connection.
    """

    _format = TAR


class ZipStream(_Stream):
    """A zip as an iterable of bytes; all else is as for a `TarStream`.

    A slice needs the ``checksum``, a CRC-32, of every `Member` that has bytes. While iterated,
    raises `BrokenOff` when a member's data contradicts its checksum.
    """

    _format = ZIP


def _member(name: str, size: int, date: float | datetime, data: object) -> Member:
    return Member(name, size, _seconds(name, date), data)


_Sizes: TypeAlias = Sequence[tuple[str, int] | tuple[str, int, float | datetime]]


def tar_size(members: _Sizes) -> int:
    """Predict the length in bytes of an archive of (name, size) or (name, size, date).

    Raise `ValueError` for members that a `TarStream` would not take.
    """
    return _size(members, TAR)


def zip_size(members: _Sizes) -> int:
    """Predict the length in bytes of a zip of (name, size) or (name, size, date).

    Raise `ValueError` for members that a `ZipStream` would not take.
    """
    return _size(members, ZIP)


def _size(members: _Sizes, format: Format) -> int:
    named = (
        _member(*each, None) if len(each) == 3 else _member(*each, 0, None) for each in members
    )
    return Layout(_checked(named), format).size


def _checked(members: Iterable[Member]) -> list[Member]:
    listed = [replace(each, mtime=_seconds(each.name, each.mtime)) for each in members]
    check_apart([member.name for member in listed])
    for member in listed:
        try:
            check_name(member.name)
        except BadName as error:
            raise BadName(f"the member {shown(member.name)} {error}") from error
        if member.size < 0:
            raise ValueError(f"the size of {member.name!r} is below 0")
        if not isinstance(member.validator, Validator | None):
            example = 'Validator.etag("7", strong=True)'
            raise TypeError(f"the validator of {shown(member.name)} must be such as {example}")
        if member.data is not None:
            wrong = wrong_data(member.data)
            if wrong is not None:
                raise ValueError(f"the data of {shown(member.name)} {wrong}")
    return listed


def _seconds(name: str, date: float | datetime) -> int:
    """Return a date as an archive has it. Raise `ValueError` for an invalid one."""
    if isinstance(date, datetime):
        # Without a zone it counts as UTC: the same archive on every machine.
        date = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    try:
        return max(0, math.floor(date))
    except (TypeError, ValueError, OverflowError) as error:
        kinds = "seconds since 1970, or a datetime"
        raise ValueError(f"the date of {shown(name)} is {date!r}: it must be {kinds}") from error

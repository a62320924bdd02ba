"""What is known of a bundle before its first byte: every member's stat, and the layout."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from hashlib import blake2b, sha256
from typing import Self

from tar_gateway.archive.bundle import FORMATS, Bundle, Entry
from tar_gateway.archive.format import Member
from tar_gateway.archive.layout import Layout
from tar_gateway.delivery.missing import is_missing
from tar_gateway.errors import MemberFault, SourceError
from tar_gateway.sources import Caller, Source, Stat
from tar_gateway.sources.spool import SpooledMember, SpoolFile
from tar_gateway.sources.wire.response import Content


class Plan:
    """What is known of a bundle before its first byte. Whoever holds it closes it.

    ``cancellation`` is the caller's, and this plan's alone.
    """

    def __init__(
        self,
        source: Source,
        caller: Caller,
        bundle: Bundle,
        stats: list[Stat],
        spooled: dict[int, SpooledMember],
        *,
        spool_file: SpoolFile | None = None,
        layout: Layout | None = None,
        forget: Callable[[], None] | None = None,
        is_shared: bool = False,
        missing: tuple[MemberFault, ...] = (),
    ) -> None:
        self._source = source
        self._caller = caller
        self._stats = stats
        self.is_concurrent = source.is_concurrent(caller)
        """Whether several members may be opened at once, from any thread."""
        self._spooled = spooled
        self._spool_file = spool_file
        self._forget = forget
        self.is_shared = is_shared
        """Whether another request has asked for it."""
        self.bundle = bundle
        self.missing = missing
        """The members that were asked for, and that the archive does without."""
        self.tally = caller.tally
        self.cancellation = caller.cancellation
        self.layout = layout or layout_of(bundle, stats)

    def open(self, index: int, start: int, stop: int) -> Content:
        """Open bytes ``start`` to ``stop`` of a member. Raise `SourceError`."""
        if index in self._spooled:
            return self._spooled[index].open(start, stop)
        path = self.bundle.members[index].reference
        return self._source.open(path, start, stop, self._stats[index], self._caller)

    def size(self, index: int) -> int:
        """Return a member's size in bytes."""
        return self._stats[index].size

    def is_proved(self, index: int) -> bool:
        """Return whether every opening of a member is provably of the same version."""
        validator = self._stats[index].validator
        return index in self._spooled or (validator is not None and validator.strong)

    @cached_property
    def _caller_key(self) -> bytes | None:
        decisive = self._source.cache_key(self._caller)
        return None if decisive is None else sha256(repr(decisive).encode("utf-8")).digest()

    @property
    def is_known(self) -> bool:
        """Whether all of the caller that decides what the source answers is known."""
        return self._caller_key is not None

    def fingerprint(self, index: int) -> bytes | None:
        """Return what stands for a member's bytes, as this caller gets them.

        `None` where two fetches of it are not provably of the same version.
        """
        stat, key = self._stats[index], self._caller_key
        if key is None or stat.validator is None or not stat.validator.strong:
            return None
        path = self.bundle.members[index].reference
        texts = "\0".join((path, stat.validator.text, str(stat.size)))
        return blake2b(texts.encode("utf-8"), key=key, digest_size=16).digest()

    def part(self, indexes: Sequence[int]) -> Self:
        """Return a plan of these members alone, as a tar, which is closed with this one as well."""
        return type(self)(
            self._source,
            replace(self._caller, cancellation=self.cancellation.child()),
            replace(
                self.bundle,
                members=tuple(self.bundle.members[index] for index in indexes),
                format=FORMATS["tar"],
            ),
            [self._stats[index] for index in indexes],
            {},
            forget=self._forget,
            is_shared=self.is_shared,
        )

    @property
    def no_store(self) -> bool:
        """Whether no cache may keep the archive, since its list or a member forbids that."""
        return self.bundle.no_store or any(stat.no_store for stat in self._stats)

    def failed(self) -> None:
        """Say that a member is not as planned: all are asked about anew for the next request."""
        if self._forget is not None:
            self._forget()

    def close(self) -> None:
        """Release what was set aside, and end what is being asked. May be called again."""
        try:
            self.cancellation.cancel()
        finally:
            if self._spool_file is not None:
                self._spool_file.close()


def layout_of(bundle: Bundle, stats: list[Stat]) -> Layout:
    """Return the layout of a bundle's members, of which these are the stats."""
    return Layout(
        [
            Member(
                requested.name,
                stat.size,
                stat.mtime,
                validator=stat.version or stat.validator,
                checksum=stat.checksum if requested.checksum is None else requested.checksum,
                literal=requested.literal,
                generated=requested.generated,
            )
            for requested, stat in zip(bundle.members, stats, strict=True)
        ],
        bundle.format,
    )


def member_fault(member: Entry, error: SourceError) -> MemberFault:
    """Say what is wrong with a member in the words of a response."""
    return MemberFault(
        member.path,
        error.status,
        error.reason,
        error.challenge,
        error.cause,
        error.login,
        name=member.name,
        is_missing=is_missing(error),
    )

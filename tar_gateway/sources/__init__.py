"""Where members come from: the protocol that the planner and the body speak.

A source knows nothing of archives, bundles or the client; it is asked for one member at a
time, from many threads at once.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol, Self, runtime_checkable

from tar_gateway.http.validators import Validator
from tar_gateway.settings import Settings
from tar_gateway.sources.listing.found import Unusable as Unusable
from tar_gateway.sources.wire.asking import Steps
from tar_gateway.sources.wire.caller import Caller as Caller
from tar_gateway.sources.wire.response import Content

# Asks whether a caller may have the file at a path, which is one as a `Source` is given. Raises
# `SourceError` where not. Whoever has one calls it before the source hears of the file.
Permit = Callable[[str, Caller], Steps[None]]


@dataclass(frozen=True, slots=True)
class Stat:
    """What a source says of a member before its bytes.

    ``size`` in bytes, ``mtime`` in seconds since 1970 (0 where unknown). ``no_store``: no cache may
    keep it, nor an archive that it is in.
    """

    size: int
    mtime: int
    validator: Validator | None
    no_store: bool = False
    dated: Validator | None = field(default=None, compare=False)
    """The Last-Modified date, where ``validator`` is an entity tag."""
    version: Validator | None = None
    """What an archive's tag is made of in place of ``validator``, which proves what is fetched."""
    checksum: int | None = None
    """The CRC-32 of the member's bytes, where the source tells it."""
    told_by: str | None = field(default=None, compare=False)
    """The server whose listing has told this, which is asked for the member first."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One name of a directory; ``stat`` is there where its listing tells all that a HEAD would.

    ``size`` in bytes and ``mtime``, in seconds since 1970, are what the listing says for people.
    """

    name: str
    is_directory: bool
    stat: Stat | None = None
    size: int | None = field(default=None, compare=False)
    mtime: int | None = field(default=None, compare=False)
    tells_etag: bool = field(default=False, compare=False)
    """Whether the listing has told the entity tag of the file, or a source's listings all do."""
    listing: "Listing | None" = field(default=None, repr=False)
    """What lies directly below a directory, where the same listing tells that as well."""

    @property
    def marked(self) -> str:
        """The name, of a directory with a slash at its end."""
        return f"{self.name}/" if self.is_directory else self.name


@dataclass(frozen=True, slots=True)
class Listing:
    """What lies directly below a directory. ``no_store``: no cache may keep what is made of it.

    It took so many ``requests``: none, where it came with the listing of a directory above.
    ``unusable`` are names that are listed as well, and that no member may have. ``may_loop``: a
    directory may be a link to one above.
    """

    entries: tuple[Listed, ...]
    no_store: bool = False
    requests: int = 1
    unusable: tuple[Unusable, ...] = ()
    may_loop: bool = True


@runtime_checkable
class ListingSource(Protocol):
    """A source that lists directories."""

    def list_steps(self, path: str, caller: Caller, *, deep: bool = False) -> Steps[Listing]:
        """Return the steps of a listing. Raise `SourceError` for one that is not whole.

        ``path`` is the directory's reference with a slash at its end; ``""`` is the base. With
        ``deep`` all below it is wanted, and what the source can tell of that at once may come too.
        """
        ...


@dataclass(frozen=True, slots=True)
class UnknownSize:
    """A member whose size nobody tells: its ``content`` is open and must be read to know.

    Whoever receives it closes the content.
    """

    mtime: int
    content: Content
    no_store: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """What one bundle may be: so many members, and an archive of so many bytes."""

    members: float = math.inf
    size: float = math.inf

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Take the numbers from the settings."""
        return cls(settings.max_members, settings.max_bytes or math.inf)

    def strictest(self, other: Self) -> Self:
        """Return what both allow."""
        return type(self)(min(self.members, other.members), min(self.size, other.size))


@runtime_checkable
class LimitingSource(Protocol):
    """A source with limits of its own for bundles that have certain members."""

    def limits(self, paths: Iterable[str]) -> Limits:
        """Return the limits of a bundle of these members, by their references."""
        ...


class Source(Protocol):
    """Where members come from.

    ``path`` is a reference below the source's base: a checked name, percent-encoded segment by
    segment, without a leading slash, and the query behind it where there is one.
    """

    def is_concurrent(self, caller: Caller) -> bool:
        """Return whether other threads than the caller's may ask, several of them at once."""
        ...

    def cache_key(self, caller: Caller) -> tuple[tuple[str, str], ...] | None:
        """Return all of a caller that decides what this source answers, `None` if unknown."""
        ...

    def stat(self, path: str, caller: Caller) -> Stat | UnknownSize:
        """Learn a member's size, date and validator. Raise `SourceError`."""
        ...

    def open(self, path: str, start: int, stop: int, stat: Stat, caller: Caller) -> Content:
        """Open bytes ``start`` to ``stop`` of the version that ``stat`` describes.

        The content gives exactly those bytes or raises. Raise `MemberChanged` when there is
        another version by now, `SourceError` for anything else that is not what was promised.
        """
        ...

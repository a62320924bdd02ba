"""What a listing says of a directory, each name checked to lie directly below it."""

from collections.abc import Iterable
from dataclasses import dataclass

from tar_gateway.http.paths import BadName, check_name, shown


class BadListing(ValueError):
    """What was read is no listing, or a broken one; the text says why, as a whole clause."""


@dataclass(frozen=True, slots=True)
class Found:
    """One name of a listing.

    ``size`` in bytes and ``modified``, as a Last-Modified header of that file writes it, are there
    where the listing tells them exactly, and so is ``etag``, as its ETag header writes it.
    """

    name: str
    is_directory: bool
    size: int | None = None
    modified: str | None = None
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class Unusable:
    """A name that no member may have, written so that it can be read, and what is wrong with it.

    Such files exist on old shares; what else their directory holds can be had.
    """

    name: str
    is_directory: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Names:
    """What a listing names: what can be asked for, and what cannot."""

    found: tuple[Found, ...]
    unusable: tuple[Unusable, ...] = ()


def checked(found: Iterable[Found]) -> Names:
    """Return what was found, each name once. Raise `BadListing` for one that leads elsewhere."""
    kept: dict[str, Found] = {}
    unusable: list[Unusable] = []
    for each in found:
        name = each.name
        if name in {"", ".", ".."} or "/" in name or "\0" in name:
            raise BadListing(f"it lists {shown(name)}, which is not directly below it")
        if name in kept:
            raise BadListing(f"it lists the name {shown(name)} twice")
        try:
            check_name(name)
        except BadName as error:
            unusable.append(Unusable(readable(name), each.is_directory, str(error)))
        else:
            kept[name] = each
    return Names(tuple(kept.values()), tuple(unusable))


def readable(name: str) -> str:
    """Write a name in characters that can be printed, its other bytes as escapes."""
    raw = name.encode("utf-8", "surrogatepass" if _has_lone(name) else "surrogateescape")
    text = raw.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _has_lone(name: str) -> bool:
    """Return whether a name has half a character that stands for no byte, as JSON may write it."""
    return any("\ud800" <= c < "\udc80" or "\udcff" < c <= "\udfff" for c in name)

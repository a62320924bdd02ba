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
    where the listing tells them exactly.
    """

    name: str
    is_directory: bool
    size: int | None = None
    modified: str | None = None


def checked(found: Iterable[Found]) -> tuple[Found, ...]:
    """Return what was found, each name once and of one segment. Raise `BadListing`."""
    kept: dict[str, Found] = {}
    for each in found:
        try:
            check_name(each.name)
            if "/" in each.name:
                raise BadName("contains a slash")
        except BadName as error:
            raise BadListing(f"it lists the name {shown(each.name)}, which {error}") from error
        if each.name in kept:
            raise BadListing(f"it lists the name {shown(each.name)} twice")
        kept[each.name] = each
    return tuple(kept.values())

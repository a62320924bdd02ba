"""Directories made of keys: what of a list is a file, a directory, or neither.

Pure. A key that is no path is an error that names it: left out, the archive would be smaller than
the directory; renamed, it would hold another object.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from tar_gateway.http.paths import BadName, check_name, shown
from tar_gateway.http.validators import Validator
from tar_gateway.sources import Listed, Listing, Stat
from tar_gateway.sources.listing.found import BadListing
from tar_gateway.sources.listing.s3 import Page, StoredObject


@dataclass(slots=True)
class _Directory:
    files: dict[str, Stat | None] = field(default_factory=dict)
    below: dict[str, "_Directory"] = field(default_factory=dict)


class Directories:
    """What lies below ``prefix``, page by page.

    ``deep`` says that pages hold the keys of directories below as well.
    """

    def __init__(self, prefix: str, *, deep: bool) -> None:
        self._prefix = prefix
        self._deep = deep
        self._top = _Directory()
        self._last: tuple[str, _Directory] = ("", self._top)
        self.exists = False
        """Whether any key begins with the prefix."""

    def add(self, page: Page) -> int:
        """Take a page. Return how many names it had. Raise `BadListing`."""
        for each in page.objects:
            self._add(each)
        for prefix in page.prefixes:
            self._directory(self._checked(prefix).removesuffix("/"))
        count = len(page.objects) + len(page.prefixes)
        self.exists = self.exists or count > 0
        return count

    def listing(self, requests: int) -> Listing:
        """Return what was found; it took so many requests."""
        return Listing(tuple(self._listed(self._top)), requests=requests)

    def _add(self, each: StoredObject) -> None:
        if each.key == self._prefix:  # the directory's own
            self._check_empty(each)
            return
        name = self._checked(each.key)
        if name.endswith("/"):
            self._check_empty(each)
            self._directory(name.removesuffix("/"))
            return
        path, _, file = name.rpartition("/")
        files = self._directory(path).files
        if file in files:
            raise BadListing(f"it lists the key {shown(each.key)} twice")
        files[file] = _stat(each)

    def _checked(self, key: str) -> str:
        """Return the name of a key below the directory."""
        name = key.removeprefix(self._prefix)
        try:
            check_name(name.removesuffix("/"))
        except BadName as error:
            raise BadListing(
                f"it has the key {shown(key)}, whose name {error}: no path leads to it"
            ) from error
        if not self._deep and "/" in name.removesuffix("/"):
            raise BadListing(f"it lists the key {shown(key)}, which is not directly below it")
        return name

    def _check_empty(self, each: StoredObject) -> None:
        if each.size:
            raise BadListing(
                f"it has the key {shown(each.key)}, which ends with a slash and is of {each.size} "
                "bytes: no file can be called so"
            )

    def _directory(self, path: str) -> _Directory:
        """Return the directory at a path below, which exists from then on."""
        known, found = self._last  # keys come in order, many of a directory in a row
        if path != known:
            found = self._top
            for segment in path.split("/") if path else ():
                found = found.below.setdefault(segment, _Directory())
            self._last = path, found
        return found

    def _listed(self, directory: _Directory) -> Iterator[Listed]:
        for name, stat in directory.files.items():
            yield Listed(name, False, stat, tells_etag=True)
        for name, below in directory.below.items():
            listing = Listing(tuple(self._listed(below)), requests=0) if self._deep else None
            yield Listed(name, True, listing=listing)


def _stat(each: StoredObject) -> Stat | None:
    """Return what a HEAD would tell, `None` where it would tell more."""
    if each.etag is None or each.archived:
        return None
    return Stat(each.size, each.mtime, Validator(each.etag, strong=True))

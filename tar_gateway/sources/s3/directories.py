"""Directories made of keys: what of a list is a file, a directory, or neither.

Pure. A key that is no path is told as unusable, in the directory that it lies in: it is never left
out without a word, and never another object.
"""

from dataclasses import dataclass, field

from tar_gateway.http.paths import BadName, check_name, shown
from tar_gateway.http.validators import Validator
from tar_gateway.sources import Listed, Listing, Stat
from tar_gateway.sources.listing.found import BadListing, Unusable, readable
from tar_gateway.sources.listing.s3 import Page, StoredObject


@dataclass(slots=True)
class _Directory:
    files: dict[str, Listed] = field(default_factory=dict)
    below: dict[str, "_Directory"] = field(default_factory=dict)
    unusable: list[Unusable] = field(default_factory=list)
    listing: Listing | None = None


class Directories:
    """What lies below ``prefix``, page by page.

    ``deep`` says that pages hold the keys of directories below as well.
    """

    def __init__(self, prefix: str, *, deep: bool) -> None:
        self._prefix = prefix
        self._deep = deep
        self._top = _Directory()
        self._made: list[_Directory] = []
        self._last: tuple[str, _Directory] = ("", self._top)
        self.exists = False
        """Whether any key begins with the prefix."""

    def add(self, page: Page) -> int:
        """Take a page. Return how many names it had. Raise `BadListing`."""
        for each in page.objects:
            self._add(each)
        for prefix in page.prefixes:
            self._add_directory(prefix.removeprefix(self._prefix))
        count = len(page.objects) + len(page.prefixes)
        self.exists = self.exists or count > 0
        return count

    def listing(self, requests: int) -> Listing:
        """Return what was found; it took so many requests."""
        if self._deep:
            for each in reversed(self._made):  # what lies deeper was made later
                each.listing = self._listing(each, 0)
        return self._listing(self._top, requests)

    def _add(self, each: StoredObject) -> None:
        name = each.key.removeprefix(self._prefix)
        if not name or name.endswith("/"):
            directory = self._add_directory(name) if name else self._top
            if each.size and directory is not None:
                reason = f"is a key of {each.size} bytes that ends with a slash"
                directory.unusable.append(Unusable("", False, reason))
            return
        directory = self._usable(name, is_directory=False)
        if directory is None:
            return
        file = name.rpartition("/")[2]
        if file in directory.files:
            raise BadListing(f"it lists the name {shown(name)} twice")
        directory.files[file] = _listed(file, each)

    def _add_directory(self, name: str) -> _Directory | None:
        """Return the directory of this name, which ends with a slash; `None` if that is no path."""
        directory = self._usable(name.removesuffix("/"), is_directory=True)
        return None if directory is None else self._directory(name.removesuffix("/"))

    def _usable(self, name: str, *, is_directory: bool) -> _Directory | None:
        """Return the directory that a name lies in. Note a name that is no path: `None`."""
        if not self._deep and "/" in name:
            raise BadListing(f"it lists the name {shown(name)}, which is not directly below it")
        try:
            check_name(name)
        except BadName as error:
            path, rest = _parted(name)
            # An empty name is shown by its slash.
            unusable = Unusable(readable(rest) or "/", is_directory, str(error))
            self._directory(path).unusable.append(unusable)
            return None
        return self._directory(name.rpartition("/")[0])

    def _directory(self, path: str) -> _Directory:
        """Return the directory at a path below, which exists from then on."""
        known, found = self._last  # keys come in order, many of a directory in a row
        if path != known:
            found = self._top
            for segment in path.split("/") if path else ():
                if segment not in found.below:
                    found.below[segment] = _Directory()
                    self._made.append(found.below[segment])
                found = found.below[segment]
            self._last = path, found
        return found

    def _listing(self, directory: _Directory, requests: int) -> Listing:
        files, unusable = directory.files.values(), tuple(directory.unusable)
        below = (Listed(name, True, listing=each.listing) for name, each in directory.below.items())
        # No key is a link: however alike two directories are, none leads back up.
        return Listing((*files, *below), requests=requests, unusable=unusable, may_loop=False)


def _parted(name: str) -> tuple[str, str]:
    """Divide a name that is no path: the directories that lead to it, and the rest."""
    segments = name.split("/")
    for count, segment in enumerate(segments):
        try:
            check_name(segment)
        except BadName:
            return "/".join(segments[:count]), "/".join(segments[count:])
    return "", name


def _listed(name: str, each: StoredObject) -> Listed:
    stat = None
    if each.etag is not None and not each.archived:  # else a HEAD tells more
        stat = Stat(each.size, each.mtime, Validator(each.etag, strong=True))
    return Listed(name, False, stat, each.size, each.mtime, tells_etag=True)

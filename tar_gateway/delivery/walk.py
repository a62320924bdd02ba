"""The walk below a bundle's directories: what is listed, in which limits, and what it has found.

Several listings are under way at once, as far as one download's share of connections goes.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from hashlib import sha256

from tar_gateway.archive.bundle import Bundle, Entry
from tar_gateway.archive.globs import Filter, Place
from tar_gateway.archive.picks import ListingChanged, Pick
from tar_gateway.delivery.missing import is_missing
from tar_gateway.delivery.plan import member_fault
from tar_gateway.errors import (
    ContentTooLarge,
    MemberFault,
    MembersFailed,
    PreconditionFailed,
    SourceError,
)
from tar_gateway.http.paths import shown
from tar_gateway.settings import Settings
from tar_gateway.sources import Caller, Listed, Listing, Unusable
from tar_gateway.sources.wire.asking import Steps
from tar_gateway.sources.wire.loop import Loop, Task

# Listings begun at once.
_UNDER_WAY = 256

# Entries seen, taken or not, for each member that a bundle may have.
SEEN = 10


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory to list: its path, where the globs are, and the listings that led to it.

    Of one with a ``pick`` only picked entries are taken, and the globs begin below them.
    """

    path: str
    place: Place
    above: tuple[bytes, ...] = ()
    listing: Listing | None = None
    """What it lists, where a listing of a directory above has told that."""
    pick: Pick | None = None


class Walk:
    """One bundle's listings, worked off by a loop."""

    def __init__(
        self,
        ask: Callable[[Directory], Steps[Listing]],
        bundle: Bundle,
        caller: Caller,
        settings: Settings,
    ) -> None:
        self._ask = ask
        self._filter = Filter(bundle.include, bundle.exclude)
        self._does_without = bundle.missing != "fail"
        self._caller = caller
        self._settings = settings
        self._waiting: deque[Directory] = deque()
        self._count = 0
        self._seen = 0
        self._error: BaseException | None = None
        self._found: dict[str, Listing] = {}
        self._missing: dict[str, SourceError] = {}
        self.no_store = False

    def run(self, trees: list[Entry], deadline: float, loop: Loop) -> None:
        """List all. Raise what is wrong with one of them, or `Cancelled`."""
        for tree in trees:
            self._add(Directory(tree.path, self._filter.start, pick=tree.pick))
        while self._error is None:
            while self._waiting and loop.under_way < _UNDER_WAY and self._error is None:
                self._caller.cancellation.check()
                self._check_time(trees, deadline)
                directory = self._waiting.popleft()
                loop.start(self._ask(directory), partial(self._listed, directory))
            if self._error is not None or not loop.under_way:
                break
            self._check_time(trees, deadline)
            loop.turn(deadline - time.monotonic())
        if self._error is not None:
            raise self._error

    def _check_time(self, trees: list[Entry], deadline: float) -> None:
        if time.monotonic() >= deadline:
            late = SourceError("its directories were not listed in time", status=504)
            raise MembersFailed([member_fault(trees[0], late)])

    def below(self, tree: Entry) -> Iterator[tuple[Entry, Listed | MemberFault | None]]:
        """Return the members that a directory has become, in no order.

        Each with what listings tell of it, or with why it cannot be had.
        """
        stack = [(tree.path, tree.name, self._filter.start)]
        if tree.pick is not None and tree.path in self._found:
            stack = []
            for each in _picked(tree.pick, self._found[tree.path].entries, tree.path):
                path, name = tree.path + each.marked, tree.name + each.marked
                if each.is_directory:
                    stack.append((path, name, self._filter.start))
                else:
                    yield Entry(path, name), each
        while stack:
            path, name, place = stack.pop()
            if (error := self._missing.get(path)) is not None:
                entry = Entry(path, name or "./")
                yield entry, member_fault(entry, error)
                continue
            listing = self._found[path]
            for unusable in self._unusable(listing, place):
                entry = Entry(path + unusable.name, name + unusable.name)
                yield entry, member_fault(entry, SourceError(_no_name(unusable), status=404))
            if not (listing.entries or listing.unusable) and name and self._filter.takes(place):
                yield Entry(path, name, size=0), None
            for each in listing.entries:
                at = self._filter.step(place, each.name)
                if not each.is_directory:
                    if self._filter.takes(at):
                        yield Entry(path + each.name, name + each.name), each
                elif self._filter.looks_below(at):
                    stack.append((f"{path}{each.name}/", f"{name}{each.name}/", at))

    def _unusable(self, listing: Listing, place: Place) -> Iterator[Unusable]:
        """Return the names that would be taken if they could be asked for."""
        for each in listing.unusable:
            at = self._filter.step(place, each.name)
            if self._filter.looks_below(at) if each.is_directory else self._filter.takes(at):
                yield each

    def _listed(self, directory: Directory, task: Task[Listing]) -> None:
        try:
            self._take(directory, task.outcome())
        except SourceError as error:
            if self._does_without and is_missing(error):
                self._missing[directory.path] = error
            else:
                self._end(MembersFailed([member_fault(Entry(directory.path, ""), error)]))
        except BaseException as error:  # noqa: BLE001 - raised again by `run`
            self._end(error)

    def _take(self, directory: Directory, listing: Listing) -> None:
        """Keep what a listing names, and list what is to be listed of it. Raise `SourceError`."""
        limit = self._settings
        # Files may grow while they are listed; a directory and a link to it have the same date.
        named = sorted((e.marked, e.mtime if e.is_directory else None) for e in listing.entries)
        digest = sha256(repr(named).encode("utf-8")).digest()
        above = directory.above
        self.no_store = self.no_store or listing.no_store
        self._seen += len(listing.entries)
        self._count += max(0, listing.requests - 1)
        self._check_count()
        if self._seen > SEEN * limit.max_members:
            raise ContentTooLarge(
                f"the directories hold more than {SEEN * limit.max_members} names"
            )
        # The first listing counts where two entries lead to one directory.
        listing = self._found.setdefault(directory.path, listing)
        pick, entries = directory.pick, listing.entries
        unusable = () if pick or self._does_without else self._unusable(listing, directory.place)
        for name in unusable:
            raise SourceError(f"this directory cannot be listed: {_no_name(name)}")
        for each in entries if pick is None else _picked(pick, entries, directory.path):
            if not each.is_directory:
                continue
            place = directory.place if pick else self._filter.step(directory.place, each.name)
            if not self._filter.looks_below(place):
                continue
            if listing.may_loop and digest in above:
                raise SourceError(
                    "it is a loop: it lists the same as a directory above it, as a link that leads "
                    "back up does; exclude it, or name what is wanted of it"
                )
            if len(above) >= limit.max_depth:
                raise SourceError(f"it lies at MAX_DEPTH, {limit.max_depth}, and holds directories")
            below = f"{directory.path}{each.name}/"
            self._add(Directory(below, place, (*above, digest), each.listing))

    def _add(self, directory: Directory) -> None:
        self._count += directory.listing is None
        self._check_count()
        self._waiting.append(directory)

    def _check_count(self) -> None:
        limit = self._settings.max_listings
        if self._count > limit:
            raise ContentTooLarge(f"there are more than the {limit} directories allowed")

    def _end(self, error: BaseException) -> None:
        self._error = self._error or error
        self._waiting.clear()


def _no_name(unusable: Unusable) -> str:
    return f"it lists the name '{unusable.name[:120]}', which {unusable.reason}"


def _picked(pick: Pick, entries: tuple[Listed, ...], path: str) -> list[Listed]:
    """Return those of a directory's entries that are picked. Raise `PreconditionFailed`."""
    by_name = {each.marked: each for each in entries}
    try:
        return [by_name[n] for n in pick.names((n, e.mtime) for n, e in by_name.items())]
    except ListingChanged as error:
        called = f"the directory {shown(path)}" if path else "the directory"
        changed = PreconditionFailed(f"{called} has changed since files in it were selected")
        changed.directory = path
        raise changed from error

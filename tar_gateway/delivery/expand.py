"""A bundle's directories become members: listed before any member is asked about.

Several listings are under way at once, as far as one download's share of threads goes. What is
wrong with one directory is an error of the bundle, never a smaller archive.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256

from tar_gateway.archive.bundle import Bundle, Entry, check_apart, renamed
from tar_gateway.archive.globs import Filter, Place
from tar_gateway.archive.picks import ListingChanged, Pick
from tar_gateway.delivery.lister import Lister
from tar_gateway.delivery.plan import member_fault
from tar_gateway.delivery.threads import PATIENT, FetcherPool
from tar_gateway.errors import (
    BadRequest,
    ContentTooLarge,
    MembersFailed,
    NotFound,
    PreconditionFailed,
    SourceError,
)
from tar_gateway.http.paths import BadName, shown
from tar_gateway.settings import Settings
from tar_gateway.sources import (
    Caller,
    Listed,
    Listing,
    Stat,
)
from tar_gateway.sources.wire.asking import Steps, run

# Seconds in which listings count as names only, after a member was not as it was planned.
_DOUBT = 600

# Entries seen, taken or not, for each member that a bundle may have.
SEEN = 10

# A listing met so often on one way down is a link that leads back up.
_LOOP = 3


@dataclass(frozen=True, slots=True)
class Expanded:
    """A bundle without directories, and what listings told of members by their names."""

    bundle: Bundle
    told: dict[str, Stat | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Directory:
    """A directory to list: its path, where the globs are, and the listings that led to it.

    Of one with a ``pick`` only picked entries are taken, and the globs begin below them.
    """

    path: str
    place: Place
    above: tuple[bytes, ...] = ()
    listing: Listing | None = None
    """What it lists, where a listing of a directory above has told that."""
    pick: Pick | None = None


class Expansion:
    """Makes members of the directories in a bundle, by what ``lister`` lists."""

    def __init__(self, lister: Lister, settings: Settings) -> None:
        self._lister = lister
        self._settings = settings
        self._doubted_until = -math.inf

    def doubt(self) -> None:
        """Hear that a member was not as planned: for a while listings count as names only."""
        self._doubted_until = time.monotonic() + _DOUBT

    def expand(
        self,
        bundle: Bundle,
        caller: Caller,
        deadline: float,
        fetchers: FetcherPool | None,
        *,
        exact: bool,
    ) -> Expanded:
        """List what is to be listed until ``deadline``, a `time.monotonic` moment.

        Sizes and dates are only used where they are ``exact``. Raise `MembersFailed` for
        directories, or another `Refusal`.
        """
        trees = [entry for entry in bundle.members if entry.is_tree]
        if not trees:
            return Expanded(bundle)
        # What is to be left out if it is missing is asked for itself.
        exact = exact and bundle.missing == "fail" and time.monotonic() >= self._doubted_until
        taken = Filter(bundle.include, bundle.exclude)
        # A tree of which parts are left out may be far larger than what is taken of it.
        ask = partial(self._list, caller=caller, deadline=deadline, deep=taken.takes_all)
        walk = _Walk(ask, taken, caller, self._settings)
        walk.run(trees, deadline, fetchers)
        found: dict[Entry, Stat | None] = {}  # each once, in order
        for entry in bundle.members:
            if entry.is_tree:
                below = sorted(walk.below(entry), key=lambda pair: pair[0].name.encode("utf-8"))
                found.update((member, stat) for member, stat in below if member not in found)
            else:
                found.setdefault(entry, None)
        named = {entry for entry in bundle.members if not entry.is_tree}
        members = self._apart(tuple(found), bundle)
        told = {
            member.name: stat if exact else None
            for member, (entry, stat) in zip(members, found.items(), strict=True)
            if entry not in named and not entry.is_directory
        }
        no_store = bundle.no_store or walk.no_store
        return Expanded(replace(bundle, members=members, no_store=no_store), told)

    def _apart(self, members: tuple[Entry, ...], bundle: Bundle) -> tuple[Entry, ...]:
        """Return the members with names that can lie side by side. Raise `Refusal`."""
        if not members:
            raise NotFound("there is nothing in the bundle: no file in its directories is taken")
        names, strict = [each.name for each in members], self._settings.strict_names
        try:
            if bundle.duplicates == "rename":
                names = renamed(names, strict=strict)
            check_apart(names, strict=strict)
        except BadName as error:
            raise BadRequest(str(error)) from error
        limit = self._settings.max_name
        for name, each in zip(names, members, strict=True):
            if max(len(name.encode("utf-8")), len(each.path.encode("utf-8"))) > limit:
                raise ContentTooLarge(f"the member {shown(name)} is longer than {limit} bytes")
        return tuple(replace(e, name=n) for n, e in zip(names, members, strict=True))

    def _list(
        self, directory: _Directory, *, caller: Caller, deadline: float, deep: bool
    ) -> Steps[Listing]:
        steps = self._lister.steps(
            directory.path,
            caller,
            deadline,
            deep=deep and directory.pick is None,
            told=directory.listing,
        )
        try:
            return (yield from steps)
        except SourceError as error:
            if error.status == 404 and not directory.above and directory.path:
                yield from self._lister.check_no_file(directory.path.removesuffix("/"), caller)
            raise


class _Walk:
    """One bundle's listings, worked off by threads a few at a time."""

    def __init__(
        self,
        ask: Callable[[_Directory], Steps[Listing]],
        taken: Filter,
        caller: Caller,
        settings: Settings,
    ) -> None:
        self._ask = ask
        self._filter = taken
        self._caller = caller
        self._settings = settings
        self._lock = threading.Lock()
        self._waiting: deque[_Directory] = deque()
        self._under_way = 0
        self._workers = 0
        self._count = 0
        self._seen = 0
        self._done = threading.Event()
        self._error: BaseException | None = None
        self._found: dict[str, tuple[Listed, ...]] = {}
        self.no_store = False

    def run(self, trees: list[Entry], deadline: float, fetchers: FetcherPool | None) -> None:
        """List all, in this thread without ``fetchers``. Raise what is wrong with one of them."""
        for tree in trees:
            self._add(_Directory(tree.path, self._filter.start, pick=tree.pick))
        while not self._done.is_set():
            self._caller.cancellation.check()
            if time.monotonic() > deadline:
                late = SourceError("its directories were not listed in time", status=504)
                self._end(MembersFailed([member_fault(trees[0], late)]))
            elif fetchers is None:
                self._step()
            else:
                self._set_to_work(fetchers)
                self._done.wait(PATIENT)
        if self._error is not None:
            raise self._error

    def below(self, tree: Entry) -> Iterator[tuple[Entry, Stat | None]]:
        """Return the members that a directory has become, in no order."""
        stack = [(tree.path, tree.name, self._filter.start)]
        if tree.pick is not None:
            stack = []
            for each in _picked(tree.pick, self._found[tree.path], tree.path):
                path, name = tree.path + each.marked, tree.name + each.marked
                if each.is_directory:
                    stack.append((path, name, self._filter.start))
                else:
                    yield Entry(path, name), each.stat
        while stack:
            path, name, place = stack.pop()
            if not self._found[path] and name and self._filter.takes(place):
                yield Entry(path, name, size=0), None
            for each in self._found[path]:
                at = self._filter.step(place, each.name)
                if not each.is_directory:
                    if self._filter.takes(at):
                        yield Entry(path + each.name, name + each.name), each.stat
                elif self._filter.looks_below(at):
                    stack.append((f"{path}{each.name}/", f"{name}{each.name}/", at))

    def _set_to_work(self, fetchers: FetcherPool) -> None:
        """Let as many threads work as there are directories, and as one download may have."""
        with self._lock:
            idle = self._workers - self._under_way
            more = max(0, min(fetchers.share - self._workers, len(self._waiting) - idle))
            self._workers += more
        for _ in range(more):
            fetchers.work(partial(self._step, fetchers))

    def _step(self, fetchers: FetcherPool | None = None) -> bool:
        """List the next directory; tells whether there was any."""
        with self._lock:
            if self._done.is_set() or not self._waiting:
                self._workers -= 1
                return False
            directory = self._waiting.popleft()
            self._under_way += 1
        try:
            self._take(directory, run(self._ask(directory), self._caller.cancellation))
        except SourceError as error:
            self._end(MembersFailed([member_fault(Entry(directory.path, ""), error)]))
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
            self._end(error)
        with self._lock:
            self._under_way -= 1
            if not (self._under_way or self._waiting):
                self._done.set()
        if fetchers is not None:
            with suppress(RuntimeError):  # the process is ending; those at work list the rest
                self._set_to_work(fetchers)
        return True

    def _take(self, directory: _Directory, listing: Listing) -> None:
        """Keep what a listing names, and list what is to be listed of it. Raise `SourceError`."""
        limit = self._settings
        named = sorted((e.name, e.is_directory, e.stat and e.stat.size) for e in listing.entries)
        digest = sha256(repr(named).encode("utf-8")).digest()
        above = directory.above
        with self._lock:
            self.no_store = self.no_store or listing.no_store
            self._seen += len(listing.entries)
            self._count += max(0, listing.requests - 1)
            self._check_count()
            if self._seen > SEEN * limit.max_members:
                raise ContentTooLarge(
                    f"the directories hold more than {SEEN * limit.max_members} names"
                )
            # The first listing counts where two entries lead to one directory.
            entries = self._found.setdefault(directory.path, listing.entries)
        pick = directory.pick
        for each in entries if pick is None else _picked(pick, entries, directory.path):
            if not each.is_directory:
                continue
            place = directory.place if pick else self._filter.step(directory.place, each.name)
            if not self._filter.looks_below(place):
                continue
            # What came with a listing from above is no link that leads back there.
            if each.listing is None and above.count(digest) >= _LOOP - 1:
                raise SourceError("it is a loop: it lists what directories above it list")
            if len(above) >= limit.max_depth:
                raise SourceError(f"it lies at MAX_DEPTH, {limit.max_depth}, and holds directories")
            below = f"{directory.path}{each.name}/"
            self._add(_Directory(below, place, (*above, digest), each.listing))

    def _add(self, directory: _Directory) -> None:
        with self._lock:
            self._count += directory.listing is None
            self._check_count()
            self._waiting.append(directory)

    def _check_count(self) -> None:
        limit = self._settings.max_listings
        if self._count > limit:
            raise ContentTooLarge(f"there are more than the {limit} directories allowed")

    def _end(self, error: BaseException) -> None:
        with self._lock:
            self._error = self._error or error
            self._waiting.clear()
        self._done.set()


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

"""A bundle's directories become members: listed before any member is asked about.

What is wrong with one directory is an error of the bundle, never a smaller archive; only what is
missing can be done without, where the bundle says so.
"""

from dataclasses import dataclass, field, replace
from functools import partial

from tar_gateway.archive.bundle import Bundle, Entry, check_apart, renamed
from tar_gateway.delivery.lister import Lister
from tar_gateway.delivery.walk import Directory, Walk
from tar_gateway.errors import (
    BadRequest,
    ContentTooLarge,
    MemberFault,
    MembersFailed,
    NotFound,
    SourceError,
)
from tar_gateway.http.paths import BadName, shown
from tar_gateway.settings import Settings
from tar_gateway.sources import Caller, Listed, Listing
from tar_gateway.sources.wire.asking import Steps
from tar_gateway.sources.wire.loop import Loop


@dataclass(frozen=True, slots=True)
class Expanded:
    """A bundle without directories, and what listings told of members by their names."""

    bundle: Bundle
    told: dict[str, Listed] = field(default_factory=dict)
    missing: tuple[MemberFault, ...] = ()
    """What of the directories is missing, and done without."""


class Expansion:
    """Makes members of the directories in a bundle, by what ``lister`` lists."""

    def __init__(self, lister: Lister, settings: Settings) -> None:
        self._lister = lister
        self._settings = settings

    def expand(
        self,
        bundle: Bundle,
        caller: Caller,
        deadline: float,
        loop: Loop,
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
        exact = exact and bundle.missing == "fail"
        takes_all = not (bundle.include or bundle.exclude)
        # A tree of which parts are left out may be far larger than what is taken of it.
        ask = partial(self._list, caller=caller, deadline=deadline, deep=takes_all)
        walk = Walk(ask, bundle, caller, self._settings)
        walk.run(trees, deadline, loop)
        found: dict[Entry, Listed | None] = {}  # each once, in order
        missing: dict[Entry, MemberFault] = {}
        for entry in bundle.members:
            if not entry.is_tree:
                found.setdefault(entry, None)
                continue
            below = sorted(walk.below(entry), key=lambda pair: pair[0].name.encode("utf-8"))
            for member, told in below:
                if isinstance(told, MemberFault):
                    missing.setdefault(member, told)
                else:
                    found.setdefault(member, told)
        if missing and not found:
            raise MembersFailed(list(missing.values()), total=len(missing), status=404)
        named = {entry for entry in bundle.members if not entry.is_tree}
        members = self._apart(tuple(found), bundle)
        listed = {
            member.name: each if exact else replace(each, stat=None)
            for member, (entry, each) in zip(members, found.items(), strict=True)
            if entry not in named and each is not None
        }
        no_store = bundle.no_store or walk.no_store
        expanded = replace(bundle, members=members, no_store=no_store)
        return Expanded(expanded, listed, tuple(missing.values()))

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
        return tuple(
            each if each.name == name else replace(each, name=name)
            for name, each in zip(names, members, strict=True)
        )

    def _list(
        self, directory: Directory, *, caller: Caller, deadline: float, deep: bool
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

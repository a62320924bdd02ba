"""A bundle and a source make a plan: every member's stat, and the layout that follows.

All members are asked about at once, as far as connections go, and all that
is wrong is found before anything is said to the client.
"""

import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from typing import TypeAlias

from tar_gateway.archive.bundle import Bundle, Entry
from tar_gateway.delivery.expand import Expansion
from tar_gateway.delivery.fetch import FetchRules
from tar_gateway.delivery.lister import Lister
from tar_gateway.delivery.plan import Plan
from tar_gateway.delivery.survey import Hold, Survey, SurveyResult, too_large
from tar_gateway.delivery.threads import FetcherPool
from tar_gateway.errors import Cancelled, ContentTooLarge, TooManyRequests
from tar_gateway.settings import Settings
from tar_gateway.sources import (
    Caller,
    LimitingSource,
    Limits,
    Listed,
    Permit,
    Source,
    Stat,
    UnknownSize,
)
from tar_gateway.sources.cache import ExpiringCache, Flight, SingleFlight
from tar_gateway.sources.directories import version_of
from tar_gateway.sources.spool import Spool, SpooledMember
from tar_gateway.sources.stepwise import Remote, StepwiseSource
from tar_gateway.sources.wire.asking import Steps, calling
from tar_gateway.sources.wire.loop import Loop

# Bytes: half of what fits into signed 64 bits, more than any disk and any client can hold.
_LARGEST = 2**62

# Named here, since Python makes a generic type anew each time that a function is defined.
_Found: TypeAlias = tuple[Stat, SpooledMember | None]
_Asked: TypeAlias = Steps[_Found]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a plan is to be made of, until when, and within which limits; see `Planner.plan`.

    ``most`` is how many bytes there may be, of the archive or, with a ``limit``, of the members.
    """

    bundle: Bundle
    caller: Caller
    key: bytes | None
    deadline: float
    most: int
    limit: int | None
    anew: bool


class Planner:
    """Makes plans for one source, of members that ``permit`` lets the caller have."""

    def __init__(
        self,
        source: Source,
        settings: Settings,
        fetchers: FetcherPool,
        permit: Permit | None = None,
        spool: Spool | None = None,
    ) -> None:
        self._source = source
        self._permit = permit
        self._stat_steps = (
            source.stat_steps
            if isinstance(source, StepwiseSource)
            else lambda path, caller: calling(lambda: source.stat(path, caller))
        )
        self._remembers = permit is None and settings.plan_memory > 0
        self.timeout = settings.plan_timeout  # seconds that a survey may take
        self._parallel = settings.fetch_parallel
        self._fetchers = fetchers
        self.spool = spool or Spool(settings.spool_limit)
        """The room for members of unknown size."""
        self.rules = FetchRules.from_settings(settings)
        """How members are asked for, and fetched by these plans."""
        self._most = Limits.from_settings(settings)
        self.lister = Lister(source, self.rules.retry, permit)
        """Lists directories as plans do."""
        self._expansion = Expansion(self.lister, settings)
        # The largest bundle fits, so that any can be read range by range.
        self._remembered = ExpiringCache[SurveyResult](settings.plan_memory, settings.max_members)
        self._flights = SingleFlight[SurveyResult]()

    def plan(
        self, bundle: Bundle, caller: Caller, *, limit: int | None = None, anew: bool = False
    ) -> Plan:
        """Ask about every member, until the caller's cancellation is cancelled.

        Equal plans under way are made once, unless this one is made ``anew``, because an earlier
        one was wrong. ``limit`` is for the bytes of all members together, in place of the
        archive's limit. Raise `MembersFailed` for those that failed until that was decided,
        `ContentTooLarge`, or `Cancelled`.
        """
        most = self._checked(bundle, limit)
        caller = replace(caller, cancellation=caller.cancellation.child())
        key = self._key(bundle, caller)
        deadline = time.monotonic() + self.timeout
        wanted = _Wanted(bundle, caller, key, deadline, most, limit, anew)
        found, own = None, True
        if key is not None and not anew:
            equal = (key, most, limit is None)
            make = partial(self._make, wanted)
            found, own = self._flights.find(equal, caller.cancellation, deadline, make)
        if found is None or (found.spooled and not own):
            found, own = self._make(wanted, Flight(caller.cancellation)), True
        result = found if own else found.shared()
        plan = self._plan_of(result, bundle, caller, key, is_shared=not own)
        if caller.cancellation.is_cancelled:  # while others waited for it
            plan.close()
            raise Cancelled
        return plan

    def _make(self, wanted: "_Wanted", flight: Flight[SurveyResult]) -> SurveyResult:
        """Ask about all members, for all who wait for this flight, and remember what was said."""
        caller, key = wanted.caller, wanted.key
        try:
            caller.tally.expect(self._questions(wanted.bundle), refuse=not wanted.anew)
        except TooManyRequests:
            flight.part()  # the others may ask as much as they may
            raise
        if key is not None:
            self._remembered.forget(key)  # it counts no more, whatever the answers will be
        with closing(Loop(flight.cancellation, self._callers(caller))) as loop:
            result = self._survey(wanted, flight, loop)
        if key is not None:
            self._remembered.keep(key, result.shared(), len(result.stats) + len(result.missing))
        return result

    def _survey(self, wanted: "_Wanted", flight: Flight[SurveyResult], loop: Loop) -> SurveyResult:
        """List the directories, and ask about all that is below them."""
        bundle, deadline, largest = wanted.bundle, wanted.deadline, wanted.most
        asker = replace(wanted.caller, cancellation=flight.cancellation)
        expanded = self._expansion.expand(bundle, asker, deadline, loop, exact=not wanted.anew)
        members = expanded.bundle
        if members is not bundle:
            largest = self._checked(members, wanted.limit)
            wanted.caller.tally.expect(self._questions(members), refuse=False)
        ask, file = partial(self._ask, expanded.told), self.spool.file()
        survey = Survey(
            *(ask, members, asker, largest),
            deadline=deadline,
            flight=flight,
            spool_file=file,
            missing=expanded.missing,
        )
        try:
            survey.run(loop, self._parallel)
            result = survey.result()
            if wanted.limit is None and result.layout.size > largest:
                raise too_large(largest)
        except BaseException:
            survey.abandon()
            raise
        return result

    def _callers(self, caller: Caller) -> FetcherPool | None:
        """Return the threads that ask, `None` where the request's own does it all."""
        asks_itself = isinstance(self._source, Remote) or not self._source.is_concurrent(caller)
        return None if asks_itself else self._fetchers

    def _checked(self, bundle: Bundle, limit: int | None) -> int:
        """Return how many bytes a bundle may have. Raise `ContentTooLarge` for its members."""
        limits = self._limits(bundle)
        if len(bundle.members) > limits.members:
            raise ContentTooLarge(f"there are more than the {limits.members} members allowed")
        # A layout's offsets have 64 bits.
        return int(min(limits.size, _LARGEST)) if limit is None else limit

    def _failed(self, key: bytes | None) -> None:
        """Hear that a member was not as planned."""
        if key is not None:
            self._remembered.forget(key)

    def _limits(self, bundle: Bundle) -> Limits:
        if not isinstance(self._source, LimitingSource):
            return self._most
        references = (member.reference for member in bundle.members)
        return self._most.strictest(self._source.limits(references))

    def recall(self, bundle: Bundle, caller: Caller) -> Plan | None:
        """Return the plan of the same bundle for the same caller that was made a moment ago.

        The source was asked then, and may answer otherwise by now. What is fetched by the plan
        is still held to its validators, and asked for on the caller's authority. What was set
        aside is gone: of an archive whose tag is not strong, only what the headers say is left.
        """
        key = self._key(bundle, caller)
        surveyed = None if key is None else self._remembered.recall(key)
        if surveyed is None:
            return None
        caller = replace(caller, cancellation=caller.cancellation.child())
        return self._plan_of(surveyed, bundle, caller, key, is_shared=True)

    def _questions(self, bundle: Bundle) -> int:
        """Return how many questions a survey asks, if all goes well."""
        permits = self._permit is not None
        return sum(
            (each.size is None) + (permits and not each.is_directory) for each in bundle.members
        )

    def _plan_of(
        self,
        result: SurveyResult,
        bundle: Bundle,
        caller: Caller,
        key: bytes | None,
        *,
        is_shared: bool,
    ) -> Plan:
        return Plan(
            self._source,
            caller,
            replace(bundle, members=result.members, no_store=bundle.no_store or result.no_store),
            result.stats,
            result.spooled,
            spool_file=result.spool_file,
            layout=result.layout,
            is_shared=is_shared,
            missing=result.missing,
            forget=partial(self._failed, key),
        )

    def _key(self, bundle: Bundle, caller: Caller) -> bytes | None:
        """Return what decides a survey's outcome, `None` where that can't be told.

        As a digest, so that no credentials are kept. An authority may go by all of a request,
        and is asked each time.
        """
        decisive = self._source.cache_key(caller) if self._remembers else None
        if decisive is None:
            return None
        members = [
            (each.path, each.query, each.name, each.size, each.checksum, each.is_tree, each.pick)
            for each in bundle.members
        ]
        listed = (
            bundle.format.name,
            bundle.folder,
            bundle.missing,
            bundle.duplicates,
            bundle.checksums,
            bundle.include,
            bundle.exclude,
            members,
        )
        return sha256(repr((decisive, listed)).encode("utf-8")).digest()

    def _ask(
        self,
        told: Mapping[str, Listed],
        member: Entry,
        caller: Caller,
        deadline: float,
        hold: Hold,
    ) -> _Asked:
        """Ask about one member; ``hold`` sets it aside where that is the only way to its size.

        ``told`` has the names of those that listings have named, and what they said of them.
        """
        permit, cancellation = self._permit, caller.cancellation
        if permit is not None and not member.is_directory:  # of which nothing is fetched
            yield from self.rules.retry.call(
                lambda: permit(member.reference, caller), cancellation, deadline=deadline
            )
        if member.size is not None:
            return Stat(member.size, 0, None), None
        listed = told.get(member.name)
        by_etag = listed is not None and listed.tells_etag
        if listed is not None and listed.stat is not None:
            return replace(listed.stat, version=version_of(listed.stat, by_etag=by_etag)), None

        def ask() -> _Asked:
            stat = yield from self._stat_steps(member.reference, caller)
            if isinstance(stat, UnknownSize):
                content = stat.content
                spooled = yield from hold(content)
                return Stat(spooled.size, stat.mtime, None, stat.no_store), spooled
            return stat, None

        steps = self.rules.retry.call(
            ask,
            cancellation,
            tally=caller.tally,
            deadline=deadline,
            is_there=lambda: caller.tally.is_answered,
        )
        stat, spooled = yield from steps
        if listed is not None:  # the archive's tag is the same as if its listing had told all
            stat = replace(stat, version=version_of(stat, by_etag=by_etag), checksum=None)
        return stat, spooled

"""A bundle and a source make a plan: every member's stat, and the layout that follows.

All members are asked about at once, as far as one shared set of threads goes, and all that
is wrong is found before anything is said to the client.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256

from tar_gateway.archive.bundle import Bundle, Entry
from tar_gateway.archive.layout import Layout
from tar_gateway.delivery.fetch import FetchRules
from tar_gateway.delivery.plan import Plan, member_fault
from tar_gateway.delivery.threads import FIRST, GROWTH, LATE, PATIENT, FetcherPool, LatencyMeter
from tar_gateway.errors import MOST_FAULTS, ContentTooLarge, MemberFault, MembersFailed, SourceError
from tar_gateway.settings import Settings
from tar_gateway.sources import Caller, LimitingSource, Limits, Permit, Source, Stat, UnknownSize
from tar_gateway.sources.cache import ExpiringCache
from tar_gateway.sources.spool import Spool, SpooledMember, SpoolFile
from tar_gateway.sources.stepwise import StepwiseSource
from tar_gateway.sources.wire.asking import Steps, calling, run

# Bytes: half of what fits into signed 64 bits, more than any disk and any client can hold.
_LARGEST = 2**62


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
        self._settings = settings
        self._fetchers = fetchers
        self.spool = spool or Spool(settings.spool_limit)
        """The room for members of unknown size."""
        self.rules = FetchRules.from_settings(settings)
        """How members are asked for, and fetched by these plans."""
        self._most = Limits.from_settings(settings)
        # The largest bundle fits, so that any can be read range by range.
        self._remembered = ExpiringCache[_SurveyResult](settings.plan_memory, settings.max_members)

    def plan(self, bundle: Bundle, caller: Caller, *, limit: int | None = None) -> Plan:
        """Ask about every member, until the caller's cancellation is cancelled.

        ``limit`` is for the bytes of all members together, in place of the archive's limit.
        Raise `MembersFailed` for those that failed until that was decided, `ContentTooLarge`,
        or `Cancelled`.
        """
        caller = replace(caller, cancellation=caller.cancellation.child())
        limits = self._limits(bundle)
        if len(bundle.members) > limits.members:
            raise ContentTooLarge(f"there are more than the {limits.members} members allowed")
        key = self._key(bundle, caller)
        if key is not None:
            self._remembered.forget(key)  # it counts no more, whatever the answers will be
        # A layout's offsets have 64 bits.
        largest = int(min(limits.size, _LARGEST)) if limit is None else limit
        survey = _Survey(self, bundle.members, caller, largest)
        try:
            if self._source.is_concurrent(caller):
                survey.run(self._fetchers)
            else:
                survey.run_alone()
            caller.cancellation.check()
            stats = survey.stats()
            if sum(stat.size for stat in stats) > largest:  # before there is a layout
                raise _too_large(largest)
            plan = Plan(
                self._source,
                caller,
                bundle,
                stats,
                survey.spooled,
                spool_file=survey.spool_file,
                forget=self._forgetting(key),
            )
            if limit is None and plan.layout.size > largest:
                raise _too_large(largest)
            if key is not None:
                self._remembered.keep(key, _SurveyResult(stats, plan.layout), len(stats))
        except BaseException:
            survey.abandon()
            raise
        return plan

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
        return Plan(
            self._source,
            caller,
            bundle,
            surveyed.stats,
            {},
            layout=surveyed.layout,
            forget=self._forgetting(key),
        )

    def _forgetting(self, key: bytes | None) -> Callable[[], None] | None:
        return None if key is None else partial(self._remembered.forget, key)

    def _key(self, bundle: Bundle, caller: Caller) -> bytes | None:
        """Return what decides a survey's outcome, `None` where that can't be told.

        As a digest, so that no credentials are kept. An authority may go by all of a request,
        and is asked each time.
        """
        if self._permit is not None or not self._settings.plan_memory:
            return None
        decisive = self._source.cache_key(caller)
        if decisive is None:
            return None
        members = [(each.path, each.query, each.name, each.size) for each in bundle.members]
        return sha256(repr((decisive, members)).encode("utf-8")).digest()

    @property
    def timeout(self) -> float:
        """Seconds that a survey may take."""
        return self._settings.plan_timeout

    def ask(
        self, member: Entry, caller: Caller, deadline: float, largest: int, file: SpoolFile
    ) -> Steps[tuple[Stat, SpooledMember | None]]:
        """Ask about one member, and set it aside where that is the only way to its size.

        It is set aside in ``file``; of one that has more than ``largest`` bytes, no more than
        shows that.
        """
        permit, cancellation = self._permit, caller.cancellation
        if permit is not None and not member.is_directory:  # of which nothing is fetched
            yield from self.rules.retry.call(
                lambda: permit(member.reference, caller), cancellation, deadline=deadline
            )
        if member.size is not None:
            return Stat(member.size, 0, None), None

        def ask() -> Steps[tuple[Stat, SpooledMember | None]]:
            stat = yield from self._stat_steps(member.reference, caller)
            if isinstance(stat, UnknownSize):
                content = stat.content
                spooled = yield from calling(lambda: file.hold(content, deadline, largest))
                return Stat(spooled.size, stat.mtime, None, stat.no_store), spooled
            return stat, None

        return (
            yield from self.rules.retry.call(
                ask, cancellation, tally=caller.tally, deadline=deadline
            )
        )


@dataclass(frozen=True, slots=True)
class _SurveyResult:
    """What is the same of every plan that one survey is good for."""

    stats: list[Stat]
    layout: Layout


class _Survey:
    """One plan's questions, worked off by the planner's threads a few at a time."""

    def __init__(
        self, planner: Planner, members: tuple[Entry, ...], caller: Caller, largest: int
    ) -> None:
        self._planner = planner
        self._members = members
        self._caller = caller
        self._largest = largest
        self._deadline = time.monotonic() + planner.timeout
        self._next = iter(range(len(members)))
        self._found: list[Stat | MemberFault | None] = [None] * len(members)
        self._defect: BaseException | None = None
        self._lock = threading.Lock()
        self._left = len(members)
        self._done = threading.Event()
        self._faults = 0
        self._abandoned = False
        self._decided = False
        self._fetchers: FetcherPool | None = None
        self._workers = 0
        self._waiting = LatencyMeter()
        self.spooled: dict[int, SpooledMember] = {}
        self.spool_file = planner.spool.file()

    def run(self, fetchers: FetcherPool) -> None:
        """Let threads work the questions off, and wait for that, the deadline or a cancelling."""
        self._fetchers = fetchers
        self._set_to_work(FIRST)
        left = self._left
        while not self._done.wait(LATE if self._may_grow() else PATIENT):
            if self._caller.cancellation.is_cancelled:
                return
            with self._lock:
                answered, left = left - self._left, self._left
                if time.monotonic() > self._deadline:
                    if left:
                        self._abandoned = True
                    return
            if answered < self._workers:
                self._set_to_work(self._workers * GROWTH)

    def run_alone(self) -> None:
        """Work the questions off in this thread, for a source that bears no other."""
        for index in self._next:
            if self._decided:
                return
            if time.monotonic() > self._deadline:
                with self._lock:
                    self._abandoned = True
                return
            self._ask(index)

    def _may_grow(self) -> bool:
        """Return whether there are threads and questions for more to work at."""
        assert self._fetchers is not None
        return self._workers < min(self._fetchers.share, self._left)

    def _set_to_work(self, wanted: int) -> None:
        """Let so many threads work in all, as far as there are threads and questions."""
        assert self._fetchers is not None
        with self._lock:
            more = min(min(wanted, self._fetchers.share) - self._workers, self._left)
            self._workers += max(0, more)
        for _ in range(more):
            self._fetchers.work(self._step)

    def _step(self) -> bool:
        """Ask about the next member in some thread; tells whether there was any."""
        with self._lock:
            over = self._abandoned or self._decided
            index = None if over else next(self._next, None)
        if index is None:
            return False
        count = self._workers
        began = time.monotonic()
        self._ask(index)
        if self._waiting.took(time.monotonic() - began):
            with suppress(RuntimeError):  # the process is ending; those at work ask the rest
                self._set_to_work(count * GROWTH)
        return True

    def stats(self) -> list[Stat]:
        """Return the stats in order, or raise `MembersFailed` for those that failed."""
        if self._defect is not None:
            raise self._defect
        faults = []
        stats = []
        for member, found in zip(self._members, self._found, strict=True):
            match found:
                case Stat():
                    stats.append(found)
                case MemberFault():
                    faults.append(found)
                case None if not self._decided:
                    late = SourceError("its size was not told in time", status=504)
                    faults.append(member_fault(member, late))
        if faults:
            raise MembersFailed(faults)
        return stats

    def abandon(self) -> None:
        """Ask nothing more, and give back what was set aside, now or by threads still busy."""
        self._caller.cancellation.cancel()
        with self._lock:
            self._abandoned = True
        self.spool_file.close()

    def _ask(self, index: int) -> None:
        found: Stat | MemberFault | None = None
        spooled: SpooledMember | None = None
        try:
            steps = self._planner.ask(
                self._members[index], self._caller, self._deadline, self._largest, self.spool_file
            )
            found, spooled = run(steps, self._caller.cancellation)
        except SourceError as error:  # which would keep this frame, and all of the survey
            found = member_fault(self._members[index], error)
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
            self._defect = error
        with self._lock:
            if not (self._abandoned or self._decided):
                self._found[index] = found
                self._left -= 1
                if spooled is not None:
                    self.spooled[index] = spooled
                if isinstance(found, MemberFault):
                    self._faults += 1
                    # No other answer takes precedence, or no other would be told.
                    first = found.status == MembersFailed.precedence[0]
                    self._decided = first or self._faults == MOST_FAULTS
                if self._decided or not self._left:
                    self._done.set()


def _too_large(limit: int) -> ContentTooLarge:
    return ContentTooLarge(f"the archive would be larger than the {limit} bytes that are allowed")

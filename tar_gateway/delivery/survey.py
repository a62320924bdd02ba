"""One survey: every member's stat, asked by the planner's threads a few at a time."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

from tar_gateway.archive.bundle import Bundle, Entry
from tar_gateway.archive.layout import Layout
from tar_gateway.delivery.digests import digests_of
from tar_gateway.delivery.missing import report_of
from tar_gateway.delivery.plan import layout_of, member_fault
from tar_gateway.delivery.threads import FIRST, GROWTH, LATE, PATIENT, FetcherPool, LatencyMeter
from tar_gateway.errors import MOST_FAULTS, ContentTooLarge, MemberFault, MembersFailed, SourceError
from tar_gateway.sources import Caller, Stat
from tar_gateway.sources.cache import Flight
from tar_gateway.sources.spool import SpooledMember, SpoolFile
from tar_gateway.sources.wire.asking import Steps, run
from tar_gateway.sources.wire.response import Content

Hold = Callable[[Content], SpooledMember]
"""Sets a member of unknown size aside."""

Ask = Callable[[Entry, Caller, float, Hold], Steps[tuple[Stat, SpooledMember | None]]]
"""Asks about one member until a deadline, a `time.monotonic` moment."""


@dataclass(frozen=True, slots=True)
class SurveyResult:
    """What one survey has found out; without what was set aside it is good for several plans."""

    members: tuple[Entry, ...]
    no_store: bool
    stats: list[Stat]
    layout: Layout
    missing: tuple[MemberFault, ...] = ()
    spooled: dict[int, SpooledMember] = field(default_factory=dict)
    spool_file: SpoolFile | None = None

    def shared(self) -> "SurveyResult":
        """Return what is the same of every plan."""
        return replace(self, spooled={}, spool_file=None)


class Survey:
    """One plan's questions, worked off by the planner's threads a few at a time."""

    def __init__(
        self,
        ask: Ask,
        bundle: Bundle,
        caller: Caller,
        largest: int,
        *,
        spool_file: SpoolFile,
        deadline: float,
        flight: Flight[SurveyResult],
        missing: tuple[MemberFault, ...] = (),
    ) -> None:
        self._ask_about = ask
        self._bundle = bundle
        self._members = bundle.members
        self._does_without = bundle.missing != "fail"
        self._missing = missing  # of its directories
        self._caller = caller
        self._largest = largest
        self._deadline = deadline
        self._flight = flight
        self._next = iter(range(len(bundle.members)))
        self._found: list[Stat | MemberFault | None] = [None] * len(bundle.members)
        self._defect: BaseException | None = None
        self._lock = threading.Lock()
        self._left = len(bundle.members)
        self._done = threading.Event()
        self._faults = 0
        self._abandoned = False
        self._decided = False
        self._fetchers: FetcherPool | None = None
        self._workers = 0
        self._waiting = LatencyMeter()
        self.spooled: dict[int, SpooledMember] = {}
        self.spool_file = spool_file

    def run(self, fetchers: FetcherPool | None) -> None:
        """Let threads work the questions off, and wait for that, the deadline or a cancelling.

        Without ``fetchers``, for a source that bears no other thread, work them off in this one.
        """
        self._fetchers = fetchers
        if fetchers is None:
            self._run_alone()
            return
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

    def _run_alone(self) -> None:
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
        """Ask about the next member in some thread. Return whether there was any."""
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

    def result(self) -> SurveyResult:
        """Return what was found out, or raise `MembersFailed` for the members that failed."""
        self._caller.cancellation.check()
        members, stats, missing = self._outcome()
        if sum(stat.size for stat in stats) > self._largest:  # before there is a layout
            raise too_large(self._largest)
        spooled = self.spooled
        if missing:
            there = (index for index, found in enumerate(self._found) if isinstance(found, Stat))
            spooled = {now: spooled[then] for now, then in enumerate(there) if then in spooled}
            if self._bundle.missing == "report":
                names = (member.name for member in self._members)
                report, stat = report_of(missing, self._bundle.folder, names)
                members, stats = [*members, report], [*stats, stat]
        if self._bundle.checksums is not None:
            digests, stat = digests_of(members, stats, self._bundle.folder)
            members, stats = [*members, digests], [*stats, stat]
        same = len(members) == len(self._members) and not missing
        kept = self._members if same else tuple(members)
        bundle = replace(self._bundle, members=kept)
        layout = layout_of(bundle, stats)
        return SurveyResult(
            kept, bundle.no_store, stats, layout, tuple(missing), spooled, self.spool_file
        )

    def _outcome(self) -> tuple[list[Entry], list[Stat], list[MemberFault]]:
        """Return the members that are there, their stats, and what the bundle does without."""
        if self._defect is not None:
            raise self._defect
        members, stats = [], []
        faults: list[MemberFault] = []
        missing = list(self._missing)
        for member, found in zip(self._members, self._found, strict=True):
            match found:
                case Stat():
                    members.append(member)
                    stats.append(found)
                case MemberFault():
                    (missing if self._is_left_out(found) else faults).append(found)
                case None if not self._decided:
                    late = SourceError("its size was not told in time", status=504)
                    faults.append(member_fault(member, late))
        if faults:
            raise MembersFailed(faults, total=len(self._members))
        if not members:
            raise MembersFailed(missing, total=len(self._members), status=404)
        return members, stats, missing

    def _is_left_out(self, fault: MemberFault) -> bool:
        return self._does_without and fault.is_missing

    def abandon(self) -> None:
        """Ask nothing more, and release what was set aside, now or once busy threads are done."""
        self._caller.cancellation.cancel()
        with self._lock:
            self._abandoned = True
        self.spool_file.close()

    def _hold(self, content: Content) -> SpooledMember:
        """Set a member aside; of one of more bytes than may be, no more than shows that."""
        self._flight.part()  # it is there for one plan, so the others need not wait
        return self.spool_file.hold(content, self._deadline, self._largest)

    def _ask(self, index: int) -> None:
        found: Stat | MemberFault | None = None
        spooled: SpooledMember | None = None
        try:
            steps = self._ask_about(self._members[index], self._caller, self._deadline, self._hold)
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
                if isinstance(found, MemberFault) and not self._is_left_out(found):
                    self._faults += 1
                    # No other answer takes precedence, or no other would be told.
                    first = found.status == MembersFailed.precedence[0]
                    self._decided = first or self._faults == MOST_FAULTS
                if self._decided or not self._left:
                    self._done.set()


def too_large(limit: int) -> ContentTooLarge:
    """Return the error of an archive of more bytes than ``limit``."""
    return ContentTooLarge(f"the archive would be larger than the {limit} bytes that are allowed")

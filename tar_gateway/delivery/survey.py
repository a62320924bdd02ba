"""One survey: every member's stat, asked by one thread, many at a time."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from tar_gateway.archive.bundle import Bundle, Entry
from tar_gateway.archive.layout import Layout
from tar_gateway.delivery.digests import digests_of
from tar_gateway.delivery.missing import report_of
from tar_gateway.delivery.plan import layout_of, member_fault
from tar_gateway.errors import MOST_FAULTS, ContentTooLarge, MemberFault, MembersFailed, SourceError
from tar_gateway.sources import Caller, Stat
from tar_gateway.sources.cache import Flight
from tar_gateway.sources.spool import SpooledMember, SpoolFile
from tar_gateway.sources.wire.asking import Steps
from tar_gateway.sources.wire.loop import Loop, Task
from tar_gateway.sources.wire.response import Content

# Questions begun for each that may be under way, so that the next ones are ready to leave.
_BEGUN = 2

Hold = Callable[[Content], Steps[SpooledMember]]
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
    """One plan's questions, worked off by a loop."""

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
        self._left = len(bundle.members)
        self._faults = 0
        self._abandoned = False
        self._decided = False
        self.spooled: dict[int, SpooledMember] = {}
        self.spool_file = spool_file

    def run(self, loop: Loop, parallel: int) -> None:
        """Work the questions off, until all are answered, one decides, or the deadline is over.

        ``parallel`` is how many may be under way. Raise `Cancelled`.
        """
        while True:
            self._ask_more(loop, _BEGUN * parallel)
            if self._decided or not self._left:
                return
            wait = self._deadline - time.monotonic()
            if wait <= 0:
                self._abandoned = True
                return
            loop.turn(wait)

    def _ask_more(self, loop: Loop, most: int) -> None:
        while loop.under_way < most and not self._decided:
            index = next(self._next, None)
            if index is None or time.monotonic() > self._deadline:
                return
            steps = self._ask_about(self._members[index], self._caller, self._deadline, self._hold)
            loop.start(steps, partial(self._answered, index))

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
        """Ask nothing more, and release what was set aside."""
        self._caller.cancellation.cancel()
        self._abandoned = True
        self.spool_file.close()

    def _hold(self, content: Content) -> Steps[SpooledMember]:
        """Set a member aside; of one of more bytes than may be, no more than shows that."""
        self._flight.part()  # it is there for one plan, so the others need not wait
        return self.spool_file.hold(content, self._deadline, self._largest)

    def _answered(self, index: int, task: Task[tuple[Stat, SpooledMember | None]]) -> None:
        found: Stat | MemberFault | None = None
        spooled: SpooledMember | None = None
        try:
            found, spooled = task.outcome()
        except SourceError as error:  # which would keep this frame, and all of the survey
            found = member_fault(self._members[index], error)
        except BaseException as error:  # noqa: BLE001 - raised again with the result
            self._defect = error
        if self._abandoned or self._decided:
            return
        self._found[index] = found
        self._left -= 1
        if spooled is not None:
            self.spooled[index] = spooled
        if isinstance(found, MemberFault) and not self._is_left_out(found):
            self._faults += 1
            # No other answer takes precedence, or no other would be told.
            first = found.status == MembersFailed.precedence[0]
            self._decided = first or self._faults == MOST_FAULTS


def too_large(limit: int) -> ContentTooLarge:
    """Return the error of an archive of more bytes than ``limit``."""
    return ContentTooLarge(f"the archive would be larger than the {limit} bytes that are allowed")

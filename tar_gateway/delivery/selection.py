"""Which slice of which plan a request gets: planned or recalled, decided, and its start opened."""

from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace

from tar_gateway.archive.bundle import FORMATS, Bundle
from tar_gateway.archive.layout import Layout
from tar_gateway.delivery.body import Body
from tar_gateway.delivery.compression import Compressed
from tar_gateway.delivery.plan import Plan
from tar_gateway.delivery.planner import Planner
from tar_gateway.delivery.reread import Rereads
from tar_gateway.delivery.threads import FetcherPool
from tar_gateway.errors import MembersChanged, PreconditionFailed, RangeNotSatisfiable
from tar_gateway.http.conditions import Conditions, Decision, decide
from tar_gateway.http.validators import Validator
from tar_gateway.sources import Caller


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for: which bundle, for whom, and under which conditions.

    ``version`` is the opaque text of the only ETag that the bundle may have, `None` for any.
    """

    bundle: Bundle
    caller: Caller
    method: str
    conditions: Conditions
    version: str | None = None

    def mtime(self, layout: Layout) -> int:
        """Return the archive's date in seconds since 1970, 0 for none.

        Where members may be missing there is none: one that goes, or comes back, leaves the
        newest date of the others as it is.
        """
        return layout.mtime if self.bundle.missing == "fail" else 0

    def check_version(self, layout: Layout) -> None:
        """Raise `PreconditionFailed` unless the bundle is of the version that was asked for.

        It may have been named by the tag that the bundle has in another format.
        """
        if self.version is not None and not layout.is_version(self.version, FORMATS):
            raise _other_version()

    @property
    def names_version(self) -> bool:
        """Whether the request is about one version only, and is refused or given all of another."""
        conditions = self.conditions
        by_match = conditions.if_match is not None and conditions.if_match.strip() != "*"
        return by_match or conditions.if_range is not None or self.version is not None

    def decide_about(self, etag: Validator) -> Decision:
        """Decide what to answer with what is not the archive, and taken as a whole only."""
        conditions = replace(self.conditions, range=None)
        decision = decide(self.method, conditions, etag=etag, mtime=0, size=0)
        if decision.status == 412:
            raise _other_version()
        return decision

    def decide(self, layout: Layout, limit: int) -> Decision:
        """Decide what to answer. Raise `PreconditionFailed` or `RangeNotSatisfiable`.

        Up to ``limit`` bytes of members are read again, where checksums need it: not for a request
        that would be given parts of any version.
        """
        takes_ranges = layout.takes_ranges(limit) and (layout.is_told or self.names_version)
        mtime = self.mtime(layout)
        decision = decide(
            self.method,
            self.conditions,
            etag=None if layout.format.coding else layout.etag,
            mtime=mtime,
            size=layout.size,
            takes_ranges=takes_ranges,
        )
        self.check_version(layout)
        if decision.status == 412:
            raise _other_version()
        if decision.status == 416:
            raise RangeNotSatisfiable(layout.size)
        return decision


def _other_version() -> PreconditionFailed:
    return PreconditionFailed(
        "the files have changed: the bundle is no longer the version that was asked for"
    )


@dataclass(frozen=True, slots=True)
class Selection:
    """What a request gets of ``plan``; without a ``body`` the headers say all.

    Whoever holds it closes the body, which closes the plan.
    """

    plan: Plan
    decision: Decision
    takes_ranges: bool
    body: Body | Compressed | None = None


class Selector:
    """Makes selections of what one planner plans, whose bodies have ``fetchers`` fetch ahead.

    ``reread_limit`` is how many bytes a request may have read again for checksums, of which those
    of ``checksum_memory`` members are remembered.
    """

    def __init__(
        self,
        planner: Planner,
        fetchers: FetcherPool,
        *,
        reread_limit: int = 0,
        checksum_memory: int = 0,
    ) -> None:
        self._planner = planner
        self._fetchers = fetchers
        self._reread_limit = reread_limit
        self._rereads = Rereads(checksum_memory, planner.rules, fetchers)

    def select(self, asked: Asked, on_planned: Callable[[], None]) -> Selection:
        """Plan, decide what to answer, and open the first member that the response needs.

        ``on_planned`` is called when all sizes are known. Raise `Refusal` or `Cancelled`.
        """
        try:
            return self._recalled(asked, on_planned) or self._planned(asked, on_planned)
        except MembersChanged:
            # Nothing was said yet, so the plan can be made anew.
            return self._planned(asked, on_planned, anew=True)

    def plan(self, asked: Asked, on_planned: Callable[[], None]) -> Plan:
        """Plan, for a response that has no bytes of members. Raise `Refusal` or `Cancelled`.

        What is only said of a plan may be of one of a moment ago.
        """
        plan = None
        if asked.method == "HEAD" and asked.version is None:
            plan = self._planner.recall(asked.bundle, asked.caller)
        plan = plan or self._planner.plan(asked.bundle, asked.caller)
        with ExitStack() as held:
            held.callback(plan.close)
            on_planned()
            asked.check_version(plan.layout)
            held.pop_all()  # the caller closes the plan
        return plan

    def _planned(
        self, asked: Asked, on_planned: Callable[[], None], *, anew: bool = False
    ) -> Selection:
        plan = self._planner.plan(asked.bundle, asked.caller, anew=anew)
        on_planned()
        with ExitStack() as held:
            held.callback(plan.close)
            return self._opened(plan, asked.method, self._decide(asked, plan), held)

    def _recalled(self, asked: Asked, on_planned: Callable[[], None]) -> Selection | None:
        """Select by a plan of a moment ago what is less than a whole archive.

        So that a few bytes of request never cost a question for each member. What is said of the
        whole was true then, for the same caller. A part's first member is opened before anything
        is said, and shows whether its version is still there. That the bundle is another version
        than a request is about is only said of what it is now.
        """
        plan = self._planner.recall(asked.bundle, asked.caller)
        if plan is None:
            return None
        with ExitStack() as held, suppress(PreconditionFailed):
            held.callback(plan.close)
            decision = self._decide(asked, plan)
            if asked.method == "HEAD" or decision.status != 200:
                on_planned()
                return self._opened(plan, asked.method, decision, held)
        return None

    def _decide(self, asked: Asked, plan: Plan) -> Decision:
        return asked.decide(plan.layout, self._reread_limit)

    def _opened(self, plan: Plan, method: str, decision: Decision, held: ExitStack) -> Selection:
        """Open what the response needs of a plan, which ``held`` closes otherwise."""
        takes_ranges = plan.layout.takes_ranges(self._reread_limit)
        if method == "HEAD" or decision.status == 304:
            return Selection(plan, decision, takes_ranges)
        start, stop = decision.start, decision.stop
        if plan.is_shared:  # who has made a plan has its members, too
            plan.tally.expect(plan.layout.count(start, stop))
        checksums = self._rereads.checksums(plan, start, stop)
        if checksums is not None:
            held.callback(checksums.close)
        body = Body(plan, start, stop, self._planner.rules, self._fetchers, checksums=checksums)
        body.prime()
        held.pop_all()  # the body closes both
        coding = plan.layout.format.coding
        sent = Compressed(body, coding, is_ahead=plan.is_concurrent) if coding else body
        return Selection(plan, decision, takes_ranges, sent)

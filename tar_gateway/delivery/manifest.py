"""Lists of members that are files of the source themselves: long, and still resumable."""

import time
from contextlib import closing

from tar_gateway.archive.bundle import Bundle, Entry
from tar_gateway.delivery.fetch import Fetch, FetchRules
from tar_gateway.delivery.plan import Plan, member_fault
from tar_gateway.delivery.planner import Planner
from tar_gateway.delivery.whole import blocks_of, ended_at, read_whole
from tar_gateway.errors import ContentTooLarge, MembersFailed, SourceError
from tar_gateway.http.paths import shown
from tar_gateway.sources import Caller
from tar_gateway.sources.wire.asking import calling
from tar_gateway.sources.wire.loop import run


def read_manifest(
    planner: Planner, manifest: Entry, caller: Caller, limit: int
) -> tuple[bytes, bool]:
    """Read a manifest as the only member of a bundle, within the time of a plan.

    Return its content, and whether its server forbids caches to keep it.
    Raise `MembersFailed` where the manifest could not be read, `ContentTooLarge` where it has
    more than ``limit`` bytes, and `Cancelled` once the caller's cancellation is cancelled.
    """
    deadline = time.monotonic() + planner.timeout
    try:
        plan = planner.plan(Bundle((manifest,), ""), caller, limit=limit)
    except ContentTooLarge as error:
        raise ContentTooLarge(
            f"the manifest {shown(manifest.path)} is larger than the {limit} bytes that are allowed"
        ) from error
    try:
        with closing(plan), ended_at(deadline, plan.cancellation):
            return _read(plan, planner.rules, limit, deadline), plan.no_store
    except SourceError as error:
        raise MembersFailed([member_fault(manifest, error)]) from error


def _read(plan: Plan, rules: FetchRules, limit: int, deadline: float) -> bytes:
    def read() -> bytes:
        with closing(Fetch(plan, 0, 0, plan.size(0), rules)) as fetch:
            return read_whole(blocks_of(fetch), limit=limit, deadline=deadline)

    if plan.is_proved(0):
        return read()
    # A fetch cannot resume another version; but no one has seen the beginning of this one.
    steps = rules.retry.call(
        lambda: calling(read), plan.cancellation, tally=plan.tally, deadline=deadline
    )
    return run(steps, plan.cancellation)

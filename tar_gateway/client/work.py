"""What is to be fetched, cut into requests, and done one by one or side by side."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing

from tar_gateway.client.events import Listener, MemberDone, Received, Waiting
from tar_gateway.client.failures import Stopped
from tar_gateway.client.ledger import Ledger
from tar_gateway.client.patience import Attempts, Patience
from tar_gateway.client.plan import Plan
from tar_gateway.client.session import Session
from tar_gateway.client.sinks import Target
from tar_gateway.client.spans import Span
from tar_gateway.client.stream import Stream, Version
from tar_gateway.client.walk import Walk

Piece = Span | tuple[int, None]
"""Bytes that one request asks for; all, where their number is not known."""

_SMALLEST, _LARGEST = 1024 * 1024, 64 * 1024 * 1024
_EACH = 4
"""Requests for each connection, so that none has much left to do when the others are ready."""


def runs_of(plan: Plan, taken: Iterable[int]) -> list[Span]:
    """Return the runs of a tar that members make, in order."""
    runs: list[Span] = []
    for index in taken:
        start, stop = plan.members[index].span
        if runs and runs[-1][1] == start:
            runs[-1] = (runs[-1][0], stop)
        else:
            runs.append((start, stop))
    return runs


def cut(runs: Sequence[Span], plan: Plan | None, jobs: int) -> list[Span]:
    """Cut runs for so many connections: at the ends of members, and within large ones."""
    if jobs == 1:
        return list(runs)
    total = sum(stop - start for start, stop in runs)
    size = min(max(total // (jobs * _EACH), _SMALLEST), _LARGEST)
    pieces = []
    for start, stop in runs:
        begin = start
        while stop - begin > size + size // 2:
            end = _end_near(plan, begin + size, begin)
            if not begin < end < stop:
                break
            pieces.append((begin, end))
            begin = end
        pieces.append((begin, stop))
    return pieces


def _end_near(plan: Plan | None, position: int, begin: int) -> int:
    """Return where to cut near a position: a header and the padding stay with their member."""
    if plan is None or not plan.is_tar:
        return position
    index = plan.index_at(position)
    if index == len(plan.members):
        return plan.end
    member = plan.members[index]
    assert member.data_offset is not None
    start, stop = member.span
    if member.data_offset < position < member.data_offset + member.size and (
        stop - start > _SMALLEST
    ):
        return position
    return start if start > begin else stop


class Work:
    """Fetches pieces of a version into a target, with ``jobs`` connections."""

    def __init__(
        self,
        session: Session,
        version: Version,
        plan: Plan | None,
        ledger: Ledger,
        target: Target,
        *,
        patience: Patience,
        listener: Listener,
        save: Callable[[], None],
    ) -> None:
        self._session = session
        self._version = version
        self._plan = plan
        self._ledger = ledger
        self._target = target
        self._patience = patience
        self._listener = listener
        self._save = save

    def run(self, pieces: Sequence[Piece], jobs: int) -> None:
        """Fetch all. Raise what went wrong first, once no thread works any more."""
        left = deque(pieces)
        jobs = min(jobs, len(left))
        if jobs <= 1:
            self._work(left)
            return
        errors: list[BaseException] = []
        threads = [
            threading.Thread(target=self._side_by_side, args=(left, errors), daemon=True)
            for _ in range(jobs)
        ]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():
                    thread.join(0.1)  # so that a signal is handled meanwhile
        finally:
            self._session.stop()
            for thread in threads:
                thread.join()
        if errors:
            raise errors[0]

    def _side_by_side(self, left: deque[Piece], errors: list[BaseException]) -> None:
        try:
            self._work(left)
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
            errors.append(error)
            self._session.stop()

    def _work(self, left: deque[Piece]) -> None:
        with closing(self._target.worker()) as worker:
            while left:
                if self._session.is_stopped.is_set():
                    return
                try:
                    start, stop = left.popleft()
                except IndexError:
                    return
                walk = Walk(self._plan, start, worker)
                attempts = Attempts(self._patience, self._session.is_stopped.wait, self._waiting)
                for block in Stream(self._session, self._version, start, stop, attempts):
                    noted = walk.safe
                    for _ in walk.feed(block):
                        for index in self._ledger.cover(noted, walk.safe):
                            worker.finish(index)
                            self._done(index)
                        noted = walk.safe
                    self._save()
                    self._listener(Received(len(block), walk.name))
                    if self._session.is_stopped.is_set():
                        raise Stopped("the download was stopped")

    def _done(self, index: int) -> None:
        assert self._plan is not None
        member = self._plan.members[index]
        self._listener(MemberDone(member.name, member.size))

    def _waiting(self, reason: str, pause: float) -> None:
        self._listener(Waiting(reason, pause))

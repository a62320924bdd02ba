"""Members that are read again for the checksums of an archive whose beginning was sent before.

They are read while the rest is being sent. Equal readings are one, and a few run at once.
"""

import threading
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from contextlib import closing
from functools import partial
from hashlib import sha256

from tar_gateway.delivery.body import Body
from tar_gateway.delivery.checksum_memory import ChecksumMemory
from tar_gateway.delivery.checksums import IS_FAST, Checksums, Table, table_of
from tar_gateway.delivery.fetch import FetchRules
from tar_gateway.delivery.plan import Plan
from tar_gateway.delivery.threads import PATIENT, FetcherPool
from tar_gateway.errors import Busy, Cancelled

# Archives that one process reads again at once: each may be a whole archive's bytes of the
# upstream, for a request of a few.
AT_ONCE = 2

# Seconds after which a client may ask again: most readings take no longer.
_RETRY_AFTER = 5


class Reading:
    """What is known of one version of an archive, for all requests that have it read again."""

    def __init__(self, key: Hashable, table: Table) -> None:
        self.key = key
        self.table = table
        self.pending: list[deque[int]] = []
        """What each request needs and is not known yet; what is known by now may still be there."""
        self.claimed: set[int] = set()
        """Members that some request reads."""
        self.has_thread = False
        self.changed = threading.Condition()

    def is_running(self) -> bool:
        """Return whether a request needs what is not known yet. Its caller holds a lock."""
        return any(self.lacks(pending) for pending in self.pending)

    def lacks(self, pending: deque[int]) -> bool:
        """Return whether any of these is not known yet; take away those known at its beginning."""
        while pending and self.table.has(pending[0]):
            pending.popleft()
        return bool(pending)


class Readings:
    """The readings of a process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readings: dict[Hashable, Reading] = {}

    def begin(self, key: Hashable, table: Table, pending: deque[int]) -> Reading:
        """Return the reading of an archive; it is ended once. Raise `Busy` if others fill all.

        ``table`` is what a new one begins with, ``pending`` what the request needs. A reading
        that has read everything takes no room, however slowly its clients go on.
        """
        with self._lock:
            reading = self._readings.get(key) or Reading(key, table)
            is_new = reading.lacks(pending) and not reading.is_running()
            if is_new and self._is_full():
                raise Busy(
                    f"{AT_ONCE} archives are being read again for their checksums, "
                    "which are as many as may be at once",
                    headers=[("Retry-After", str(_RETRY_AFTER))],
                )
            self._readings[key] = reading
            reading.pending.append(pending)
        return reading

    def end(self, reading: Reading, pending: deque[int]) -> None:
        """Have one request less in a reading."""
        with self._lock:
            reading.pending.remove(pending)  # or an equal one, which is as good
            if not reading.pending:
                del self._readings[reading.key]

    def _is_full(self) -> bool:
        return sum(each.is_running() for each in self._readings.values()) >= AT_ONCE


class Reread:
    """One request's part in a reading, of the members that it needs, in the order of need.

    ``read`` makes a body that reads such members, and sets what it finds in the reading's table.
    """

    def __init__(
        self,
        readings: Readings,
        reading: Reading,
        pending: deque[int],
        read: Callable[[Sequence[int]], Body],
    ) -> None:
        self._readings = readings
        self._reading = reading
        self._pending = pending
        self._needed = tuple(pending)
        self._read = read
        self._body: Body | None = None
        self._error: BaseException | None = None
        self._closed = False

    def start(self) -> None:
        """Read in a thread, unless one reads this archive already: then each at its turn."""
        with self._reading.changed:
            if self._reading.has_thread:
                return
            self._reading.has_thread = True
            mine = self._claim()
        thread = threading.Thread(
            target=self._run, args=(mine,), name="tar-gateway-reread", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # the system has none left
            self._give_up(mine)

    def would_wait(self, index: int) -> bool:
        """Return whether a member's checksums are not known yet."""
        return not self._reading.table.has(index)

    def wait(self, index: int) -> None:
        """Return once a member's checksums are known. Raise `BrokenOff` or `Cancelled`.

        What no one reads is read here: a request that has read it may have been left.
        """
        while not self._reading.table.has(index):
            with self._reading.changed:
                if self._closed:
                    raise Cancelled
                if self._error is not None:
                    raise self._error
                if index in self._reading.claimed:
                    self._reading.changed.wait(PATIENT)
                    continue
                mine = self._claim()
            try:
                self._pass(mine)
            finally:
                self._release(mine)

    def close(self) -> None:
        """Read nothing more. May be called again, and from any thread."""
        with self._reading.changed:
            if self._closed:
                return
            self._closed = True
            body = self._body
            self._reading.changed.notify_all()
        try:
            if body is not None:
                body.close()
        finally:
            self._readings.end(self._reading, self._pending)

    def _claim(self) -> list[int]:
        """Take what no one reads, and is not known, with the lock held."""
        table, claimed = self._reading.table, self._reading.claimed
        mine = [each for each in self._needed if not (table.has(each) or each in claimed)]
        claimed.update(mine)
        return mine

    def _release(self, mine: Sequence[int]) -> None:
        with self._reading.changed:
            self._reading.claimed.difference_update(mine)
            self._reading.changed.notify_all()

    def _give_up(self, mine: Sequence[int]) -> None:
        with self._reading.changed:
            self._reading.has_thread = False
        self._release(mine)

    def _run(self, mine: Sequence[int]) -> None:
        try:
            self._pass(mine)
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
            self._error = error
        finally:
            self._give_up(mine)

    def _pass(self, mine: Sequence[int]) -> None:
        """Read members from beginning to end."""
        if not mine:
            return
        with closing(self._read(mine)) as body:
            with self._reading.changed:
                self._body = body
                closed = self._closed
            if closed:  # before there was anything to close
                return
            for _ in body:
                pass


class Rereads:
    """Makes the checksums of bodies; remembers those of ``capacity`` members.

    ``fetchers`` fetch ahead what is read again.
    """

    def __init__(self, capacity: int, rules: FetchRules, fetchers: FetcherPool) -> None:
        self._memory = ChecksumMemory(capacity)
        self._learns = capacity > 0
        self._readings = Readings()
        self._rules = rules
        self._fetchers = fetchers

    def checksums(self, plan: Plan, start: int, stop: int) -> Checksums | None:
        """Return the checksums for bytes ``start`` to ``stop`` of a plan's archive.

        `None` where nothing is to be computed. What is read again is begun with. Raise `Busy`, or
        `TooManyRequests`.
        """
        layout = plan.layout
        passed = partial(self._learn, plan) if self._learns and plan.is_known else None
        if not layout.has_checksums:
            is_worth = passed is not None and IS_FAST
            return Checksums(layout, passed=passed, crc=True) if is_worth else None
        table, unread = table_of(layout), layout.unread(start, stop)
        needed = [each for each in unread if not self._recalled(plan, each, table)]
        if not needed:
            return Checksums(layout, table=table, passed=passed)
        plan.tally.expect(len(needed))
        pending = deque(needed)
        reading = self._readings.begin(_key(plan), table, pending)
        for each in unread if reading.table is not table else ():
            if table.has(each):
                reading.table.copy(each, table)
        again = Reread(self._readings, reading, pending, partial(self._body, plan, reading))
        if plan.is_concurrent:
            again.start()
        return Checksums(layout, table=reading.table, passed=passed, again=again)

    def _recalled(self, plan: Plan, index: int, table: Table) -> bool:
        """Put what is remembered of a member into a table. Return whether that is all it needs."""
        key = plan.fingerprint(index) if self._learns else None
        if key is None:
            return False
        crc, digest = self._memory.recall(key)
        layout = plan.layout
        is_all = not (layout.format.has_checksums and crc is None) and not (
            layout.digests is not None and digest is None
        )
        if is_all:
            table.set(index, crc, digest)
        return is_all

    def _learn(self, plan: Plan, index: int, crc: int | None, digest: bytes | None) -> None:
        key = plan.fingerprint(index)
        if key is not None:
            self._memory.learn(key, crc, digest)

    def _body(self, plan: Plan, reading: Reading, members: Sequence[int]) -> Body:
        """Make the body that reads members again. Its bytes mean nothing."""

        def passed(index: int, crc: int | None, digest: bytes | None) -> None:
            reading.table.set(members[index], crc, digest)
            with reading.changed:
                reading.changed.notify_all()
            if self._learns:
                self._learn(plan, members[index], crc, digest)

        part = plan.part(members)
        checksums = Checksums(
            part.layout,
            passed=passed,
            crc=plan.layout.format.has_checksums,
            is_checked=plan.layout.format.has_checksums,
            digest=plan.layout.digests is not None,
        )
        return Body(part, 0, part.layout.size, self._rules, self._fetchers, checksums=checksums)


def _key(plan: Plan) -> Hashable:
    """Return what equal readings have in common; of a caller that is not known, nothing."""
    if not plan.is_known:
        return object()
    fingerprints = (plan.fingerprint(index) or b"" for index in range(len(plan.layout.members)))
    return plan.layout.etag.opaque, sha256(b"".join(fingerprints)).digest()

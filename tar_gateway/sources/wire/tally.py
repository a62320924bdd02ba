"""What a download does with its source, counted as it happens, from whichever thread."""

import math
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["bundle", "file"]
"""What a download is of."""

Outcome = Literal["complete", "no_body", "client_left", "upstream_failed", "refused", "failed"]
"""How a download ends; ``failed`` is a defect of ours."""


@dataclass(frozen=True, slots=True)
class Place:
    """Which server is asked: its base URL or name, and the location's prefix that it stands at."""

    server: str
    location: str = "/"


# Statuses of requests that say nothing of a file: of a server that is away, or takes no more.
_OF_SERVER = frozenset({None, 429, 502, 503, 504})


class Listener:
    """Told of what all downloads of a process do, while they do it; this one keeps nothing.

    Called from many threads at once, and as often as there are blocks.
    """

    def allowed(self, downloads: int) -> None:
        """Hear how many downloads may be under way at once."""

    def asked(self, status: int | None, place: Place) -> None:
        """Hear that a source was asked and answered ``status``, `None` without a response."""

    def works(self, place: Place, *, is_up: bool) -> None:
        """Hear that a server works, or that it has failed."""

    def retried(self) -> None:
        """Hear that what failed for a passing reason is asked for again."""

    def resumed(self) -> None:
        """Hear that a fetch that broke in the middle of a member goes on."""

    def planned(self, seconds: float) -> None:
        """Hear that a plan was made in so many seconds."""

    def first_byte(self, seconds: float) -> None:
        """Hear that a first byte was there so many seconds after its request."""

    def sent(self, length: int) -> None:
        """Hear that so many bytes were sent to a client."""

    def in_flight(self, change: int) -> None:
        """Hear that so many more downloads are under way; fewer, where it is negative."""

    def fetchers_busy(self, change: int) -> None:
        """Hear that so many more threads are busy with fetching ahead; fewer, where negative."""

    def ended(self, kind: Kind, outcome: Outcome, *, status: int | None, seconds: float) -> None:
        """Hear that a download has ended, so many seconds after its request.

        ``status`` is that of its response, `None` where the client left before there was one.
        """

    def bundled(self, members: int) -> None:
        """Hear that a bundle of so many members is complete."""


@dataclass(slots=True)
class Failures:
    """A server's failures without a success in between."""

    since: float = -math.inf
    last: float = -math.inf
    paths: set[str] = field(default_factory=set)

    def add(self, path: str, now: float, pause: float) -> float:
        """Add one, and return for how many seconds they go on; ``pause`` ends them."""
        if now - self.last > pause:
            self.since = now
            self.paths.clear()
        self.last = now
        self.paths.add(path)
        return now - self.since


class Quota:
    """How many questions the client of a download may cause; this one has no end."""

    def take(self, questions: int, *, refuse: bool) -> None:
        """Take so many. Raise `Refusal` where there are fewer, if it may ``refuse``."""

    def settle(self, questions: int) -> None:
        """Take so many more than were taken; give back, where it is negative."""


class Tally:
    """What one download asked of its source, while ``listener`` is told of it as well.

    ``quota`` is what its client may ask.
    """

    def __init__(self, listener: Listener | None = None, quota: Quota | None = None) -> None:
        self.listener = listener or Listener()
        self._quota = quota or Quota()
        self._expected = 0
        self._of_authority = 0
        self.requests: Counter[int | None] = Counter()
        """Requests by the status of their responses, `None` where there was none."""
        self.retries = 0
        self.resumes = 0
        self.confirmed: set[object] = set()
        """What stands for servers whose refusal of a HEAD was confirmed by a GET."""
        self.failures: dict[object, Failures] = {}
        """What one server's health (`Health`) knows of this download alone."""
        self._lock = threading.Lock()

    def expect(self, questions: int, *, refuse: bool = True) -> None:
        """Announce so many questions before they are asked. Raise `Refusal` for too many."""
        self._quota.take(questions, refuse=refuse)
        self._expected += questions

    def settle(self) -> None:
        """Compare what was announced with what was asked, at the end."""
        self._quota.settle(self.requests.total() + self._of_authority - self._expected)

    def asked_authority(self) -> None:
        """Count a question to the authority."""
        with self._lock:
            self._of_authority += 1

    def asked(self, status: int | None, place: Place) -> None:
        """Count a request to the source."""
        with self._lock:
            self.requests[status] += 1
        self.listener.asked(status, place)

    @property
    def is_answered(self) -> bool:
        """Whether any response spoke of a file, and not of its server's load or absence."""
        return not self.requests.keys() <= _OF_SERVER

    def retried(self) -> None:
        """Count another attempt."""
        with self._lock:
            self.retries += 1
        self.listener.retried()

    def resumed(self) -> None:
        """Count a fetch that goes on in the middle."""
        with self._lock:
            self.resumes += 1
        self.listener.resumed()

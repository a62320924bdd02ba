"""One download, from its request to its last byte, and the log line that tells of it."""

import logging
import re
import time
import uuid
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from wsgiref.types import WSGIEnvironment

from tar_gateway.access.credentials import Hop, caller_of
from tar_gateway.access.limits import Downloads, Room
from tar_gateway.access.links import hide_signature, logged_query
from tar_gateway.errors import BrokenOff, Refusal
from tar_gateway.http.environ import logged_path
from tar_gateway.sources import Caller
from tar_gateway.sources.wire.cancellation import Cancellation
from tar_gateway.sources.wire.tally import Kind, Outcome, Tally
from tar_gateway.web.observe.log_line import log_line

# A caller's own id goes into our logs, so it is taken only where it can't be taken for more.
_ID = re.compile(r"[A-Za-z0-9._~+/=@:-]{1,128}")

LOGGER = "tar_gateway.download"
"""The name of the logger that gets a line for each bundle."""

log = logging.getLogger(LOGGER)


class Download:
    """One request's answer, from the request to the last byte: its room, and what is logged.

    ``id`` is the client's own where it sent one. What is learned on the way is set on it;
    The first outcome that is noted counts; `end` is called when the response was closed.
    """

    def __init__(
        self, downloads: Downloads, environ: WSGIEnvironment, tally: Tally, hop: Hop
    ) -> None:
        told = environ.get("HTTP_X_REQUEST_ID", "")
        self.id = told if _ID.fullmatch(told) else uuid.uuid4().hex
        self.environ = environ
        self.hop = hop
        self.tally = tally
        self.cancellation = Cancellation()
        """Cancelled once the client has left."""
        self.scope = ExitStack()
        """Closed when this download ends."""
        self.kind: Kind = "file"
        self.members = 0
        self.status: int | None = None
        self.promised = 0
        """Bytes that the response is to have."""
        self.range: str | None = None
        """The part of the archive that was asked for, as ``Content-Range`` writes it."""
        self.is_measured = False
        """Whether the client was told the response's length, and so notices if it is cut off."""
        self._downloads = downloads
        self._room: Room | None = None
        self._started = time.monotonic()
        self._planned: float | None = None
        self._answered: float | None = None
        self._first_byte: float | None = None
        self._waited = 0.0
        self._sent = 0
        self._outcome: Outcome | None = None
        self._told: dict[str, str | None] = {}
        self._ended = False

    @property
    def has_room(self) -> bool:
        """Whether it is counted among those that run."""
        return self._room is not None

    def begin(self) -> None:
        """Take room among the others. Raise `Busy` or `TooManyRequests`."""
        self._room = self._downloads.take(self.environ)
        self.scope.callback(self._room.release)

    def become_bundle(self) -> None:
        """Take the room of a bundle, which is more than a file's. Raise `TooManyRequests`."""
        self.kind = "bundle"
        if self._room is not None:
            self._room.grow()

    def caller(self, forwarded: Iterable[str]) -> Caller:
        """Return on whose behalf members are asked for, with these headers of the request."""
        caller = caller_of(self.environ, forwarded, self.hop, self.id)
        return replace(caller, tally=self.tally, cancellation=self.cancellation)

    def answered(self, status: int, *, measured: bool) -> None:
        """Take note of the response's status: what went before was spent on the upstream."""
        self.status = status
        self.is_measured = measured
        self._answered = time.monotonic() - self._started

    def planned(self) -> None:
        """Take note that all that has to be known before the first byte is known."""
        again = self._planned is not None
        self._planned = time.monotonic() - self._started
        if not again:
            self.tally.listener.planned(self._planned)

    def waited(self, seconds: float) -> None:
        """Take note of seconds that the client's thread spent waiting for a block."""
        self._waited += seconds
        if self._first_byte is None:
            self._first_byte = time.monotonic() - self._started
            self.tally.listener.first_byte(self._first_byte)

    def sent(self, length: int) -> None:
        """Take note of bytes that the server has taken from us."""
        self._sent += length
        self.tally.listener.sent(length)

    def timing(self) -> str:
        """Return the value of ``Server-Timing``, in milliseconds, as far as it is known."""
        now = time.monotonic() - self._started
        if self._planned is None:
            return f"upstream;dur={now * 1000:.1f}"
        opened = now - self._planned
        return f"plan;dur={self._planned * 1000:.1f}, open;dur={opened * 1000:.1f}"

    def refused(self, refusal: Refusal) -> None:
        """Take note of a refusal, and of whose fault it is."""
        outcomes: dict[int, Outcome] = {
            500: "failed",
            502: "upstream_failed",
            504: "upstream_failed",
        }
        self.became(outcomes.get(refusal.status, "refused"), refusal)

    def became(self, outcome: Outcome, fault: Refusal | BrokenOff | None = None) -> None:
        """Take note of what became of it. The first note counts."""
        if self._outcome is None:
            self._outcome = outcome
            # Of a fault its words alone: it would keep the frames that it has passed through.
            names = ("member", "reason", "cause")
            self._told = {name: getattr(fault, name, None) for name in names}

    def end(self) -> None:
        """Release the room and log what became of it. Does nothing a second time."""
        if self._ended:
            return
        self._ended = True
        self.became("client_left")  # unless something else did
        self.scope.close()
        assert self._outcome is not None
        seconds = time.monotonic() - self._started
        self.tally.listener.ended(self.kind, self._outcome, status=self.status, seconds=seconds)
        if self.kind == "bundle" and self._outcome == "complete":
            self.tally.listener.bundled(self.members)
        # A line a bundle; of plain files, which may be many, only of what went wrong.
        went_wrong = self._outcome in {"upstream_failed", "failed"} or self.status in {502, 504}
        if self.kind == "bundle" or went_wrong:
            log.info("%s", log_line(self.kind, self._line(self._outcome, seconds)))

    def _line(self, outcome: Outcome, seconds: float) -> dict[str, object]:
        environ = self.environ
        return {
            "id": self.id,
            "outcome": outcome,
            "status": self.status,
            "method": environ["REQUEST_METHOD"],
            "path": hide_signature(logged_path(environ)),
            "query": logged_query(environ),
            "members": self.members,
            "range": self.range,
            "bytes_sent": self._sent,
            "bytes_promised": self.promised,
            "seconds": round(seconds, 3),
            "plan_seconds": _rounded(self._planned),
            "first_byte_seconds": _rounded(self._first_byte),
            "upstream_seconds": round((self._answered or 0) + self._waited, 3),
            "requests": {str(key or "none"): n for key, n in self.tally.requests.items()},
            "retries": self.tally.retries,
            "resumes": self.tally.resumes,
            **self._told,
        }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)

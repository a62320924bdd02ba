"""On whose behalf servers are asked."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tar_gateway.sources.wire.cancellation import Cancellation
from tar_gateway.sources.wire.tally import Tally


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf a server is asked.

    ``headers`` go along with every request for a member; ``environ`` is the WSGI request that
    asked for the bundle, for a source that makes others of it. They hold credentials, so they
    never show in a `repr`. ``tally`` counts what is asked, and ``cancellation`` ends what is being
    asked: once it is cancelled, a `Source` that waits, and a `Content` of it, raise `Cancelled`,
    where that can be done. ``trace`` are headers that go along as well, by which the request can
    be followed; they decide nothing.
    """

    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    environ: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    tally: Tally = field(default_factory=Tally, repr=False, compare=False)
    cancellation: Cancellation = field(default_factory=Cancellation, repr=False, compare=False)
    trace: tuple[tuple[str, str], ...] = field(default=(), compare=False)

    @property
    def key(self) -> int:
        """What tells this caller from others: a hash of its credentials and its address."""
        client = self.environ.get("REMOTE_ADDR"), self.environ.get("HTTP_X_FORWARDED_FOR")
        return hash((self.headers, client))

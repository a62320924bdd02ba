"""How many downloads may run at once, in all and of one client, and what one may ask."""

import logging
import math
import re
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
)
from typing import Any, Literal
from wsgiref.types import WSGIEnvironment

from tar_gateway.errors import Busy, TooManyRequests
from tar_gateway.settings import PREFIX, Settings
from tar_gateway.sources.wire.tally import Listener, Quota

Network = IPv4Network | IPv6Network
Trusted = Collection[Network | Literal["unix"]]

log = logging.getLogger(__name__)

# Loopback, private (RFC 1918, 4193), link-local (RFC 3927, 4291) and shared (RFC 6598) addresses.
_NOT_ON_THE_INTERNET: list[Network] = [
    *map(IPv4Network, ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")),
    *map(IPv4Network, ("169.254.0.0/16", "100.64.0.0/10")),
    *map(IPv6Network, ("::1/128", "fc00::/7", "fe80::/10")),
]

# ``192.0.2.1:80``, ``[2001:db8::1]:80`` or ``[2001:db8::1]``.
_PORT = re.compile(r"^(?:([0-9.]+):[0-9]+|\[([0-9A-Fa-f:.]+)\](?::[0-9]+)?)$")


def address_of(environ: Mapping[str, Any], trusted: Trusted) -> str:
    """Return the client's address, by which it is counted; of IPv6 the network of 64 bits."""
    peer = client_of(environ, trusted)
    address = _address(peer)
    if isinstance(address, IPv6Address):
        # One client has a whole network of these, and may take another for each request.
        return str(IPv6Network((address, 64), strict=False))
    return peer if address is None else str(address)


def client_of(environ: Mapping[str, Any], trusted: Trusted) -> str:
    """Return the client's address, ``""`` for a unix socket.

    What ``X-Forwarded-For`` says is believed as far as ``trusted`` proxies have said it:
    ``unix`` stands for all that connect by a unix socket.
    """
    networks = _networks(trusted)
    hops = environ.get("HTTP_X_FORWARDED_FOR", "").split(",")
    peer: str = environ.get("REMOTE_ADDR", "")
    believed = is_trusted(environ, trusted)
    while believed and hops and (hop := hops.pop().strip()):
        hop = _PORT.sub(r"\1\2", hop)  # some proxies tell it as well
        if _address(hop) is None:
            break
        peer = hop
        believed = _is_within(peer, networks)
    return peer


def is_trusted(environ: Mapping[str, Any], trusted: Trusted) -> bool:
    """Return whether a request comes from one of the ``trusted`` proxies itself."""
    peer = environ.get("REMOTE_ADDR", "")
    return _is_within(peer, _networks(trusted)) if peer else "unix" in trusted


def may_be_front(environ: Mapping[str, Any], trusted: Trusted) -> bool:
    """Return whether a peer may be a front that speaks for many, though it is not trusted.

    A peer that connects by a unix socket, or from no address of the internet, may be one.
    """
    peer = environ.get("REMOTE_ADDR", "")
    local = _address(peer) is None or _is_within(peer, _NOT_ON_THE_INTERNET)
    return local and not is_trusted(environ, trusted)


def _networks(trusted: Trusted) -> list[Network]:
    return [each for each in trusted if each != "unix"]


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_within(text: str, networks: Iterable[Network]) -> bool:
    address = _address(text)
    return address is not None and any(address in network for network in networks)


# Seconds after which a client that found no room may ask again.
_RETRY_AFTER = 5

# Shares of a client's room: a plain file takes one, for a page's pictures come a hundred at once.
_OF_A_BUNDLE = 4


class Room:
    """The room of one download, a plain file's until it turns out to be a bundle."""

    def __init__(self, downloads: "Downloads", client: str | None) -> None:
        self._downloads = downloads
        self._client = client
        self._shares = 1

    def grow(self) -> None:
        """Be a bundle's from now on. Raise `TooManyRequests` where the client has no more room."""
        more = _OF_A_BUNDLE - self._shares
        self._downloads._take_shares(self._client, more)
        self._shares += more

    def release(self) -> None:
        """Return all of it, once."""
        self._downloads._release(self._client, self._shares)


class Downloads:
    """Counts the downloads of a process and of each client, and keeps both within limits.

    A peer that may be a front is not counted as one client.
    """

    def __init__(self, settings: Settings, listener: Listener | None = None) -> None:
        self._limit = settings.max_downloads
        self._limit_of_one = settings.max_downloads_per_client
        self._trusted = settings.trusted_proxies
        self._listener = listener or Listener()
        self._lock = threading.Lock()
        self._running = 0
        self._of: Counter[str] = Counter()
        self._warned = False
        self._listener.allowed(self._limit)

    @property
    def is_full(self) -> bool:
        """Whether another download would be refused."""
        return self._running >= self._limit

    def take(self, environ: WSGIEnvironment) -> Room:
        """Make room for a download. Raise `Busy` or `TooManyRequests` at once where there is none.

        What is returned is released once.
        """
        client = self._client(environ)
        with self._lock:
            if self._running >= self._limit:
                again = [("Retry-After", str(_RETRY_AFTER))]
                raise Busy("all downloads that may run at once are running", headers=again)
            self._running += 1
        try:
            self._take_shares(client, 1)
        except TooManyRequests:
            with self._lock:
                self._running -= 1
            raise
        self._listener.in_flight(1)
        return Room(self, client)

    def _client(self, environ: WSGIEnvironment) -> str | None:
        if not may_be_front(environ, self._trusted):
            return address_of(environ, self._trusted)
        if not self._warned:
            self._warned = True
            peer = environ.get("REMOTE_ADDR", "") or "unix"
            log.warning(
                "MAX_DOWNLOADS_PER_CLIENT does not apply to requests from %s: "
                "if that is a proxy, set %sTRUSTED_PROXIES=%s",
                *(peer, PREFIX, peer),
            )
        return None

    def _take_shares(self, client: str | None, count: int) -> None:
        if client is None:
            return
        with self._lock:
            if self._of[client] + count > self._limit_of_one * _OF_A_BUNDLE:
                raise TooManyRequests(
                    f"{self._limit_of_one} downloads of one client may run at once; "
                    f"{_OF_A_BUNDLE} plain files count as one",
                    headers=[("Retry-After", str(_RETRY_AFTER))],
                )
            self._of[client] += count

    def _release(self, client: str | None, shares: int) -> None:
        with self._lock:
            self._running -= 1
            if client is not None:
                self._of[client] -= shares
                if not self._of[client]:
                    del self._of[client]
        self._listener.in_flight(-1)


# Clients whose questions are known; one that was forgotten has a full bucket again.
_KNOWN = 65_536


class Questions:
    """How many questions each client may cause: a bucket of tokens that fills with time.

    ``a_minute`` for each client, saved up to ``saved``: a client may have a full bucket's in one
    go. What was asked beyond what had been announced is owed. Safe to use from many threads.
    """

    def __init__(self, a_minute: int, saved: int) -> None:
        self._a_second = a_minute / 60
        self._a_minute = a_minute
        self._saved = saved
        self._lock = threading.Lock()
        # What each had when it was last looked at, and when; full ones are not kept.
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        """Return how many clients are known."""
        return len(self._left)

    def take(self, client: str, questions: int, *, refuse: bool = True) -> None:
        """Take so many. Raise `TooManyRequests` where there are fewer, if it may ``refuse``.

        A full bucket is enough for any number.
        """
        with self._lock:
            now = time.monotonic()
            left = self._left_of(client, now)
            missing = min(questions, self._saved) - left
            if refuse and missing > _ROUNDING:
                seconds = math.ceil(missing / self._a_second)
                raise TooManyRequests(
                    f"one client may cause {self._a_minute} questions to the upstream a minute, "
                    f"and this takes {questions}: ask again in {seconds} seconds",
                    headers=[("Retry-After", str(seconds))],
                )
            self._keep(client, left - questions, now)

    def settle(self, client: str, questions: int) -> None:
        """Take so many more, whatever there is; give back, where it is negative."""
        if questions:
            with self._lock:
                now = time.monotonic()
                self._keep(client, self._left_of(client, now) - questions, now)

    def _left_of(self, client: str, now: float) -> float:
        left, then = self._left.get(client, (self._saved, now))
        return min(self._saved, left + (now - then) * self._a_second)

    def _keep(self, client: str, left: float, now: float) -> None:
        self._left[client] = (left, now)
        self._left.move_to_end(client)
        while self._left:
            oldest = next(iter(self._left))
            if len(self._left) <= _KNOWN and self._left_of(oldest, now) < self._saved:
                return
            del self._left[oldest]


# Part of a question that may be missing, for what adding up seconds rounds away.
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class ClientQuota(Quota):
    """What one client may ask."""

    questions: Questions
    client: str

    @classmethod
    def of(cls, questions: Questions | None, environ: WSGIEnvironment, trusted: Trusted) -> Quota:
        """Return the quota of a request's client; one without an end, where there is no limit."""
        return Quota() if questions is None else cls(questions, address_of(environ, trusted))

    def take(self, questions: int, *, refuse: bool) -> None:
        """Take so many. Raise `TooManyRequests`."""
        self.questions.take(self.client, questions, refuse=refuse)

    def settle(self, questions: int) -> None:
        """Take so many more, or give them back."""
        self.questions.settle(self.client, questions)

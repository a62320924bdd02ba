"""How many downloads may run at once, in all and of one client."""

import re
import threading
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
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
from tar_gateway.settings import Settings
from tar_gateway.sources.wire.tally import Listener

Network = IPv4Network | IPv6Network
Trusted = Collection[Network | Literal["unix"]]


# ``192.0.2.1:80``, ``[2001:db8::1]:80`` or ``[2001:db8::1]``.
_PORT = re.compile(r"^(?:([0-9.]+):[0-9]+|\[([0-9A-Fa-f:.]+)\](?::[0-9]+)?)$")


def address_of(environ: WSGIEnvironment, trusted: Trusted) -> str:
    """Return the client's address, by which it is counted; of IPv6 the network of 64 bits.

    What ``X-Forwarded-For`` says is believed as far as ``trusted`` proxies have said it:
    ``unix`` stands for all that connect by a unix socket.
    """
    networks = _networks(trusted)
    hops = environ.get("HTTP_X_FORWARDED_FOR", "").split(",")
    peer = environ.get("REMOTE_ADDR", "")
    believed = is_trusted(environ, trusted)
    while believed and hops and (hop := hops.pop().strip()):
        hop = _PORT.sub(r"\1\2", hop)  # some proxies tell it as well
        if _address(hop) is None:
            break
        peer = hop
        believed = _is_within(peer, networks)
    address = _address(peer)
    if isinstance(address, IPv6Address):
        # One client has a whole network of these, and may take another for each request.
        return str(IPv6Network((address, 64), strict=False))
    return peer if address is None else str(address)


def is_trusted(environ: Mapping[str, Any], trusted: Trusted) -> bool:
    """Return whether a request comes from one of the ``trusted`` proxies itself."""
    peer = environ.get("REMOTE_ADDR", "")
    return _is_within(peer, _networks(trusted)) if peer else "unix" in trusted


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


class Downloads:
    """Counts the downloads of a process and of each client, and keeps both within limits."""

    def __init__(self, settings: Settings, listener: Listener | None = None) -> None:
        self._limit = settings.max_downloads
        self._limit_of_one = settings.max_downloads_per_client
        self._trusted = settings.trusted_proxies
        self._listener = listener or Listener()
        self._lock = threading.Lock()
        self._running = 0
        self._of: Counter[str] = Counter()

    @property
    def is_full(self) -> bool:
        """Whether another download would be refused."""
        return self._running >= self._limit

    def take(self, environ: WSGIEnvironment) -> str | None:
        """Make room for a download; gives the client that it is of, where those are counted.

        Raise `Busy` or `TooManyRequests` at once where there is none.
        """
        again = [("Retry-After", str(_RETRY_AFTER))]
        client = address_of(environ, self._trusted) if self._limit_of_one else None
        with self._lock:
            if self._running >= self._limit:
                raise Busy("all downloads that may run at once are running", headers=again)
            if client is not None and self._limit_of_one is not None:
                if self._of[client] >= self._limit_of_one:
                    raise TooManyRequests(
                        f"{self._limit_of_one} downloads of one client may run at once",
                        headers=again,
                    )
                self._of[client] += 1
            self._running += 1
        self._listener.in_flight(1)
        return client

    def release(self, client: str | None) -> None:
        """Return a download's room back."""
        with self._lock:
            self._running -= 1
            if client is not None:
                self._of[client] -= 1
                if not self._of[client]:
                    del self._of[client]
        self._listener.in_flight(-1)

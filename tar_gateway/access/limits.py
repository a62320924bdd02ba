"""How many downloads may run at once, in all and of one client."""

import re
from collections.abc import Iterable
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
)
from typing import Literal
from wsgiref.types import WSGIEnvironment

Network = IPv4Network | IPv6Network


# ``192.0.2.1:80``, ``[2001:db8::1]:80`` or ``[2001:db8::1]``.
_PORT = re.compile(r"^(?:([0-9.]+):[0-9]+|\[([0-9A-Fa-f:.]+)\](?::[0-9]+)?)$")


def address_of(environ: WSGIEnvironment, trusted: Iterable[Network | Literal["unix"]]) -> str:
    """Give the client's address, by which it is counted; of IPv6 the network of 64 bits.

    What ``X-Forwarded-For`` says is believed as far as ``trusted`` proxies have said it:
    ``unix`` stands for all that connect by a unix socket.
    """
    networks = [each for each in trusted if each != "unix"]
    hops = environ.get("HTTP_X_FORWARDED_FOR", "").split(",")
    peer = environ.get("REMOTE_ADDR", "")
    believed = "unix" in trusted if not peer else _is_within(peer, networks)
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


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_within(text: str, networks: Iterable[Network]) -> bool:
    address = _address(text)
    return address is not None and any(address in network for network in networks)

"""What a WSGI environ says of a request. Hostile ones are refused, never trusted."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
)
from typing import Any, Literal
from urllib.parse import quote
from wsgiref.types import WSGIEnvironment

from tar_gateway.conditions import Conditions
from tar_gateway.errors import BadRequest, ContentTooLarge, UriTooLong
from tar_gateway.headers import CONDITIONAL, end_to_end
from tar_gateway.names import BadName, check_name, decode_text, url_path
from tar_gateway.signing import hide_signature
from tar_gateway.sources import Caller

Network = IPv4Network | IPv6Network

# About the message's own body or connection: a GET that is passed on has another of each.
_NOT_PASSED = frozenset({"host", "content-length", "content-type", "expect"})

# Bytes of a query in a log: all that gunicorn lets through, of what other servers do.
_LOGGED = 8192

# ``192.0.2.1:80``, ``[2001:db8::1]:80`` or ``[2001:db8::1]``.
_PORT = re.compile(r"^(?:([0-9.]+):[0-9]+|\[([0-9A-Fa-f:.]+)\](?::[0-9]+)?)$")

# One that begins no escape stands for itself; a client library would encode all others anew.
_STRAY_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")


def path_of(environ: WSGIEnvironment) -> str:
    """Give the path below the mount point as a checked name, ``""`` for the root.

    A directory's keeps the slash at its end. The server has decoded it exactly once.
    """
    raw = environ.get("PATH_INFO", "").encode("latin-1", "replace")
    try:
        path = decode_text(raw).removeprefix("/")
        if path:
            check_name(path.removesuffix("/"))
    except BadName as error:
        raise BadRequest(f"the path '{quote(raw)}' {error}") from error
    return path


def mount_of(environ: Mapping[str, Any]) -> str:
    """Give the path that the application is mounted at, as a URL writes it."""
    return quote(environ.get("SCRIPT_NAME", "").encode("latin-1", "replace"))


def file_uri(environ: WSGIEnvironment) -> str:
    """Give the whole path, mount point included, as a URL writes it."""
    return f"{mount_of(environ)}/{url_path(path_of(environ))}"


def check_query(environ: Mapping[str, Any], limit: int) -> None:
    """Refuse a query of more than ``limit`` bytes, before anybody reads it."""
    if len(environ.get("QUERY_STRING", "")) > limit:
        raise UriTooLong(f"the query is longer than the {limit} bytes that are allowed")


def query_of(environ: Mapping[str, Any]) -> str:
    """Give the raw query string, with anything that a URL can't hold encoded."""
    raw = environ.get("QUERY_STRING", "").encode("latin-1", "replace")
    raw = _STRAY_PERCENT.sub(b"%25", raw)
    return quote(raw, safe="%!$&'()*+,;=:@/?-._~")


def logged_path(environ: Mapping[str, Any]) -> str:
    """Give the whole path for a log, as text."""
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    return str(path).encode("latin-1", "replace").decode("utf-8", "backslashreplace")


def logged_query(environ: Mapping[str, Any]) -> str:
    """Give the query string for a log: its beginning, without the signature that opens a link."""
    beginning = {"QUERY_STRING": environ.get("QUERY_STRING", "")[:_LOGGED]}
    return hide_signature(query_of(beginning))


def referer_of(environ: Mapping[str, Any]) -> str | None:
    """Give the Referer: without the signature, where a page was had by a signed link."""
    referer = environ.get("HTTP_REFERER")
    if referer is None:
        return None
    page, mark, query = str(referer).partition("?")
    return page + mark + hide_signature(query)


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


def caller_of(environ: WSGIEnvironment, forwarded: Iterable[str]) -> Caller:
    """Give the caller's credentials: those headers that go along with every member."""
    pairs = (
        (name, referer_of(environ) if name.lower() == "referer" else _header(environ, name))
        for name in forwarded
    )
    headers = tuple((name, value) for name, value in pairs if value is not None)
    return Caller(headers, environ)


def conditions_of(environ: WSGIEnvironment) -> Conditions:
    """Give the headers that decide which part of an answer is wanted, if any."""
    return Conditions(
        if_match=_header(environ, "If-Match"),
        if_none_match=_header(environ, "If-None-Match"),
        if_modified_since=_header(environ, "If-Modified-Since"),
        if_unmodified_since=_header(environ, "If-Unmodified-Since"),
        if_range=_header(environ, "If-Range"),
        range=_header(environ, "Range"),
    )


def wants_part(environ: WSGIEnvironment) -> bool:
    """Tell whether a request wants less than a whole answer: its headers, a part, if changed."""
    method = environ["REQUEST_METHOD"]
    return method == "HEAD" or (method == "GET" and conditions_of(environ) != Conditions())


def passed_headers(environ: Mapping[str, Any], *, conditions: bool) -> list[tuple[str, str]]:
    """Give the request's end-to-end headers, as they go on to the upstream.

    ``conditions`` says whether the range and the preconditions are among them.
    """
    left_out = _NOT_PASSED if conditions else _NOT_PASSED | CONDITIONAL
    received = (
        (key.removeprefix("HTTP_").replace("_", "-").title(), value)
        for key, value in environ.items()
        if key.startswith("HTTP_")
    )
    return [pair for pair in end_to_end(received) if pair[0].lower() not in left_out]


def read_body(environ: WSGIEnvironment, limit: int) -> bytes:
    """Read the request's body of at most ``limit`` bytes.

    Of a body in chunks its framing counts as well where the server tells of it, as our own
    worker does: ``on_wire`` of its stream are the bytes that the body takes at least.
    """
    told = environ.get("CONTENT_LENGTH") or ""
    if told and not (told.isascii() and told.isdigit() and len(told) < 20):
        raise BadRequest("the Content-Length is not a length")
    too_large = ContentTooLarge(f"the body is larger than the {limit} bytes that are allowed")
    if told:
        length = int(told)
    elif environ.get("wsgi.input_terminated"):
        length = limit + 1  # it came in chunks, and the server ends it
    else:
        return b""
    if (length if told else getattr(environ["wsgi.input"], "on_wire", 0)) > limit:
        raise too_large
    try:
        body = b"".join(_blocks(environ["wsgi.input"].read, length))
    except Exception as error:  # servers raise what they like for a body that breaks off
        raise BadRequest("the body could not be read") from error
    if told and len(body) < length:
        raise BadRequest("the body is shorter than its Content-Length")
    if len(body) > limit:
        raise too_large
    return body


def _blocks(read: Callable[[int], bytes], length: int) -> Iterator[bytes]:
    while length and (block := read(min(length, 64 * 1024))):
        length -= len(block)
        yield block


def _header(environ: WSGIEnvironment, name: str) -> str | None:
    value = environ.get("HTTP_" + name.upper().replace("-", "_"))
    return value if isinstance(value, str) else None

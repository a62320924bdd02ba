"""What of a caller's request goes along to the servers that are asked on its behalf."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import ip_address
from typing import Any, Self
from wsgiref.types import WSGIEnvironment

from tar_gateway.access.limits import Trusted, is_trusted
from tar_gateway.access.links import referer_of
from tar_gateway.errors import BadRequest, LoopDetected
from tar_gateway.http.environ import header_of
from tar_gateway.http.headers import CONDITIONAL, folded, sent_on, wrongly_named
from tar_gateway.http.paths import shown
from tar_gateway.settings import Settings
from tar_gateway.sources import Caller

# About the message's own body or connection: a GET that is passed on has another of each.
_NOT_PASSED = frozenset({"host", "content-length", "content-type", "expect"})


@dataclass(frozen=True, slots=True)
class Hop:
    """One hop of a request: this server, between a client and the servers that are asked.

    ``trusted`` are the proxies that may say who a client is, ``forwarded`` the headers that go
    along with members, and ``pseudonym`` is this server's name in ``Via`` (RFC 9110 7.6.3).
    """

    trusted: Trusted
    forwarded: tuple[str, ...]
    pseudonym: str

    @classmethod
    def before(cls, source: object, settings: Settings) -> Self:
        """Return the hop before a source.

        All processes and replicas before the same upstream have one pseudonym, so that a loop is
        noticed at any of them. Two gateways in a row have two.
        """
        pseudonym = f"tar_gateway-{sha256(repr(source).encode()).hexdigest()[:8]}"
        return cls(settings.trusted_proxies, settings.forward_headers, pseudonym)

    def check(self, environ: Mapping[str, Any]) -> None:
        """Raise `BadRequest` for a ``Connection`` that removes more than it may, or `LoopDetected`.

        What belongs to one connection is removed; what others rely on may not be named.
        """
        named = wrongly_named(header_of(environ, "Connection") or "", self.forwarded)
        if named is not None:
            raise BadRequest(
                f"Connection names {shown(named)}, which does not belong to one connection: "
                "it may name headers such as Keep-Alive or Upgrade only"
            )
        for each in (header_of(environ, "Via") or "").split(","):
            if each.split()[1:2] == [self.pseudonym]:
                raise LoopDetected("the request has passed through this gateway before")

    def headers(self, environ: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Return the headers of a request that may go on to another server, and what we add."""
        trusted = is_trusted(environ, self.trusted)
        received = (
            (key.removeprefix("HTTP_").replace("_", "-").title(), value)
            for key, value in environ.items()
            if key.startswith("HTTP_")
        )
        sent = dict(sent_on(received, trusted=trusted))
        if peer := _peer(environ):
            _append(sent, "X-Forwarded-For", peer)
        version = str(environ.get("SERVER_PROTOCOL", "HTTP/1.1")).removeprefix("HTTP/")
        _append(sent, "Via", f"{version} {self.pseudonym}")
        return list(sent.items())


def _peer(environ: Mapping[str, Any]) -> str | None:
    try:
        return str(ip_address(environ.get("REMOTE_ADDR", "")))
    except ValueError:  # a unix socket has none
        return None


def _append(headers: dict[str, str], name: str, value: str) -> None:
    headers[name] = f"{headers[name]}, {value}" if headers.get(name) else value


# W3C Trace Context, Level 1: 3.2.2 and, without looking into it, 3.3.1.
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_TRACESTATE = re.compile(r"[ -~]{1,512}")


def trace_of(environ: Mapping[str, Any], request_id: str) -> tuple[tuple[str, str], ...]:
    """Return the headers by which a request can be followed to the servers that are asked."""
    trace = [("X-Request-ID", request_id)] if request_id else []
    parent, state = (header_of(environ, name) or "" for name in ("traceparent", "tracestate"))
    if _TRACEPARENT.fullmatch(parent):
        trace.append(("traceparent", parent))
        if _TRACESTATE.fullmatch(state):
            trace.append(("tracestate", state))
    return tuple(trace)


# Of a request's own headers none that `trace_of` sends.
_TRACE = frozenset({"x-request-id", "traceparent", "tracestate"})


def caller_of(
    environ: WSGIEnvironment, forwarded: Iterable[str], hop: Hop, request_id: str = ""
) -> Caller:
    """Return the caller's credentials: those headers that go along with every member.

    ``Via`` is always among them, and so are those that tell of the request.
    """
    sent = {folded(name): value for name, value in hop.headers(environ)}
    if "referer" in sent:
        sent["referer"] = referer_of(environ) or ""
    names = dict.fromkeys([*(name for name in forwarded if folded(name) != "via"), "Via"])
    headers = tuple(
        (name, sent[folded(name)])
        for name in names
        if folded(name) in sent and folded(name) not in _TRACE
    )
    return Caller(headers, environ, trace=trace_of(environ, request_id))


def passed_headers(caller: Caller, hop: Hop, *, conditions: bool) -> list[tuple[str, str]]:
    """Return the end-to-end headers of the caller's request, as they go on to the upstream.

    ``conditions`` says whether the range and the preconditions are among them.
    """
    left_out = _NOT_PASSED | _TRACE
    if not conditions:
        left_out |= CONDITIONAL
    passed = (pair for pair in hop.headers(caller.environ) if pair[0].lower() not in left_out)
    return [*passed, *caller.trace]

"""What of a caller's request goes along to the servers that are asked on its behalf."""

from collections.abc import Iterable, Mapping
from typing import Any
from wsgiref.types import WSGIEnvironment

from tar_gateway.access.links import referer_of
from tar_gateway.http.environ import header_of
from tar_gateway.http.headers import CONDITIONAL, end_to_end
from tar_gateway.sources import Caller

# About the message's own body or connection: a GET that is passed on has another of each.
_NOT_PASSED = frozenset({"host", "content-length", "content-type", "expect"})


def caller_of(environ: WSGIEnvironment, forwarded: Iterable[str]) -> Caller:
    """Return the caller's credentials: those headers that go along with every member."""
    pairs = (
        (name, referer_of(environ) if name.lower() == "referer" else header_of(environ, name))
        for name in forwarded
    )
    headers = tuple((name, value) for name, value in pairs if value is not None)
    return Caller(headers, environ)


def passed_headers(environ: Mapping[str, Any], *, conditions: bool) -> list[tuple[str, str]]:
    """Return the request's end-to-end headers, as they go on to the upstream.

    ``conditions`` says whether the range and the preconditions are among them.
    """
    left_out = _NOT_PASSED if conditions else _NOT_PASSED | CONDITIONAL
    received = (
        (key.removeprefix("HTTP_").replace("_", "-").title(), value)
        for key, value in environ.items()
        if key.startswith("HTTP_")
    )
    return [pair for pair in end_to_end(received) if pair[0].lower() not in left_out]

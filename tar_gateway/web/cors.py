"""What pages of other origins may read, by ``CORS_ORIGINS`` (Fetch Standard, "CORS protocol").

A preflight is answered here, before anything else is looked at: it carries no credentials, and
says nothing of files. Every other response of ours gets its headers here, whatever it is.
"""

from collections.abc import Callable, Iterable
from wsgiref.types import StartResponse, WSGIEnvironment

from tar_gateway.errors import Forbidden
from tar_gateway.http.environ import header_of
from tar_gateway.http.headers import TOKEN, is_identity, is_override
from tar_gateway.http.paths import shown
from tar_gateway.web.problem import refuse

_METHODS = "GET, HEAD, POST"

# Besides the few that every page may read: what one that resumes or shows progress needs.
_EXPOSED = (
    "Content-Length, Content-Range, Content-Disposition, Accept-Ranges, ETag, Link, Retry-After, "
    "Bundle-Missing, X-Request-ID"
)

# Seconds that a browser remembers a preflight: an origin that is removed is refused soon.
_MAX_AGE = 600

# Names of request headers that a preflight may ask for; no page needs as many.
_MOST_NAMES = 100

_ASKED = ("Access-Control-Request-Method", "Access-Control-Request-Headers")


class CrossOrigin:
    """Allows ``origins``: all of them by ``*``, and then without credentials.

    Without any it does nothing: what an upstream says of origins is then handed on.
    """

    def __init__(self, origins: Iterable[str]) -> None:
        self._origins = frozenset(origins)

    def is_preflight(self, environ: WSGIEnvironment) -> bool:
        """Return whether a browser asks by this request if it may send another one."""
        if not self._origins or environ["REQUEST_METHOD"] != "OPTIONS":
            return False
        return all(header_of(environ, name) is not None for name in ("Origin", _ASKED[0]))

    def answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a preflight (PEP 3333): 204, or 403 where the origin is not allowed."""
        allowed = self._allowed(environ)
        if not allowed:
            origin = shown(header_of(environ, "Origin") or "")
            refusal = Forbidden(f"pages of the origin {origin} may not read what is served here")
            return refuse(refusal, environ, self.wrap(environ, start_response))
        headers = [
            *allowed,
            ("Access-Control-Allow-Methods", _METHODS),
            ("Access-Control-Max-Age", str(_MAX_AGE)),
            ("Vary", ", ".join(("Origin", *_ASKED))),
        ]
        if names := _names(header_of(environ, _ASKED[1]) or ""):
            headers.append(("Access-Control-Allow-Headers", ", ".join(names)))
        start_response("204 No Content", headers)
        return ()

    def wrap(self, environ: WSGIEnvironment, start_response: StartResponse) -> StartResponse:
        """Return a `start_response` that says who may read the response, in place of an upstream.

        Caches are told by ``Vary`` that it depends on the origin, also where none was sent.
        """
        if not self._origins:
            return start_response
        allowed = self._allowed(environ)
        if allowed:
            allowed.append(("Access-Control-Expose-Headers", _EXPOSED))

        def start(
            status: str, headers: list[tuple[str, str]], *exc_info: object
        ) -> Callable[[bytes], object]:
            return start_response(status, [*_without(headers), *allowed], *exc_info)  # type: ignore[arg-type]

        return start

    def _allowed(self, environ: WSGIEnvironment) -> list[tuple[str, str]]:
        origin = header_of(environ, "Origin")
        if origin == "null":  # what every sandboxed frame and every file on a disk calls itself
            return []
        if "*" in self._origins:
            return [("Access-Control-Allow-Origin", "*")]
        if origin is None or origin not in self._origins:
            return []
        return [
            ("Access-Control-Allow-Origin", origin),
            ("Access-Control-Allow-Credentials", "true"),
        ]


def _names(asked: str) -> list[str]:
    """Return the request headers that may be sent: all but those that no client may speak by."""
    names = [name.strip() for name in asked.split(",", _MOST_NAMES)[:_MOST_NAMES]]
    return [
        name
        for name in names
        if TOKEN.fullmatch(name) and not is_override(name) and not is_identity(name)
    ]


def _without(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Leave out what others say of origins, and put ``Origin`` into the one ``Vary``."""
    kept, vary = [], []
    for name, value in headers:
        match name.lower():
            case "vary":
                vary.append(value)
            case lower if not lower.startswith("access-control-"):
                kept.append((name, value))
    named = [part.strip() for value in vary for part in value.split(",") if part.strip()]
    if not {"*", "origin"} & {part.lower() for part in named}:
        named.append("Origin")
    return [*kept, ("Vary", ", ".join(named))]

"""Which headers belong to a message and which to one connection; how a few are written.

Pure: names and texts in, names and texts out.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from urllib.parse import quote

from tar_gateway.http.paths import device_in

TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")

# A field's value as RFC 9110 5.5 allows it: no control characters, whatever was sent to us.
VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

# RFC 9110 7.6.1, with the older names that RFC 2616 13.5.1 and proxies made common.
HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)

# Answers that a server in front puts others in the place of, by names of that server's own files.
# nginx's begin with X-Accel-.
SENDFILE = frozenset(
    {
        "x-lighttpd-send-file",
        "x-litespeed-location",
        "x-reproxy-file",
        "x-reproxy-url",
        "x-sendfile",
    }
)

# What makes a request ask for less than a plain response (RFC 9110 13, 14).
CONDITIONAL = frozenset(
    {
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "range",
    }
)

# About one request's message or connection, and not about who asks.
OF_ONE_REQUEST = (
    HOP_BY_HOP
    | CONDITIONAL
    | {
        "accept-encoding",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
    }
)


def end_to_end(headers: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Leave out what belongs to one connection only, what ``Connection`` names, and garbage.

    ``X-Accel-*``, ``X-Sendfile`` and the like go as well: those are orders to a server in
    front, and the upstream has none to give.
    """
    listed = list(headers)
    named = {
        name.strip().lower()
        for key, value in listed
        if key.lower() == "connection"
        for name in value.split(",")
    }
    for key, value in listed:
        lowered = key.lower()
        if lowered in HOP_BY_HOP or lowered in named:
            continue
        if lowered in SENDFILE or lowered.startswith("x-accel-"):
            continue
        if TOKEN.fullmatch(key) and VALUE.fullmatch(value):
            yield key, value


_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*+"')


def forbids_storing(cache_control: Iterable[str]) -> bool:
    """Return whether values of ``Cache-Control`` hold ``no-store`` (RFC 9111 5.2.2.5)."""
    directives = _QUOTED.sub("", ",".join(cache_control)).lower().split(",")
    return any(each.partition("=")[0].strip() == "no-store" for each in directives)


def attachment(filename: str) -> str:
    """Write ``Content-Disposition`` for a file to be saved (RFC 6266 4.3, appendix D).

    ``filename`` must be free of slashes and control characters. The plain form, for clients
    that know no other, has ``_`` for what is not ASCII, for quotes, for what only folding made a
    slash, and for ``%``, which some of those clients decode; and ``_`` before what would be a
    hidden file, or a device on Windows.
    """
    folded = unicodedata.normalize("NFKD", filename)
    kept = (c for c in folded if not unicodedata.combining(c))
    plain = "".join(
        c if c.isascii() and c.isprintable() and c not in '"\\%/' else "_" for c in kept
    )
    if not plain.strip("."):
        plain = "_"  # what folds to nothing or to dots is no name
    if plain.lstrip().startswith(".") or device_in(plain):
        plain = f"_{plain}"
    if plain == filename:
        return f'attachment; filename="{plain}"'
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"

"""What a WSGI environ says of a request. Hostile ones are refused, never trusted."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, unquote_to_bytes
from wsgiref.types import WSGIEnvironment

from tar_gateway.errors import (
    BadRequest,
    ContentTooLarge,
    Forbidden,
    UnsupportedMediaType,
    UnsupportedTransferCoding,
    UriTooLong,
)
from tar_gateway.http.conditions import Conditions
from tar_gateway.http.messages import DIGITS
from tar_gateway.http.paths import (
    BadName,
    check_name,
    decode_text,
    is_spelling,
    shown,
    url_path,
    url_segment,
)

# One that begins no escape stands for itself; a client library would encode all others anew.
_STRAY_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")

# Where a page shows what it asks for without its user (Sec-Fetch-Dest).
_FRAMES = frozenset({"embed", "fencedframe", "frame", "iframe", "object"})

_ENCODED_SLASH = re.compile("%2f", re.IGNORECASE)

# What a request for a proxy begins with (RFC 9112 3.2.2).
_ABSOLUTE = re.compile(r"\A[A-Za-z][A-Za-z0-9+.\-]*://[^/?#]*")

CLIENT_SOCKET = "gunicorn.socket"
"""Where an environ has the client's socket, under a server that shows it."""

# Servers that end a response in chunks visibly where it breaks off, by how their SERVER_SOFTWARE
# begins. Each is tried in the tests; of others nothing is known.
_SHOW_BREAKS = ("waitress", "Cheroot/")


def shows_breaks(environ: Mapping[str, Any]) -> bool:
    """Return whether the client sees that a response without a length was cut off.

    In HTTP/1.0 such a response ends with its connection, and a broken one looks whole.
    """
    software = str(environ.get("SERVER_SOFTWARE", ""))
    is_known = CLIENT_SOCKET in environ or software.startswith(_SHOW_BREAKS)
    return is_known and environ.get("SERVER_PROTOCOL") not in {"HTTP/1.0", "HTTP/0.9"}


def path_of(environ: Mapping[str, Any]) -> str:
    """Return the path below the mount point as a checked name, ``""`` for the root.

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
    """Return the path that the application is mounted at, as a URL writes it."""
    return quote(environ.get("SCRIPT_NAME", "").encode("latin-1", "replace"))


def reference_of(environ: Mapping[str, Any]) -> str:
    """Return the path below the mount point and the query, as a URL writes them."""
    query = query_of(environ)
    path = path_of(environ)
    spelled = _spelled_path(environ)
    if spelled is not None and _ENCODED_SLASH.search(spelled):
        named = "/".join(url_segment(unquote_to_bytes(each)) for each in spelled.split("/"))
    else:
        named = url_path(path)
    return named + ("?" + query if query else "")


def check_no_encoded_slash(environ: Mapping[str, Any]) -> None:
    """Refuse a path with ``%2F``, for what goes by the decoded path, in which it is a separator."""
    if _ENCODED_SLASH.search(_spelled_path(environ) or ""):
        raise BadRequest("the path contains an encoded slash: write '/' and not '%2F'")


def _spelled_path(environ: Mapping[str, Any]) -> str | None:
    """Return the path below the mount point as the client spelled it, without a leading slash.

    `None` where the server does not tell, or where something in between has changed the path.
    """
    raw = environ.get("RAW_URI") or environ.get("REQUEST_URI") or ""
    path = _ABSOLUTE.sub("", raw).partition("?")[0].partition("#")[0]
    mount = environ.get("SCRIPT_NAME", "").encode("latin-1", "replace")
    before = path.split("/")[: mount.count(b"/") + 1] if mount else [""]
    below = path.removeprefix("/".join(before))
    told = environ.get("PATH_INFO", "").encode("latin-1", "replace")
    same = unquote_to_bytes("/".join(before)) == mount and unquote_to_bytes(below) == told
    return below.removeprefix("/") if same else None


def spelled_reference_of(environ: Mapping[str, Any]) -> str:
    """Return the same with the path as the client spelled it, under a server that shows that.

    Where an authority or a signature is asked about the path, what was judged has to be asked for,
    and that is `reference_of`: to some upstreams ``;`` means more than ``%3B``.
    """
    spelled, query = _spelled_path(environ), query_of(environ)
    if spelled is None or not is_spelling(spelled, path_of(environ)):
        return reference_of(environ)
    return spelled + ("?" + query if query else "")


def check_query(environ: Mapping[str, Any], limit: int) -> None:
    """Refuse a query of more than ``limit`` bytes, before anybody reads it."""
    if len(environ.get("QUERY_STRING", "")) > limit:
        raise UriTooLong(f"the query is longer than the {limit} bytes that are allowed")


def query_of(environ: Mapping[str, Any]) -> str:
    """Return the raw query string, with anything that a URL can't hold encoded."""
    raw = environ.get("QUERY_STRING", "").encode("latin-1", "replace")
    raw = _STRAY_PERCENT.sub(b"%25", raw)
    return quote(raw, safe="%!$&'()*+,;=:@/?-._~")


def check_destination(environ: Mapping[str, Any]) -> None:
    """Refuse a request for a bundle that a page makes to show it, or to have it as its part.

    Browsers tell by Fetch Metadata (W3C). Links, forms and scripts of any page may download;
    a frame needs no click, and another site's picture or script would cost the upstream
    thousands of requests for nothing. Raise `Forbidden`.
    """
    said = {
        name: (header_of(environ, f"Sec-Fetch-{name}") or "").strip().lower()
        for name in ("Site", "Mode", "Dest")
    }
    if said["Dest"] in _FRAMES:
        raise Forbidden(
            f"a bundle is a download and is not shown in a page's {said['Dest']}: use a link"
        )
    if said["Site"] == "cross-site" and said["Mode"] == "no-cors":
        raise Forbidden("a page of another site asked for the bundle as a part of it: use a link")


def check_same_site(environ: Mapping[str, Any]) -> None:
    """Refuse a form that a page of another site sends. Raise `Forbidden`."""
    if (header_of(environ, "Sec-Fetch-Site") or "").strip().lower() == "cross-site":
        raise Forbidden("the form was sent by a page of another site")


def logged_path(environ: Mapping[str, Any]) -> str:
    """Return the whole path for a log, as text."""
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    return str(path).encode("latin-1", "replace").decode("utf-8", "backslashreplace")


def conditions_of(environ: Mapping[str, Any]) -> Conditions:
    """Return the headers that decide which part of a response is wanted, if any."""
    return Conditions(
        if_match=header_of(environ, "If-Match"),
        if_none_match=header_of(environ, "If-None-Match"),
        if_modified_since=header_of(environ, "If-Modified-Since"),
        if_unmodified_since=header_of(environ, "If-Unmodified-Since"),
        if_range=header_of(environ, "If-Range"),
        range=header_of(environ, "Range"),
    )


def read_body(environ: WSGIEnvironment, limit: int) -> bytes:
    """Read the request's body of at most ``limit`` bytes.

    Of a body in chunks its framing counts as well where the server tells of it, as our own
    worker does: ``on_wire`` of its stream are the bytes that the body takes at least.
    """
    _check_codings(environ)
    told = environ.get("CONTENT_LENGTH") or ""
    if told and not re.fullmatch(DIGITS, told):
        raise BadRequest("the Content-Length is not a length")
    too_large = ContentTooLarge(f"the body is larger than the {limit} bytes that are allowed")
    if told:
        length = int(told)
    elif environ.get("wsgi.input_terminated"):
        length = limit + 1  # it came in chunks, and the server ends it
    else:
        return b""
    if told and length > limit:
        raise too_large
    if not told and getattr(environ["wsgi.input"], "on_wire", 0) > limit:
        raise ContentTooLarge(
            f"the body and its framing in chunks are larger than the {limit} bytes that are allowed"
        )
    try:
        body = b"".join(_blocks(environ["wsgi.input"].read, length))
    except Exception as error:  # servers raise what they like for a body that breaks off
        raise BadRequest("the body could not be read") from error
    if told and len(body) < length:
        raise BadRequest("the body is shorter than its Content-Length")
    if len(body) > limit:
        raise too_large
    return body


def _check_codings(environ: WSGIEnvironment) -> None:
    """Refuse a body that is not what it says to be before it is decoded."""
    transfer = header_of(environ, "Transfer-Encoding") or ""
    if any(each.strip().lower() not in {"", "chunked", "identity"} for each in transfer.split(",")):
        raise UnsupportedTransferCoding(
            f"the Transfer-Encoding {shown(transfer)} is not understood: send chunked alone"
        )
    content = header_of(environ, "Content-Encoding") or ""
    if content.strip().lower() not in {"", "identity"}:
        raise UnsupportedMediaType(
            f"the Content-Encoding {shown(content)} is not understood: send the list as it is",
            headers=[("Accept-Encoding", "identity")],
        )


def _blocks(read: Callable[[int], bytes], length: int) -> Iterator[bytes]:
    while length and (block := read(min(length, 64 * 1024))):
        length -= len(block)
        yield block


def header_of(environ: Mapping[str, Any], name: str) -> str | None:
    """Return the value of a header, `None` without it."""
    value = environ.get("HTTP_" + name.upper().replace("-", "_"))
    return value if isinstance(value, str) else None

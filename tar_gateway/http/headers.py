"""Which headers go on beyond one connection, and who may say them; how a few are written.

Pure: names and texts in, names and texts out.
"""

import re
import unicodedata
from base64 import b64encode
from collections.abc import Iterable, Iterator
from functools import lru_cache
from hashlib import sha256
from urllib.parse import quote

from tar_gateway.http.paths import device_in

TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")

# A field's value as RFC 9110 5.5 allows it: no control characters, whatever was sent to us.
VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

# RFC 9110 7.6.1, with the older names that RFC 2616 13.5.1, HTTP/2 and proxies made common.
HOP_BY_HOP = frozenset(
    {
        "connection",
        "http2-settings",
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

# Headers that tell a server in front to send a file of its own in place of this response.
_REPLACED = (
    "x-accel-redirect",
    "x-archive-files",
    "x-lighttpd-send-",
    "x-litespeed-location",
    "x-reproxy-",
    "x-sendfile",
)

# A response's orders to a server in front, which are not an upstream's to give.
_ORDERS = ("surrogate-control", "x-accel-", "x-lighttpd-", "x-litespeed-", *_REPLACED)

# What mod_zip reads of a response that lists files.
_OF_LISTS = "x-archive-"

# A request's headers that mean another path or method than the request line, to servers that honour
# them; and ``Proxy``, which a CGI program takes for its own configuration (HTTP_PROXY).
_OVERRIDES = frozenset(
    {
        *("path-info", "proxy", "script-name", "x-matched-path", "x-request-uri"),
        *("x-forwarded-method", "x-forwarded-path", "x-forwarded-uri", "x-waws-unencoded-url"),
    }
)
_OVERRIDE_FAMILIES = (
    *("x-envoy-original-", "x-http-method", "x-http-path", "x-invoke-", "x-method-override"),
    *("x-original-", "x-override-", "x-rewrite-"),
)

# By which a front says who the client is, or what it has asked for. Only a front may say so.
IDENTITY = frozenset(
    {
        *("client-cert", "client-cert-chain", "client-ip", "fastly-client-ip", "fly-client-ip"),
        *("forwarded", "front-end-https", "proxy-client-ip", "true-client-ip"),
        *("x-cluster-client-ip", "x-forward-for", "x-forward-proto", "x-host"),
        *("x-http-host-override", "x-originating-ip", "x-proxyuser-ip", "x-scheme"),
        *("x-script-name", "x-url-scheme"),
    }
)
IDENTITY_FAMILIES = (
    *("ajp-", "authenticated-user", "cf-access-", "cf-connecting-", "cloudfront-viewer-", "iv-"),
    *("mellon-", "oam-", "oidc-", "remote-", "shib-", "sm-user", "ssl-client-", "tailscale-user-"),
    *("wl-proxy-", "x-amzn-mtls-", "x-amzn-oidc-", "x-appengine-", "x-arr-", "x-auth-request-"),
    *("x-auth-user", "x-authenticated-", "x-authentik-", "x-azure-", "x-client-", "x-consumer-"),
    *("x-envoy-", "x-forwarded-", "x-goog-authenticated-", "x-goog-iap-", "x-middleware-"),
    *("x-ms-client-principal", "x-pomerium-", "x-real-", "x-remote-", "x-shib-", "x-ssl-"),
    *("x-tls-client-", "x-verified-", "x-vouch-", "x-webauth-"),
)

# What a request's ``Connection`` may not name, besides all X-* and those above: others rely on it.
_RELIED_ON = frozenset({"authorization", "cookie", "host"})

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


def folded(name: str) -> str:
    """Return a header's name as CGI and WSGI tell names apart: they take ``_`` for ``-``."""
    return name.lower().replace("_", "-")


def is_override(name: str) -> bool:
    """Return whether a request's header means another path or method: it goes to no server."""
    name = folded(name)
    return name in _OVERRIDES or name.startswith(_OVERRIDE_FAMILIES)


def is_identity(name: str) -> bool:
    """Return whether a request's header says who the client is: only a trusted proxy may."""
    name = folded(name)
    return name in IDENTITY or name.startswith(IDENTITY_FAMILIES)


def is_replaced(names: Iterable[str]) -> bool:
    """Return whether headers of these names leave a response's content to a server in front."""
    return any(map(_is_replaced, names))


@lru_cache(maxsize=1024)  # servers send the same few names with every response
def _is_replaced(name: str) -> bool:
    return folded(name).startswith(_REPLACED)


def wrongly_named(connection: str, forwarded: Iterable[str]) -> str | None:
    """Return the first name in a request's ``Connection`` that is not for one connection.

    A proxy that removed it would let the client delete what a front has said. ``forwarded`` are
    names that are sent on with members. Other unknown names do nothing.
    """
    relied_on = _RELIED_ON.union(map(folded, forwarded))
    for part in connection.split(","):
        name = folded(part.strip())
        if name.startswith("x-") or name in relied_on or is_override(name) or is_identity(name):
            return part.strip()
    return None


def sent_on(headers: Iterable[tuple[str, str]], *, trusted: bool) -> Iterator[tuple[str, str]]:
    """Leave out of a request's headers what is not for the server that it goes on to.

    That is what belongs to one connection, overrides, orders and garbage; and what says who the
    client is, unless it comes from a ``trusted`` proxy. ``Connection`` can remove nothing else.
    """
    for key, value in headers:
        name = folded(key)
        if name in HOP_BY_HOP or name.startswith(_ORDERS) or is_override(name):
            continue
        if not trusted and is_identity(name):
            continue
        if TOKEN.fullmatch(key) and VALUE.fullmatch(value):
            yield key, value


def end_to_end(
    headers: Iterable[tuple[str, str]], *, lists: bool = False
) -> Iterator[tuple[str, str]]:
    """Leave out of a response's headers what is for one connection, and garbage.

    ``Connection`` names more of the first. Orders to a server in front go as well, because the
    upstream has none to give; ``lists`` keeps those by which mod_zip knows a list of files.
    """
    listed = list(headers)
    named = {
        name.strip().lower()
        for key, value in listed
        if key.lower() == "connection"
        for name in value.split(",")
    }
    for key, value in listed:
        name = folded(key)
        if name in HOP_BY_HOP or key.lower() in named:
            continue
        if name.startswith(_OF_LISTS):
            if not lists:
                continue
        elif name.startswith(_ORDERS):
            continue
        if TOKEN.fullmatch(key) and VALUE.fullmatch(value):
            yield key, value


_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*+"')


def forbids_storing(cache_control: Iterable[str]) -> bool:
    """Return whether values of ``Cache-Control`` hold ``no-store`` (RFC 9111 5.2.2.5)."""
    directives = _QUOTED.sub("", ",".join(cache_control)).lower().split(",")
    return any(each.partition("=")[0].strip() == "no-store" for each in directives)


def page_policy(style: str | None = None, script: str | None = None) -> list[tuple[str, str]]:
    """Return what a browser may do with a page of ours, as headers: show it, and nothing else.

    It loads nothing, stands in no frame, is found by no search, and tells no site its URL, which
    may be a signed link. ``style`` and ``script`` are the texts of its one ``<style>`` and
    ``<script>``, allowed by their hashes (CSP Level 3, 2.3.1). A page with a script has a form, and
    both may ask this origin alone.
    """
    allowed = ["default-src 'none'"]
    if style is not None:
        allowed.append(f"style-src {_hash_of(style)}")
    if script is not None:
        allowed += [f"script-src {_hash_of(script)}", "connect-src 'self'"]
    form = "'none'" if script is None else "'self'"
    allowed += ["base-uri 'none'", f"form-action {form}", "frame-ancestors 'none'"]
    return [
        ("Content-Security-Policy", "; ".join(allowed)),
        ("Referrer-Policy", "no-referrer"),
        ("X-Content-Type-Options", "nosniff"),
        ("X-Robots-Tag", "noindex, nofollow"),
    ]


def _hash_of(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


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

"""Signed links: made, checked at the door, and kept out of logs."""

import re
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hmac import compare_digest, digest
from typing import Any
from urllib.parse import quote, unquote, unquote_to_bytes, urlsplit
from wsgiref.types import WSGIEnvironment

from tar_gateway.errors import Forbidden
from tar_gateway.http.environ import query_of
from tar_gateway.settings import Settings
from tar_gateway.settings.line_files import SigningKey, read_keys

# At most this many bytes of a query are logged: all that gunicorn accepts.
_LOGGED = 8192


def logged_query(environ: Mapping[str, Any]) -> str:
    """Return the query string for a log: its beginning, without the signature that opens a link."""
    beginning = {"QUERY_STRING": environ.get("QUERY_STRING", "")[:_LOGGED]}
    return hide_signature(query_of(beginning))


def referer_of(environ: Mapping[str, Any]) -> str | None:
    """Return the Referer: without the signature, where a page was had by a signed link."""
    referer = environ.get("HTTP_REFERER")
    if referer is None:
        return None
    page, mark, query = str(referer).partition("?")
    return page + mark + hide_signature(query)


# What the text begins with, so that no secret ever signs it for another purpose or form.
_FORM = "tar-gateway-v1"

_SIGNATURE, _EXPIRES, _KEY_ID, _VERSION = b"signature", b"expires", b"key_id", b"v"

_OF_A_LINK = frozenset({_SIGNATURE, _EXPIRES, _KEY_ID})

# What a link has that opens the page of a directory, and so everything below it.
_BROWSE = b"browse"

# What may be added behind the signature with this value, or any (`None`): it asks for the same
# members. Before the signature it is signed like everything else.
_MAY_BE_ADDED = {_VERSION: None, b"plan": b"json"}

# A signature in a link that was escaped once too often, or copied out of a page's source.
_MANGLED = re.compile(
    r"((?:\A|[&;?]|%(?:25)*(?:26|3B|3F))signature(?:[+ ]|%20)*(?:=|%(?:25)*3D))[^&]*",
    re.IGNORECASE,
)

# Seconds since 1970: enough for three thousand years, and too few for milliseconds.
_TIME = re.compile(r"[1-9][0-9]{0,10}")


def sign_url(url: str, key: str | bytes, *, expires: int, key_id: str) -> str:
    """Return a URL with ``expires``, ``key_id`` and ``signature`` added to its query.

    ``url`` is a path with or without a query, or an absolute URL, percent-encoded. ``key`` is
    the secret that the gateway's file of keys has for ``key_id``; ``expires`` is the Unix time,
    in whole seconds, from which on the link is refused. The signature holds at any host.
    Raise `ValueError` for what can't be signed.
    """
    base, _, query = url.partition("?")
    path = _path_of(url, base)
    if any(_name(part) in _OF_A_LINK for part in query.split("&")):
        raise ValueError("the URL is signed already, or has a parameter that signed links use")
    if isinstance(expires, bool) or not isinstance(expires, int):
        raise ValueError("expires is a Unix time in whole seconds: an int")  # noqa: TRY004
    if not _TIME.fullmatch(str(expires)):
        raise ValueError(f"expires={expires} is not a Unix time in whole seconds")
    secret = key.encode("utf-8") if isinstance(key, str) else key
    signing_key = SigningKey(key_id, secret)
    added = f"expires={expires}&key_id={key_id}"
    query = f"{query}&{added}" if query else added
    signature = _signature(signing_key, unquote_to_bytes(path), query).decode("ascii")
    return f"{base}?{query}&signature={signature}"


def check_link(path: bytes, query: str, keys: Iterable[SigningKey], now: float) -> None:
    """Check a request by the link it came with. Raise `Forbidden`, which says what is wrong.

    ``path`` is the whole path, decoded once; ``query`` is the raw query string, ASCII; ``now``
    is the Unix time.
    """
    given: dict[bytes, bytes] = {}
    for part in query.split("&"):
        name = _name(part)
        if name in given:
            raise Forbidden(f"the link has {name.decode()}= more than once")
        if name in _OF_A_LINK:
            given[name] = unquote_to_bytes(part.partition("=")[2])
    if len(given) < len(_OF_A_LINK):
        raise Forbidden("the link is not signed: it must have signature, expires and key_id")
    key = next((key for key in keys if key.id.encode("ascii") == given[_KEY_ID]), None)
    if key is None:
        raise Forbidden("the link is signed with a key that is not known")
    if not compare_digest(_signature(key, path, query), given[_SIGNATURE]):
        raise Forbidden("the link was changed after it had been signed, or its key is another")
    # Only whoever has the key reaches this line.
    expires = given[_EXPIRES].decode("latin-1")
    if not _TIME.fullmatch(expires):
        raise Forbidden("the link does not say when it expires")
    if now >= int(expires):
        raise Forbidden("the link has expired")


def without_signature(query: str) -> str:
    """Return a raw query string without what is a link's own, or was not signed with it."""
    return "&".join(part for part in _signed_parts(query) if _name(part) not in _OF_A_LINK)


def hide_signature(text: str) -> str:
    """Return a raw query string, or a path, for others to read: a signature opens what it signs.

    So it is hidden as well where the link was mangled on its way (``&amp;signature=``).
    """
    parts = text.split("&")
    shown = ("signature=..." if _name(part) == _SIGNATURE else part for part in parts)
    return _MANGLED.sub(r"\1...", "&".join(shown))


def _path_of(url: str, base: str) -> str:
    """Check a URL that is to be signed, and give its path as a client sends it."""
    if wrong := re.search(r"[^!-~]", url):
        raise ValueError(
            f"the URL must be percent-encoded: write {quote(wrong[0])} for {wrong[0]!r}"
        )
    if "#" in url:
        raise ValueError("the URL must have no fragment: it never reaches a server")
    if base.startswith("/") and not base.startswith("//"):
        return base
    parts = urlsplit(base)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("the URL must begin with a slash, http:// or https://")
    return parts.path or "/"


def _signature(key: SigningKey, path: bytes, query: str) -> bytes:
    proof = digest(key.secret, _signed_text(path, query).encode("ascii"), "sha256")
    return urlsafe_b64encode(proof).rstrip(b"=")


def _signed_text(path: bytes, query: str) -> str:
    """Write a request as three lines: what this is, the path, and the parameters in order."""
    parts = (_spelled_alike(part) for part in _signed_parts(query) if part)
    return f"{_FORM}\n{quote(path, safe='/')}\n{'&'.join(parts)}"


def _signed_parts(query: str) -> Iterator[str]:
    """Return the parameters that a signature covers: all but itself and what was added to it."""
    signed = False
    for part in query.split("&"):
        name = _name(part)
        if name == _SIGNATURE:
            signed = True
        elif not (signed and name in _MAY_BE_ADDED and _is_value(part, _MAY_BE_ADDED[name])):
            yield part


def _is_value(part: str, value: bytes | None) -> bool:
    return value is None or _decoded(part.partition("=")[2]) == value


def _spelled_alike(part: str) -> str:
    """Write a parameter in the one way that every harmless spelling of it comes down to.

    Where somebody may end a name or a value, at a literal ``=``, ``,`` or ``;``, an escaped one
    is another thing. All other escapes mean what they stand for, and ``+`` is a space.
    """
    return re.sub("[^=,;]+", lambda run: quote(_decoded(run[0]), safe=""), part)


def _whole_path(environ: Mapping[str, Any]) -> bytes:
    whole = str(environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", ""))
    return whole.encode("latin-1", "replace") or b"/"


def _name(part: str) -> bytes:
    return _decoded(part.partition("=")[0])


def _decoded(text: str) -> bytes:
    return unquote_to_bytes(text.replace("+", " "))


@dataclass(frozen=True, slots=True)
class Browsing:
    """The right to everything below a directory, as a link with ``browse`` has it.

    ``path`` is the directory's whole path, decoded, with its slash.
    """

    path: bytes
    key: SigningKey
    expires: int

    def sign(self, reference: str) -> str:
        """Return a reference to the directory, or to what lies below it, as a signed link.

        ``reference`` is a query, or ``./`` and a path that climbs nowhere with or without one.
        """
        place = reference.partition("?")[0].removeprefix("./")
        if {"..", "."}.intersection(unquote(place).split("/")):
            raise ValueError(f"{reference!r} leads out of the directory")
        whole = quote(self.path, safe="/") + place + reference[len(reference.partition("?")[0]) :]
        signed = sign_url(whole, self.key.secret, expires=self.expires, key_id=self.key.id)
        start = reference.partition("?")[0]
        return f"{start}?{signed.partition('?')[2]}"


class SignedLinks:
    """Checks requests by ``keys``; ``now`` gives the Unix time.

    With ``form``, the parameter of a bundle, the form of a page that was signed may be sent.
    """

    def __init__(
        self,
        keys: Sequence[SigningKey],
        now: Callable[[], float] = time.time,
        form: str | None = None,
    ) -> None:
        self._keys = keys
        self._now = now
        self._form = None if form is None else {form.encode("ascii"), b"pick", _BROWSE}

    @classmethod
    def from_settings(cls, settings: Settings) -> "SignedLinks | None":
        """Read the keys; `None` where links need no signature. Raise `SettingsError`."""
        file = settings.signing_keys_file
        form = settings.parameter if settings.browse else None
        return None if file is None else cls(read_keys(file), form=form)

    def check(self, environ: WSGIEnvironment) -> None:
        """Raise `Forbidden` unless a request came by a link that is signed and still holds."""
        if environ["REQUEST_METHOD"] == "POST" and not self._is_form(query_of(environ)):
            raise Forbidden("what is sent is not signed: sign a link with manifest= instead")
        check_link(_whole_path(environ), query_of(environ), self._keys, self._now())

    def _is_form(self, query: str) -> bool:
        """Return whether a query is that of a page's form, which only the gateway signs."""
        parts = query.split("&")
        own = [part for part in parts if _name(part) not in _OF_A_LINK]
        return self._form is not None and len(own) == 3 and set(map(_decoded, own)) == self._form

    def browsing(self, environ: WSGIEnvironment) -> Browsing | None:
        """Return the right that a checked request's link gives, `None` for one without ``browse``.

        ``browse`` is covered by the signature, like everything but what may be added.
        """
        given = {_name(part): part.partition("=")[2] for part in query_of(environ).split("&")}
        if _BROWSE not in given:
            return None
        key_id = unquote_to_bytes(given[_KEY_ID]).decode("ascii")
        key = next(key for key in self._keys if key.id == key_id)
        return Browsing(_whole_path(environ), key, int(unquote_to_bytes(given[_EXPIRES])))

    def for_upstream(self, environ: WSGIEnvironment) -> WSGIEnvironment:
        """Return the request without its signature, and without what anybody may have added."""
        stripped = {**environ, "QUERY_STRING": without_signature(query_of(environ))}
        referer = referer_of(environ)
        return stripped if referer is None else {**stripped, "HTTP_REFERER": referer}

"""What is asked for: a URL, sent as it was typed, for a signature may cover every byte of it."""

import re
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Self
from urllib.parse import quote, unquote, urljoin, urlsplit

from tar_gateway.client.failures import WrongUse
from tar_gateway.http.paths import BadName, check_name, shown

_PORTS = {"http": 80, "https": 443}
_OF_ONE_LINK = frozenset({"signature", "expires", "key_id", "v", "plan"})
_ENTRIES = frozenset({"bundle", "bundle[]"})


@dataclass(frozen=True, slots=True)
class Address:
    """An http or https URL in its parts; ``query`` is `None` where it has none."""

    scheme: str
    host: str
    port: int
    path: str
    query: str | None = None

    @classmethod
    def of(cls, text: str) -> tuple[Self, str | None]:
        """Read a URL, and the user and password in it, which are no part of an address.

        What a URL may not hold is percent-encoded. Raise `WrongUse` for what is no such URL.
        """
        try:
            parts = urlsplit(text.strip())
            port = parts.port
        except ValueError as error:
            raise WrongUse(f"{shown(text)} is not a URL") from error
        if parts.scheme not in _PORTS or not parts.hostname:
            raise WrongUse(
                f"{shown(text)} is not a URL that begins with http:// or https:// and a host"
            )
        user, at, _ = parts.netloc.rpartition("@")
        has_query = "?" in text.partition("#")[0]
        address = cls(
            parts.scheme,
            parts.hostname,
            port or _PORTS[parts.scheme],
            _encoded(parts.path) or "/",
            _encoded(parts.query) if has_query else None,
        )
        return address, unquote(user) if at else None

    @property
    def origin(self) -> tuple[str, str, int]:
        """What credentials are for (RFC 6454 4)."""
        return self.scheme, self.host, self.port

    @property
    def authority(self) -> str:
        """The host, with the port where it is not the scheme's own, as ``Host`` has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def target(self) -> str:
        """The path and the query, as a request line has them."""
        return self.path if self.query is None else f"{self.path}?{self.query}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"

    @property
    def is_bundle(self) -> bool:
        """Whether the query names a bundle's entries, a list, or a choice from a directory."""
        return bool(_ENTRIES & self._names())

    @property
    def is_signed(self) -> bool:
        """Whether a signature covers the query, so that nothing may be added but few things."""
        return "signature" in self._names()

    def has(self, name: str) -> bool:
        """Return whether the query has a parameter."""
        return name in self._names()

    def adding(self, parameter: str) -> Self:
        """Return the address with ``name=value`` at the end of its query."""
        return replace(self, query=f"{self.query}&{parameter}" if self.query else parameter)

    def as_directory(self) -> Self:
        """Return the address of everything below a directory."""
        path = self.path if self.path.endswith("/") else f"{self.path}/"
        return replace(self, path=path).adding("bundle=./")

    def as_tar(self) -> Self:
        """Return the address of the same bundle as a tar."""
        kept = [part for part in (self.query or "").split("&") if _name(part) != "format"]
        return replace(self, query="&".join([*kept, "format=tar"]))

    def following(self, reference: str) -> Self:
        """Return what a reference of a response leads to (RFC 3986 5.2). Raise `WrongUse`."""
        if reference.startswith("?"):
            return replace(self, query=_encoded(reference[1:]))
        if reference.startswith("/") and not reference.startswith("//"):
            path, mark, query = reference.partition("#")[0].partition("?")
            return replace(self, path=_encoded(path), query=_encoded(query) if mark else None)
        return self.of(urljoin(str(self), reference))[0]

    def file_name(self) -> str | None:
        """Return the last segment of the path, `None` where that is no name of a visible file."""
        name = unquote(self.path.rpartition("/")[2])
        try:
            check_name(name, limit=255)
        except BadName:
            return None
        return None if "/" in name or name.startswith(".") else name

    def digest(self) -> str:
        """Return a digest of what is asked for: without what a new link for the same has anew."""
        parts = (self.query or "").split("&")
        query = "&".join(part for part in parts if _name(part) not in _OF_ONE_LINK)
        return sha256(f"{self.scheme}://{self.authority}{self.path}?{query}".encode()).hexdigest()

    def _names(self) -> frozenset[str]:
        return frozenset(_name(part) for part in (self.query or "").split("&"))


def _name(part: str) -> str:
    return unquote(part.partition("=")[0])


def _encoded(text: str) -> str:
    """Write as escapes what may not stand in a URL, and leave the rest as it is."""
    return quote(text, safe="!#$%&'()*+,/:;=?@[]~|{}^`\"<>\\") if not _is_plain(text) else text


def _is_plain(text: str) -> bool:
    return re.fullmatch(r"[!-~]*", text) is not None

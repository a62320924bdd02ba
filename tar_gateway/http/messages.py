"""HTTP/1.1 messages as they are on the wire: a request's head out, a response's head in.

Pure: texts and bytes in, bytes and values out (RFC 9112). What can be read in two ways is not
read at all: on a connection that is used again it would shift every later response.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from urllib.parse import quote

from tar_gateway.http.headers import TOKEN, VALUE

# Bytes of a response's head, and its fields. Servers send a twentieth of either.
LONGEST_HEAD = 64 * 1024
_MOST_FIELDS = 100

# The empty line; RFC 9112 2.2 lets a bare line feed end a line, and old servers do.
END = re.compile(rb"\n\r?\n")

# A head as servers write it: what it matches, the rules below read in the same way, at twice the
# cost. Nothing is given back once it was matched, or one hostile line would cost seconds.
_ORDINARY = re.compile(
    r"HTTP/1\.([01]) ([0-9]{3})(?: [ -~]*+)?\r\n"
    r"((?:[0-9A-Za-z-]++: [!-~][ -~]*+(?<! )\r\n)*+)\r\n"
)
_ORDINARY_FIELD = re.compile(r"([^:]++): ([^\r]++)\r\n")

# Any other. A field's name is whatever can't be taken for something else: odd ones mean nothing
# here.
_FIELD = re.compile(r"([^\x00-\x20:\x7f]++)[ \t]*+:[ \t]*+([^\r\n]*+)\r?\n")
_HEAD = re.compile(
    r"HTTP/1\.([0-9]) ([0-9]{3})(?: [^\r\n]*+)?\r?\n"
    r"((?:[^\x00-\x20:\x7f]++[ \t]*+:[^\r\n]*+\r?\n)*+)\r?\n"
)

# RFC 9112 5.2: a field that goes on in the next line, which nobody should send any more.
_FOLD = re.compile(r"\r?\n[ \t]+")

# 19 digits hold every size below 2**63; more are an attack or a defect.
DIGITS = "[0-9]{1,19}"
_LENGTH = re.compile(DIGITS)

# What a target may hold as it stands (RFC 3986 3.3, 3.4); the rest is encoded.
_TARGET = "!$%&'()*+,-./:;=?@_~"

# Schemes that authenticate a connection rather than a request (RFC 4559, MS-NTHT), and a field by
# which a server says that it has done so.
_OF_A_CONNECTION = re.compile(
    r"(?:^|[\s,])(?:ntlm|negotiate|kerberos|nego2)(?=$|[\s,])", re.IGNORECASE
)
_CHALLENGES = ("www-authenticate", "proxy-authenticate")
_CREDENTIALS = frozenset({"authorization", "proxy-authorization"})

# Answers that have no content whatever their headers say (RFC 9110 6.4.1).
_EMPTY = frozenset({204, 304})


class BadMessage(Exception):
    """What came is not HTTP, or not to be read in one way only."""


class BadLength(BadMessage):
    """The Content-Length is not a valid length."""


class Head(NamedTuple):
    """A response's status and fields, in order, and where its content ends.

    ``values`` are those of the fields by their names in lower case. ``length`` is the content's in
    bytes; `None` where chunks tell it (``chunked``) or the connection's end does. ``keeps`` says
    that the connection stays open behind the content.
    """

    status: int
    fields: list[tuple[str, str]]
    values: dict[str, list[str]]
    length: int | None
    chunked: bool
    keeps: bool


def content_length(values: Sequence[str], *, coded: bool) -> int | None:
    """Return the length that the values of Content-Length agree on, `None` where they tell none.

    ``coded`` says that there is a Transfer-Encoding, which overrides them (RFC 9112 6.3). Raise
    `BadLength`.
    """
    if coded or not values:
        return None
    if any(value != values[0] for value in values[1:]) or not _LENGTH.fullmatch(values[0]):
        raise BadLength("the response's Content-Length is not a length")
    return int(values[0])


def host_field(host: str, port: int | None, usual: int) -> str:
    """Write the Host field (RFC 9110 7.2)."""
    text = f"[{host}]" if ":" in host else host.encode("idna").decode("ascii")
    return text if port in {None, usual} else f"{text}:{port}"


def request_head(method: str, target: str, host: str, fields: Mapping[str, str]) -> bytes:
    """Write a request without content; ``host`` is the Host field's value.

    Raise `ValueError` for fields that would not end where they should.
    """
    lines = [f"{method} {quote(target, _TARGET, 'latin-1')} HTTP/1.1\r\nHost: {host}\r\n"]
    for name, value in fields.items():
        if not (TOKEN.fullmatch(name) and VALUE.fullmatch(value)):
            raise ValueError("a field of the request holds what it must not")
        lines.append(f"{name}: {value}\r\n")
    lines.append("\r\n")
    return "".join(lines).encode("latin-1")


def identifies(fields: Mapping[str, str]) -> bool:
    """Return whether a request's fields may make its connection the caller's own (NTLM)."""
    return any(
        name.lower() in _CREDENTIALS and _OF_A_CONNECTION.search(value)
        for name, value in fields.items()
    )


def read_head(received: bytes, method: str) -> Head:
    """Read the head of a response to a request of this method, its empty line included.

    Raise `BadMessage`.
    """
    text = received.decode("latin-1")
    version, status, fields = _ordinary(text) or _any(text)
    if len(fields) > _MOST_FIELDS:
        raise BadMessage("the response's head has too many fields")
    values: dict[str, list[str]] = {}
    for name, value in fields:
        lowered = name.lower()
        if lowered in values:
            values[lowered].append(value)
        else:
            values[lowered] = [value]
    keeps = _stays_open(version, values)
    if method == "HEAD" or status in _EMPTY or status < 200:
        return Head(status, fields, values, 0, chunked=False, keeps=keeps and status >= 200)
    lengths = values.get("content-length", ())
    if (codings := values.get("transfer-encoding")) is not None:
        if len(codings) > 1 or codings[0].lower() != "chunked":
            raise BadMessage("the response is coded for its transfer, though nobody asked for it")
        # RFC 9112 6.1, 6.3: who tells a length too, or speaks HTTP/1.0, is not to be trusted
        # with another response.
        keeps = keeps and version != "0" and not lengths
        return Head(status, fields, values, None, chunked=True, keeps=keeps)
    length = content_length(lengths, coded=False)
    return Head(status, fields, values, length, chunked=False, keeps=keeps and length is not None)


_Read = tuple[str, int, list[tuple[str, str]]]
"""A head's minor version, status and fields."""


def _ordinary(text: str) -> _Read | None:
    match = _ORDINARY.fullmatch(text)
    return match and (match[1], int(match[2]), _ORDINARY_FIELD.findall(match[3]))


def _any(text: str) -> _Read:
    if "\n " in text or "\n\t" in text:
        text = _FOLD.sub(" ", text)
    match = _HEAD.fullmatch(text)
    if match is None:
        raise BadMessage("the response is not HTTP/1")
    fields = [(name, value.rstrip(" \t")) for name, value in _FIELD.findall(match[3])]
    return match[1], int(match[2]), fields


def _stays_open(version: str, values: Mapping[str, Sequence[str]]) -> bool:
    """Return whether a connection is open, and anybody's, behind a response with these fields."""
    if "persistent-auth" in values:
        return False
    for name in _CHALLENGES:
        if name in values and any(map(_OF_A_CONNECTION.search, values[name])):
            return False  # it may be some caller's from now on
    options = ",".join(values.get("connection", ())).lower().split(",")
    options = [option.strip() for option in options]
    return "close" not in options and (version != "0" or "keep-alive" in options)

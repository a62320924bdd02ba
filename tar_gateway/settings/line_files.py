"""The service's own headers for the upstream, from a file of lines ``Name: value``.

The values are secrets, so no error quotes anything of a line.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

from tar_gateway.errors import SettingsError
from tar_gateway.http.headers import OF_ONE_REQUEST, TOKEN, VALUE, folded


def read_service_headers(path: Path) -> tuple[tuple[str, str], ...]:
    """Read a headers file; empty lines and those that begin with ``#`` say nothing.

    Raise `SettingsError` for a file that can't be read or is wrong, with the line's number.
    """
    try:
        text = path.read_bytes().decode("latin-1")  # as a header's bytes are sent
    except OSError as error:
        raise SettingsError(f"it can't be read: {error.strerror}") from error
    headers: dict[str, tuple[str, str]] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        stripped = line.strip(" \t\r")
        if not stripped or stripped.startswith("#"):
            continue
        name, colon, value = stripped.partition(":")
        value = value.strip(" \t")
        if not colon:
            raise SettingsError(f"line {number} is not 'Name: value'")
        if not TOKEN.fullmatch(name):
            raise SettingsError(f"line {number} does not begin with the name of a header")
        if name.lower() in OF_ONE_REQUEST:
            raise SettingsError(
                f"the header on line {number} belongs to one connection or to the gateway"
            )
        if folded(name) in headers:
            raise SettingsError(f"the header on line {number} was given before")
        if not value or not VALUE.fullmatch(value):
            raise SettingsError(f"the value on line {number} is empty or holds a control character")
        headers[folded(name)] = (name, value)
    return tuple(headers.values())


# Whoever has a link can try secrets on it without asking anybody, so that guessing them all
# must be out of reach: 16 bytes of chance are 128 bits.
SHORTEST_SECRET = 16


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A secret and the id that links name it by. Raise `ValueError` for what can't be one.

    Both are such that every editor, shell and URL writes them alike.
    """

    id: str
    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9._~-]+", self.id):
            raise ValueError("a key's id is made of letters, digits, '-', '.', '_' and '~'")
        if len(self.secret) < SHORTEST_SECRET:
            raise ValueError(f"a key's secret has at least {SHORTEST_SECRET} bytes")
        if not re.fullmatch(rb"[!-~][ -~]*[!-~]", self.secret):
            raise ValueError("a key's secret is printable ASCII without a space at either end")


def read_keys(path: Path) -> tuple[SigningKey, ...]:
    """Read a file of keys, in its order: lines ``id:secret``, empty ones and ``#`` comments.

    There is at least one. Raise `SettingsError` for a file that can't be read or is wrong.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise SettingsError(f"it can't be read: {error.strerror}") from error
    keys: dict[str, SigningKey] = {}
    for number, line in enumerate(lines, start=1):
        id_, colon, secret = line.strip().partition(b":")
        if not id_ + colon or id_.startswith(b"#"):
            continue
        if not colon:
            raise SettingsError(f"line {number} is not 'id:secret'")
        try:
            key = SigningKey(id_.strip().decode("ascii", "replace"), secret.strip())
        except ValueError as error:
            raise SettingsError(f"line {number}: {error}") from error
        if key.id in keys:
            raise SettingsError(f"line {number} gives an id for the second time")
        keys[key.id] = key
    if not keys:
        raise SettingsError("it holds no key: a line is 'id:secret'")
    return tuple(keys.values())

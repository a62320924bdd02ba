"""Files of lines: the service's own headers for the upstream, and the keys that sign links.

Both hold secrets, so no error quotes anything of a line. Empty lines and those that begin with
``#`` say nothing.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tar_gateway.errors import SettingsError
from tar_gateway.http.headers import OF_ONE_REQUEST, TOKEN, VALUE, folded


def _pairs(path: Path, form: str) -> Iterator[tuple[int, str, str]]:
    """Return the number of each line, and what stands on both sides of its first colon."""
    try:
        text = path.read_bytes().decode("latin-1")  # as a header's bytes are sent
    except OSError as error:
        raise SettingsError(f"it can't be read: {error.strerror}") from error
    for number, line in enumerate(text.split("\n"), start=1):
        name, colon, value = line.strip(" \t\r").partition(":")
        if not name + colon or name.startswith("#"):
            continue
        if not colon:
            raise SettingsError(f"line {number} is not '{form}'")
        yield number, name, value.strip(" \t")


def read_service_headers(path: Path) -> tuple[tuple[str, str], ...]:
    """Read a file of headers: lines ``Name: value``.

    Raise `SettingsError` for a file that can't be read or is wrong, with the line's number.
    """
    headers: dict[str, tuple[str, str]] = {}
    for number, name, value in _pairs(path, "Name: value"):
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


# Anyone who has a link can try secrets on it, so that guessing them all must be out of reach: 16
# bytes of chance are 128 bits.
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
    """Read a file of keys, at least one, in its order: lines ``id:secret``.

    Raise `SettingsError` for a file that can't be read or is wrong, with the line's number.
    """
    keys: dict[str, SigningKey] = {}
    for number, id_, secret in _pairs(path, "id:secret"):
        try:
            key = SigningKey(id_.rstrip(" \t"), secret.encode("latin-1"))
        except ValueError as error:
            raise SettingsError(f"line {number}: {error}") from error
        if key.id in keys:
            raise SettingsError(f"line {number} gives an id for the second time")
        keys[key.id] = key
    if not keys:
        raise SettingsError("it holds no key: a line is 'id:secret'")
    return tuple(keys.values())

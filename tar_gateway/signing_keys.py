"""The keys that links are signed with: a file of lines ``id:secret``.

What is wrong with it is said by line number. No text of the file's is ever in an error, for
any of it may be a secret.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

from tar_gateway.errors import SettingsError

# Whoever has a link can try secrets on it without asking anybody, so that guessing them all
# must be out of reach: 16 bytes of chance are 128 bits.
SHORTEST_SECRET = 16


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A secret and the id that links name it by. Raises `ValueError` for what can't be one.

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

    There is at least one. Raises `SettingsError` for a file that can't be read or is wrong.
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

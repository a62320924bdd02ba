"""Selections as short texts: ticks in a directory's listing as a bitmap, names as one value.

A pick names no file. It says which of a listing's entries are meant, and by a digest which listing
that was, so that ten thousand ticks fit into a link that no server keeps anything for.
"""

import re
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Self

from tar_gateway.http.paths import BadName

# Characters of a digest: 72 bits, enough to notice that a directory has changed.
_DIGEST = 12

_PICK = re.compile(
    r"(?P<digest>[A-Za-z0-9_-]{12})\.(?P<time>[0-9a-z]{1,9})\.(?P<bits>[A-Za-z0-9_-]+)"
)

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"

Row = tuple[str, int | None]
"""An entry of a listing: its name, a directory's with its slash, and its date if there is one."""


class ListingChanged(Exception):
    """A directory no longer lists what it did when it was picked from."""


def listing_digest(names: Iterable[str]) -> str:
    """Return what tells a listing from others, of names in their order."""
    whole = sha256("\0".join(names).encode("utf-8")).digest()
    return urlsafe_b64encode(whole).decode("ascii")[:_DIGEST]


def names_as_they_were(rows: Iterable[Row], digest: str, time: int) -> list[str]:
    """Return the names of a listing in the order of its bits, as it was when it was picked from.

    It is the same as then, or without what is dated after ``time``. Raise `ListingChanged`.
    """
    # Code points and their UTF-8 bytes have the same order.
    ordered = sorted(rows, key=lambda row: row[0])
    all_names = [name for name, _ in ordered]
    older = [name for name, date in ordered if date is None or date <= time]
    for names in (all_names, older):
        if listing_digest(names) == digest:
            return names
    raise ListingChanged


@dataclass(frozen=True, slots=True)
class Pick:
    """Ticks in one directory's listing, whose entries are sorted bytewise.

    ``directory`` is relative, with its slash, empty for the request's own. ``time`` is when the
    listing was made, in seconds since 1970. Bit i of byte i // 8 of ``bits``, the least significant
    first, says whether entry i is meant.
    """

    directory: str
    digest: str
    time: int
    bits: bytes

    @classmethod
    def of(cls, directory: str, names: Sequence[str], ticked: Iterable[int], time: int) -> Self:
        """Pick entries of a listing, of sorted names, by their indices."""
        bits = bytearray(-(-len(names) // 8))
        for index in ticked:
            bits[index // 8] |= 1 << index % 8
        return cls(directory, listing_digest(names), time, bytes(bits))

    @property
    def count(self) -> int:
        """How many entries are meant."""
        return int.from_bytes(self.bits, "little").bit_count()

    def __str__(self) -> str:
        return f"{self.directory}:{self.digest}.{base36(self.time)}.{packed(self.bits)}"

    def names(self, rows: Iterable[Row]) -> list[str]:
        """Return the names that are meant, of a directory that lists these rows in any order.

        The listing must be the same as it was, or without the entries dated after ``time``. Raise
        `ListingChanged` otherwise.
        """
        names = names_as_they_were(rows, self.digest, self.time)
        spare = int.from_bytes(self.bits, "little") >> len(names)
        if len(self.bits) != -(-len(names) // 8) or spare:
            raise ListingChanged
        return [name for i, name in enumerate(names) if self.bits[i // 8] >> i % 8 & 1]


def read_pick(text: str, *, largest: int) -> Pick:
    """Read what `str` of a pick gives, of at most ``largest`` entries. Raise `BadName`."""
    directory, colon, rest = text.rpartition(":")
    match = _PICK.fullmatch(rest)
    if not colon or match is None:
        raise BadName("is not <directory>:<digest>.<time>.<bits>")
    if directory and not directory.endswith("/"):
        raise BadName("names a directory without the slash at its end")
    bits = unpacked(match["bits"], largest=-(-largest // 8))
    return Pick(directory, match["digest"], int(match["time"], 36), bits)


def pack_names(names: Iterable[str]) -> str:
    """Write names as one value, which is short where they are alike."""
    return packed("\0".join(names).encode("utf-8"))


def read_names(text: str, *, largest: int) -> list[str]:
    """Read what `pack_names` gives, of at most ``largest`` bytes. Raise `BadName`."""
    try:
        return unpacked(text, largest=largest).decode("utf-8").split("\0")
    except UnicodeDecodeError as error:
        raise BadName("is not valid UTF-8 once it is unpacked") from error


def packed(data: bytes) -> str:
    """Write bytes as raw DEFLATE in base64url without padding."""
    made = zlib.compressobj(9, zlib.DEFLATED, -15, 9)
    raw = made.compress(data) + made.flush()
    return urlsafe_b64encode(raw).decode("ascii").rstrip("=")


def unpacked(text: str, *, largest: int) -> bytes:
    """Read what `packed` gives, of at most ``largest`` bytes. Raise `BadName`."""
    try:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", text):
            raise ValueError(text)
        raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        reading = zlib.decompressobj(-15)
        data = reading.decompress(raw, largest + 1)
    except (ValueError, zlib.error) as error:
        raise BadName("is not raw DEFLATE in base64url") from error
    if len(data) > largest:
        raise BadName(f"holds more than {largest} bytes once it is unpacked")
    if not reading.eof or reading.unused_data:
        raise BadName("is not whole, or has more behind its end")
    return data


def base36(number: int) -> str:
    """Write a number in the digits 0 to 9 and a to z."""
    text = ""
    while number or not text:
        number, digit = divmod(number, 36)
        text = _DIGITS[digit] + text
    return text

"""Preconditions and ranges: what of an archive a request is answered with (RFC 9110 13, 14).

One pure decision over header texts: nothing a client writes into them can raise.
"""

import re
from dataclasses import dataclass

from tar_gateway.http.validators import Validator, read_date

# Longer ones are attacks: 19 digits hold every offset below 2**63.
_SINGLE_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,19})-([0-9]{0,19})[ \t]*", re.IGNORECASE)
_ETAG_LIST = re.compile(r'(?:^|,)[ \t]*((?:W/)?"[\x21\x23-\x7e\x80-\xff]*")[ \t]*(?=,|$)')


@dataclass(frozen=True, slots=True)
class Conditions:
    """The header texts that decide, `None` where a request has none."""

    if_match: str | None = None
    if_none_match: str | None = None
    if_modified_since: str | None = None
    if_unmodified_since: str | None = None
    if_range: str | None = None
    range: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What to answer: 200, 206, 304, 412 or 416, and the archive's bytes that go with it."""

    status: int
    start: int = 0
    stop: int = 0


def decide(
    method: str,
    conditions: Conditions,
    *,
    etag: Validator | None,
    mtime: int,
    size: int,
    takes_ranges: bool = True,
) -> Decision:
    """Decide in the RFC's order of precedence (9110 13.2.2).

    ``etag`` is `None` where the archive has none, ``mtime`` its date in seconds since 1970, 0 where
    it has none; ``size`` its length in bytes. The whole is given of an archive that takes no ranges
    (RFC 9110 14.2), and of anything but GET and HEAD, whatever the headers say: they speak of a
    representation that such a method does not select.
    """
    whole = Decision(200, 0, size)
    if method not in {"GET", "HEAD"}:
        return whole
    if conditions.if_match is not None:
        if not _lists(conditions.if_match, etag, strongly=True):
            return Decision(412)
    elif (since := read_date(conditions.if_unmodified_since)) is not None and mtime > since:
        return Decision(412)
    if conditions.if_none_match is not None:
        if _lists(conditions.if_none_match, etag, strongly=False):
            return Decision(304)
    elif (
        mtime and (since := read_date(conditions.if_modified_since)) is not None and mtime <= since
    ):
        return Decision(304)
    # Parts of archives that only look the same must not be put together: no strong tag, no
    # ranges. If-Range is compared strongly, so a date in it never matches.
    if (
        method != "GET"
        or conditions.range is None
        or etag is None
        or not (etag.strong and takes_ranges)
        or (conditions.if_range is not None and conditions.if_range.strip() != etag.text)
    ):
        return whole
    return _slice(conditions.range, size) or whole


def _slice(text: str, size: int) -> Decision | None:
    """Read a single range, `None` for several or for anything that is to be ignored."""
    match = _SINGLE_RANGE.fullmatch(text.strip())
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:  # the last so many bytes
        count = min(int(match[2]), size)
        return Decision(206, size - count, size) if count else Decision(416)
    start = int(match[1])
    stop = min(int(match[2]) + 1, size) if match[2] else size
    if match[2] and int(match[2]) < start:
        return None
    return Decision(206, start, stop) if start < size else Decision(416)


def _lists(text: str, etag: Validator | None, *, strongly: bool) -> bool:
    """Return whether a list of entity tags, or ``*``, names this one (RFC 9110 8.8.3.2)."""
    if text.strip() == "*":
        return True
    if etag is None:
        return False
    if strongly:
        return etag.strong and etag.text in _ETAG_LIST.findall(text)
    return etag.text.removeprefix("W/") in (
        tag.removeprefix("W/") for tag in _ETAG_LIST.findall(text)
    )

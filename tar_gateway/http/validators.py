"""What proves that two fetches are of the same version of a file (RFC 9110 8.8).

Pure: header texts in, values out.
"""

import re
from calendar import timegm
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Self

# RFC 9110 8.8.3: the opaque text may hold anything visible but a double quote.
_ETAG = re.compile(r'(?P<weak>W/)?"[\x21\x23-\x7e\x80-\xff]*"')


@dataclass(frozen=True, slots=True)
class Validator:
    """An entity tag or a modification date, as its header writes it.

    Two are of the same version when their ``text`` is equal. ``strong`` says that the bytes
    are then the same too, so that parts of both may be put together.
    """

    text: str
    strong: bool

    @classmethod
    def etag(cls, opaque: str, *, strong: bool) -> Self:
        """Make an entity tag of its opaque text, which must be free of double quotes."""
        return cls(f'"{opaque}"' if strong else f'W/"{opaque}"', strong)

    @property
    def is_etag(self) -> bool:
        """Whether this is an entity tag rather than a date."""
        return self.text.startswith(('"', 'W/"'))

    @property
    def opaque(self) -> str:
        """An entity tag's text between the quotes."""
        return self.text.removeprefix("W/").strip('"')


def read_validator(
    etag: str | None, last_modified: str | None, date: str | None
) -> Validator | None:
    """Find the best validator in a response's ``ETag``, ``Last-Modified`` and ``Date``.

    A modification date is strong when the response was made at least a second later: the
    second it names was over by then, so no second version can share it (RFC 9110 8.8.2.2).
    """
    if etag is not None and (match := _ETAG.fullmatch(etag)):
        return Validator(etag, strong=match["weak"] is None)
    modified = read_date(last_modified)
    if last_modified is None or modified is None:
        return None
    made = read_date(date)
    return Validator(last_modified, strong=made is not None and made > modified)


# RFC 9110 5.6.7: IMF-fixdate, and the two older forms that are still to be understood.
_DATE = re.compile(
    r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT"
    r"|[A-Z][a-z]{5,8}, \d\d-[A-Z][a-z]{2}-\d\d \d\d:\d\d:\d\d GMT"
    r"|[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}",
    re.ASCII,
)


def read_date(text: str | None) -> int | None:
    """Read an HTTP date (RFC 9110 5.6.7) as seconds since 1970, or `None` for what is none.

    Dates before 1970 are given as 0: archives know none, and tools complain of them.
    """
    if text is None or not _DATE.fullmatch(text):
        return None
    try:
        moment = parsedate_to_datetime(text)
        return max(0, timegm(moment.utctimetuple()))
    except (ValueError, OverflowError, TypeError, IndexError):
        return None

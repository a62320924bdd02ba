"""Which names Windows may take for the short form (8.3) of another name in the same directory.

It makes ``LONGFI~1.TXT`` for ``longfilename.txt``, where the volume has such names at all, and
opens one file by either. Pure text.
"""

import re
from collections.abc import Iterable, Iterator

# Six characters at most and a number; or two, four digits of a hash, and a number.
_SHORT = re.compile(r"([^.~]{1,6})~[1-9][0-9]{0,5}(?:\.([^.]{1,3}))?")
_HASHED = re.compile(r"..[0-9a-f]{4}")

# Names that are short as they are, so that no other is made for them.
_SHORT_ALREADY = re.compile(r"[!#$%&'()\-0-9@a-z^_`{}~]{1,8}(?:\.[!#$%&'()\-0-9@a-z^_`{}~]{1,3})?")

_LEFT_OUT = re.compile(r"[ .]")
_REPLACED = re.compile(r"[+,;=\[\]]")


def short_and_long(paths: Iterable[tuple[str, str]]) -> tuple[str, str] | None:
    """Return two names of which one may be the short form of the other, if there are any.

    ``paths`` are pairs of a folded path, in lower case and with NUL in place of its slashes, and
    the name that it is of. They are sorted, so that only one path's directories are held at once.
    """
    for siblings in _directories(paths):
        short = {segment: match for segment in siblings if (match := _SHORT.fullmatch(segment))}
        if not short or len(siblings) < 2:
            continue
        long = {
            form: name
            for segment, name in siblings.items()
            if not _SHORT_ALREADY.fullmatch(segment)
            for form in _forms(segment)
        }
        for segment, match in short.items():
            begin, extension = match[1], match[2] or ""
            other = long.get((begin, extension))
            if other is None and _HASHED.fullmatch(begin):
                other = long.get((begin[:2], extension))
            if other is not None:
                return siblings[segment], other
    return None


def _directories(paths: Iterable[tuple[str, str]]) -> Iterator[dict[str, str]]:
    """Return what is in each directory, by segment, with one name that goes through it."""
    before: list[str] = []
    open_: list[dict[str, str]] = [{}]  # the directories that lead to the path before
    for path, name in paths:
        segments = path.rstrip("\0").split("\0")
        pairs = enumerate(zip(before, segments, strict=False))
        same = next((at for at, (one, other) in pairs if one != other), len(before))
        yield from open_[same + 1 :]
        del open_[same + 1 :]
        for segment in segments[same:]:
            open_[-1][segment] = name
            open_.append({})
        before = segments
    yield from open_


def _forms(segment: str) -> Iterator[tuple[str, str]]:
    """Return with what a segment's short forms may begin and end."""
    begin, dot, extension = segment.lstrip(".").rpartition(".")
    if not dot:
        begin, extension = extension, ""
    begin, extension = (_REPLACED.sub("_", _LEFT_OUT.sub("", part)) for part in (begin, extension))
    for length in range(1, 7):
        yield begin[:length], extension[:3]

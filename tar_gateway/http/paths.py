"""What a member's name may be, and how it is written into an upstream's URL.

A name is text that was decoded exactly once. It is checked here, and what the upstream sees
is made from what was checked. Pure text: this file knows of no request and no archive.
"""

import re
import unicodedata
from collections.abc import Sequence
from itertools import pairwise
from urllib.parse import quote, unquote_to_bytes

from tar_gateway.short_names import short_and_long

MAX_NAME_BYTES = 4096  # PATH_MAX: nothing longer can be unpacked

# What Unicode calls control characters (category Cc), C0 and C1.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

# Segments that Windows takes for a device, whatever their case and extension.
_DEVICE = re.compile(
    r"(?:\A|/)((?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³]) *(?:\.[^/]*)?)(?=/|\Z)",
    re.IGNORECASE | re.ASCII,
)


class BadName(ValueError):
    """A name that is refused; the text says why, as the end of a sentence."""


def check_name(name: str, *, limit: int = MAX_NAME_BYTES) -> None:
    """Refuse a name that is anything but a plain relative path of at most ``limit`` bytes.

    Raises `BadName` for what is empty, absolute, climbing, not text, or would become one of
    those for an upstream that decodes once more than it should.
    """
    _check_once(name, limit)
    if "%" in name:
        try:
            _check_once(decode_text(unquote_to_bytes(name)), limit)
        except BadName as error:
            raise BadName(f"{error} when it is decoded once more") from error


def device_in(name: str) -> str | None:
    """Return the first segment that is a device on Windows (``CON``, ``aux.txt``), if any."""
    found = _DEVICE.search(name)
    return found[1] if found else None


def decode_once(quoted: str) -> str:
    """Undo the encoding of a query's or form's part, where ``+`` is a space.

    Raises `BadName` for what is not UTF-8.
    """
    return decode_text(unquote_to_bytes(quoted.replace("+", " ")))


def url_path(name: str) -> str:
    """Write a checked name as a URL's path, every segment quoted, without a leading slash."""
    return "/".join(quote(segment, safe="") for segment in name.split("/"))


def decode_path(quoted: str) -> str:
    """Undo the encoding of a URL's path. Raises `BadName` for what is not UTF-8."""
    return decode_text(unquote_to_bytes(quoted))


def decode_text(raw: bytes) -> str:
    """Read bytes as UTF-8, strictly: raises `BadName` for anything else."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadName("is not valid UTF-8") from error


def shown(text: str) -> str:
    """Show a name within an error: in quotes, on one line, and never longer than that."""
    readable = text[:120].encode("utf-8", "backslashreplace").decode("utf-8")
    readable = "".join(c if c.isprintable() else repr(c)[1:-1] for c in readable)
    return f"'{readable}{'…' if len(text) > 120 else ''}'"


def _check_once(name: str, limit: int) -> None:
    if not name:
        raise BadName("is empty")
    try:
        length = len(name.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise BadName("is not valid UTF-8") from error
    if length > limit:
        raise BadName(f"is longer than {limit} bytes")
    if _CONTROL.search(name):
        raise BadName("contains a control character")
    if "\\" in name:
        raise BadName("contains a backslash")
    if name.startswith("/"):
        raise BadName("starts with a slash")
    if re.match(r"[A-Za-z]:", name):
        raise BadName("starts with a drive letter")
    for segment in name.split("/"):
        if not segment:
            raise BadName("contains an empty segment")
        if segment in {".", ".."}:
            raise BadName(f"contains the segment '{segment}'")


# --- what can be unpacked side by side ------------------------------------------------------------

_NUL = "\0"

# What no file name of Windows has; a backslash is in no name at all.
_NOT_ON_WINDOWS = re.compile(r'[:<>|?*"]')

# Unicode's Default_Ignorable_Code_Point, as far as it is not of category Cf.
_IGNORABLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufff8"
    "\U000e0000-\U000e0fff]+"
)

# Unicode's Stream-Safe Text Format (UAX 15, 13): no language needs more marks on one letter.
# Marks are put in order when a name is folded, which takes the square of their number.
_MOST_MARKS = 30

# Of combining class 0, but made of marks only.
_MADE_OF_MARKS = "\u0f73\u0f75\u0f81"


def check_apart(names: Sequence[str], *, strict: bool = False) -> None:
    """Refuse what cannot be unpacked side by side: a name twice, or as file and directory.

    With ``strict`` names are the same if a file system of Windows, macOS or Linux may take them
    for the same (`_folded`), and names that Windows cannot have are refused as well. A
    directory's own name ends with a slash. Raise `BadName` with a whole sentence.
    """
    fold = _portable if strict else str
    # NUL is in no name and sorts before everything: a directory comes right before what is in it.
    ordered = sorted((fold(name).replace("/", _NUL), name) for name in names)
    for (before, first), (after, second) in pairwise(ordered):
        if after.rstrip(_NUL) == before.rstrip(_NUL):
            if first.rstrip("/") == second.rstrip("/"):
                raise BadName(f"the member {shown(second)} is named twice")
            both = f"{shown(first)} and {shown(second)}"
            raise BadName(f"the members {both} differ only in {_difference(first, second)}")
        if not before.endswith(_NUL) and after.startswith(before + _NUL):
            raise BadName(
                f"the member {shown(first)} would have to be the directory of {shown(second)}"
            )
    if strict and any("~" in name for name in names) and (pair := short_and_long(ordered)):
        raise BadName(f"the member {shown(pair[0])} may be the short name of {shown(pair[1])}")


def _portable(name: str) -> str:
    """Return what is left of a name on file systems that tell the fewest names apart.

    Raise `BadName` if Windows cannot have it, or if nothing is left of one of its segments.
    """
    if wrong := _NOT_ON_WINDOWS.search(name):
        why = f"contains {shown(wrong[0])}, which no file name on Windows may contain"
    elif device := device_in(name):
        why = f"contains {shown(device)}, which is a device on Windows"
    elif _most_marks(visible := _visible(name)) > _MOST_MARKS:
        why = f"contains more than {_MOST_MARKS} combining marks in a row"
    else:
        segments = [segment.rstrip(". ") for segment in _folded(visible.rstrip("/")).split("/")]
        if all(segments):
            return "/".join(segments) + ("/" if name.endswith("/") else "")
        why = "contains a segment of dots, spaces or invisible characters only"
    raise BadName(f"the member {shown(name)} {why}")


def _visible(name: str) -> str:
    """Leave out what no one sees: what is ignorable to Unicode, as ext4 and HFS+ have it."""
    if name.isascii():
        return name
    kept = _IGNORABLE.sub("", name)
    return kept.translate({ord(c): None for c in set(kept) if unicodedata.category(c) == "Cf"})


def _folded(visible: str) -> str:
    """Return a name without case and Unicode form.

    Unicode's canonical caseless matching (D145), as APFS and ext4 with casefold have it; it
    covers the simple upper case of NTFS. Nothing is folded by compatibility (NFKC): every file
    system tells full-width letters from others.
    """
    if visible.isascii():
        return visible.lower()
    decomposed = unicodedata.normalize("NFD", visible)
    return unicodedata.normalize("NFD", decomposed.casefold())


def _most_marks(visible: str) -> int:
    """Return the length of the longest run of combining marks."""
    marks = {c for c in set(visible) if unicodedata.combining(c) or c in _MADE_OF_MARKS}
    longest = run = 0
    for c in visible if marks else "":
        run = run + 1 if c in marks else 0
        longest = max(longest, run)
    return longest


def _difference(first: str, second: str) -> str:
    if _folded(_visible(first).rstrip("/")) == _folded(_visible(second).rstrip("/")):
        return "case or Unicode form"
    return "case, Unicode form, or dots and spaces at the end of a segment"

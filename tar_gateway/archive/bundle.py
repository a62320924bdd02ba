"""What is asked for: entries in order and a file name; and which names can lie side by side."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, TypeAlias

from tar_gateway.archive.format import Format, Generated
from tar_gateway.archive.picks import Pick
from tar_gateway.archive.short_names import short_and_long
from tar_gateway.archive.tar import TAR, TAR_GZ, TAR_ZST
from tar_gateway.archive.zip import ZIP
from tar_gateway.http.paths import BadName, check_name, device_in, shown, url_path

FORMATS: Mapping[str, Format] = {each.name: each for each in (TAR, ZIP, TAR_GZ, TAR_ZST)}
"""The formats that an archive can be made in, by name."""

_DEFAULT_NAME = "bundle"

# What an archive's format is known by at the end of its name.
_ARCHIVE_SUFFIX = re.compile(r"\.(?:tar|zip|tar\.gz|tgz|tar\.zst)\Z", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Entry:
    """One member as asked for.

    ``path`` is where it is below the source's base, with ``query`` behind it where there is
    one; ``name`` what it is called in the archive. ``size`` in bytes is there when whoever
    named the member gave it, so that nobody has to be asked; ``checksum`` is the CRC-32 that
    they told of it. ``literal`` is the whole of a member
    that is the archive's own, and not fetched.
    """

    path: str
    name: str
    query: str = ""
    size: int | None = None
    checksum: int | None = None
    literal: bytes | None = field(default=None, repr=False)
    generated: Generated | None = field(default=None, repr=False)
    """The content of one that the archive makes of the others' checksums."""
    is_tree: bool = False
    """Whether it stands for everything below a directory, whose path and name end with a slash.

    Both are empty for the base itself, and the name for what is not put into a directory.
    """
    pick: Pick | None = None
    """Which of a directory's entries are meant, where that is not everything."""

    @property
    def is_directory(self) -> bool:
        """Return whether it is a directory of the archive only, which stands for no file."""
        return self.name.endswith("/")

    @property
    def reference(self) -> str:
        """The path as a URL writes it, without a leading slash, and the query."""
        return url_path(self.path) + ("?" + self.query if self.query else "")


Missing: TypeAlias = Literal["fail", "skip", "report"]
"""What becomes of members that are missing: an error, nothing, or a report in the archive."""


Duplicates: TypeAlias = Literal["fail", "rename"]
"""What becomes of a second member of the same name: an error, or it is called ``name (2)``."""

Digests: TypeAlias = Literal["sha256"]
"""The digests of members that an archive may list in a last member of its own."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """An ordered list of members, and what the archive is called.

    ``no_store``: the list may be kept by no cache, nor may the archive be. ``folder`` is what all
    names begin with: nothing, or a directory with its slash. ``format`` is what the archive is made
    in.
    """

    members: tuple[Entry, ...]
    filename: str
    no_store: bool = False
    folder: str = ""
    missing: Missing = "fail"
    duplicates: Duplicates = "fail"
    checksums: Digests | None = None
    format: Format = TAR
    include: tuple[str, ...] = ()
    """Of directories only what one of these globs matches is taken; all without any."""
    exclude: tuple[str, ...] = ()
    """What is left out of directories."""


# Bytes; no file system takes longer ones, and proxies refuse the header that they make.
LONGEST_FILENAME = 255


def default_filename(directory: str, suffix: str = TAR.suffix) -> str:
    """Name an archive after the directory that it is of, given as ``""`` or ``"a/b/"``.

    A directory whose name no archive may have counts as the root.
    """
    try:
        return archive_filename(directory.rstrip("/").rpartition("/")[2], suffix)
    except BadName:
        return _DEFAULT_NAME + suffix


def archive_filename(name: str, suffix: str = TAR.suffix) -> str:
    """Return what an archive is called that is to be called ``name``.

    Its name ends with its format's ``suffix``, which is put in the place of another format's.
    Raise `BadName` for what is no name of one file, or would be hidden, shown as another name, or
    a device on Windows.
    """
    check_name(name)
    called = _ARCHIVE_SUFFIX.sub("", name) + suffix
    if "/" in name:
        raise BadName("contains a slash")
    if called.lstrip().startswith("."):
        raise BadName("starts with a dot")
    for character in called:
        # Bidi and other format characters, and what separates lines and paragraphs.
        if unicodedata.category(character) in {"Cf", "Zl", "Zp"}:
            raise BadName(f"contains the invisible character U+{ord(character):04X}")
    if device := device_in(called):
        raise BadName(f"becomes {shown(device)}, which is a device on Windows")
    if len(called.encode()) > LONGEST_FILENAME:
        raise BadName(f"is longer than {LONGEST_FILENAME} bytes with its suffix {suffix}")
    return called


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
        kept = _without_ends(_folded(visible.rstrip("/")))
        if all(kept.split("/")):
            return kept + ("/" if name.endswith("/") else "")
        why = "contains a segment of dots, spaces or invisible characters only"
    raise BadName(f"the member {shown(name)} {why}")


def _without_ends(folded: str) -> str:
    """Leave out dots and spaces at the end of each segment, as Windows does."""
    return "/".join(segment.rstrip(". ") for segment in folded.split("/"))


# What a number is put before: an extension, or two where the first is that of a tar.
_NUMBERED = re.compile(r"((?:.*/)?\.*[^/]+?)((?:\.tar)?\.[^./ ]+)?(/?)", re.IGNORECASE)


def numbered(name: str, number: int) -> str:
    """Return ``name (2).ext`` for ``name.ext``, for a number of 2 or more."""
    match = _NUMBERED.fullmatch(name)
    stem, suffix, slash = match.groups("") if match else (name, "", "")
    return f"{stem} ({number}){suffix}{slash}"


def renamed(names: Sequence[str], *, strict: bool = False) -> list[str]:
    """Return the names, of those that are the same all but the first with a number.

    It counts on until no name that was asked for, or was made before, is the same, nor a
    directory of one. Names are the same as for `check_apart`; raise `BadName` as it does.
    """
    fold = _portable if strict else str
    folded = [fold(name).rstrip("/") for name in names]
    taken = set(folded)
    if len(taken) == len(folded):
        return list(names)
    for path in folded:
        taken.update(path[: slash.start()] for slash in re.finditer("/", path))
    last: dict[str, int] = {}  # the number that each was given last
    result = []
    for name, path in zip(names, folded, strict=True):
        number, new = last.get(path, 0), name
        while number:
            number += 1
            new = numbered(name, number)
            if (made := fold(new).rstrip("/")) not in taken:
                taken.add(made)
                break
        last[path] = number or 1
        result.append(new)
    return result


def free_name(name: str, names: Iterable[str]) -> str:
    """Return a name that no file system takes for one of these, nor for a directory of theirs.

    It is ``name``, or that with the first number that makes it free.
    """
    taken: set[str] = set()
    for each in names:
        path = _without_ends(_folded(_visible(each.rstrip("/"))))
        taken.update((path, *(path[: slash.start()] for slash in re.finditer("/", path))))
    free, number = name, 1
    while _without_ends(_folded(_visible(free))) in taken:
        number += 1
        free = numbered(name, number)
    return free


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

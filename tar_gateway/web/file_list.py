"""Lists of files that an application answers with, in the format that nginx's mod_zip reads.

A response with ``X-Archive-Files: tar`` or ``zip`` is no response to the client but a list, a
line a file:
``crc32-or-dash size /location[?args] name``. Pure: headers and bytes in, members out.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from enum import Enum, auto
from urllib.parse import quote, unquote_to_bytes

from tar_gateway.archive.bundle import FORMATS, Entry, check_apart
from tar_gateway.archive.format import Format
from tar_gateway.errors import ContentTooLarge, UpstreamFailed
from tar_gateway.http.conditions import Conditions
from tar_gateway.http.headers import OF_ONE_REQUEST, TOKEN, end_to_end, folded
from tar_gateway.http.paths import BadName, check_name, decode_path, shown
from tar_gateway.settings import Settings

Headers = Sequence[tuple[str, str]]

# A line that is not empty, and the ends of lines before it: line by line, for there may be
# millions before one is too many.
_LINE = re.compile(rb"((?:\r?\n)*+)([^\n]+)")

_FILES = "x-archive-files"

# The formats of which an archive can be made of a list.
_MADE = {name: format for name, format in FORMATS.items() if format.coding is None}

_DIRECTORY = "@directory"
_CHECKSUM = re.compile(r"-|[0-9A-Fa-f]{1,8}")
_SIZE = re.compile(r"-|[0-9]{1,18}")

# Only this is how an archive's tag looks: an application may have others with such a beginning.
_TAG = re.compile(f'"(?:{"|".join(_MADE)})-[0-9a-f]{{40}}"')

# What an application answers to conditions and ranges, which are the archive's.
_PARTLY = frozenset({206, 304, 412, 416})

# Of the list itself, and not of the archive that takes its place.
_OF_THE_LIST = frozenset(
    {
        "accept-ranges",
        "age",
        "cache-control",
        "content-digest",
        "content-encoding",
        "content-length",
        "content-md5",
        "content-range",
        "content-type",
        "date",
        "digest",
        "etag",
        "expires",
        "last-modified",
        "repr-digest",
        "server",
    }
)


class Step(Enum):
    """What to do with a response that may be a list of files, or before there is one."""

    PASS = auto()
    """Pass it on."""
    READ = auto()
    """Read it: it is the list."""
    TRY = auto()
    """Ask by a plain GET; pass this on where that does not list files."""
    ASK = auto()
    """Ask by a plain GET, which must list files: this responds to what is the archive's."""


def next_step(
    method: str,
    conditions: Conditions,
    status: int | None = None,
    headers: Headers = (),
    *,
    formats: Collection[str] = _MADE.keys(),
) -> Step:
    """Decide what to do about a request, and with the response to it once there is a ``status``.

    A list may come with the status that is a response to the request's range or conditions. Those
    are the archive's, and so is a HEAD, which an application may not know: 405 and 501 to it say
    nothing of a list. ``formats`` are those of the setting ARCHIVE_FILES.
    """
    partly = method == "HEAD" or (method == "GET" and conditions != Conditions())
    if status is None:
        return Step.TRY if formats and partly and _concerns_archive(conditions) else Step.PASS
    if method == "HEAD" and status in {405, 501}:
        return Step.TRY if formats else Step.PASS
    if not _is_list(headers, formats) or not (status == 200 or (partly and status in _PARTLY)):
        return Step.PASS
    return Step.ASK if partly else Step.READ


def _is_list(headers: Headers, formats: Collection[str]) -> bool:
    return not _asked(headers).isdisjoint(_MADE.keys() & set(formats))


def format_of(headers: Headers, formats: Collection[str]) -> Format:
    """Return the format of the archive that a list, as `next_step` has it, is for."""
    asked = _asked(headers).intersection(formats)
    return next(made for name, made in _MADE.items() if name in asked)


def _asked(headers: Headers) -> set[str]:
    return {value.strip().lower() for name, value in headers if name.lower() == _FILES}


def lists_files(headers: Headers) -> bool:
    """Return whether a response is a list of files at all, which a server in front may read."""
    return any(folded(name) == _FILES for name, _ in headers)


def _concerns_archive(conditions: Conditions) -> bool:
    """Return whether a request's conditions name an archive of ours."""
    texts = (conditions.if_match, conditions.if_none_match, conditions.if_range)
    return any(text is not None and _TAG.search(text) for text in texts)


def kept_headers(headers: Headers) -> list[tuple[str, str]]:
    """Return those of a list's headers that go along with the archive."""
    return [
        (name, value) for name, value in end_to_end(headers) if name.lower() not in _OF_THE_LIST
    ]


def passed_names(headers: Headers) -> list[str]:
    """Return the request headers that a list wants to go along with every member.

    ``X-Archive-Pass-Headers`` names them, separated by colons. Those that would spoil the
    request for a member, such as Range, are left out.
    """
    return [
        part.strip()
        for name, value in headers
        if name.lower() == "x-archive-pass-headers"
        for part in value.split(":")
        if TOKEN.fullmatch(part.strip()) and part.strip().lower() not in OF_ONE_REQUEST
    ]


def read_list(body: bytes, mount: str, settings: Settings) -> tuple[Entry, ...]:
    """Read a list's lines. A size of ``-`` is to be asked for.

    ``mount`` is the path that the application is mounted at: locations are whole paths, as
    clients see them. Raise `UpstreamFailed`, which quotes a bad line's number, and
    `ContentTooLarge` for more members than are allowed.
    """
    members: list[Entry] = []
    for number, line in _lines(body):
        if len(members) == settings.max_members:
            raise ContentTooLarge(
                f"the list names more than the {settings.max_members} members allowed"
            )
        try:
            members.append(_read_line(line, mount, settings.max_name))
        except BadName as error:
            raise _bad(f"line {number} of the list of files: {error}") from error
    if not members:
        raise _bad("the list of files is empty")
    try:
        check_apart([member.name for member in members], strict=settings.strict_names)
    except BadName as error:
        raise _bad(f"the list of files: {error}") from error
    return tuple(members)


def _lines(body: bytes) -> Iterator[tuple[int, str]]:
    number = 1
    for match in _LINE.finditer(body):
        number += match[1].count(b"\n")
        try:
            line = match[2].removesuffix(b"\r").decode("utf-8")
        except UnicodeDecodeError as error:
            raise _bad(f"line {number} of the list of files is not valid UTF-8") from error
        if line:
            yield number, line


def _read_line(line: str, mount: str, max_name: int) -> Entry:
    fields: Iterable[str] = line.split(" ", 3)
    try:
        checksum, size, location, name = fields
    except ValueError as error:
        raise BadName("it is not 'crc32-or-dash size /location name'") from error
    if not _CHECKSUM.fullmatch(checksum):
        raise BadName(f"the checksum {shown(checksum)} is not '-' or up to 8 hexadecimal digits")
    if not _SIZE.fullmatch(size):
        raise BadName(f"the size {shown(size)} is not '-' or a number of bytes")
    if location == _DIRECTORY:
        name = name.removesuffix("/")
        _check("name", name, max_name)
        return Entry("", name + "/", size=0)
    _check("name", name, max_name)
    place, _, query = location.partition("?")
    if "%2f" in place.lower():
        raise BadName(f"the location {shown(location)} contains an encoded slash: write '/'")
    if place.startswith("/") and "//" in place:
        once = re.sub("//+", "/", place)
        raise BadName(f"the location {shown(place)} contains an empty segment: write {shown(once)}")
    place = quote(unquote_to_bytes(place))  # as the mount point is written
    if mount and place.startswith(mount + "/"):
        place = place.removeprefix(mount)
    if not place.startswith("/"):
        raise BadName(f"the location {shown(location)} does not start with a slash")
    try:
        path = decode_path(place.removeprefix("/"))
    except BadName as error:
        raise BadName(f"the location {shown(location)} {error}") from error
    if path:  # an application may answer at its root, or where there is a slash at the end
        _check("location", path.removesuffix("/"), max_name)
    if not re.fullmatch(r"[!-~]*", query):
        raise BadName(f"the location {shown(location)} is not percent-encoded")
    told = None if checksum == "-" else int(checksum, 16)
    if size == "0" and told:
        raise BadName(f"the checksum {shown(checksum)} is not that of an empty file: write 0")
    return Entry(path, name, query, None if size == "-" else int(size), told)


def _check(what: str, name: str, max_name: int) -> None:
    try:
        check_name(name, limit=max_name)
    except BadName as error:
        raise BadName(f"the {what} {shown(name)} {error}") from error


def _bad(detail: str) -> UpstreamFailed:
    return UpstreamFailed(detail, status=502)

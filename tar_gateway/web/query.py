"""What a request asks for: an ordered list of members and a file name.

Reads the query or a form, and makes a `Bundle` of what these or a JSON list give, or refuses it
with a `Refusal` that says what was wrong. A list beyond the limits is noticed while it is read,
before values are made of it.
Pure: text and bytes in, values out; no request object, no source.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import islice
from typing import Self, TypeVar, get_args

from tar_gateway.archive.bundle import (
    FORMATS,
    Bundle,
    Duplicates,
    Entry,
    Missing,
    archive_filename,
    check_apart,
    default_filename,
    renamed,
)
from tar_gateway.archive.format import Format
from tar_gateway.archive.globs import Glob
from tar_gateway.errors import BadRequest, ContentTooLarge
from tar_gateway.http.paths import BadName, check_name, decode_form_value, shown
from tar_gateway.settings import Settings

# What a form or a query may hold beside its members; each costs a microsecond to look at.
OTHER_PARAMETERS = 100

# Globs of one kind in a request, and bytes of one: each is looked at for each name.
_MOST_GLOBS = 100
_LONGEST_GLOB = 1024

# Of an index that some clients write between brackets.
_INDEX_DIGITS = 6

Pairs = Sequence[tuple[str, str]]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Options:
    """What a list says of its archive beside its members; `None` where it says nothing.

    A query, a form and a JSON list read all of them.
    """

    filename: str | None = None
    folder: str | None = None
    format: str | None = None
    missing: str | None = None
    duplicates: str | None = None
    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] | None = None

    def over(self, other: Self) -> Self:
        """Return what is said here, and where nothing is, what ``other`` says."""
        said = {name: value for name, value in asdict(self).items() if value is not None}
        return replace(other, **said)


@dataclass(frozen=True, slots=True)
class Query:
    """What a query or a form gives, decoded and, but for the manifest, not yet checked.

    ``manifest`` is the path of a file that holds the list, ``manifest_sha256`` its digest if told,
    ``version`` the opaque text of the archive's tag. ``is_plan``: the plan is wanted instead.
    """

    members: tuple[str, ...]
    options: Options = Options()
    manifest: str | None = None
    version: str | None = None
    is_plan: bool = False
    manifest_sha256: str | None = None


def is_bundle(query: str, parameter: str) -> bool:
    """Return whether a raw query string, of any length, has the parameter for a bundle.

    ``bundle[]=a`` and ``bundle[0]=a``, as some clients write lists, count as the parameter.
    """
    return (
        _has(parameter).search(query) is not None or _has_list(parameter).search(query) is not None
    )


def is_plain_bundle(query: str, parameter: str) -> bool:
    """Return whether a raw query string has the parameter by its very name."""
    return _has(parameter).search(query) is not None


def read_query(query: str, settings: Settings) -> Query:
    """Read the raw query string of a bundle request.

    A literal comma separates members as a repeated parameter does; ``%2C`` is part of a name.
    """
    parameter = settings.parameter
    pairs = _pairs(query, settings)
    values = _values(pairs, parameter)
    raw = [part for value in values if value for part in value.split(",")]
    manifest = _only(pairs, "manifest")
    if manifest is not None:
        _check("manifest", manifest, settings)
        if raw:
            raise BadRequest(f"members are named both in {parameter}= and by a manifest")
    return Query(
        _decoded_members(raw, settings),
        _options(pairs),
        manifest,
        _only(pairs, "v"),
        _is_plan(_only(pairs, "plan")),
        _only(pairs, "manifest_sha256"),
    )


def read_form(body: bytes, settings: Settings) -> Query:
    """Read an ``application/x-www-form-urlencoded`` body; a comma is part of a name here."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRequest("the form is not valid UTF-8") from error
    pairs = _pairs(text, settings)
    raw = _values(pairs, settings.parameter)
    return Query(_decoded_members(raw, settings), _options(pairs))


def _is_plan(value: str | None) -> bool:
    if value not in {None, "", "json"}:
        raise BadRequest(f"plan={shown(value or '')[1:-1]} is not known: a plan is plan=json")
    return value == "json"


def archive_query(query: str) -> str:
    """Return the query of the archive that the plan of this query is about."""
    return "&".join(part for part in query.split("&") if not is_plain_bundle(part, "plan"))


def pinned_query(query: str, version: str) -> str:
    """Return the same query with ``v=``, an entity tag's opaque text.

    One that has it already is left as it is: it was checked, and a signature may cover it.
    """
    if is_plain_bundle(query, "v"):
        return query
    return "&".join([*filter(None, query.split("&")), f"v={version}"])


def list_bundle(listed: Query, directory: str, settings: Settings) -> Bundle:
    """Make a bundle of a query or a form, its members relative to ``directory``."""
    members = [(path, path) for path in listed.members]
    return make_bundle(members, listed.options, directory, settings)


def make_bundle(members: Pairs, options: Options, directory: str, settings: Settings) -> Bundle:
    """Make a bundle of pairs of a path, relative to ``directory``, and a name in the archive."""
    if not members:
        raise BadRequest("no member is named: ask for at least one file")
    folder = _folder(options.folder, settings)
    format = _format(options.format)
    duplicates: Duplicates = _choice("duplicates", options.duplicates, get_args(Duplicates))
    entries = tuple(_entry(path, name, directory, folder, settings) for path, name in members)
    has_trees = any(entry.is_tree for entry in entries)
    names = [entry.name for entry in entries]
    try:
        if duplicates == "rename" and not has_trees:  # otherwise once all names are known
            names = renamed(names, strict=settings.strict_names)
            entries = tuple(map(Entry, (entry.path for entry in entries), names))
        if duplicates == "fail" or not has_trees:
            check_apart([*filter(None, names)], strict=settings.strict_names)
    except BadName as error:
        raise BadRequest(str(error)) from error
    for name, (_, given) in zip(names, members, strict=True):
        if name != given and name:
            _check("member", name.removesuffix("/") if has_trees else name, settings)
    include, exclude = _globs("include", options.include), _globs("exclude", options.exclude)
    if (include or exclude) and not has_trees:
        raise BadRequest("include and exclude choose from directories, and none is named")
    return Bundle(
        entries,
        _filename(options.filename, directory, format, settings),
        folder=folder,
        format=format,
        missing=_choice("missing", options.missing, get_args(Missing)),
        duplicates=duplicates,
        include=include,
        exclude=exclude,
    )


def _choice(name: str, value: str | None, choices: Sequence[T]) -> T:
    """Return which of the choices was made; the first, where none was."""
    if value is None:
        return choices[0]
    for choice in choices:
        if value == choice:
            return choice
    raise BadRequest(f"{name}={shown(value)[1:-1]} is not one of {', '.join(map(str, choices))}")


def _format(name: str | None) -> Format:
    if name is None:
        return FORMATS["tar"]
    if name not in FORMATS:
        raise BadRequest(f"the format {shown(name)} is not known: use {' or '.join(FORMATS)}")
    return FORMATS[name]


def _folder(folder: str | None, settings: Settings) -> str:
    """Return what stands before every name: nothing, or a directory with its slash."""
    if folder is None:
        return ""
    folder = folder.removesuffix("/")
    _check("folder", folder, settings)
    return folder + "/"


def _filename(filename: str | None, directory: str, format: Format, settings: Settings) -> str:
    if filename is None:
        return default_filename(directory, format.suffix)
    _check("filename", filename, settings)
    try:
        return archive_filename(filename, format.suffix)
    except BadName as error:
        raise BadRequest(f"the filename {shown(filename)} {error}") from error


def _entry(path: str, name: str, directory: str, folder: str, settings: Settings) -> Entry:
    """Make an entry of a path and a name; a slash at their end stands for a directory."""
    is_tree = path.endswith("/")
    if is_tree != name.endswith("/"):
        both = f"{shown(path)} is called {shown(name)}"
        raise BadRequest(f"{both}: a directory's path and name both end with a slash")
    if is_tree:
        path, name = ("" if text == "./" else text for text in (path, name))
    for text in dict.fromkeys((path, name)):
        if text or not is_tree:
            _check("member", text.removesuffix("/") if is_tree else text, settings)
    return Entry(directory + path, folder + name, is_tree=is_tree)


def _globs(what: str, globs: Sequence[str] | None) -> tuple[str, ...]:
    """Check globs. Raise `BadRequest` for one that can match nothing."""
    globs = tuple(globs or ())
    if len(globs) > _MOST_GLOBS:
        raise BadRequest(f"{what} is given {len(globs)} times: {_MOST_GLOBS} at most")
    for text in globs:
        try:
            if len(text.encode("utf-8", "surrogatepass")) > _LONGEST_GLOB:
                raise BadName(f"is longer than {_LONGEST_GLOB} bytes")
            Glob(text)
        except BadName as error:
            raise BadRequest(f"the {what} {shown(text)} {error}") from error
    return globs


@cache
def _has(parameter: str) -> re.Pattern[str]:
    """Make what finds a parameter, each character as itself or escaped; it is of ASCII."""
    return re.compile(rf"(?:^|&){_escaped_or_not(parameter)}(?![^=&])")


@cache
def _has_list(parameter: str) -> re.Pattern[str]:
    """Make what finds a parameter with brackets behind it, empty or around a number."""
    brackets = rf"(?:\[|%5[Bb])[0-9]{{0,{_INDEX_DIGITS}}}(?:\]|%5[Dd])"
    return re.compile(rf"(?:^|&){_escaped_or_not(parameter)}{brackets}(?![^=&])")


def _escaped_or_not(text: str) -> str:
    return "".join(f"(?:{c}|%{ord(c):02x}|%{ord(c):02X})" for c in text)


def _values(pairs: Pairs, parameter: str) -> list[str]:
    """Return a parameter's values; those of a list in brackets where it has no other."""
    if plain := [value for key, value in pairs if key == parameter]:
        return plain
    named = re.compile(rf"{re.escape(parameter)}\[[0-9]{{0,{_INDEX_DIGITS}}}\]")
    return [value for key, value in pairs if named.fullmatch(key)]


def _pairs(raw: str, settings: Settings) -> Pairs:
    """Split form-encoded text into pairs, keys decoded and values as they stand."""
    limit = settings.max_members + OTHER_PARAMETERS
    parts = [match[0] for match in islice(re.finditer("[^&]+", raw), limit + 1)]
    if len(parts) > limit:
        raise too_many(settings.max_members)
    return list(_decoded_keys(parts))


def _decoded_keys(parts: Sequence[str]) -> Iterator[tuple[str, str]]:
    for part in parts:
        key, _, value = part.partition("=")
        try:
            yield decode_form_value(key), value
        except BadName:
            continue  # no parameter of ours is called that


def _decoded_members(raw: Sequence[str], settings: Settings) -> tuple[str, ...]:
    if len(raw) > settings.max_members:
        raise too_many(settings.max_members)
    return tuple(_decoded(text, "member") for text in raw)


def _options(pairs: Pairs) -> Options:
    # An empty value is a form's field that was left empty.
    return Options(
        filename=_only(pairs, "filename") or None,
        folder=_only(pairs, "folder") or None,
        format=_only(pairs, "format") or None,
        missing=_only(pairs, "missing") or None,
        duplicates=_only(pairs, "duplicates") or None,
        include=_all(pairs, "include"),
        exclude=_all(pairs, "exclude"),
    )


def _all(pairs: Pairs, name: str) -> tuple[str, ...] | None:
    """Return the values of a parameter that may be repeated, without empty ones."""
    return tuple(_decoded(value, name) for key, value in pairs if key == name and value) or None


def _only(pairs: Pairs, name: str) -> str | None:
    """Find the value of a parameter that may be given once."""
    values = [value for key, value in pairs if key == name]
    if len(values) > 1:
        raise BadRequest(f"{name}= is given more than once")
    return _decoded(values[0], name) if values else None


def _decoded(raw: str, what: str) -> str:
    try:
        return decode_form_value(raw)
    except BadName as error:
        raise BadRequest(f"the {what} {shown(raw)} {error}") from error


def _check(what: str, name: str, settings: Settings) -> None:
    try:
        check_name(name, limit=settings.max_name)
    except BadName as error:
        raise BadRequest(f"the {what} {shown(name)} {error}") from error


def too_many(limit: int) -> ContentTooLarge:
    """Return the error of a list of more than ``limit`` members."""
    return ContentTooLarge(f"more than {limit} members are named: ask for them in several bundles")

"""What a request asks for: an ordered list of members and a file name.

Reads the query, a form or JSON into a `Bundle`, or refuses it with a `Refusal` that says what
was wrong. A list beyond the limits is noticed while it is read, before values are made of it.
Pure: text and bytes in, values out; no request object, no source.
"""

import re
from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from tar_gateway.archive.bundle import (
    Bundle,
    Entry,
    archive_filename,
    check_apart,
    default_filename,
)
from tar_gateway.errors import BadRequest, ContentTooLarge
from tar_gateway.http.paths import BadName, check_name, decode_form_value, shown
from tar_gateway.settings import Settings

# What a form or a query may hold beside its members; each costs a microsecond to look at.
_OTHER_PARAMETERS = 100

# Of an index that some clients write between brackets.
_INDEX_DIGITS = 6

_Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Query:
    """What a query or a form gives, decoded and, but for the manifest, not yet checked.

    ``manifest`` is the path of a file that holds the list, ``version`` the opaque text of the
    entity tag that the archive must have.
    """

    members: tuple[str, ...]
    filename: str | None = None
    manifest: str | None = None
    version: str | None = None


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
        _only(pairs, "filename") or None,  # a form's field that was left empty
        manifest,
        _only(pairs, "v"),
    )


def read_form(body: bytes, settings: Settings) -> Query:
    """Read an ``application/x-www-form-urlencoded`` body; a comma is part of a name here."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRequest("the form is not valid UTF-8") from error
    pairs = _pairs(text, settings)
    raw = _values(pairs, settings.parameter)
    return Query(_decoded_members(raw, settings), _only(pairs, "filename") or None)


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
    return _bundle(members, listed.filename, directory, settings)


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    path: str
    name: str | None = None


class _Manifest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    # The first fault is told, so no more are looked for.
    members: Annotated[
        list[Annotated[str | _Entry, Field(union_mode="left_to_right")]], Field(fail_fast=True)
    ]
    filename: str | None = None


_MANIFEST = TypeAdapter(_Manifest)

# A comma between values, or all that comes before the next one. Nothing is ever taken back, so
# that it takes no more time than the text is long, whatever that holds.
_JSON_COMMA = re.compile(rb'(?:[^",]++|"(?:[^"\\]++|\\.)*+"?)++|(,)', re.DOTALL)


def json_bundle(
    body: bytes, directory: str, settings: Settings, *, filename: str | None = None
) -> Bundle:
    """Make a bundle of the JSON list.

    ``{"members": ["a.pdf", {"path": "x/b.pdf", "name": "b.pdf"}], "filename": "mine.tar"}``,
    its members relative to ``directory``. A ``filename`` given here comes before the list's.
    """
    if _commas_exceed(body, 2 * settings.max_members):
        raise _too_many(settings.max_members)  # or it holds what no list holds
    try:
        manifest = _MANIFEST.validate_json(body.removeprefix(BOM_UTF8))
    except ValidationError as error:
        raise BadRequest(f"the JSON list is not understood: {_first_fault(error)}") from error
    if len(manifest.members) > settings.max_members:
        raise _too_many(settings.max_members)
    members = [
        (entry, entry)
        if isinstance(entry, str)
        else (entry.path, entry.path if entry.name is None else entry.name)
        for entry in manifest.members
    ]
    if filename is None:
        filename = manifest.filename
    return _bundle(members, filename, directory, settings)


def _commas_exceed(body: bytes, limit: int) -> bool:
    """Return whether a JSON text has more commas between its values than ``limit``.

    A list has one behind each member, one within each object, and one before the file name.
    No value is made: a text of 64 MiB, none of which is kept, can hold as many of them.
    """
    if body.count(b",") <= limit:  # those in names included: the common case
        return False
    commas = (match for match in _JSON_COMMA.finditer(body) if match[1])
    return next(islice(commas, limit, None), None) is not None


def _bundle(members: _Pairs, filename: str | None, directory: str, settings: Settings) -> Bundle:
    if not members:
        raise BadRequest("no member is named: ask for at least one file")
    requested = []
    for path, name in members:
        for text in dict.fromkeys((path, name)):
            _check("member", text, settings)
        requested.append(Entry(directory + path, name))
    try:
        check_apart([name for _, name in members], strict=settings.strict_names)
    except BadName as error:
        raise BadRequest(str(error)) from error
    if filename is None:
        return Bundle(tuple(requested), default_filename(directory))
    _check("filename", filename, settings)
    try:
        return Bundle(tuple(requested), archive_filename(filename))
    except BadName as error:
        raise BadRequest(f"the filename {shown(filename)} {error}") from error


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


def _values(pairs: _Pairs, parameter: str) -> list[str]:
    """Return a parameter's values; those of a list in brackets where it has no other."""
    if plain := [value for key, value in pairs if key == parameter]:
        return plain
    named = re.compile(rf"{re.escape(parameter)}\[[0-9]{{0,{_INDEX_DIGITS}}}\]")
    return [value for key, value in pairs if named.fullmatch(key)]


def _pairs(raw: str, settings: Settings) -> _Pairs:
    """Split form-encoded text into pairs, keys decoded and values as they stand."""
    limit = settings.max_members + _OTHER_PARAMETERS
    parts = [match[0] for match in islice(re.finditer("[^&]+", raw), limit + 1)]
    if len(parts) > limit:
        raise _too_many(settings.max_members)
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
        raise _too_many(settings.max_members)
    return tuple(_decoded(text, "member") for text in raw)


def _only(pairs: _Pairs, name: str) -> str | None:
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


def _too_many(limit: int) -> ContentTooLarge:
    return ContentTooLarge(f"more than {limit} members are named: ask for them in several bundles")


def _first_fault(error: ValidationError) -> str:
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    # Of a member that fits neither form, the last fault speaks of the fuller one.
    fault = next((f for f in reversed(faults) if f["loc"][:1] == ("members",)), faults[0])
    where = [str(step) for step in fault["loc"]]
    if len(where) > 2:
        del where[2]  # pydantic's name of the form
    message = fault["msg"]
    if fault["type"] == "model_type":
        message = "neither a text nor an object with a path" if where else "not an object"
    return f"{shown('.'.join(where))[1:-1]}: {message}" if where else message

"""What a request asks for: an ordered list of members and a file name.

Reads the query, a form or JSON into a `Bundle`, or refuses it with a `Refusal` that says what
was wrong. Pure: text and bytes in, values out; no request object, no source.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from tar_gateway.errors import BadRequest, ContentTooLarge
from tar_gateway.names import BadName, check_name, decode_once

DEFAULT_FILENAME = "bundle.tar"
_NUL = "\0"


@dataclass(frozen=True, slots=True)
class Requested:
    """One member as asked for: ``path`` below the source's base, ``name`` in the archive."""

    path: str
    name: str


@dataclass(frozen=True, slots=True)
class Bundle:
    """An ordered list of members, and what the archive is called."""

    members: tuple[Requested, ...]
    filename: str


@dataclass(frozen=True, slots=True)
class Listed:
    """The members and file name that a query or a form gives, decoded and not yet checked."""

    members: tuple[str, ...]
    filename: str | None


def is_bundle(query: str, parameter: str) -> bool:
    """Tell whether a raw query string has the parameter that asks for a bundle."""
    return any(key == parameter for key, _ in _pairs(query))


def read_query(query: str, *, parameter: str, max_members: int) -> Listed:
    """Read the raw query string of a bundle request.

    A literal comma separates members as a repeated parameter does; ``%2C`` is part of a name.
    """
    members: list[str] = []
    filename: str | None = None
    for key, value in _pairs(query):
        if key == parameter:
            if value:
                for part in value.split(","):
                    _append(members, part, max_members)
        elif key == "filename":
            filename = _only(filename, _decoded(value, "filename"))
    return Listed(tuple(members), filename)


def read_form(body: bytes, *, parameter: str, max_members: int) -> Listed:
    """Read an ``application/x-www-form-urlencoded`` body; a comma is part of a name here."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRequest("the form is not valid UTF-8") from error
    members: list[str] = []
    filename: str | None = None
    for key, value in _pairs(text):
        if key == parameter:
            _append(members, value, max_members)
        elif key == "filename":
            filename = _only(filename, _decoded(value, "filename"))
    return Listed(tuple(members), filename)


def list_bundle(listed: Listed, directory: str) -> Bundle:
    """Make a bundle of a query or a form, its members relative to ``directory``."""
    return _bundle([(path, path) for path in listed.members], listed.filename, directory)


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    path: str
    name: str | None = None


class _Manifest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    members: list[Annotated[str | _Entry, Field(union_mode="left_to_right")]]
    filename: str | None = None


_MANIFEST = TypeAdapter(_Manifest)


def json_bundle(body: bytes, directory: str, *, max_members: int) -> Bundle:
    """Make a bundle of the JSON list.

    ``{"members": ["a.pdf", {"path": "x/b.pdf", "name": "b.pdf"}], "filename": "mine.tar"}``,
    its members relative to ``directory``.
    """
    try:
        manifest = _MANIFEST.validate_json(body)
    except ValidationError as error:
        raise BadRequest(f"the JSON list is not understood: {_first_fault(error)}") from error
    if len(manifest.members) > max_members:
        raise _too_many(max_members)
    members = [
        (entry, entry)
        if isinstance(entry, str)
        else (entry.path, entry.path if entry.name is None else entry.name)
        for entry in manifest.members
    ]
    return _bundle(members, manifest.filename, directory)


def _bundle(members: Sequence[tuple[str, str]], filename: str | None, directory: str) -> Bundle:
    if not members:
        raise BadRequest("no member is named: ask for at least one file")
    requested = []
    for path, name in members:
        for text in dict.fromkeys((path, name)):
            try:
                check_name(text)
            except BadName as error:
                raise BadRequest(f"the member {_shown(text)} {error}") from error
        requested.append(Requested(directory + path, name))
    _check_apart([name for _, name in members])
    if filename is None:
        last = directory.rstrip("/").rpartition("/")[2]
        filename = f"{last}.tar" if last else DEFAULT_FILENAME
    else:
        _check_filename(filename)
    return Bundle(tuple(requested), filename)


def _check_apart(names: Sequence[str]) -> None:
    """Refuse what could not be unpacked side by side: a name twice, or as file and directory."""
    # NUL is in no name and sorts before everything: a directory comes right before what is in it.
    ordered = sorted(name.replace("/", _NUL) for name in names)
    for before, after in pairwise(ordered):
        if after == before:
            raise BadRequest(f"the member {_shown(after.replace(_NUL, '/'))} is named twice")
        if after.startswith(before + _NUL):
            raise BadRequest(
                f"the member {_shown(before.replace(_NUL, '/'))} would have to be "
                f"the directory of {_shown(after.replace(_NUL, '/'))}"
            )


def _check_filename(filename: str) -> None:
    try:
        check_name(filename)
    except BadName as error:
        raise BadRequest(f"the filename {_shown(filename)} {error}") from error
    if "/" in filename:
        raise BadRequest(f"the filename {_shown(filename)} contains a slash")


def _pairs(raw: str) -> Iterator[tuple[str, str]]:
    """Split form-encoded text into pairs, keys decoded and values as they stand."""
    for part in raw.split("&"):
        if part:
            key, _, value = part.partition("=")
            try:
                yield decode_once(key), value
            except BadName:
                continue  # no parameter of ours is called that


def _append(members: list[str], raw: str, max_members: int) -> None:
    if len(members) >= max_members:
        raise _too_many(max_members)
    members.append(_decoded(raw, "member"))


def _decoded(raw: str, what: str) -> str:
    try:
        return decode_once(raw)
    except BadName as error:
        raise BadRequest(f"the {what} {_shown(raw)} {error}") from error


def _only(before: str | None, now: str) -> str:
    if before is not None:
        raise BadRequest("the filename is given twice")
    return now


def _too_many(limit: int) -> ContentTooLarge:
    return ContentTooLarge(f"more than {limit} members are named: ask for them in several bundles")


def _shown(text: str) -> str:
    """Show a name within an error: quoted, never longer than a line."""
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    visible = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:120])
    return f"'{visible}{'…' if len(text) > 120 else ''}'"


def _first_fault(error: ValidationError) -> str:
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    # Of a member that fits neither form, the last fault speaks of the fuller one.
    fault = faults[-1] if faults[0]["loc"][:1] == ("members",) else faults[0]
    where = ".".join(str(step) for step in fault["loc"] if step not in {"str", "_Entry"})
    message = fault["msg"]
    if fault["type"] == "model_type":
        message = "neither a text nor an object with a path" if where else "not an object"
    return f"{where}: {message}" if where else message

"""What a request asks for: an ordered list of members and a file name.

Reads the query, a form or JSON into a `Bundle`, or refuses it with a `Refusal` that says what
was wrong. Pure: text and bytes in, values out; no request object, no source.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from tar_gateway.errors import BadRequest, ContentTooLarge
from tar_gateway.names import BadName, check_apart, check_name, decode_once, shown, url_path

DEFAULT_FILENAME = "bundle.tar"


@dataclass(frozen=True, slots=True)
class Requested:
    """One member as asked for.

    ``path`` is where it is below the source's base, with ``query`` behind it where there is
    one; ``name`` what it is called in the archive. ``size`` in bytes is there when whoever
    named the member gave it, so that nobody has to be asked.
    """

    path: str
    name: str
    query: str = ""
    size: int | None = None

    @property
    def is_directory(self) -> bool:
        """Tell whether it is a directory of the archive only, which stands for no file."""
        return self.name.endswith("/")

    @property
    def reference(self) -> str:
        """The path as a URL writes it, without a leading slash, and the query."""
        return url_path(self.path) + ("?" + self.query if self.query else "")


@dataclass(frozen=True, slots=True)
class Bundle:
    """An ordered list of members, and what the archive is called."""

    members: tuple[Requested, ...]
    filename: str


@dataclass(frozen=True, slots=True)
class Listed:
    """What a query or a form gives, decoded and, but for the manifest, not yet checked.

    ``manifest`` is the path of a file that holds the list, ``version`` the opaque text of the
    entity tag that the archive must have.
    """

    members: tuple[str, ...]
    filename: str | None = None
    manifest: str | None = None
    version: str | None = None


def is_bundle(query: str, parameter: str) -> bool:
    """Tell whether a raw query string has the parameter that asks for a bundle."""
    return any(key == parameter for key, _ in _pairs(query))


def read_query(query: str, *, parameter: str, max_members: int) -> Listed:
    """Read the raw query string of a bundle request.

    A literal comma separates members as a repeated parameter does; ``%2C`` is part of a name.
    """
    raw = [
        part
        for key, value in _pairs(query)
        if key == parameter and value
        for part in value.split(",")
    ]
    manifest = _only(query, "manifest")
    if manifest is not None:
        _check("manifest", manifest)
        if raw:
            raise BadRequest(f"members are named both in {parameter}= and by a manifest")
    return Listed(
        _decoded_members(raw, max_members),
        _only(query, "filename") or None,  # a form's field that was left empty
        manifest,
        _only(query, "v"),
    )


def read_form(body: bytes, *, parameter: str, max_members: int) -> Listed:
    """Read an ``application/x-www-form-urlencoded`` body; a comma is part of a name here."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRequest("the form is not valid UTF-8") from error
    raw = [value for key, value in _pairs(text) if key == parameter]
    return Listed(_decoded_members(raw, max_members), _only(text, "filename") or None)


def pinned_query(query: str, version: str) -> str:
    """Give the same query with ``v=`` set to an entity tag's opaque text."""
    kept = (part for part in query.split("&") if part and not _names(part, "v"))
    return "&".join([*kept, f"v={version}"])


def list_bundle(listed: Listed, directory: str) -> Bundle:
    """Make a bundle of a query or a form, its members relative to ``directory``."""
    return _bundle([(path, path) for path in listed.members], listed.filename, directory)


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    path: str
    name: str | None = None


class _Manifest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    # The first fault is told, so no more are looked for: there may be millions.
    members: Annotated[
        list[Annotated[str | _Entry, Field(union_mode="left_to_right")]], Field(fail_fast=True)
    ]
    filename: str | None = None


_MANIFEST = TypeAdapter(_Manifest)

# Bytes; no file system takes longer ones, and proxies refuse the header that they make.
_LONGEST_FILENAME = 255


def json_bundle(
    body: bytes, directory: str, *, max_members: int, filename: str | None = None
) -> Bundle:
    """Make a bundle of the JSON list.

    ``{"members": ["a.pdf", {"path": "x/b.pdf", "name": "b.pdf"}], "filename": "mine.tar"}``,
    its members relative to ``directory``. A ``filename`` given here comes before the list's.
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
    if filename is None:
        filename = manifest.filename
    return _bundle(members, filename, directory)


def _bundle(members: Sequence[tuple[str, str]], filename: str | None, directory: str) -> Bundle:
    if not members:
        raise BadRequest("no member is named: ask for at least one file")
    requested = []
    for path, name in members:
        for text in dict.fromkeys((path, name)):
            _check("member", text)
        requested.append(Requested(directory + path, name))
    try:
        check_apart([name for _, name in members])
    except BadName as error:
        raise BadRequest(str(error)) from error
    if filename is not None:
        _check_filename(filename)
    return Bundle(tuple(requested), filename or default_filename(directory))


def default_filename(directory: str) -> str:
    """Name an archive after the directory that it is of, given as ``""`` or ``"a/b/"``."""
    last = directory.rstrip("/").rpartition("/")[2]
    short = 0 < len(last.encode()) <= _LONGEST_FILENAME - len(".tar")
    return f"{last}.tar" if short else DEFAULT_FILENAME


def _check_filename(filename: str) -> None:
    _check("filename", filename)
    if "/" in filename:
        raise BadRequest(f"the filename {shown(filename)} contains a slash")
    if len(filename.encode()) > _LONGEST_FILENAME:
        raise BadRequest(f"the filename is longer than {_LONGEST_FILENAME} bytes")


def _names(part: str, parameter: str) -> bool:
    return any(key == parameter for key, _ in _pairs(part))


def _pairs(raw: str) -> Iterator[tuple[str, str]]:
    """Split form-encoded text into pairs, keys decoded and values as they stand."""
    for part in raw.split("&"):
        if part:
            key, _, value = part.partition("=")
            try:
                yield decode_once(key), value
            except BadName:
                continue  # no parameter of ours is called that


def _decoded_members(raw: Sequence[str], max_members: int) -> tuple[str, ...]:
    if len(raw) > max_members:
        raise _too_many(max_members)
    return tuple(_decoded(text, "member") for text in raw)


def _only(text: str, name: str) -> str | None:
    """Find the value of a parameter that may be given once."""
    values = [value for key, value in _pairs(text) if key == name]
    if len(values) > 1:
        raise BadRequest(f"{name}= is given more than once")
    return _decoded(values[0], name) if values else None


def _decoded(raw: str, what: str) -> str:
    try:
        return decode_once(raw)
    except BadName as error:
        raise BadRequest(f"the {what} {shown(raw)} {error}") from error


def _check(what: str, name: str) -> None:
    try:
        check_name(name)
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

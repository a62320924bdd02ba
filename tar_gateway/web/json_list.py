"""A JSON list of members, in a request's body or in a manifest, read into a bundle.

Pure: bytes in, a `Bundle` out, or a `Refusal` that says what was wrong. A list beyond the limits is
noticed before values are made of it.
"""

import re
from codecs import BOM_UTF8
from itertools import islice
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from tar_gateway.archive.bundle import Bundle
from tar_gateway.errors import BadRequest
from tar_gateway.http.paths import shown
from tar_gateway.settings import Settings
from tar_gateway.web.bundles import Options, make_bundle
from tar_gateway.web.query import OTHER_PARAMETERS, too_many


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
    folder: str | None = None
    format: str | None = None
    missing: str | None = None
    duplicates: str | None = None
    checksums: str | None = None
    include: list[str] | None = None
    exclude: list[str] | None = None


_MANIFEST = TypeAdapter(_Manifest)
_NO_OPTIONS = Options()

# A comma between values, or all that comes before the next one. Nothing is ever taken back, so
# that it takes no more time than the text is long, whatever that holds.
_JSON_COMMA = re.compile(rb'(?:[^",]++|"(?:[^"\\]++|\\.)*+"?)++|(,)', re.DOTALL)


def json_bundle(
    body: bytes, directory: str, settings: Settings, options: Options = _NO_OPTIONS
) -> Bundle:
    """Make a bundle of the JSON list.

    ``{"members": ["a.pdf", {"path": "x/b.pdf", "name": "b.pdf"}], "filename": "mine.tar"}``,
    its members relative to ``directory``. What ``options`` say comes before what the list says.
    """
    if _commas_exceed(body, 2 * settings.max_members + 3 * OTHER_PARAMETERS):
        raise too_many(settings.max_members)  # or it holds what no list holds
    try:
        manifest = _MANIFEST.validate_json(body.removeprefix(BOM_UTF8))
    except ValidationError as error:
        raise BadRequest(f"the JSON list is not understood: {_first_fault(error)}") from error
    if len(manifest.members) > settings.max_members:
        raise too_many(settings.max_members)
    members = [
        (entry, entry)
        if isinstance(entry, str)
        else (entry.path, entry.path if entry.name is None else entry.name)
        for entry in manifest.members
    ]
    include, exclude = (
        None if each is None else tuple(each) for each in (manifest.include, manifest.exclude)
    )
    said = Options(
        filename=manifest.filename,
        folder=manifest.folder,
        format=manifest.format,
        missing=manifest.missing,
        duplicates=manifest.duplicates,
        checksums=manifest.checksums,
        include=include,
        exclude=exclude,
    )
    return make_bundle(members, options.over(said), directory, settings)


def _commas_exceed(body: bytes, limit: int) -> bool:
    """Return whether a JSON text has more commas between its values than ``limit``.

    A list has one behind each member, one within each object, and one before each option.
    No value is made: a text of 64 MiB, none of which is kept, can hold as many of them.
    """
    if body.count(b",") <= limit:  # those in names included: the common case
        return False
    commas = (match for match in _JSON_COMMA.finditer(body) if match[1])
    return next(islice(commas, limit, None), None) is not None


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

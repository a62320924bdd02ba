"""What a request asks for, as its query or its form says it: texts in, a `Query` out.

A list beyond the limits is noticed while it is read, before values are made of it.
Pure: text and bytes in, values out; no request object, no source.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import islice

from tar_gateway.archive.bundle import Bundle
from tar_gateway.archive.picks import Pick, read_names, read_pick
from tar_gateway.delivery.walk import SEEN
from tar_gateway.errors import BadRequest, ContentTooLarge
from tar_gateway.http.paths import BadName, decode_form_value, shown
from tar_gateway.settings import Settings
from tar_gateway.web.bundles import Options, Pairs, check_text, make_bundle
from tar_gateway.web.form_data import boundary_of, count_parts, read_parts

# What a form or a query may hold beside its members; each costs a microsecond to look at.
OTHER_PARAMETERS = 100

# Of an index that some clients write between brackets.
_INDEX_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Query:
    """What a query or a form gives, decoded and, but for the manifest, not yet checked.

    ``manifest`` is the path of a file that holds the list, ``manifest_sha256`` its digest if told,
    ``version`` the opaque text of the archive's tag. ``is_plan``: the plan is wanted instead.
    """

    members: tuple[str, ...]
    options: Options = field(default_factory=Options)
    manifest: str | None = None
    version: str | None = None
    is_plan: bool = False
    manifest_sha256: str | None = None
    picks: tuple[Pick, ...] = ()
    is_form: bool = False
    """Whether it says that what is picked was sent by a form, and stands in no URL."""


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
        check_text("manifest", manifest, settings)
        if raw:
            raise BadRequest(f"members are named both in {parameter}= and by a manifest")
    picks, names = _picks(pairs, settings), _names(pairs, settings)
    if (picks or names) and (raw or manifest is not None):
        raise BadRequest(f"pick= and names= go neither with {parameter}= nor with a manifest")
    return Query(
        _decoded_members(raw, settings) or names,
        _options(pairs),
        manifest,
        _only(pairs, "v"),
        _is_plan(_only(pairs, "plan")),
        _only(pairs, "manifest_sha256"),
        picks,
        is_form=any(key == "pick" and not value for key, value in pairs),
    )


def read_form(body: bytes, settings: Settings) -> Query:
    """Read an ``application/x-www-form-urlencoded`` body; a comma is part of a name here."""
    return _form(form_pairs(body, settings), settings)


def form_pairs(body: bytes, settings: Settings) -> Pairs:
    """Split such a body into pairs, keys decoded and values as they stand."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRequest("the form is not valid UTF-8") from error
    return _pairs(text, settings)


def read_form_data(body: bytes, content_type: str, settings: Settings) -> Query:
    """Read a ``multipart/form-data`` body as the same form in the other encoding."""
    boundary = boundary_of(content_type)
    if count_parts(body, boundary) > settings.max_members + OTHER_PARAMETERS:
        raise too_many(settings.max_members)
    return _form(list(read_parts(body, boundary)), settings)


def _form(pairs: Pairs, settings: Settings) -> Query:
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
    if listed.is_form and not (members or listed.picks):
        raise BadRequest(
            "this was asked for by a form, and cannot be continued by its address: "
            "go back to the page and ask for it again"
        )
    return make_bundle(members, listed.options, directory, settings, listed.picks)


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


def _picks(pairs: Pairs, settings: Settings) -> tuple[Pick, ...]:
    """Read the picks of a query, each of another directory."""
    picks: dict[str, Pick] = {}
    most = settings.max_members
    for raw in (value for key, value in pairs if key == "pick" and value):
        text = _decoded(raw, "pick")
        try:
            pick = read_pick(text, largest=SEEN * most)
        except BadName as error:
            raise BadRequest(f"the pick {shown(text)} {error}") from error
        if pick.directory in picks:
            raise BadRequest(f"the directory {shown(pick.directory)} is picked from twice")
        if not pick.count:
            raise BadRequest(f"the pick {shown(text)} selects nothing")
        picks[pick.directory] = pick
    if sum(pick.count for pick in picks.values()) > most:
        raise too_many(most)
    return tuple(picks.values())


def _names(pairs: Pairs, settings: Settings) -> tuple[str, ...]:
    """Read the members that are packed into one value."""
    text = _only(pairs, "names")
    if not text:
        return ()
    try:
        names = read_names(text, largest=settings.max_body)
    except BadName as error:
        raise BadRequest(f"the value of names= {error}") from error
    if len(names) > settings.max_members:
        raise too_many(settings.max_members)
    return tuple(names)


def _options(pairs: Pairs) -> Options:
    # An empty value is a form's field that was left empty.
    return Options(
        filename=_only(pairs, "filename") or None,
        folder=_only(pairs, "folder") or None,
        format=_only(pairs, "format") or None,
        missing=_only(pairs, "missing") or None,
        duplicates=_only(pairs, "duplicates") or None,
        checksums=_only(pairs, "checksums") or None,
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


def too_many(limit: int) -> ContentTooLarge:
    """Return the error of a list of more than ``limit`` members."""
    return ContentTooLarge(f"more than {limit} members are named: ask for them in several bundles")

"""What a page's form says, and the shortest link that says the same.

Pure: what was sent and what is listed in, a query out.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from tar_gateway.archive.picks import Pick, pack_names
from tar_gateway.errors import BadRequest, ContentTooLarge
from tar_gateway.http.paths import BadName, check_name, decode_form_value, shown
from tar_gateway.settings import Settings
from tar_gateway.web.query import form_pairs, too_many

# Bytes of a query: nginx and gunicorn take lines of 8 KiB, in which other things stand as well.
_LONGEST = 6000

_VERSION = re.compile(r"([A-Za-z0-9_-]{12})\.([0-9a-z]{1,9})")
_RANGES = re.compile(r"[0-9]{1,9}(?:-[0-9]{1,9})?(?:,[0-9]{1,9}(?:-[0-9]{1,9})?)*")

# What a form says of the archive and its link repeats, but for what holds anyway.
_OPTIONS = {"format": "tar", "missing": "fail"}


@dataclass(frozen=True, slots=True)
class Ticked:
    """Entries of one directory's page by their indices, and which listing it was of."""

    directory: str
    digest: str
    time: int
    indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Selection:
    """What is ticked in one or more directories; nothing in any of them stands for everything."""

    ticked: tuple[Ticked, ...]
    options: Mapping[str, str]


def read_selection(body: bytes, settings: Settings) -> Selection:
    """Read a form. Raise `Refusal`.

    ``of`` and ``row`` are of the page itself, ``ticked`` what a script has kept of others, each as
    ``<directory>:<digest>.<time>:<indices>``, and ``all`` stands for everything here.
    """
    pairs = [(key, _decoded(key, raw)) for key, raw in form_pairs(body, settings)]
    options = {key: value for key, value in pairs if key in _OPTIONS and value}
    if any(key == "all" for key, _ in pairs):
        return Selection((), options)
    own = [value for key, value in pairs if key == "row"]
    texts = [value for key, value in pairs if key == "ticked"]
    if own:
        version = next((value for key, value in pairs if key == "of"), "")
        texts.insert(0, f":{version}:{','.join(own)}")
    ticked = {each.directory: each for each in (_ticked(t, settings) for t in texts)}
    if len(ticked) < len(texts):
        raise BadRequest("one directory is sent twice")
    if not ticked:
        raise BadRequest("nothing is selected: go back, and tick what you want")
    if sum(len(each.indices) for each in ticked.values()) > settings.max_members:
        raise too_many(settings.max_members)
    return Selection(tuple(ticked.values()), options)


def _decoded(key: str, raw: str) -> str:
    try:
        return decode_form_value(raw)
    except BadName as error:
        raise BadRequest(f"the field {shown(key)} {error}") from error


def _ticked(text: str, settings: Settings) -> Ticked:
    place, _, ranges = text.rpartition(":")
    directory, colon, version = place.rpartition(":")
    match = _VERSION.fullmatch(version)
    if not colon or match is None or not _RANGES.fullmatch(ranges):
        raise BadRequest(f"what is ticked is not understood: {shown(text)}")
    try:
        if directory:
            check_name(directory.removesuffix("/"), limit=settings.max_name)
        if directory and not directory.endswith("/"):
            raise BadName("has no slash at its end")
    except BadName as error:
        raise BadRequest(f"the directory {shown(directory)} {error}") from error
    indices = tuple(sorted(set(_indices(ranges, settings.max_members))))
    return Ticked(directory, match[1], int(match[2], 36), indices)


def _indices(ranges: str, most: int) -> Iterator[int]:
    seen = 0
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        start, stop = int(first), int(last or first) + 1
        seen += stop - start
        if seen > most:
            raise too_many(most)
        yield from range(start, stop)


def shortest_query(
    selection: Selection, listed: Sequence[Sequence[str]], settings: Settings
) -> str:
    """Return the shortest query that asks for what is ticked.

    ``listed`` are the names of each ticked directory, in the order of the indices. Few names stand
    there as they are, and hold whatever is added to the directory; many as a pick. Raise `Refusal`.
    """
    options = "".join(
        f"&{key}={quote(value)}"
        for key, value in selection.options.items()
        if value != _OPTIONS[key]
    )
    parameter = settings.parameter
    if not selection.ticked:
        return f"{parameter}=./{options}"
    names: list[str] = []
    picks: list[str] = []
    for each, there in zip(selection.ticked, listed, strict=True):
        if each.indices[-1] >= len(there):
            raise BadRequest(f"there is no entry {each.indices[-1]} in {shown(each.directory)}")
        names += (each.directory + there[index] for index in each.indices)
        pick = Pick.of(each.directory, there, each.indices, each.time)
        picks.append(f"pick={quote(str(pick), safe='/:')}")
    written = "&".join(f"{parameter}={quote(name)}" for name in names)
    said = min(
        written, f"{parameter}&{'&'.join(picks)}", f"{parameter}&names={pack_names(names)}", key=len
    )
    if len(said) + len(options) > _LONGEST:
        raise ContentTooLarge(
            "the selection is too long for a link: select whole directories, or fewer of them"
        )
    return said + options

"""From decoded members and options to a checked `Bundle`, or the `Refusal` that says what is wrong.

Whatever a list is written in, a query, a form or JSON, its bundle is made here.
Pure: texts in, values out.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Self, TypeVar, get_args

from tar_gateway.archive.bundle import (
    FORMATS,
    Bundle,
    Digests,
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
from tar_gateway.archive.picks import Pick
from tar_gateway.delivery.compression import CODINGS
from tar_gateway.errors import BadRequest
from tar_gateway.http.paths import BadName, check_name, shown
from tar_gateway.settings import Settings

# Globs of one kind in a request, and bytes of one: each is looked at for each name.
_MOST_GLOBS = 100
_LONGEST_GLOB = 1024

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
    checksums: str | None = None
    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] | None = None

    def over(self, other: Self) -> Self:
        """Return what is said here, and where nothing is, what ``other`` says."""
        said = {name: value for name, value in asdict(self).items() if value is not None}
        return replace(other, **said)


def make_bundle(
    members: Pairs,
    options: Options,
    directory: str,
    settings: Settings,
    picks: Sequence[Pick] = (),
) -> Bundle:
    """Make a bundle of pairs of a path, relative to ``directory``, and a name in the archive.

    ``picks`` are of directories besides, relative as well.
    """
    members = [*members, *((pick.directory or "./",) * 2 for pick in picks)]
    if not members:
        raise BadRequest("no member is named: ask for at least one file")
    folder = _folder(options.folder, settings)
    format = _format(options.format)
    duplicates: Duplicates = _choice("duplicates", options.duplicates, get_args(Duplicates))
    entries = tuple(_entry(path, name, directory, folder, settings) for path, name in members)
    named = len(members) - len(picks)
    picked = (replace(each, pick=p) for each, p in zip(entries[named:], picks, strict=True))
    entries = (*entries[:named], *picked)
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
            check_text("member", name.removesuffix("/") if has_trees else name, settings)
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
        checksums=_digests(options.checksums),
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


def _digests(value: str | None) -> Digests | None:
    """Return which digests are asked for, `None` where none are."""
    return None if value is None else _choice("checksums", value, get_args(Digests))


def _format(name: str | None) -> Format:
    if name is None:
        return FORMATS["tar"]
    made = [each for each, format in FORMATS.items() if format.coding in {None, *CODINGS}]
    if name in made:
        return FORMATS[name]
    why = "not installed here" if name in FORMATS else "not known"
    raise BadRequest(f"the format {shown(name)} is {why}: use {' or '.join(made)}")


def _folder(folder: str | None, settings: Settings) -> str:
    """Return what stands before every name: nothing, or a directory with its slash."""
    if folder is None:
        return ""
    folder = folder.removesuffix("/")
    check_text("folder", folder, settings)
    return folder + "/"


def _filename(filename: str | None, directory: str, format: Format, settings: Settings) -> str:
    if filename is None:
        return default_filename(directory, format.suffix)
    check_text("filename", filename, settings)
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
            check_text("member", text.removesuffix("/") if is_tree else text, settings)
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


def check_text(what: str, name: str, settings: Settings) -> None:
    """Check a name or path of a client's. Raise `BadRequest` that says which it is."""
    try:
        check_name(name, limit=settings.max_name)
    except BadName as error:
        raise BadRequest(f"the {what} {shown(name)} {error}") from error

"""Listings as JSON: of nginx (autoindex_format json), Caddy (browse), lighttpd, and npm's serve."""

import json
from datetime import datetime
from email.utils import formatdate
from typing import Any
from urllib.parse import unquote

from tar_gateway.http.validators import read_date
from tar_gateway.sources.listing.found import BadListing, Found
from tar_gateway.sources.listing.pages import found_by_link

# Entries after which Caddy stops without a word, unless its file_limit says otherwise.
_CADDY_LIMIT = 10_000

_CADDY_KEYS = frozenset({"name", "size", "url", "mod_time", "is_dir"})
_SERVE_KEYS = frozenset({"files", "directory", "paths"})


class _Unknown(BadListing):
    def __init__(self) -> None:
        super().__init__("its JSON is not a listing of a known kind")


def read_json(body: bytes, path: str) -> list[Found]:
    """Read the JSON of the directory at ``path``, a URL's path with its slash at the end.

    What is neither a file nor a directory, such as a pipe or a dangling link, is left out. Raise
    `BadListing`.
    """
    try:
        # nginx writes a name's bytes as they are; what is not UTF-8 is kept for the check to name.
        entries = json.loads(body.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError) as error:
        if body.startswith(b"{["):
            raise BadListing("its JSON is broken, as lighttpd's is before 1.4.77") from error
        raise BadListing("the listing is broken, or ended too early") from error
    try:
        if isinstance(entries, dict) and entries.keys() >= _SERVE_KEYS:
            return [found for each in entries["files"] if (found := _serves(each, path))]
        if not isinstance(entries, list):
            raise _Unknown
        if len(entries) == _CADDY_LIMIT and all(map(_is_caddys, entries)):
            raise BadListing(
                f"its server lists {_CADDY_LIMIT} entries at most: raise its file_limit"
            )
        return [found for each in entries if (found := _found(each, path)) is not None]
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        if isinstance(error, BadListing):
            raise
        raise _Unknown from error


def _found(entry: Any, path: str) -> Found | None:  # noqa: ANN401 - whatever JSON holds
    if _is_caddys(entry):
        return _caddys(entry, path)
    name, moment = entry["name"], entry["mtime"]
    if type(moment) is int:  # lighttpd's
        moment = formatdate(moment, usegmt=True)
    if not (isinstance(name, str) and isinstance(moment, str)):
        raise _Unknown
    match entry["type"]:
        case "directory" | "dir":
            return Found(name.removesuffix("/"), True, modified=moment)
        case "file":
            return Found(name, False, *_exact(_size(entry["size"]), moment))
        case "other":
            return None
    raise _Unknown


def _is_caddys(entry: object) -> bool:
    return isinstance(entry, dict) and entry.keys() >= _CADDY_KEYS


def _caddys(entry: dict[str, Any], path: str) -> Found:
    # Of a name that is not UTF-8 only the link has the bytes.
    found = found_by_link(entry["url"], path)
    if found is None:
        raise BadListing("it lists the directory above")
    is_directory = bool(found.is_directory or entry["is_dir"])
    if entry.get("is_symlink"):  # whose date is the link's
        return Found(found.name, is_directory)
    moment = datetime.fromisoformat(entry["mod_time"])
    modified = formatdate(int(moment.timestamp() // 1), usegmt=True)
    if is_directory:
        return Found(found.name, True, modified=modified)
    return Found(found.name, False, *_exact(_size(entry["size"]), modified))


def _serves(entry: Any, path: str) -> Found | None:  # noqa: ANN401 - whatever JSON holds
    """Read an entry of npm's serve; its sizes are rounded."""
    base, is_file = entry["base"], entry["type"] == "file"
    if base == ".." and entry["type"] == "directory":
        return None
    if not is_file and entry["type"] not in {"folder", "directory"}:
        raise _Unknown
    if entry["relative"] != unquote(path) + base:
        raise BadListing("its entries are those of another directory")
    return Found(base if is_file else base.removesuffix("/"), not is_file)


def _size(size: object) -> int:
    if type(size) is not int or size < 0:
        raise _Unknown
    return size


def _exact(size: int, modified: str) -> tuple[int, str] | tuple[None, None]:
    """Return both where the date is one that proves something."""
    return (size, modified) if read_date(modified) else (None, None)

"""Listings as JSON: names, sizes and dates of nginx (autoindex_format json) and Caddy (browse)."""

import json
from datetime import datetime
from email.utils import formatdate
from typing import Any

from tar_gateway.http.validators import read_date
from tar_gateway.sources.listing.found import BadListing, Found
from tar_gateway.sources.listing.pages import found_by_link

# Entries after which Caddy stops without a word, unless its file_limit says otherwise.
_CADDY_LIMIT = 10_000

_CADDY_KEYS = frozenset({"name", "size", "url", "mod_time", "is_dir"})


def read_json(body: bytes, path: str) -> list[Found]:
    """Read the JSON of the directory at ``path``, a URL's path with its slash at the end.

    What is neither a file nor a directory, such as a pipe or a dangling link, is left out. Raise
    `BadListing`.
    """
    try:
        # nginx writes a name's bytes as they are; what is not UTF-8 is kept for the check to name.
        entries = json.loads(body.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError) as error:
        raise BadListing("the listing is broken, or ended too early") from error
    if not isinstance(entries, list):
        raise BadListing("its JSON is not a listing of a known kind")
    if len(entries) == _CADDY_LIMIT and all(map(_is_caddys, entries)):
        raise BadListing(f"its server lists {_CADDY_LIMIT} entries at most: raise its file_limit")
    try:
        return [found for entry in entries if (found := _found(entry, path)) is not None]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, BadListing):
            raise
        raise BadListing("its JSON is not a listing of a known kind") from error


def _found(entry: Any, path: str) -> Found | None:  # noqa: ANN401 - whatever JSON holds
    if _is_caddys(entry):
        return _caddys(entry, path)
    if not (isinstance(entry["name"], str) and isinstance(entry["mtime"], str)):
        raise BadListing("its JSON is not a listing of a known kind")
    match entry["type"]:
        case "directory":
            return Found(entry["name"], True, None, _date(entry["mtime"]))
        case "file":
            told = _size(entry["size"]), entry["mtime"]
            return Found(entry["name"], False, *_exact(*told))
        case "other":
            return None
    raise BadListing("its JSON is not a listing of a known kind")


def _is_caddys(entry: object) -> bool:
    return isinstance(entry, dict) and entry.keys() >= _CADDY_KEYS


def _caddys(entry: dict[str, Any], path: str) -> Found:
    # Of a name that is not UTF-8 only the link has the bytes.
    found = found_by_link(entry["url"], path)
    if found is None:
        raise BadListing("it lists the directory above")
    if entry.get("is_symlink"):  # whose date is the link's
        return Found(found.name, bool(found.is_directory or entry["is_dir"]))
    moment = datetime.fromisoformat(entry["mod_time"])
    modified = formatdate(int(moment.timestamp() // 1), usegmt=True)
    if found.is_directory or entry["is_dir"]:
        return Found(found.name, True, None, _date(modified))
    return Found(found.name, False, *_exact(_size(entry["size"]), modified))


def _size(size: object) -> int:
    if type(size) is not int or size < 0:
        raise BadListing("its JSON is not a listing of a known kind")
    return size


def _exact(size: int, modified: str) -> tuple[int, str] | tuple[None, None]:
    """Return both where the date is one that proves something."""
    return (size, modified) if read_date(modified) else (None, None)


def _date(modified: str) -> str | None:
    return modified if read_date(modified) else None

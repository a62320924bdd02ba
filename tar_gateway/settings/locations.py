"""The file of locations: which paths belong to which servers, and what holds for them alone.

TOML tables ``[[location]]``, as nginx has ``location`` and ``upstream``. Read and checked here;
what is made of them is not known.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from tar_gateway.errors import SettingsError, WrongSetting
from tar_gateway.http.paths import BadName, check_name, shown
from tar_gateway.settings import Settings
from tar_gateway.settings.types import check_base_url

# The keys that stand for a setting within one location, by that setting's name.
_SETTINGS: Final = {
    "headers_file": "upstream_headers_file",
    "ca_file": "upstream_ca_file",
    "cert_file": "upstream_cert_file",
    "key_file": "upstream_key_file",
    "connect_timeout": "connect_timeout",
    "read_timeout": "read_timeout",
    "max_members": "max_members",
    "max_bytes": "max_bytes",
    "listings": "listings",
    "listing_exact": "listing_exact",
    "s3_endpoint": "s3_endpoint",
    "s3_region": "s3_region",
    "s3_profile": "s3_profile",
    "s3_public": "s3_public",
}
# Of these, what may be true or false.
_SWITCHES: Final = frozenset({"listing_exact", "s3_public"})

KEYS: Final = ("prefix", "upstream", *_SETTINGS)


@dataclass(frozen=True, slots=True)
class Location:
    """Equivalent upstreams for the paths below a prefix.

    ``prefix`` begins and ends with a slash, ``upstreams`` are base URLs of one server each, and
    ``settings`` are those of the gateway but for what the location says itself.
    """

    prefix: str
    upstreams: tuple[str, ...]
    settings: Settings


def read_locations(path: Path, settings: Settings) -> tuple[Location, ...]:
    """Read a file of locations; paths in it are relative to its own directory.

    Raise `SettingsError`, one line that names the file, the location by its number, and the
    key, for the first thing that is wrong.
    """
    try:
        document = tomllib.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: it is not valid UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: it is not TOML: {error}") from error
    tables = document.pop("location", None)
    if document:
        raise SettingsError(f"{path}: {_unknown(next(iter(document)), ['location'])}")
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise SettingsError(f"{path}: there is no [[location]] in it")
    locations: list[Location] = []
    for number, table in enumerate(tables, start=1):
        try:
            location = _read(table, path.parent, settings)
            if any(location.prefix == other.prefix for other in locations):
                raise ValueError(f"prefix: another location has {shown(location.prefix)}")
        except ValueError as error:
            raise SettingsError(f"{path}: location {number}: {error}") from error
        locations.append(location)
    return tuple(locations)


def _read(table: Mapping[str, Any], directory: Path, settings: Settings) -> Location:
    """Read one table. Raise `ValueError` with the key and what is wrong with it."""
    for key in table:
        if key not in KEYS:
            raise ValueError(_unknown(key, KEYS))
    for key in ("prefix", "upstream"):
        if key not in table:
            raise ValueError(f"{key}: it is missing")
    prefix, upstreams = _prefix(table["prefix"]), _upstreams(table["upstream"])
    own = _settings(table, directory, settings)
    try:
        own.check_guarded(upstreams)
    except SettingsError as error:
        raise ValueError(f"upstream: {error}") from error
    return Location(prefix, upstreams, own)


def _prefix(prefix: object) -> str:
    if not isinstance(prefix, str) or not (prefix.startswith("/") and prefix.endswith("/")):
        # Without the slash at its end it would be the prefix of other names as well.
        raise ValueError("prefix: it must be a path that begins and ends with a slash")
    if prefix != "/":
        try:
            check_name(prefix[1:-1])
        except BadName as error:
            raise ValueError(f"prefix: {shown(prefix)} {error}") from error
    return prefix


def _upstreams(given: object) -> tuple[str, ...]:
    urls = [given] if isinstance(given, str) else given
    if not isinstance(urls, list) or not urls:
        raise ValueError("upstream: it must be a base URL, or a list of them")
    checked = []
    for url in urls:
        try:
            base = check_base_url(url)
        except WrongSetting as error:  # whose value may hold a password
            raise ValueError(f"upstream: {error.reason}") from error
        if base in checked:
            raise ValueError("upstream: a URL stands there twice")
        checked.append(base)
    return tuple(checked)


def _settings(table: Mapping[str, Any], directory: Path, settings: Settings) -> Settings:
    changes: dict[str, Any] = {}
    for key, name in _SETTINGS.items():
        if key in table:
            value = table[key]
            if isinstance(value, bool) and key in _SWITCHES:
                pass
            elif isinstance(value, bool) or not isinstance(value, str | int | float):
                raise ValueError(f"{key}: it is neither a text nor a number")
            changes[name] = directory / str(value) if key.endswith("_file") else value
    try:
        return replace(settings, **changes)
    except WrongSetting as error:
        key = next(key for key, setting in _SETTINGS.items() if setting == error.name)
        raise ValueError(f"{key}: {error.value}: {error.reason}") from error


def _unknown(key: str, known: tuple[str, ...] | list[str]) -> str:
    close = get_close_matches(key, known, n=1)
    return f"{shown(key)} is not a key" + (f"; did you mean '{close[0]}'?" if close else "")

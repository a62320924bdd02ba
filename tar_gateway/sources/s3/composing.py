"""The three requests that may be signed: GET and HEAD of one key, and a list below the prefix.

Made of a checked name, a range and conditions, and of nothing else that a caller has sent. Pure.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from tar_gateway.errors import BadRequest, PreconditionFailed, SourceError
from tar_gateway.http.paths import BadName, check_name, decode_path, shown
from tar_gateway.http.validators import read_date
from tar_gateway.settings.buckets import IN_HOST
from tar_gateway.sources.wire.response import Headers

# Bytes of a key, the prefix included.
_LONGEST_KEY = 1024

CHECKSUM_MODE: Final = ("x-amz-checksum-mode", "ENABLED")

# A single range (RFC 9110 14.1.2); several are answered with the whole, as a server may.
_RANGE = re.compile(r"bytes=[ \t]*(?:([0-9]{1,19})-([0-9]{0,19})|-([0-9]{1,19}))[ \t]*")

_TAG = r'"[\x21\x23-\x7e]*"'
_STRONG = re.compile(_TAG)
_TAGS = re.compile(rf"[ \t]*(?:W/)?{_TAG}(?:[ \t]*,[ \t]*(?:W/)?{_TAG})*[ \t]*")


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a bucket is, and what of it may be asked for: keys that begin with ``prefix``.

    ``endpoint`` is the store's URL without a slash at its end, `None` for AWS's own.
    """

    bucket: str
    prefix: str
    endpoint: str | None = None

    def origin(self, region: str) -> str:
        """Return the URL of the host that is asked, which at AWS depends on the region."""
        if self.endpoint is not None:
            return self.endpoint.replace(IN_HOST, self.bucket) + "/"
        domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        before = f"{self.bucket}." if self._in_host else ""
        return f"https://{before}s3.{region}.{domain}/"

    @property
    def _in_host(self) -> bool:
        if self.endpoint is not None:
            return IN_HOST in self.endpoint
        return "." not in self.bucket  # of which no certificate's wildcard takes more than one part

    def key(self, path: str) -> str:
        """Return the key that a reference stands for.

        Raise `SourceError` for what is no file here, and `BadRequest` for a query or a name that
        could be taken for another.
        """
        name = self._name(path)
        if not name or name.endswith("/"):
            raise SourceError("it is a directory: it has no content of its own", status=404)
        return self._below(name)

    def prefix_of(self, path: str) -> str:
        """Return what the keys in the directory at a reference begin with. Raise as `key` does."""
        name = self._name(path)
        if name and not name.endswith("/"):
            raise SourceError("it is no directory: that has a slash at its end", status=404)
        return self._below(name) if name else self.prefix

    def object_target(self, key: str) -> str:
        """Return the path that asks for a key."""
        return f"{self._root}/{quote(key, safe='/-._~')}"

    def list_target(
        self, prefix: str, *, deep: bool = False, token: str | None = None, limit: int | None = None
    ) -> str:
        """Return the path and query that list keys: with those below directories, if ``deep``."""
        query = {"encoding-type": "url", "list-type": "2", "prefix": prefix}
        if not deep:
            query["delimiter"] = "/"
        if token is not None:
            query["continuation-token"] = token
        if limit is not None:
            query["max-keys"] = str(limit)
        pairs = sorted(f"{name}={quote(value, safe='-._~')}" for name, value in query.items())
        return f"{self._root or '/'}?{'&'.join(pairs)}"

    @property
    def _root(self) -> str:
        return "" if self._in_host else f"/{self.bucket}"

    def _name(self, path: str) -> str:
        """Return the decoded name of a reference, checked as every member's is."""
        if "?" in path:
            raise BadRequest("a bucket's files take no query: ask for the path alone")
        if re.search("%2f", path, re.IGNORECASE):
            raise BadRequest("the path has an encoded slash: write it as /")
        try:
            name = decode_path(path)
            if name:
                check_name(name.removesuffix("/"))
        except BadName as error:
            raise BadRequest(f"the name {shown(path)} {error}") from error
        return name

    def _below(self, name: str) -> str:
        key = self.prefix + name
        if len(key.encode("utf-8")) > _LONGEST_KEY:
            raise SourceError("it does not exist: its name is longer than a key can be", status=404)
        return key


@dataclass(frozen=True, slots=True)
class Wish:
    """What a plain request asks for besides its path, written anew.

    ``if_range`` are the headers that prove a range to be of the version that the client has a part
    of: where they fail, it is given the whole. Stores do not know If-Range.
    """

    conditions: Headers
    range: Headers = ()
    if_range: Headers = ()

    @classmethod
    def of(cls, method: str, headers: Iterable[tuple[str, str]]) -> "Wish":
        """Read the range and the conditions of a caller's headers, and nothing else."""
        given = {name.lower(): value for name, value in headers}
        conditions = [*_tags(given), *_dates(given)]
        part = _range(given.get("range", "")) if method == "GET" else ()
        told = given.get("if-range")
        if not part or told is None:
            return cls(conditions, part)
        if any(name in {"If-Match", "If-Unmodified-Since"} for name, _ in conditions):
            return cls(conditions)  # both can't be asked at once
        if _STRONG.fullmatch(told.strip()):
            return cls(conditions, part, [("If-Match", told.strip())])
        return cls(conditions)  # a date may be of two versions


def _range(text: str) -> Headers:
    match = _RANGE.fullmatch(text)
    if match is None or (match[1] and match[2] and int(match[2]) < int(match[1])):
        return ()
    span = f"-{int(match[3])}" if match[3] else f"{int(match[1])}-{match[2] and int(match[2])}"
    return [("Range", f"bytes={span}")]


def _tags(given: Mapping[str, str]) -> Headers:
    found = []
    for name in ("If-Match", "If-None-Match"):
        text = given.get(name.lower())
        if text is None:
            continue
        tags = re.findall(rf"(?:W/)?{_TAG}", text) if _TAGS.fullmatch(text) else []
        if name == "If-None-Match":  # compared weakly: a front may have made the tag weak
            tags = [tag.removeprefix("W/") for tag in tags]
        tags = ["*"] if text.strip() == "*" else [tag for tag in tags if not tag.startswith("W/")]
        if tags:
            found.append((name, ", ".join(tags)))
        elif name == "If-Match":
            raise PreconditionFailed("If-Match names no version that this file could have")
    return found


def _dates(given: Mapping[str, str]) -> Headers:
    names = ("If-Modified-Since", "If-Unmodified-Since")
    return [
        (name, given[name.lower()].strip())
        for name in names
        if read_date(given.get(name.lower(), "").strip()) is not None
    ]

"""Listings by WebDAV (RFC 4918): the responses to a PROPFIND of Depth 1, as a multistatus."""

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote_to_bytes, urlsplit
from xml.etree.ElementTree import Element

from tar_gateway.http.paths import below, shown
from tar_gateway.http.validators import read_date
from tar_gateway.sources.listing.found import BadListing, Found
from tar_gateway.sources.listing.markup import parse_xml

_DAV = "{DAV:}"

# Some servers leave the quotes out here that their header has (RFC 9110 8.8.3).
_BARE_ETAG = re.compile(r"[\x21\x23-\x7e\x80-\xff]+")
_ETAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')

_STATUS = re.compile(r"HTTP/[0-9.]+ ([0-9]{3})(?: .*)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Resource:
    """One response of a multistatus: its path, and the properties that it has."""

    path: str
    status: int
    properties: list[Element]

    @property
    def is_collection(self) -> bool:
        for prop in self.properties:
            if (kind := prop.find(f"{_DAV}resourcetype")) is not None:
                return kind.find(f"{_DAV}collection") is not None
        return self.path.endswith("/")

    def text(self, name: str) -> str:
        for prop in self.properties:
            if (text := prop.findtext(_DAV + name)) is not None:
                return text.strip()
        return ""


def read_multistatus(body: bytes, path: str) -> list[Found]:
    """Read what is directly below the collection at ``path``, a URL's path with its slash.

    Hosts of absolute references are not looked at: behind a proxy they are others. Raise
    `BadListing`, also where the collection itself is not among the responses.
    """
    root = parse_xml(body)
    if root.tag != f"{_DAV}multistatus":
        raise BadListing("its XML is not a multistatus")
    here, itself, found = unquote_to_bytes(path), None, []
    for resource in map(_resource, root.findall(f"{_DAV}response")):
        if resource.status == 507:  # RFC 4918 11.5, as RFC 5323 has it for results cut off
            raise BadListing("its server lists a part of it only (507)")
        if unquote_to_bytes(resource.path).rstrip(b"/") == here.rstrip(b"/"):
            itself = resource
            continue
        found.append(_found(resource, path, here))
    if itself is None:
        raise BadListing("the directory itself is not in the multistatus")
    if not itself.is_collection:
        raise BadListing("it is a file, and not a directory")
    return found


def _resource(response: Element) -> _Resource:
    href = (response.findtext(f"{_DAV}href") or "").strip()
    try:
        path = urlsplit(href).path if "://" in href else href
    except ValueError as error:
        raise BadListing(f"it names {shown(href)}, which is no reference") from error
    if not path.startswith("/"):
        raise BadListing(f"it names {shown(href)}, which is not below it")
    properties: list[Element] = []
    for propstat in response.findall(f"{_DAV}propstat"):
        # What a resource does not have stands in one of 404.
        if _status(propstat.findtext(f"{_DAV}status")) == 200:
            properties += propstat.findall(f"{_DAV}prop")
    return _Resource(path, _status(response.findtext(f"{_DAV}status")), properties)


@lru_cache(maxsize=16)  # most are the same
def _status(text: str | None) -> int:
    if text is None:
        return 200
    match = _STATUS.fullmatch(text.strip())
    if match is None:
        raise BadListing("it has a status that is none")
    return int(match[1])


def _found(resource: _Resource, at: str, here: bytes) -> Found:
    path = resource.path
    # As a rule both are spelled alike.
    rest = path.removeprefix(at) if path.startswith(at) else below(path, here)
    name = None if rest is None else rest.removesuffix("/")
    if not name or re.search("[/?#]", name):
        raise BadListing(f"it names {shown(resource.path)}, which is not directly below it")
    decoded = unquote_to_bytes(name).decode("utf-8", "surrogateescape")
    modified = resource.text("getlastmodified")
    modified = modified if read_date(modified) else ""
    if resource.is_collection:
        return Found(decoded, True, modified=modified or None)
    size, etag = resource.text("getcontentlength"), resource.text("getetag")
    if _BARE_ETAG.fullmatch(etag) and not etag.startswith("W/"):
        etag = f'"{etag}"'
    exact = re.fullmatch("[0-9]{1,19}", size)
    return Found(
        decoded,
        False,
        int(size) if exact else None,
        modified or None,
        etag if _ETAG.fullmatch(etag) else None,
    )

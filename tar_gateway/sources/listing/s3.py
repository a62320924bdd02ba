"""A page of ListObjectsV2: keys below a prefix, with sizes, entity tags and dates."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import unquote_plus
from xml.etree import ElementTree

from tar_gateway.sources.listing.found import BadListing
from tar_gateway.sources.listing.markup import parse_xml

# Storage classes whose objects have to be restored before they can be read.
_ARCHIVED = frozenset({"GLACIER", "DEEP_ARCHIVE"})

_OPAQUE = re.compile(r"[\x21\x23-\x7e]+")


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One key; ``size`` in bytes, ``mtime`` in seconds since 1970.

    ``etag`` is as GET's header writes it, `None` where the list does not tell it. ``archived``: it
    may have to be restored first.
    """

    key: str
    size: int
    mtime: int
    etag: str | None
    archived: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """Keys, and prefixes of more keys up to the delimiter; ``token`` asks for the next page."""

    objects: tuple[StoredObject, ...]
    prefixes: tuple[str, ...]
    token: str | None


def read_keys(body: bytes, prefix: str) -> Page:
    """Read a page that was asked for with ``prefix``. Raise `BadListing`."""
    root = parse_xml(body)
    if _name(root) != "ListBucketResult":
        raise BadListing("its XML is not a list of keys")
    told = {_name(each): each.text or "" for each in root}
    decoded = unquote_plus if told.get("EncodingType") == "url" else str
    objects = [
        _object(fields, decoded(_of(fields, "Key")), prefix) for fields in _fields(root, "Contents")
    ]
    prefixes = []
    for fields in _fields(root, "CommonPrefixes"):
        below = decoded(_of(fields, "Prefix"))
        _check_below(below, prefix)
        if not below.endswith("/"):
            raise BadListing("it lists a prefix that ends with no slash")
        prefixes.append(below)
    match told.get("IsTruncated"):
        case "false":
            token = None
        case "true" if told.get("NextContinuationToken"):
            token = told["NextContinuationToken"]
        case _:
            raise BadListing("it does not tell how it goes on")
    return Page(tuple(objects), tuple(prefixes), token)


def _object(fields: dict[str, str], key: str, prefix: str) -> StoredObject:
    _check_below(key, prefix)
    size = _of(fields, "Size")
    if not re.fullmatch("[0-9]{1,19}", size):
        raise BadListing("it lists a key without a size")
    try:
        moment = datetime.fromisoformat(_of(fields, "LastModified"))
        mtime = max(0, int(moment.timestamp() // 1))
    except (ValueError, OverflowError) as error:
        raise BadListing("it lists a key without a date") from error
    opaque = fields.get("ETag", "").strip().removeprefix('"').removesuffix('"')
    etag = f'"{opaque}"' if _OPAQUE.fullmatch(opaque) else None
    return StoredObject(key, int(size), mtime, etag, fields.get("StorageClass") in _ARCHIVED)


def _check_below(key: str, prefix: str) -> None:
    if not key.startswith(prefix):  # and is nothing that a client should hear of
        raise BadListing("it lists a key that is not below it")


def _fields(root: ElementTree.Element, name: str) -> Iterator[dict[str, str]]:
    for each in root:
        if _name(each) == name:
            yield {_name(field): field.text or "" for field in each}


def _of(fields: dict[str, str], name: str) -> str:
    if name not in fields:
        raise BadListing(f"it lists a key without {name}")
    return fields[name]


def _name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]

"""XML as servers write it, and nginx's listings in it (autoindex_format xml)."""

from datetime import datetime
from email.utils import formatdate
from xml.etree import ElementTree

from tar_gateway.sources.listing.found import BadListing, Found


class _Builder(ElementTree.TreeBuilder):
    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        # Called by the parser itself, so no encoding of the document hides one.
        raise BadListing("its XML has a document type, as no listing has")


def parse_xml(body: bytes) -> ElementTree.Element:
    """Parse a document without a document type, and so without entities. Raise `BadListing`."""
    parser = ElementTree.XMLParser(target=_Builder())  # noqa: S314 - no document type
    try:
        parser.feed(body)
        root: ElementTree.Element = parser.close()
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        if isinstance(error, BadListing):
            raise
        raise BadListing(
            "its XML is broken, ended too early, or holds a name that is not valid UTF-8"
        ) from error
    return root


def read_nginx_xml(body: bytes) -> list[Found]:
    """Read nginx's XML. What is neither a file nor a directory is left out. Raise `BadListing`."""
    root = parse_xml(body)
    if root.tag != "list":
        raise BadListing("its XML is not a listing of a known kind")
    found = []
    for each in root:
        name = each.text or ""
        try:
            if each.tag == "directory":
                found.append(Found(name, True, modified=_date(each.attrib["mtime"])))
            elif each.tag == "file":
                size = int(each.attrib["size"])
                if size < 0:
                    raise ValueError(size)
                found.append(Found(name, False, size, _date(each.attrib["mtime"])))
            elif each.tag != "other":
                raise ValueError(each.tag)
        except (KeyError, ValueError, OverflowError) as error:
            raise BadListing("its XML is not a listing of a known kind") from error
    return found


def _date(text: str) -> str:
    return formatdate(datetime.fromisoformat(text).timestamp(), usegmt=True)

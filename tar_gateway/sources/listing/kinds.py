"""How directories are asked for, by the kinds that LISTINGS names, and how the answers are read.

``auto`` is the one GET that a client could send, and only what a server of a known kind lists.
Where an operator names a kind, there is a question that may list where a GET is refused
(``webdav``, ``lighttpd``, ``apache``), or a page is believed whatever it looks like (``html``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tar_gateway.sources.listing.documents import read_json
from tar_gateway.sources.listing.found import BadListing, Found
from tar_gateway.sources.listing.markup import read_nginx_xml
from tar_gateway.sources.listing.pages import read_links, read_page
from tar_gateway.sources.listing.webdav import read_multistatus

_XML = frozenset({"application/xml", "text/xml"})


@dataclass(frozen=True, slots=True)
class Kind:
    """One request: its method, what follows the directory's path, its headers, and its status."""

    accept: str
    method: str = "GET"
    query: str = ""
    more: tuple[tuple[str, str], ...] = ()
    status: int = 200
    any_page: bool = False

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """The headers of the request, but for those of every request."""
        return ("Accept", self.accept), *self.more

    def read(self, body: bytes, media_type: str, path: str) -> list[Found]:
        """Read an answer of this media type, in lower case. Raise `BadListing`.

        ``path`` is the directory's as its server knows it, a URL's path with its slash.
        """
        if self.status == 207:
            if media_type not in _XML:
                raise BadListing("the answer to PROPFIND is not XML")
            return read_multistatus(body, path)
        if media_type == "application/json":
            return read_json(body, path)
        if media_type in _XML:
            return read_nginx_xml(body)
        if media_type not in {"text/html", "application/xhtml+xml"}:
            raise BadListing("the response is neither JSON, XML nor HTML")
        return read_links(body, path) if self.any_page else read_page(body, path)


KINDS: Final[Mapping[str, Kind]] = {
    "auto": Kind("application/json, text/html;q=0.5"),
    "json": Kind("application/json"),
    "html": Kind("text/html", any_page=True),
    # Depth 1 always: servers refuse infinity, or answer it with less (RFC 4918 10.2). Without a
    # body all properties are asked for (9.1).
    "webdav": Kind("application/xml", "PROPFIND", more=(("Depth", "1"),), status=207),
    "lighttpd": Kind("application/json", query="?json"),
    "apache": Kind("text/html", query="?F=0"),
}

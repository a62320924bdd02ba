"""Listings as pages of HTML: names from their links, and nothing else.

Of nginx, Apache (mod_autoindex), lighttpd and Python's http.server. Sizes are rounded there and
dates without a second or a zone, so neither is read.
"""

import re
from html.parser import HTMLParser
from urllib.parse import unquote, unquote_to_bytes

from tar_gateway.http.paths import shown
from tar_gateway.sources.listing.found import BadListing, Found

# What the title begins with, before the path of the directory.
_TITLE = re.compile(r"(?:Index of|Directory listing for) (/.*)", re.DOTALL)

# The sorting links of mod_autoindex; a file's name begins with no question mark there.
_SORTING = re.compile(r"\?[CNMSDOA=;&]+")

# What a link to another place begins with; a name with a colon stands behind ``./``.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")

# What no listing of these servers has, and pages of applications do.
_FOREIGN = frozenset({"form", "iframe", "input", "script"})


class _Page(HTMLParser):
    """The title, the links and the foreign elements of a page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title: list[str] = []
        self.links: list[str] = []
        self.foreign: str | None = None
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _FOREIGN:
            self.foreign = tag
        self._in_title = tag == "title"
        if tag == "a":
            self.links.extend(value or "" for name, value in attrs if name == "href")
        elif tag == "base":
            self.foreign = tag

    def handle_endtag(self, tag: str) -> None:
        self._in_title = False

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title.append(data)


def read_page(body: bytes, path: str) -> list[Found]:
    """Read the page of the directory at ``path``, a URL's path with its slash at the end.

    Raise `BadListing`.
    """
    if not body.rstrip().lower().endswith(b"</html>"):
        raise BadListing("the listing ended too early")
    page = _Page()
    # A name's bytes stand in its link, escaped; only the title may have others than UTF-8.
    page.feed(body.decode("utf-8", "surrogateescape"))
    page.close()
    title = _TITLE.fullmatch("".join(page.title).strip("\r\n"))
    here = unquote(path, errors="surrogateescape").strip("/")
    if page.foreign or title is None or title[1].strip("/") != here:
        raise BadListing("its page is not a listing of a known kind")
    return [found for link in page.links if (found := found_by_link(link, path)) is not None]


def found_by_link(link: str, path: str) -> Found | None:
    """Return what a link of a listing names, `None` for one to the parent or that sorts.

    Raise `BadListing` for a link to any other place.
    """
    if _SORTING.fullmatch(link) or link in {"../", ".."} or link == parent_of(path):
        return None
    explicit = link.startswith("./")
    name = link.removeprefix("./").removeprefix(path)
    is_directory = name.endswith("/")
    name = name.removesuffix("/")
    if not name or re.search("[/?#]", name) or (not explicit and _SCHEME.match(name)):
        raise BadListing(f"it links to {shown(link)}, which is not directly below it")
    # What is not UTF-8 is kept, so that the check names it.
    return Found(unquote_to_bytes(name).decode("utf-8", "surrogateescape"), is_directory)


def parent_of(path: str) -> str:
    """Return the path of the directory above, with its slash."""
    return path.rstrip("/").rpartition("/")[0] + "/"

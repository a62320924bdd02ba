"""Listings as pages of HTML: names from their links, and nothing else.

Of nginx, Apache (mod_autoindex), lighttpd, busybox, npm's http-server and Python's http.server, and
of others where an operator says that their pages are listings. Sizes are rounded there and dates
without a second or a zone, so neither is read.

Pages are parsed by Lexbor (selectolax), as a browser does and in linear time; the standard
library's parser takes twenty times as long, and a square of the length for some pages.
"""

import re
from collections.abc import Iterator
from urllib.parse import unquote, unquote_to_bytes, urljoin, urlsplit

from selectolax.lexbor import LexborHTMLParser, LexborNode

from tar_gateway.http.paths import below, shown
from tar_gateway.sources.listing.found import BadListing, Found

# What the title begins with, before the path of the directory.
_TITLE = re.compile(r"(?:Index of|Directory listing for) (/.*)", re.DOTALL)

# The sorting links of mod_autoindex; a file's name begins with no question mark there.
_SORTING = re.compile(r"\?[CNMSDOA=;&]+")

# What a link to another place begins with; a name with a colon stands behind ``./``.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")

# What no listing of these servers has, and pages of applications do.
_FOREIGN = "base, form, iframe, input, script"

# The script by which lighttpd's pages sort themselves.
_SORTS_ITSELF = "click_column"

# The last row of busybox's page (httpd_indexcgi.c), which counts what is above it. No tag is closed
# after it.
_COUNTS = re.compile(
    rb"<tr class=foot><th class=cnt>Files: ([0-9]+), directories: ([0-9]+)"
    rb"<th class=sz>[0-9]+<th class=dt>\s*\Z"
)


def read_page(body: bytes, path: str) -> list[Found]:
    """Read the page of the directory at ``path``, as a server of a known kind writes it.

    ``path`` is a URL's path with its slash at the end. Raise `BadListing`.
    """
    page, counts = _whole(body)
    title = page.css_first("title")
    match = _TITLE.fullmatch(title.text().strip("\r\n") if title else "")
    here = unquote(path, errors="replace").strip("/")
    # The title holds the path as text, or as busybox does, as it was asked for.
    if not match or here not in {match[1].strip("/"), unquote(match[1]).strip("/")}:
        raise BadListing("its page is not a listing of a known kind")
    if any(_SORTS_ITSELF not in node.text() for node in page.css(_FOREIGN)):
        raise BadListing("its page is not a listing of a known kind")
    # http-server's name is a link to its home.
    links = [link for link in _links(page) if not _is_address(link)]
    found = [each for link in links if (each := found_by_link(_target(link), path)) is not None]
    directories = sum(each.is_directory for each in found)
    if counts and (len(found) - directories, directories) != counts:
        raise BadListing("its page does not hold as many names as it says")
    return found


def read_links(body: bytes, path: str) -> list[Found]:
    """Read what the links of any page name that lead directly below ``path``.

    Other links are passed over: to above, to elsewhere, deeper, or with a query. So any page is
    taken for a listing. Raise `BadListing` for one that is cut off.
    """
    page, _ = _whole(body)
    base = page.css_first("base[href]")
    start = path if base is None else urljoin(path, base.attributes["href"] or "")
    here, found = unquote_to_bytes(path), dict[str, Found]()
    for link in map(_target, _links(page)):
        try:
            parts = urlsplit(urljoin(start, link.strip()))
        except ValueError:
            continue
        rest = below(parts.path, here) if not (parts.netloc or parts.query) else None
        name = rest.removesuffix("/") if rest else ""
        # A link within the page names its directory; parameters cut a segment at some servers.
        if name and "/" not in name and "#" not in link and parts.scheme == "":
            decoded = unquote_to_bytes(name).decode("utf-8", "surrogateescape")
            found.setdefault(decoded, Found(decoded, rest != name))
    return list(found.values())


def _whole(body: bytes) -> tuple[LexborHTMLParser, tuple[int, int] | None]:
    """Parse a page that shows its own end, and return what it counts. Raise `BadListing`."""
    counted = _COUNTS.search(body[-200:])
    if counted is None and not body.rstrip().lower().endswith(b"</html>"):
        raise BadListing("the listing ended too early")
    # A name's bytes stand in its link, escaped; only the title may have others than UTF-8.
    counts = None if counted is None else (int(counted[1]), int(counted[2]))
    return LexborHTMLParser(body), counts


def _links(page: LexborHTMLParser) -> Iterator[LexborNode]:
    return (node for node in page.css("a") if "href" in node.attributes)


def _target(link: LexborNode) -> str:
    return link.attributes["href"] or ""


def _is_address(link: LexborNode) -> bool:
    return link.parent is not None and link.parent.tag == "address"


def found_by_link(link: str, path: str) -> Found | None:
    """Return what a link of a listing names, `None` for one to the parent or that sorts.

    Raise `BadListing` for a link to any other place.
    """
    parents = {"../", "..", "./../", parent_of(path)}
    if _SORTING.fullmatch(link) or link in parents:
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

"""The page to pick files from, as a person sees it, and a site that shows it."""

import os
import random
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote, urljoin

from tests.support.browsers import Browser
from tests.support.line import Line
from tests.support.servers import gateway, nginx

MTIME = 1_700_000_000

# What is listed, and then not found or not allowed.
NGINX = (
    "autoindex on; autoindex_exact_size on; "
    "location ~ /denied { return 403; } location ~ /gone[.]txt$ { return 404; }"
)


class Site:
    """A directory of files behind nginx, a gateway with its page, and the line to it."""

    def __init__(
        self, place: Path, stack: ExitStack, *, extra: str = NGINX, **settings: str
    ) -> None:
        self.files = place / "files"
        self.files.mkdir(parents=True)
        upstream = stack.enter_context(nginx(self.files, place / "nginx", extra))
        front = gateway(upstream, place / "gateway", browse="yes", **settings)
        self.gateway = stack.enter_context(front)
        self.line = stack.enter_context(Line(self.gateway.port))

    @property
    def url(self) -> str:
        return self.line.url

    def write(self, files: Mapping[str, bytes]) -> None:
        """Write files, old enough for their dates to prove their content."""
        for name, content in files.items():
            path = self.files / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            os.utime(path, (MTIME, MTIME))


def content(name: str, size: int) -> bytes:
    """Return the content of a file, the same each time."""
    return random.Random(name).randbytes(size)


def unpacked(archive: Path) -> dict[str, bytes]:
    """Return the files of a tar or zip."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as opened:
            return {name: opened.read(name) for name in opened.namelist()}
    with tarfile.open(archive) as opened:
        return {each.name: opened.extractfile(each).read() for each in opened if each.isfile()}


_ROWS = (
    "const [wanted] = arguments, rows = [...document.querySelectorAll('tbody tr')],"
    "box = tr => tr.querySelector('input'),"
    "name = tr => tr.querySelector('th').textContent + (tr.className === 'folder' ? '/' : '');"
)


class Page:
    """A directory's page in a browser."""

    def __init__(self, browser: Browser, url: str) -> None:
        self.browser = browser
        self.url = url
        browser.open(urljoin(url, "/-/healthy"))
        browser.run("sessionStorage.clear()")  # as in a new tab

    def open(self, directory: str = "") -> None:
        self.browser.open(self.url + quote(directory))

    def names(self) -> list[str]:
        """Return the names of the rows that are shown, in their order; a folder's with a slash."""
        return self._run("return rows.filter(tr => !tr.hidden).map(name)")

    def ticked(self) -> list[str]:
        """Return the names of the rows that are ticked."""
        return self._run("return rows.filter(tr => box(tr).checked).map(name)")

    def _run(self, script: str) -> list[str]:
        return list(self.browser.run(_ROWS + script) or ())  # nothing, of a page that leaves

    def box(self, name: str) -> str:
        """Return the selector of the box beside a name."""
        script = _ROWS + "return box(rows.find(tr => name(tr) === wanted)).value"
        return f'tbody input[value="{self.browser.run(script, name)}"]'

    def tick(self, *names: str) -> None:
        for name in names:
            box = self.box(name)
            # Chromium's driver scrolls it only just into the window, where the bar may stand.
            self.browser.run(f"document.querySelector('{box}').scrollIntoView({{block: 'center'}})")
            self.browser.click(box)

    def enter(self, name: str) -> None:
        """Follow a row's link, and wait for the page that it leads to."""
        before = self.browser.address()
        self.browser.click(f'tbody a[href="./{quote(name)}"]')
        self.browser.waits(lambda: self.browser.address() != before, "another page")
        self.browser.waits(lambda: self.browser.find_all("main"), "its content")

    def total(self) -> str:
        """Return what is said of the selection."""
        return self.browser.text(".sum")

    def says(self, text: str, css: str = ".sum") -> None:
        """Wait until something is said."""
        seen = [""]

        def is_said() -> bool:
            seen[0] = self.browser.text(css)
            return text in seen[0]

        try:
            self.browser.waits(is_said, f"the text {text!r}")
        except AssertionError as error:
            raise AssertionError(f"{error}: it says {seen[0]!r}") from error

    def is_told_link(self) -> None:
        """Wait until the server has been asked for the link of what is selected."""
        self.browser.waits(lambda: self.browser.find_all("details:not([hidden])"), "a link")

    def download(self) -> None:
        self.browser.click(".do button:not(.plain):not([hidden])")


def some(names: Iterable[str], size: int = 1000) -> dict[str, bytes]:
    """Return files of a few names and random content."""
    return {name: content(name, size) for name in names}

"""Pictures of the page to pick files from: ``python -m tests.screenshots DIRECTORY``."""

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests.support.browsers import chromium
from tests.support.browsing import Page, Site, some

FILES = [
    *("Annual report.pdf", "Budget 2026.xlsx", "Minutes 2.txt", "Minutes 10.txt"),
    *("Invoices/january.pdf", "Photographs/harbour.jpg", "Größe & Gewicht.csv"),
]

# Of each picture: the directory, its width, and the system's choice of colours.
PICTURES = {
    "light": ("", 1000, "light"),
    "dark": ("", 1000, "dark"),
    "narrow": ("", 390, "light"),
    "error": ("?bundle=none.txt", 1000, "light"),
    "empty": ("Empty/", 1000, "light"),
    "many": ("Many/", 1000, "light"),
}


def main(place: Path) -> None:
    """Write the pictures."""
    place.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        site = Site(directory, stack, extra="autoindex on; autoindex_format json;")
        site.write(some(FILES, 120_000))
        (site.files / "Empty").mkdir()
        (site.files / "Many").mkdir()
        for number in range(10_000):
            (site.files / "Many" / f"scan {number:05}.tif").touch()
        browser = stack.enter_context(chromium())
        for name, (path, width, scheme) in PICTURES.items():
            page = Page(browser, site.url)
            browser.resize(width, 700)
            browser.prefer(scheme)
            browser.open(site.url + path)
            if not path:
                page.tick("Minutes 2.txt", "Budget 2026.xlsx")
                page.is_told_link()
                browser.run("scrollTo(0, 0)")
            (place / f"{name}.png").write_bytes(browser.screenshot())
            print(place / f"{name}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "screenshots"))

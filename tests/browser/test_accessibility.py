"""axe-core finds nothing on any page, by the rules of WCAG 2.2 AA and its own best practices."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import product
from pathlib import Path

import pytest

from tests.support.browsing import Page, Site, some

AXE = Path(sys.prefix, "axe/node_modules/axe-core/axe.min.js")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
RUN = """
const [rules, done] = arguments;
axe.run(document, {runOnly: rules, resultTypes: ["violations"]}).then(({violations}) =>
  done(violations.map(({id, help, nodes}) => [id, help, nodes.map(node => node.html)])));
"""
NAMES = ["a & b.txt", "file 2.txt", "gone.txt", "denied.txt", "2026/january.pdf", "2026/may.pdf"]

pytestmark = [
    pytest.mark.needs("nginx"),
    pytest.mark.skipif(not AXE.exists(), reason="not installed: axe-core (make install-all)"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[Site]:
    with ExitStack() as stack:
        made = Site(tmp_path_factory.mktemp("site"), stack)
        made.write(some(NAMES))
        (made.files / "empty").mkdir()
        (made.files / "denied").mkdir()
        yield made


def untouched(page: Page) -> None:
    page.open()


def ticked(page: Page) -> None:
    page.open()
    page.tick("a & b.txt", "file 2.txt")
    page.is_told_link()
    page.browser.click("summary")


def one_file(page: Page) -> None:
    page.open()
    page.tick("a & b.txt")
    page.is_told_link()


def refused(page: Page) -> None:
    page.open()
    page.tick("a & b.txt", "denied.txt")
    page.says("denied.txt", ".notice")


def filtered(page: Page) -> None:
    page.open()
    page.browser.type("input[type=search]", "nothing has this name")
    page.says("No name", ".notice")


def empty(page: Page) -> None:
    page.open("empty/")


def denied(page: Page) -> None:
    page.open("denied/")


def faulty(page: Page) -> None:
    page.browser.open(f"{page.url}?bundle=gone.txt&bundle=denied.txt&bundle=file+2.txt")


def broken_form(page: Page) -> None:
    page.browser.open(f"{page.url}?bundle&pick")


@pytest.mark.parametrize(
    "show", [untouched, ticked, one_file, refused, filtered, empty, denied, faulty, broken_form]
)
def test_axe_finds_nothing_in_either_colours_and_widths(browser, site, show):
    show(Page(browser, site.url))
    browser.run(AXE.read_text("utf-8"))
    for scheme, width in product(["light", "dark"], [1000, 360]):
        browser.prefer(scheme)
        browser.resize(width, 800)
        assert browser.wait_for(RUN, RULES) == [], (scheme, width)

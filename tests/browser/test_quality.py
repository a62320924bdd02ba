"""The page can be used by everyone, and stays quick with ten thousand rows."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import pytest

from tests.support.browsers import Browser
from tests.support.browsing import Page, Site, some

pytestmark = pytest.mark.needs("nginx")

AXE = Path(sys.prefix) / "axe/node_modules/axe-core/axe.min.js"

# WCAG 2.2 AA, and what it is made of.
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]

RUN_AXE = (
    "const done = arguments[arguments.length - 1];"
    "axe.run(document, {runOnly: arguments[0]}).then("
    "  found => done(found.violations.map(each => `${each.id}: ${each.nodes[0].html}`)),"
    "  error => done([String(error)]));"
)

ROWS = 10_000

TICK = (
    "const boxes = document.querySelectorAll('tbody input'), took = [];"
    "for (let i = 0; i < 9; i++) {"
    "  const before = performance.now();"
    "  boxes[i * 1000].click(); document.body.offsetHeight;"
    "  took.push(performance.now() - before);"
    "}"
    "return took;"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[Site]:
    with ExitStack() as stack:
        site = Site(tmp_path_factory.mktemp("site"), stack)
        site.write(some(["a & b.txt", "Größe.csv", "2026/january.pdf"]))
        (site.files / "empty").mkdir()
        (site.files / "many").mkdir()
        for number in range(ROWS):
            (site.files / "many" / f"report {number:05}.pdf").touch()
        yield site


VIEWS = {
    "the page": "",
    "an empty folder": "empty/",
    "an error": "?bundle=none.txt",
    "a form that is gone": "?bundle&pick",
}


@pytest.mark.parametrize("view", VIEWS)
def test_axe_finds_nothing_against_wcag(view, browser: Browser, site: Site):
    if not AXE.exists():
        pytest.skip("axe-core is not installed: make install-all")
    browser.open(site.url + VIEWS[view])
    for width in (1200, 390):
        browser.resize(width, 900)
        browser.run(AXE.read_text())
        assert browser.wait_for(RUN_AXE, RULES) == []


@pytest.mark.alone
@pytest.mark.parametrize("running", ["chromium"], indirect=True)
def test_ten_thousand_rows_are_there_within_a_second_and_a_tick_is_quick(browser, site):
    page = Page(browser, site.url)
    paints = []
    for _ in range(3):
        page.open("many/")
        browser.waits(lambda: len(page.names()) == ROWS, "all rows")
        paints.append(
            browser.run(
                "return performance.getEntriesByName('first-contentful-paint')[0].startTime"
            )
        )
    ticks = browser.run(TICK)
    print(f"{browser.name}: first paint {min(paints):.0f} ms, a tick {median(ticks):.1f} ms")
    assert min(paints) <= 1000
    assert median(ticks) <= 50

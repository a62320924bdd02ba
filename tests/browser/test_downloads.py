"""A bundle's link in real browsers: paused, cut, taken over by another process, and changed."""

import os
import random
import tarfile
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from email.message import Message
from itertools import count
from pathlib import Path

import pytest

from tests.support.browsers import Browser
from tests.support.line import Line
from tests.support.servers import Running, gateway, nginx

pytestmark = pytest.mark.needs("nginx")

MIB = 1024 * 1024
SIZES = {"one.bin": 5 * MIB, "two.bin": 4 * MIB, "three.txt": 12_345}
LINK = "?" + "&".join(f"bundle={name}" for name in SIZES)

number = count()


class Site:
    """Files, the gateway before them, and the line to it, which is all that browsers know."""

    def __init__(self, place: Path, stack: ExitStack) -> None:
        self._place = place
        self._stack = stack
        self.root = place / "files"
        self.root.mkdir()
        self.upstream = stack.enter_context(nginx(self.root, place / "nginx"))
        self.gateway: Running = stack.enter_context(gateway(self.upstream, place / "gateway"))
        self.line = stack.enter_context(Line(self.gateway.port))

    def restart(self) -> None:
        """Kill the gateway, and start another one at the same address."""
        self.gateway.kill()
        at = f"127.0.0.1:{self.gateway.port}"
        self.gateway = self._stack.enter_context(
            gateway(self.upstream, self._place / "again", at=at)
        )


class Bundle:
    """A directory of files on the site, and a page with a link and a form for their bundle."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.name = f"d{next(number)}"
        self.files = site.root / self.name
        self.files.mkdir()
        self.write(version=1)
        fields = "".join(f'<input type="hidden" name="bundle" value="{name}">' for name in SIZES)
        (self.files / "index.html").write_text(
            f'<!DOCTYPE html><title>Files</title><a href="{LINK}">all</a>'
            f'<form method="post" action="?bundle">{fields}<button>all</button></form>'
        )

    @property
    def url(self) -> str:
        return f"{self.site.line.url}{self.name}/"

    def write(self, version: int, *names: str) -> None:
        for name in names or SIZES:
            path = self.files / name
            path.write_bytes(random.Random(f"{name} {version}").randbytes(SIZES[name]))
            os.utime(path, (1_600_000_000 + version, 1_600_000_000 + version))

    def check(self, archive: Path) -> None:
        """Compare an archive with the files, byte by byte."""
        with tarfile.open(archive) as opened:
            assert opened.getnames() == list(SIZES)
            for name in SIZES:
                assert opened.extractfile(name).read() == (self.files / name).read_bytes()

    def head(self) -> Message:
        """Return the headers of the archive, asked for past the line."""
        url = f"{self.site.gateway.url}{self.name}/{LINK}"
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD")) as response:
            return response.headers

    def asked(self) -> list[str]:
        """Return what was asked for of the bundle."""
        return [each for each in self.site.line.requests if f"/{self.name}/?bundle" in each]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(tmp_path_factory.mktemp("site"), stack)


@pytest.fixture
def bundle(site: Site) -> Iterator[Bundle]:
    yield Bundle(site)
    site.line.release()


def begin(browser: Browser, bundle: Bundle, what: str = "a") -> None:
    """Click on the page's link, or its button, and wait until the line holds the archive."""
    browser.open(bundle.url)
    bundle.site.line.hold_after(3 * MIB)
    browser.click(what)
    bundle.site.line.wait_until_held()


def test_a_download_that_is_paused_and_resumed_is_whole(browser, bundle):
    begin(browser, bundle)
    browser.pause()
    browser.has_download("paused")
    bundle.site.line.release()
    browser.resume()
    bundle.check(browser.saved())


def test_a_download_whose_line_is_cut_twice_is_whole(browser, bundle):
    begin(browser, bundle)
    for _ in range(2):
        bundle.site.line.hold_after(2 * MIB)
        bundle.site.line.cut()
        browser.insist(bundle.site.line.is_held)
        bundle.site.line.wait_until_held()
    bundle.site.line.release()
    bundle.check(browser.saved())
    assert len(bundle.asked()) == 3


def test_a_download_goes_on_at_another_process_after_the_first_was_killed(browser, bundle):
    begin(browser, bundle)
    browser.pause()
    browser.has_download("paused")
    bundle.site.line.cut()
    bundle.site.restart()
    bundle.site.line.release()
    browser.resume()
    bundle.check(browser.insist().path)


def test_a_download_of_files_that_change_meanwhile_is_no_mixture(browser, bundle):
    begin(browser, bundle)
    browser.pause()
    browser.has_download("paused")
    bundle.site.line.cut()
    bundle.write(2, "two.bin")
    bundle.site.line.release()
    browser.resume()
    ended = browser.insist()
    if ended.state == "complete":  # it began anew, as Chromium does
        bundle.check(ended.path)
    else:
        assert not ended.path.exists() or ended.path.stat().st_size == 0


def test_a_pinned_link_to_files_that_have_changed_says_so(browser, bundle):
    etag = bundle.head()["ETag"].strip('"')
    bundle.write(2, "two.bin")
    browser.open(f"{bundle.url}{LINK}&v={etag}")
    assert "412" in browser.text("h1")
    assert "changed" in browser.text()
    assert browser.newest_since() is None


def test_a_form_that_breaks_off_never_becomes_an_archive(browser, bundle):
    begin(browser, bundle, "button")
    bundle.site.line.cut()
    bundle.site.line.release()
    ended = browser.insist()
    posted, *others = bundle.asked()
    # A browser that is told to go on asks by GET for the form's URL, and Firefox takes whatever
    # comes for the file: that is an error, which nobody can take for an archive.
    assert posted.startswith("POST ")
    assert {each.split()[0] for each in others} == {"GET"}
    is_there = ended.path.exists() and ended.path.stat().st_size > 0
    assert not (is_there and tarfile.is_tarfile(ended.path))
    assert ended.state == "broken" or browser.name == "firefox"

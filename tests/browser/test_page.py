"""The page to pick files from, in real browsers: by mouse, by keyboard, and without scripts."""

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count

import pytest

from tests.support.browsers import DOWN, ENTER, SPACE, TAB, Browser
from tests.support.browsing import Page, Site, some, unpacked

pytestmark = pytest.mark.needs("nginx")

MIB = 1024 * 1024
NAMES = [
    *("a & b.txt", "file 2.txt", "file 10.txt", "Größe 100%.csv", '<img src=x onerror="boom()">'),
    *("2026/january.pdf", "2026/february.pdf", "2026/deep/march.pdf", "2025/old.pdf"),
]

number = count()


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(tmp_path_factory.mktemp("site"), stack)


class Folder(Page):
    """The page of a directory of its own, with the files that it shows."""

    def __init__(self, browser: Browser, site: Site) -> None:
        self.name = f"picked{next(number)}"
        self.site = site
        self.files = some(NAMES)
        super().__init__(browser, f"{site.url}{self.name}/")
        self.write(self.files)

    def write(self, files: dict[str, bytes]) -> None:
        self.site.write({f"{self.name}/{name}": content for name, content in files.items()})

    def remove(self, name: str) -> None:
        (self.site.files / self.name / name).unlink()

    def of(self, *names: str) -> dict[str, bytes]:
        return {name: self.files[name] for name in names}


@pytest.fixture
def folder(browser: Browser, site: Site) -> Iterator[Folder]:
    yield Folder(browser, site)
    site.line.release()


# --- picking --------------------------------------------------------------------------------------


def test_names_are_in_the_order_that_people_expect(folder):
    folder.open()
    assert folder.names() == [
        *("2025/", "2026/", '<img src=x onerror="boom()">', "a & b.txt"),
        *("file 2.txt", "file 10.txt", "Größe 100%.csv"),
    ]


def test_what_is_ticked_by_mouse_is_downloaded(folder):
    folder.open()
    folder.tick("a & b.txt", "Größe 100%.csv", '<img src=x onerror="boom()">')
    folder.says("3 files selected")
    folder.download()
    saved = folder.browser.saved()
    assert saved.name == f"{folder.name}.tar"
    assert unpacked(saved) == folder.of(
        *("a & b.txt", "Größe 100%.csv", '<img src=x onerror="boom()">')
    )


def test_the_size_that_is_told_is_the_archives(folder):
    folder.open()
    folder.tick("a & b.txt", "Größe 100%.csv")
    folder.is_told_link()
    told = int(folder.browser.find(".sum").get_attribute("data-size"))
    folder.download()
    assert folder.browser.saved().stat().st_size == told


def test_ticks_in_several_folders_make_one_archive(folder):
    folder.open()
    folder.tick("file 2.txt")
    folder.enter("2026/")
    folder.tick("january.pdf")
    folder.says("1 of them in other folders")
    folder.enter("deep/")
    folder.tick("march.pdf")
    folder.browser.back()
    folder.browser.waits(lambda: folder.ticked() == ["january.pdf"], "the ticks")
    folder.browser.back()
    folder.browser.waits(lambda: folder.ticked() == ["file 2.txt"], "the ticks")
    folder.says("3 files selected, 2 of them in other folders")
    folder.download()
    expected = folder.of("file 2.txt", "2026/january.pdf", "2026/deep/march.pdf")
    assert unpacked(folder.browser.saved()) == expected


def test_a_folder_that_is_ticked_brings_all_below_it(folder):
    folder.open()
    folder.tick("2026/")
    folder.says("1 folder selected")
    folder.download()
    assert unpacked(folder.browser.saved()) == folder.of(
        *("2026/deep/march.pdf", "2026/february.pdf", "2026/january.pdf")
    )


def test_everything_here_is_one_box(folder):
    folder.open()
    folder.browser.click("[name=all], .all input")
    folder.says("5 files and 2 folders selected")
    folder.download()
    assert unpacked(folder.browser.saved()) == folder.files


def test_shift_and_a_click_tick_all_between(folder):
    folder.open()
    folder.tick("a & b.txt")
    folder.browser.shift_click(folder.box("file 10.txt"))
    assert folder.ticked() == ["a & b.txt", "file 2.txt", "file 10.txt"]
    state = folder.browser.find(".all input")
    assert state.get_property("indeterminate") is True


def test_typing_shows_the_names_that_contain_it_and_its_box_ticks_these(folder):
    folder.open()
    folder.browser.type("input[type=search]", "FILE")
    folder.browser.waits(lambda: folder.names() == ["file 2.txt", "file 10.txt"], "the filter")
    folder.browser.click(".all input")
    folder.browser.type("input[type=search]", "\ue003" * 4)  # backspaces
    folder.browser.waits(lambda: len(folder.names()) == 7, "all rows")
    assert folder.ticked() == ["file 2.txt", "file 10.txt"]


def test_one_file_is_offered_as_itself(folder):
    folder.open()
    folder.tick("2025/", "2025/", "file 2.txt")
    folder.says("Download file 2.txt", ".do")
    folder.browser.click("a.button")
    assert folder.browser.saved().read_bytes() == folder.files["file 2.txt"]


def test_everything_can_be_done_by_keyboard(folder):
    folder.open()
    focused = "return document.activeElement.matches(arguments[0])"
    for _ in range(30):
        folder.browser.press(TAB)
        if folder.browser.run(focused, "tbody input"):
            break
    folder.browser.press(SPACE)
    folder.browser.press(DOWN)
    folder.browser.press(DOWN)
    folder.browser.press(SPACE)
    assert folder.ticked() == ["2025/", '<img src=x onerror="boom()">']
    folder.says("1 file and 1 folder selected")
    for _ in range(40):
        folder.browser.press(TAB)
        if folder.browser.run(focused, "button.main"):
            break
    folder.browser.press(ENTER)
    expected = folder.of("2025/old.pdf", '<img src=x onerror="boom()">')
    assert unpacked(folder.browser.saved()) == expected


# --- without scripts ------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["tar", "zip"])
def test_without_scripts_it_is_a_form(folder, format):
    folder.browser.let_scripts_run(False)
    folder.open()
    folder.tick("file 2.txt", "2026/")
    folder.browser.choose(f"option[value={format}]")
    folder.download()
    saved = folder.browser.saved()
    assert saved.name == f"{folder.name}.{format}"
    assert unpacked(saved) == folder.of(
        *("2026/deep/march.pdf", "2026/february.pdf", "2026/january.pdf", "file 2.txt")
    )


def test_without_scripts_nothing_ticked_is_told(folder):
    folder.browser.let_scripts_run(False)
    folder.open()
    folder.download()
    folder.says("Nothing is selected", ".error")


def test_without_scripts_a_folder_that_has_changed_is_told(folder):
    folder.browser.let_scripts_run(False)
    folder.open()
    folder.tick(*folder.names()[1:])
    folder.remove("a & b.txt")
    folder.download()
    folder.says("has changed since it was shown", ".error")


# --- what goes wrong ------------------------------------------------------------------------------


def test_a_download_of_the_page_goes_on_after_a_cut(folder):
    large = some(["large.bin"], 8 * MIB)
    folder.write(large)
    folder.open()
    folder.tick("large.bin", "file 2.txt")
    folder.is_told_link()
    folder.site.line.hold_after(3 * MIB)
    folder.download()
    folder.site.line.wait_until_held()
    folder.site.line.cut()
    folder.site.line.release()
    assert unpacked(folder.browser.insist().path) == large | folder.of("file 2.txt")
    methods = [each.split()[0] for each in folder.site.line.requests if "names=" in each]
    assert "POST" not in methods


def test_a_file_that_was_removed_is_told_before_the_download_and_the_others_stay(folder):
    folder.open()
    folder.tick("a & b.txt", "file 2.txt")
    folder.remove("a & b.txt")
    folder.says("has changed", ".notice")
    folder.browser.click(".notice button")
    folder.browser.waits(lambda: folder.ticked() == ["file 2.txt"], "what is still there")
    folder.says("No longer here", ".notice")
    folder.is_told_link()
    folder.browser.click(".do button:not(.plain):not([hidden])")
    assert unpacked(folder.browser.saved()) == folder.of("file 2.txt")


def test_of_a_file_that_is_denied_it_is_said_and_the_others_are_offered(folder):
    folder.write(some(["denied.txt"]))
    folder.open()
    folder.tick("denied.txt", "file 2.txt")
    folder.says("denied.txt", ".notice")
    folder.browser.click(".notice button")
    folder.is_told_link()
    folder.download()
    archive = unpacked(folder.browser.saved())
    assert b"denied.txt" in archive.pop("MISSING.txt")
    assert archive == folder.of("file 2.txt")


def test_an_error_page_offers_the_others_too(folder):
    folder.browser.let_scripts_run(False)
    folder.write(some(["denied.txt"]))
    folder.open()
    folder.tick("denied.txt", "file 2.txt")
    folder.download()
    folder.says("denied.txt", ".error")
    folder.browser.click("form button, a.button")
    assert set(unpacked(folder.browser.saved())) == {"file 2.txt", "MISSING.txt"}


def test_the_back_button_brings_back_what_was_ticked(folder):
    folder.open()
    folder.tick("a & b.txt", "file 10.txt")
    folder.browser.open("about:blank")
    folder.browser.back()
    folder.browser.waits(lambda: folder.ticked() == ["a & b.txt", "file 10.txt"], "the ticks")


def test_an_empty_folder_says_so(folder):
    (folder.site.files / folder.name / "nothing").mkdir()
    folder.open("nothing/")
    folder.says("This folder is empty.", "main")


def test_a_folder_that_is_denied_says_so(folder):
    (folder.site.files / folder.name / "denied").mkdir()
    folder.open("denied/")
    folder.says("This folder is not shown to you", ".error")

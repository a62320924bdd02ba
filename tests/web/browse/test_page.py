"""The page of a listing: one form that says everything, and nothing that a name could add to."""

import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser

import pytest

from tar_gateway.archive.picks import base36, listing_digest
from tar_gateway.sources import Listed
from tar_gateway.web.browse import texts
from tar_gateway.web.browse.page import View, render
from tar_gateway.web.browse.shell import PLAIN, SCRIPT, Look

HOSTILE = "</style><script>alert(1)</script>\"'&.txt"
ENTRIES = (
    Listed("b10.txt", is_directory=False, size=5, mtime=1_700_000_000),
    Listed("B9.txt", is_directory=False, size=7, mtime=1_600_000_000),
    Listed("sub", is_directory=True, mtime=1_650_000_000),
    Listed(HOSTILE.replace("/", "\N{FULLWIDTH SOLIDUS}"), is_directory=False),
)


class Page(HTMLParser):
    """What a page is made of: elements with their attributes, and the text of some."""

    def __init__(self, view: View, look: Look = PLAIN) -> None:
        super().__init__(convert_charrefs=True)
        self.html = render(view, look).decode()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, str] = {}
        self._tag = ""
        self.feed(self.html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._tag = tag

    def handle_endtag(self, tag):
        self._tag = ""

    def handle_data(self, data):
        if self._tag:
            self.inside[self._tag] = self.inside.get(self._tag, "") + data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag]

    def names(self) -> list[str]:
        rows = re.findall(r"<th scope=row.*?<bdi>(.*?)</bdi>", self.html)
        return [re.sub("<[^>]*>", "", row) for row in rows]


def page(**more) -> Page:
    return Page(View("reports/", ENTRIES, 1_700_000_100, **more))


def test_a_row_has_the_index_that_its_name_has_bytewise():
    boxes = [box for box in page().all("input") if box.get("name") == "row"]
    marked = sorted(each.marked for each in ENTRIES)
    by_label = {f"n{index}": name for index, name in enumerate(marked)}
    assert sorted(int(box["value"]) for box in boxes) == list(range(4))
    assert all(by_label[box["aria-labelledby"]] == marked[int(box["value"])] for box in boxes)
    (version,) = (box["value"] for box in page().all("input") if box.get("name") == "of")
    assert version == f"{listing_digest(marked)}.{base36(1_700_000_100)}"


def test_people_find_folders_first_and_numbers_by_their_value():
    assert page().names()[0] == "sub"
    assert page().names()[2:] == ["B9.txt", "b10.txt"]


@pytest.mark.parametrize(
    ("sort", "names"),
    [
        ("size", ["B9.txt", "b10.txt"]),
        ("-size", ["B9.txt", "b10.txt"][::1]),
        ("date", ["B9.txt", "b10.txt"]),
        ("-date", ["b10.txt", "B9.txt"]),
        ("-name", ["b10.txt", "B9.txt"]),
    ],
)
def test_a_column_sorts_in_both_directions(sort, names):
    shown = [name for name in page(sort=sort).names() if name in {"B9.txt", "b10.txt"}]
    expected = {"size": ["b10.txt", "B9.txt"]}.get(sort, names)
    assert shown == expected
    (head,) = (th for th in page(sort=sort).all("th") if "aria-sort" in th)
    assert head["class"] == sort.removeprefix("-")
    assert head["aria-sort"] == ("descending" if sort.startswith("-") else "ascending")


def test_the_head_of_the_sorted_column_turns_it_around():
    links = [a["href"] for a in page().all("a") if a["href"].startswith("?browse")]
    assert links == ["?browse&sort=-name", "?browse&sort=size", "?browse&sort=date"]


def test_it_is_one_form_that_works_by_itself():
    (form,) = page().all("form")
    assert (form["method"], form["action"]) == ("post", "?bundle&pick")
    assert len(page().all("button")) == 1
    assert {box.get("name") for box in page().all("input")} >= {"of", "all", "row"}
    assert [each["name"] for each in page().all("select")] == ["format"]


def test_all_is_labelled():
    shown = page()
    assert shown.all("html") == [{"lang": texts.LANGUAGE}]
    assert len(shown.all("caption")) == 1
    assert [th["scope"] for th in shown.all("th")] == ["col"] * 4 + ["row"] * 4
    assert "reports" in shown.inside["title"]


def test_it_loads_nothing_and_runs_nothing_of_a_name():
    shown = page()
    assert len(shown.all("script")) == len(shown.all("style")) == 1
    assert not any("src" in attrs or "style" in attrs for _, attrs in shown.elements)
    assert not any(key.startswith("on") for _, attrs in shown.elements for key in attrs)
    links = {a["href"] for a in shown.all("a")}
    assert all(link.startswith(("./", "../", "?browse")) for link in links)
    assert shown.inside["script"] == SCRIPT


def test_the_policy_allows_its_own_style_and_script_by_their_hashes():
    look = Look(style="body { color: red }")
    shown = Page(View("", ENTRIES, 1), look)
    policy = dict(look.policy(picks=True))["Content-Security-Policy"]
    for tag in ("style", "script"):
        digest = b64encode(sha256(shown.inside[tag].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; ")
    assert "form-action 'self'; frame-ancestors 'none'" in policy
    assert "unsafe" not in policy


def test_all_but_the_rows_has_less_than_30_kb():
    rows = re.search(r"<tbody>.*</tbody>", page().html, re.DOTALL)[0]
    assert len(page().html.encode()) - len(rows.encode()) < 30_000


def test_ten_thousand_rows_are_less_than_three_megabytes():
    entries = [Listed(f"sample-{n:05}.fastq.gz", False, size=n, mtime=n) for n in range(10_000)]
    assert len(render(View("", entries, 1), Look())) < 3_000_000


@pytest.mark.parametrize(
    ("agent", "first"),
    [
        ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) Firefox/140.0", "zip"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X)", "zip"),
        ("Mozilla/5.0 (Linux; Android 15; Mobile)", "zip"),
        ("Mozilla/5.0 (X11; Linux x86_64) Chrome/140.0", "tar"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)", "tar"),
        ("", "tar"),
    ],
)
def test_zip_stands_first_where_systems_open_it_themselves(agent, first):
    assert page(user_agent=agent).all("option")[0]["value"] == first


def test_every_format_has_a_name_for_people():
    assert {option["value"] for option in page().all("option")} <= texts.FORMATS.keys()


def test_the_way_here_leads_up():
    shown = Page(View("a/b c/", ENTRIES, 1))
    ups = [a["href"] for a in shown.all("a") if a["href"].startswith("../")]
    assert ups == ["../../", "../"]
    assert [li for li in shown.all("li") if "aria-current" in li] == [{"aria-current": "page"}]


def test_an_empty_directory_says_so():
    shown = Page(View("a/", (), 1))
    assert texts.EMPTY in shown.html
    assert not shown.all("table")


def test_what_a_listing_does_not_tell_is_not_made_up():
    shown = Page(View("", (Listed("a", is_directory=False),), 1))
    assert texts.UNKNOWN in shown.html
    assert not shown.all("data") + shown.all("time")


def test_where_plain_files_are_not_served_none_is_linked():
    links = [a["href"] for a in page(has_files=False).all("a")]
    assert [link for link in links if link.startswith("./")] == ["./sub/"]


def test_every_link_is_signed_where_it_has_to_be():
    shown = Page(View("a/", ENTRIES, 1, sign=lambda it: f"{it}!", is_whole=False))
    links = [a["href"] for a in shown.all("a")] + [shown.all("form")[0]["action"]]
    assert all(link.endswith("!") for link in links)
    assert "./sub/?browse!" in links
    assert not any(link.startswith("../") for link in links)

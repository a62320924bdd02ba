"""Names, sizes and dates as HTML: all of a name is visible, and none of it is more than text."""

from html.parser import HTMLParser
from urllib.parse import unquote, urljoin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tar_gateway.web.browse.names import (
    date_in_html,
    name_in_html,
    natural_key,
    reference_to,
    size_in_words,
)

NAME = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\\\0"), min_size=1)


class Parsed(HTMLParser):
    """The text of HTML, in which codes of characters are these again, and its tags."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.text, self.tags, self._coded = "", [], False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        assert not attrs
        self.tags.append(tag)
        self._coded = tag == "i"

    def handle_endtag(self, tag):
        self._coded = False

    def handle_data(self, data):
        self.text += chr(int(data.removeprefix("U+"), 16)) if self._coded else data


@given(NAME)
def test_any_name_is_text_that_stands_apart(name):
    html = name_in_html(name)
    parsed = Parsed(html.replace("\r", "&#13;"))
    assert parsed.text == name
    assert parsed.tags[0] == "bdi"
    assert set(parsed.tags[1:]) <= {"i"}
    assert html.count("<bdi>") == html.count("</bdi>") == 1


@pytest.mark.parametrize("hidden", "\u202e\u200b\u2066\ufeff\u00ad\u2028\u3164\x85\U000e0041")
def test_a_character_that_no_one_sees_is_shown_as_its_code(hidden):
    assert name_in_html(f"a{hidden}b") == f"<bdi>a<i>U+{ord(hidden):04X}</i>b</bdi>"


@pytest.mark.parametrize("name", ["👩\u200d👧.png", "नमस\u200cते.txt", "Größe.txt", "日本.txt"])
def test_what_languages_are_written_with_stays(name):
    assert name_in_html(name) == f"<bdi>{name}</bdi>"


def test_markup_in_a_name_is_text():
    assert name_in_html("a<b>&\"'.txt") == "<bdi>a&lt;b&gt;&amp;\"'.txt</bdi>"


@given(NAME.filter(lambda name: name not in {".", ".."}), st.booleans())
def test_a_reference_leads_to_the_name_directly_below(name, is_directory):
    marked = name + "/" * is_directory
    here = "http://h.example/d/"
    assert unquote(urljoin(here, reference_to(marked)).removeprefix(here)) == marked


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1.00 kB"),
        (9994, "9.99 kB"),
        (9996, "10.0 kB"),
        (48_213, "48.2 kB"),
        (999_499, "999 kB"),
        (999_500, "1.00 MB"),
        (38_000_000_000, "38.0 GB"),
        (2**62, "4.61 EB"),
        (10**24, "1000000 EB"),
    ],
)
def test_a_size_is_told_in_three_digits(size, words):
    assert size_in_words(size) == words


def test_a_date_is_told_in_utc_and_none_where_it_is_no_date():
    assert date_in_html(1_700_000_000) == (
        "<time datetime=2023-11-14T22:13:20Z>2023-11-14 22:13</time>"
    )
    assert date_in_html(10**15) == ""


def test_names_are_sorted_as_people_do():
    names = ["b10", "B9", "a", "b1", "Ä", "b01x", "10", "9"]
    assert sorted(names, key=natural_key) == ["9", "10", "a", "b1", "b01x", "B9", "b10", "Ä"]


@given(st.lists(NAME))
def test_any_names_can_be_sorted(names):
    assert sorted(sorted(names, key=natural_key)) == sorted(names)

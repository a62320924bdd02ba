"""What proves two fetches to be of one version of a file (RFC 9110 8.8)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tar_gateway.http.validators import Validator, _any_date, read_date, read_validator

MODIFIED = "Sun, 06 Nov 1994 08:49:37 GMT"
SAME_SECOND = MODIFIED
NEXT_SECOND = "Sun, 06 Nov 1994 08:49:38 GMT"
SECOND_BEFORE = "Sun, 06 Nov 1994 08:49:36 GMT"


@pytest.mark.parametrize("text", ['"a"', '""', '"a,b"', '"W/"', '"\xe9!#~"', '"back\\slash"'])
def test_an_entity_tag_is_a_strong_validator(text):
    assert read_validator(text, None, None) == Validator(text, strong=True)


@pytest.mark.parametrize("text", ['W/"a"', 'W/""'])
def test_an_entity_tag_marked_so_is_a_weak_validator(text):
    assert read_validator(text, None, None) == Validator(text, strong=False)


@pytest.mark.parametrize(
    "text", ["a", '"a', 'a"', '"a"b"', 'w/"a"', 'W/ "a"', '"a b"', '"a\n"', '"a"\n', "", "*", '"€"']
)
def test_what_is_no_entity_tag_is_passed_over(text):
    assert read_validator(text, None, None) is None
    assert read_validator(text, MODIFIED, NEXT_SECOND) == Validator(MODIFIED, strong=True)


def test_a_strong_entity_tag_is_better_than_a_date():
    strong = Validator('"a"', strong=True)
    assert read_validator('"a"', MODIFIED, NEXT_SECOND) == strong


def test_a_strong_date_is_better_than_a_weak_entity_tag_which_is_kept_beside():
    found = read_validator('W/"a"', MODIFIED, NEXT_SECOND)
    assert found == Validator(MODIFIED, strong=True)
    assert found.beside == 'W/"a"'


@pytest.mark.parametrize("date", [SAME_SECOND, SECOND_BEFORE, None, "yesterday"])
def test_a_weak_entity_tag_is_better_than_a_weak_date(date):
    assert read_validator('W/"a"', MODIFIED, date) == Validator('W/"a"', strong=False)


@pytest.mark.parametrize(
    "placeholder",
    [
        "Mon, 01 Jan 0001 00:00:00 GMT",
        "Mon Jan  1 00:00:00 0001",
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "Wed, 31 Dec 1969 23:59:59 GMT",
    ],
)
def test_a_date_that_stands_for_none_proves_nothing(placeholder):
    assert read_validator(None, placeholder, MODIFIED) == Validator(placeholder, strong=False)
    assert read_validator('W/"a"', placeholder, MODIFIED) == Validator('W/"a"', strong=False)


@pytest.mark.parametrize(
    ("date", "strong"),
    [
        (NEXT_SECOND, True),
        ("Mon, 07 Nov 1994 08:49:37 GMT", True),
        (SAME_SECOND, False),
        (SECOND_BEFORE, False),
        (None, False),
        ("yesterday", False),
    ],
)
def test_a_date_is_strong_if_the_answer_was_made_in_a_later_second(date, strong):
    assert read_validator(None, MODIFIED, date) == Validator(MODIFIED, strong=strong)


@pytest.mark.parametrize("modified", [None, "", "yesterday", "0"])
def test_without_tag_and_date_there_is_no_validator(modified):
    assert read_validator(None, modified, NEXT_SECOND) is None


def test_an_entity_tag_is_made_of_its_opaque_text():
    strong, weak = Validator.etag("x", strong=True), Validator.etag("x", strong=False)
    assert (strong.text, strong.strong, strong.opaque, strong.is_etag) == ('"x"', True, "x", True)
    assert (weak.text, weak.strong, weak.opaque, weak.is_etag) == ('W/"x"', False, "x", True)


def test_a_date_is_no_entity_tag():
    assert not Validator(MODIFIED, strong=True).is_etag


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", 784111777),
        ("Sun, 6 Nov 1994 08:49:37 GMT", 784111777),
        ("Sun, 06 Nov 1994 08:49:37 UTC", 784111777),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 784111777),
        ("Sun Nov  6 08:49:37 1994", 784111777),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Thu, 01 Jan 1970 00:00:01 GMT", 1),
        ("Wed, 31 Dec 1969 23:59:59 GMT", 0),
        ("Sat, 01 Jan 0100 00:00:00 GMT", 0),
        ("Mon, 01 Jan 0001 00:00:00 GMT", 0),
        ("Fri, 31 Dec 0099 23:59:59 GMT", 0),
        ("Mon Jan  1 00:00:00 0001", 0),
        ("Mon, 01 Jan 2001 00:00:00 GMT", 978307200),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 253402300799),
    ],
)
def test_the_three_forms_of_an_http_date_are_read_as_seconds_since_1970(text, seconds):
    assert read_date(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        " ",
        "x",
        "x GMT",
        "0",
        "-1",
        "Sun, 06 Nov 10000 08:49:37 GMT",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 -0001",
        "Sun, 06 Nov 1994 08:49:37 +99999999",
        "9" * 5000,
        f"Sun, 06 Nov {'9' * 5000} 08:49:37 GMT",
        "²²² Nov 1994 00:00:00 GMT",
    ],
)
def test_what_is_no_date_is_none(text):
    assert read_date(text) is None


pieces = st.lists(
    st.sampled_from(["Sun", "06", "Nov", "1994", "94", "9999", "08:49:37", "GMT", "-2400", "+9999"])
    | st.sampled_from([",", "-", "+", ":", ".", "²", "\xa0", "(", '"', "\0", "0"]),
    max_size=9,
)


@given(st.text() | pieces.map(" ".join) | pieces.map("".join))
def test_no_text_makes_reading_a_date_raise_or_give_a_time_before_1970(text):
    seconds = read_date(text)
    assert seconds is None or seconds >= 0


@given(
    st.sampled_from(["Sun", "Mon"]),
    st.integers(0, 32),
    st.sampled_from(["Jan", "Feb", "Sep", "Dec", "Xyz", "May"]),
    st.integers(0, 9999),
    st.tuples(st.integers(0, 25), st.integers(0, 61), st.integers(0, 61)),
)
def test_a_date_in_the_usual_form_is_read_as_the_library_reads_it(day, number, month, year, clock):
    hour, minute, second = clock
    text = f"{day}, {number:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT"
    assert read_date.__wrapped__(text) == _any_date(text)

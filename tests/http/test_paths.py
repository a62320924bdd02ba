"""What a member's name may be, and that the URL made of it says the same and nothing more."""

from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tar_gateway.http.paths import (
    MAX_NAME_BYTES,
    BadName,
    below,
    check_name,
    decode_form_value,
    decode_text,
    is_spelling,
    url_path,
)

# Made of the pieces that names go wrong with, so that most of them are close to the border.
hostile = st.lists(
    st.sampled_from(
        ["a", "é", ".", "..", "/", "\\", "%", "%2e", "%2F", "%5c", "%00", "%25", "C:", "\n"]
    )
    | st.sampled_from([" ", "+", "?", "#", ";", "&", "%ff", "\x7f", "\u2028", "\ud800", "~"]),
    max_size=8,
).map("".join)


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "a/b/c.pdf",
        ".hidden",
        "...",
        "a..b/c..",
        "-rf",
        "~/a",
        "a b",
        "a,b;c&d=e?f#g",
        "1+1=2",
        "ab:c",
        "a:c",
        "Q: notes.txt",
        "A:..",
        "a/C:/b",
        "70%cacao.pdf",
        "100%de remise.pdf",
        "20%aandeel/50%80.pdf",
        "a%ff",
        "%ed%a0%80",
        "1:c",
        "100%",
        "100%25",
        "%2",
        "a%2fb",
        "a%20b",
        "%252e%252e/a",
        "Füße/日本語/🎉",
        "e\u0301",
        "\u202etxt.exe",
        "\ufffd",
        "\xa0",
        "x" * MAX_NAME_BYTES,
        "é" * (MAX_NAME_BYTES // 2),
    ],
)
def test_a_plain_relative_path_is_a_name(name):
    assert check_name(name) is None


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "is empty"),
        ("/", "starts with a slash"),
        ("/etc/passwd", "starts with a slash"),
        ("//host/a", "starts with a slash"),
        (".", "contains the segment '.'"),
        ("..", "contains the segment '..'"),
        ("../a", "contains the segment '..'"),
        ("a/../b", "contains the segment '..'"),
        ("a/..", "contains the segment '..'"),
        ("a/./b", "contains the segment '.'"),
        ("a//b", "contains an empty segment"),
        ("a/", "contains an empty segment"),
        ("a\\b", "contains a backslash"),
        ("..\\a", "contains a backslash"),
        ("C:", "starts with a drive letter"),
        ("c:/a", "starts with a drive letter"),
        ("a\0b", "contains a control character"),
        ("a\nb", "contains a control character"),
        ("a\rb", "contains a control character"),
        ("a\x1b[2J", "contains a control character"),
        ("a\x7f", "contains a control character"),
        ("a\x85", "contains a control character"),
        ("a\ud800", "is not valid UTF-8"),
        ("x" * (MAX_NAME_BYTES + 1), f"is longer than {MAX_NAME_BYTES} bytes"),
        ("é" * (MAX_NAME_BYTES // 2) + "x", f"is longer than {MAX_NAME_BYTES} bytes"),
    ],
)
def test_anything_else_is_refused_and_the_reason_says_why(name, reason):
    with pytest.raises(BadName) as refused:
        check_name(name)
    assert str(refused.value) == reason


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("%2e%2e", "contains the segment '..'"),
        ("%2E./a", "contains the segment '..'"),
        ("a%2f..%2Fb", "contains the segment '..'"),
        ("a/%2e/b", "contains the segment '.'"),
        ("%2fetc", "starts with a slash"),
        ("a%2f%2fb", "contains an empty segment"),
        ("a%2f", "contains an empty segment"),
        ("a%5cb", "contains a backslash"),
        ("c%3a", "starts with a drive letter"),
        ("a%00", "contains a control character"),
        ("a%0d%0aX-A: b", "contains a control character"),
        ("c%3a%2fa", "starts with a drive letter"),
        ("%c0%ae%c0%ae", "contains the segment '..'"),
        ("%e0%80%ae./a", "contains the segment '..'"),
        ("a%c0%af", "contains an empty segment"),
        ("a%c1%9cb", "contains a backslash"),
        ("a%f0%80%80%80", "contains a control character"),
        ("%ff/%2e%2e/a", "contains the segment '..'"),
        ("a%ff%0a", "contains a control character"),
        ("a%c2%85", "contains a control character"),
    ],
)
def test_a_name_that_would_be_refused_when_decoded_once_more_is_refused(name, reason):
    with pytest.raises(BadName) as refused:
        check_name(name)
    assert str(refused.value) == f"{reason} when it is decoded once more"


@given(st.text() | hostile)
@example("a/%2e%2e/b")
@example("%252e")
def test_a_name_is_refused_or_comes_back_from_its_url_in_harmless_segments(name):
    try:
        check_name(name)
    except BadName:
        return
    path = url_path(name)
    assert unquote(path, errors="strict") == name
    assert path.isascii()
    assert not set(path) & set(' ?#;\\+"<>[]^`{|}\r\n')
    for segment in path.split("/"):
        for decoded in (segment, unquote(segment), unquote(unquote(segment), errors="replace")):
            assert not set(decoded.split("/")) & {"", ".", ".."}


@given(hostile)
def test_a_name_that_is_accepted_is_harmless_when_decoded_twice(name):
    try:
        check_name(name)
    except BadName:
        return
    again = unquote(name, errors="replace")
    assert not again.startswith("/")
    assert not set(again.split("/")) & {"", ".", ".."}
    assert not set(again) & set("\\\0\r\n")


@pytest.mark.parametrize(("name", "limit"), [("abc", 3), ("é", 2), ("a/b", 3), ("%41", 3)])
def test_a_name_is_no_longer_than_its_limit_in_bytes(name, limit):
    check_name(name, limit=limit)
    with pytest.raises(BadName, match=f"^is longer than {limit - 1} bytes$"):
        check_name(name, limit=limit - 1)


# --- names that some file systems do not tell apart -----------------------------------------------


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a/b.pdf", "a/b.pdf"),
        ("a b", "a%20b"),
        ("50%", "50%25"),
        ("a%2fb", "a%252fb"),
        ("a?b#c;d", "a%3Fb%23c%3Bd"),
        ("a&b=c+d,e", "a&b=c%2Bd,e"),
        ("!$&'()*,:=@", "!$&'()*,:=@"),
        ("a;b+c", "a%3Bb%2Bc"),
        ("é", "%C3%A9"),
        ("x@y:80", "x@y:80"),
        ("-._~", "-._~"),
    ],
)
def test_a_segment_has_as_it_stands_what_a_url_lets_it_but_for_semicolon_and_plus(name, path):
    assert url_path(name) == path


@pytest.mark.parametrize(
    ("path", "prefix", "rest"),
    [
        ("a/b", "a/", "b"),
        ("%61%2fb", "a/", "b"),
        ("a%2Fb%2fc?x", "a/", "b%2fc?x"),
        ("%c3%bc/%C3%BC", "ü/", "%C3%BC"),
        ("x;y/z", "x;y/", "z"),
        ("a/b", "", "a/b"),
        ("a", "a/", None),
        ("b/a/", "a/", None),
        ("%zza/", "%zza/", None),
        ("a?b/c", "a?b/", None),
        ("%", "%/", None),
    ],
)
def test_what_follows_a_prefix_is_found_however_that_is_spelled(path, prefix, rest):
    assert below(path, prefix.encode()) == rest


@given(hostile, st.data())
def test_a_prefix_of_a_name_is_found_in_every_spelling_of_it(name, data):
    cut = data.draw(st.integers(0, len(name)))
    escaped = [f"%{byte:02x}" for byte in name[:cut].encode("utf-8", "replace")]
    assert below("".join(escaped) + "rest", name[:cut].encode("utf-8", "replace")) == "rest"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("@scope%2fname", "@scope/name"),
        ("%41.txt", "A.txt"),
        ("x;v=1/y", "x;v=1/y"),
        ("a%20b%2Cc+d", "a b,c+d"),
        ("%C3%BC/", "ü/"),
    ],
)
def test_a_spelling_of_a_name_is_one_that_decodes_to_it(path, name):
    assert is_spelling(path, name)
    assert not is_spelling(path, name + "x")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (".;x", ".;x"),  # servlets take it for .
        ("a/%2e%3b/x", "a/.;/x"),
        (";/x", ";/x"),
        ("a b", "a b"),
        ("100%", "100%"),
        ("a%2", "a%2"),
        ("a#b", "a#b"),
        ("a\\b", "a\\b"),
        ("ü", "ü"),
    ],
)
def test_what_may_lead_elsewhere_or_is_no_url_is_no_spelling(path, name):
    assert not is_spelling(path, name)


@pytest.mark.parametrize(
    ("quoted", "text"),
    [
        ("a+b", "a b"),
        ("a%20b", "a b"),
        ("a%2Bb", "a+b"),
        ("a%252Cb", "a%2Cb"),
        ("%C3%A9", "é"),
        ("é", "é"),
        ("100%", "100%"),
        ("%zz", "%zz"),
        ("", ""),
    ],
)
def test_a_part_of_a_query_is_decoded_exactly_once(quoted, text):
    assert decode_form_value(quoted) == text


@pytest.mark.parametrize("quoted", ["%ff", "a%C3", "%c0%ae", "%ed%a0%80"])
def test_a_part_of_a_query_that_is_not_utf8_is_refused(quoted):
    with pytest.raises(BadName, match="is not valid UTF-8"):
        decode_form_value(quoted)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_utf8_is_read_as_what_it_was_written_from(text):
    assert decode_text(text.encode("utf-8")) == text


def test_bytes_that_are_not_utf8_are_refused():
    with pytest.raises(BadName, match="is not valid UTF-8"):
        decode_text(b"\xff")

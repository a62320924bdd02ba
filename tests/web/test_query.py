"""What a request asks for: the query, the form and the JSON list, read into members or refused."""

import json
import unicodedata
from dataclasses import replace
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tar_gateway.archive.bundle import Entry, archive_filename
from tar_gateway.archive.picks import Pick, pack_names
from tar_gateway.errors import BadRequest, ContentTooLarge, Refusal
from tar_gateway.http.paths import BadName
from tar_gateway.settings import Settings
from tar_gateway.web.bundles import Options
from tar_gateway.web.json_list import json_bundle
from tar_gateway.web.query import (
    Query,
    is_bundle,
    list_bundle,
    read_form,
    read_query,
)


def query(raw, *, parameter="bundle", max_members=10):
    return read_query(raw, Settings(parameter=parameter, max_members=max_members))


def form(body, *, max_members=10):
    raw = body if isinstance(body, bytes) else body.encode()
    return read_form(raw, Settings(max_members=max_members))


def from_query(raw, directory=""):
    return list_bundle(query(raw), directory, Settings())


def from_json(document, directory="", *, max_members=10):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return json_bundle(body, directory, Settings(max_members=max_members))


def refusal(function, *arguments, kind=BadRequest, **keywords):
    """Give the text with which a request is refused."""
    with pytest.raises(kind) as refused:
        function(*arguments, **keywords)
    return refused.value.detail


def bundle_or_refusal(function, *arguments):
    """Give the members of a bundle, or the text with which it is refused."""
    try:
        return function(*arguments).members
    except Refusal as refused:
        return refused.detail


# --- the query ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "asks"),
    [
        ("bundle", True),
        ("bundle=", True),
        ("bundle=a", True),
        ("x=1&bundle=a", True),
        ("%62undle=a", True),
        ("bundle[]=a", True),
        ("bundle%5B%5D=a", True),
        ("x=1&bundle[0]=a", True),
        ("bundle%5b12%5D", True),
        ("bundle[x]=a", False),
        ("bundle[]x=a", False),
        ("bundle[=a", False),
        ("bundle[1234567]=a", False),
        ("bundles[]=a", False),
        ("", False),
        ("bundles=a", False),
        ("Bundle=a", False),
        ("x=bundle", False),
        ("x;bundle=a", False),
        ("%ff=a", False),
        ("&&", False),
    ],
)
def test_a_query_asks_for_a_bundle_by_having_the_parameter(raw, asks):
    assert is_bundle(raw, "bundle") is asks


@pytest.mark.parametrize(
    ("raw", "members"),
    [
        ("bundle=a.pdf", ["a.pdf"]),
        ("bundle=a.pdf&bundle=b.pdf", ["a.pdf", "b.pdf"]),
        ("bundle=b&x=1&bundle=a&&", ["b", "a"]),
        # A literal comma separates; an encoded one is part of a name.
        ("bundle=a.pdf,b.pdf", ["a.pdf", "b.pdf"]),
        ("bundle=a,b&bundle=c,d", ["a", "b", "c", "d"]),
        ("bundle=a%2Cb", ["a,b"]),
        ("bundle=a%2cb,c", ["a,b", "c"]),
        ("bundle=a%252Cb", ["a%2Cb"]),
        ("bundle=a,,b,", ["a", "", "b", ""]),
        # A semicolon does not separate, and + is a space as %20 is.
        ("bundle=a;b", ["a;b"]),
        ("bundle=a;bundle=b", ["a;bundle=b"]),
        ("bundle=a+b", ["a b"]),
        ("bundle=a%20b", ["a b"]),
        ("bundle=a%2Bb", ["a+b"]),
        ("bundle=a%26b%3Dc", ["a&b=c"]),
        ("bundle=a=b", ["a=b"]),
        ("bundle=2026/jan.pdf", ["2026/jan.pdf"]),
        ("bundle=2026%2Fjan.pdf", ["2026/jan.pdf"]),
        ("bundle=F%C3%BC%C3%9Fe", ["Füße"]),
        ("%62undle=a", ["a"]),
        ("bundle", []),
        ("bundle=", []),
        ("bundle=&bundle=a", ["a"]),
        ("x=1", []),
        ("%ff=b&bundle=a", ["a"]),
    ],
)
def test_a_query_lists_members_in_order(raw, members):
    assert query(raw) == Query(tuple(members))


@pytest.mark.parametrize(
    ("raw", "members"),
    [
        ("bundle[]=a&bundle[]=b", ("a", "b")),
        ("bundle%5B%5D=a,b&bundle%5b%5d=c%2Cd", ("a", "b", "c,d")),
        ("bundle[0]=a&bundle[1]=b&bundle[]=c", ("a", "b", "c")),
        ("bundle[]=&bundle[]=a", ("a",)),
        ("bundle[]", ()),
        ("bundle=a&bundle[]=b", ("a",)),
        ("bundle&bundle[]=b", ()),
    ],
)
def test_a_list_in_brackets_is_the_parameter_where_that_is_not_there(raw, members):
    assert query(raw).members == members


def test_a_form_may_have_its_list_in_brackets():
    assert form("bundle[]=a%2Cb&bundle%5B%5D=c").members == ("a,b", "c")
    assert form("bundle[]=a&bundle=b").members == ("b",)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_json_list_may_begin_with_a_byte_order_mark(mark):
    listed = json_bundle(mark + b'{"members": ["a"]}', "", Settings())
    assert listed.members == (Entry("a", "a"),)


def test_the_parameter_can_have_another_name():
    assert query("tar=a&bundle=b", parameter="tar").members == ("a",)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), max_size=5))
def test_what_a_url_library_encodes_is_what_is_read(names):
    expected = tuple(names)
    assert query(urlencode([("bundle", name) for name in names])).members == expected
    assert query("bundle=" + ",".join(quote(name, safe="") for name in names)).members == expected
    assert query("bundle=" + ",".join(map(quote_plus, names))).members == expected
    assert form(urlencode([("bundle", name) for name in names])).members == expected


@given(st.text(st.characters(max_codepoint=0x7F)))
def test_any_query_is_a_bundle_or_a_refusal(raw):
    assert bundle_or_refusal(from_query, "bundle=" + raw, "d/")


# --- the file name ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("directory", "filename"),
    [
        ("", "bundle.tar"),
        ("reports/", "reports.tar"),
        ("a/b c/", "b c.tar"),
        ("Füße/", "Füße.tar"),
    ],
)
def test_an_archive_is_called_as_the_last_directory_or_bundle_at_the_root(directory, filename):
    assert from_query("bundle=a", directory).filename == filename
    assert from_json({"members": ["a"]}, directory).filename == filename
    assert from_json({"members": ["a"], "filename": None}, directory).filename == filename


@pytest.mark.parametrize(
    "raw", ["filename=my+own%2C.tar&bundle=a", "bundle=a&filename=my%20own,.tar"]
)
def test_an_archive_is_called_as_the_request_says(raw):
    assert from_query(raw, "reports/").filename == "my own,.tar"
    assert list_bundle(form(raw), "reports/", Settings()).filename == "my own,.tar"


def test_a_file_name_that_is_left_empty_in_a_form_counts_as_none():
    assert list_bundle(form(b"bundle=a&filename="), "d/", Settings()).filename == "d.tar"


def test_a_json_list_gives_the_file_name():
    assert from_json({"members": ["a"], "filename": "mine.tar"}, "d/").filename == "mine.tar"


@pytest.mark.parametrize(
    ("filename", "text"),
    [
        ("a/b.tar", "the filename 'a/b.tar' contains a slash"),
        ("../b.tar", "the filename '../b.tar' contains the segment '..'"),
        ("/b", "the filename '/b' starts with a slash"),
        ("..", "the filename '..' contains the segment '..'"),
        ("a\r\nX: y", "the filename 'a\\r\\nX: y' contains a control character"),
        ("a\\b", "the filename 'a\\b' contains a backslash"),
        (".tar", "the filename '.tar' starts with a dot"),
        (".bashrc", "the filename '.bashrc' starts with a dot"),
        (" .a", "the filename ' .a' starts with a dot"),
        (" ", "the filename ' ' starts with a dot"),
        (
            "a\u202erat.exe",
            "the filename 'a\\u202erat.exe' contains the invisible character U+202E",
        ),
        ("a\u2066b", "the filename 'a\\u2066b' contains the invisible character U+2066"),
        ("a\u200db", "the filename 'a\\u200db' contains the invisible character U+200D"),
        ("\ufeffa", "the filename '\\ufeffa' contains the invisible character U+FEFF"),
        ("a\xadb", "the filename 'a\\xadb' contains the invisible character U+00AD"),
        ("a\u2028b", "the filename 'a\\u2028b' contains the invisible character U+2028"),
        ("CON", "the filename 'CON' becomes 'CON.tar', which is a device on Windows"),
        ("aux.x", "the filename 'aux.x' becomes 'aux.x.tar', which is a device on Windows"),
        ("com1.zip", "the filename 'com1.zip' becomes 'com1.tar', which is a device on Windows"),
    ],
)
def test_a_file_name_that_is_none_is_refused(filename, text):
    assert refusal(from_query, "bundle=a&filename=" + quote(filename, safe="")) == text
    assert refusal(from_json, {"members": ["a"], "filename": filename}) == text


@pytest.mark.parametrize(
    ("asked", "called"),
    [
        ("mine", "mine.tar"),
        ("mine.tar", "mine.tar"),
        ("Mine.TAR", "Mine.tar"),
        ("mine.zip", "mine.tar"),
        ("mine.tar.gz", "mine.tar"),
        ("mine.tgz", "mine.tar"),
        ("mine.tar.ZST", "mine.tar"),
        ("mine.v1.zip", "mine.v1.tar"),
        ("mine.pdf", "mine.pdf.tar"),
        ("mine.exe", "mine.exe.tar"),
        ("mine.", "mine..tar"),
        ("tar", "tar.tar"),
        ("mine.gz", "mine.gz.tar"),
        ("tar.gz", "tar.gz.tar"),
    ],
)
def test_a_file_name_ends_with_what_the_archive_is(asked, called):
    assert from_query("bundle=a&filename=" + quote(asked)).filename == called
    assert from_json({"members": ["a"], "filename": asked}).filename == called


def test_a_file_name_ends_with_its_formats_suffix():
    assert archive_filename("mine.tar", ".zip") == "mine.zip"
    assert archive_filename("mine.zip", ".tar.gz") == "mine.tar.gz"
    assert archive_filename("mine.tar.gz", ".tar.gz") == "mine.tar.gz"


@pytest.mark.parametrize(("name", "suffix"), [("x" * 251, ".tar"), ("é" * 123, ".tar.zst")])
def test_a_file_name_has_at_most_255_bytes_with_its_suffix(name, suffix):
    assert archive_filename(name, suffix) == name + suffix
    assert archive_filename(name + ".tgz", suffix) == name + suffix
    with pytest.raises(BadName, match=rf"is longer than 255 bytes with its suffix {suffix}$"):
        archive_filename(name + "yy", suffix)


@given(st.text(), st.sampled_from([".tar", ".zip", ".tar.gz", ".tar.zst"]))
def test_a_file_name_is_refused_or_plain_and_of_its_format_and_stays_what_it_is(name, suffix):
    try:
        called = archive_filename(name, suffix)
    except BadName:
        return
    assert called.endswith(suffix)
    assert len(called.encode()) <= 255
    assert not called.lstrip().startswith(".")
    assert not {unicodedata.category(c) for c in called} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert archive_filename(called, suffix) == called


@pytest.mark.parametrize(
    "directory",
    [".git/", "aux/", "a\u202eb/", "x" * 252 + "/", "a/ /"],
    ids=ascii,
)
def test_a_directory_whose_name_no_archive_may_have_names_none(directory):
    assert from_query("bundle=a", directory).filename == "bundle.tar"


def test_a_file_name_that_is_not_utf8_is_refused():
    assert refusal(query, "filename=%ff") == "the filename '%ff' is not valid UTF-8"


@pytest.mark.parametrize("read", [query, form])
@pytest.mark.parametrize("again", ["x", "y", ""])
def test_a_file_name_given_twice_is_refused(read, again):
    text = refusal(read, f"bundle=a&filename=x&filename={again}")
    assert text == "filename= is given more than once"


def test_a_file_name_in_the_query_comes_before_the_one_in_a_json_list():
    body = b'{"members": ["a"], "filename": "theirs.tar"}'
    assert json_bundle(body, "", Settings(), Options("mine.tar")).filename == "mine.tar"


# --- a list that is in a file, and the version that is asked for ----------------------------------


def test_a_query_can_name_the_file_that_holds_the_list():
    listed = query("bundle&manifest=2026/all%20of%2Cit.json&filename=x.tar")
    assert listed == Query((), Options("x.tar"), manifest="2026/all of,it.json")


def test_a_query_can_say_which_version_it_is_about():
    assert query("bundle=a&v=0123abcd") == Query(("a",), version="0123abcd")


def test_a_form_has_neither_manifest_nor_version():
    assert form("bundle=a&manifest=b&v=c") == Query(("a",))


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("bundle&manifest=", "the manifest '' is empty"),
        ("bundle&manifest=../a", "the manifest '../a' contains the segment '..'"),
        ("bundle&manifest=/a", "the manifest '/a' starts with a slash"),
        ("bundle&manifest=%ff", "the manifest '%ff' is not valid UTF-8"),
        ("bundle&manifest=a&manifest=a", "manifest= is given more than once"),
        ("bundle=a&manifest=b", "members are named both in bundle= and by a manifest"),
        ("bundle=a&v=1&v=1", "v= is given more than once"),
        ("bundle=a&v=%ff", "the v '%ff' is not valid UTF-8"),
    ],
)
def test_a_manifest_or_version_that_makes_no_sense_is_refused(raw, text):
    assert refusal(query, raw) == text


# --- members ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("directory", "raw", "path", "name"),
    [
        ("reports/", "bundle=jan.pdf", "reports/jan.pdf", "jan.pdf"),
        ("reports/", "bundle=2026/jan.pdf", "reports/2026/jan.pdf", "2026/jan.pdf"),
        ("", "bundle=jan.pdf", "jan.pdf", "jan.pdf"),
        ("a/b/", "bundle=c", "a/b/c", "c"),
    ],
)
def test_a_member_is_relative_to_the_directory_and_named_as_it_was_asked_for(
    directory, raw, path, name
):
    assert from_query(raw, directory).members == (Entry(path, name),)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("bundle", "no member is named: ask for at least one file"),
        ("bundle=", "no member is named: ask for at least one file"),
        ("bundle=a,", "the member '' is empty"),
        ("bundle=a,,b", "the member '' is empty"),
        ("bundle=../a", "the member '../a' contains the segment '..'"),
        ("bundle=a/%2e%2e/b", "the member 'a/../b' contains the segment '..'"),
        (
            "bundle=%252e%252e/b",
            "the member '%2e%2e/b' contains the segment '..' when it is decoded once more",
        ),
        ("bundle=/etc/passwd", "the member '/etc/passwd' starts with a slash"),
        ("bundle=a//b", "the member 'a//b' contains an empty segment"),
        ("bundle=a//", "the member 'a/' contains an empty segment"),
        ("bundle=../", "the member '..' contains the segment '..'"),
        ("bundle=/", "the member '' is empty"),
        ("bundle=a/./", "the member 'a/.' contains the segment '.'"),
        ("bundle=a%5Cb", "the member 'a\\b' contains a backslash"),
        ("bundle=a%0Ab", "the member 'a\\nb' contains a control character"),
        ("bundle=a%00", "the member 'a\\x00' contains a control character"),
        ("bundle=a%FF", "the member 'a%FF' is not valid UTF-8"),
        ("bundle=%ed%a0%80", "the member '%ed%a0%80' is not valid UTF-8"),
    ],
)
def test_a_member_that_is_no_plain_path_is_refused_with_its_reason(raw, text):
    assert refusal(from_query, raw, "d/") == text


def test_a_long_name_is_shown_in_part():
    text = refusal(from_query, "bundle=" + "x" * 5000)
    assert text == f"the member '{'x' * 120}…' is longer than 4096 bytes"


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["a", "a"], "the member 'a' is named twice"),
        (["a", "b", "a"], "the member 'a' is named twice"),
        (["x/a", "x/b", "x/a"], "the member 'x/a' is named twice"),
        (["a", "a/b"], "the member 'a' would have to be the directory of 'a/b'"),
        (["a/b", "a"], "the member 'a' would have to be the directory of 'a/b'"),
        (["a", "a-b", "a.b", "a/b"], "the member 'a' would have to be the directory of 'a/b'"),
        (["a/b/c/d", "a/b"], "the member 'a/b' would have to be the directory of 'a/b/c/d'"),
    ],
)
def test_members_that_could_not_be_unpacked_side_by_side_are_refused(names, text):
    assert refusal(from_query, "bundle=" + ",".join(names)) == text
    assert refusal(from_json, {"members": names}) == text


@pytest.mark.parametrize("names", [["a", "A"], ["a", "ab"], ["a/b", "ab"], ["a/b", "a/c", "a-b"]])
def test_members_that_only_look_alike_stand_side_by_side(names):
    assert [each.name for each in from_query("bundle=" + ",".join(names)).members] == names


@given(
    st.lists(
        st.lists(st.sampled_from(["a", "b", "a-", "a!"]), min_size=1, max_size=3).map("/".join),
        min_size=1,
        max_size=5,
    )
)
def test_names_are_refused_exactly_when_one_is_another_or_its_directory(names):
    apart = not any(
        (one + "/").startswith(other + "/")
        for index, one in enumerate(names)
        for number, other in enumerate(names)
        if index != number
    )
    try:
        from_json({"members": names})
    except BadRequest:
        assert not apart
    else:
        assert apart


# --- limits -------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", [query, form])
def test_a_list_may_have_as_many_members_as_the_limit_says(read):
    raw = "x=1&bundle=a&bundle=b&y=2&bundle=c"
    assert read(raw, max_members=3).members == ("a", "b", "c")


@pytest.mark.parametrize("read", [query, form])
def test_a_list_of_more_members_than_the_limit_is_too_large(read):
    raw = "bundle=a&bundle=b&bundle=c"
    text = refusal(read, raw, max_members=2, kind=ContentTooLarge)
    assert text == "more than 2 members are named: ask for them in several bundles"


def test_members_separated_by_commas_count_towards_the_limit():
    assert query("bundle=a,b,c", max_members=3).members == ("a", "b", "c")
    assert refusal(query, "bundle=a,b,c", max_members=2, kind=ContentTooLarge)


def test_a_json_list_of_more_members_than_the_limit_is_too_large():
    assert len(from_json({"members": ["a", "b"]}, max_members=2).members) == 2
    text = refusal(from_json, {"members": ["a", "b"]}, max_members=1, kind=ContentTooLarge)
    assert text == "more than 1 members are named: ask for them in several bundles"


# --- the form -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "members"),
    [
        ("bundle=a,b", ["a,b"]),
        ("bundle=a%2Cb&bundle=c", ["a,b", "c"]),
        ("bundle=a+b", ["a b"]),
        ("bundle=a;b", ["a;b"]),
        ("bundle=é", ["é"]),
        ("x=1&bundle=a", ["a"]),
        ("", []),
    ],
)
def test_a_comma_in_a_form_is_part_of_a_name(body, members):
    assert form(body) == Query(tuple(members))


def test_a_form_that_is_not_utf8_is_refused():
    assert refusal(form, b"bundle=\xff") == "the form is not valid UTF-8"


# --- JSON ---------------------------------------------------------------------------------------


def test_a_json_member_is_a_path_or_a_path_and_a_name():
    members = ["a.pdf", {"path": "x/b.pdf", "name": "b.pdf"}, {"path": "c"}]
    assert from_json({"members": members}, "d/").members == (
        Entry("d/a.pdf", "a.pdf"),
        Entry("d/x/b.pdf", "b.pdf"),
        Entry("d/c", "c"),
    )


def test_one_file_may_be_in_an_archive_under_two_names():
    members = from_json({"members": ["a", {"path": "a", "name": "b"}]}).members
    assert members == (Entry("a", "a"), Entry("a", "b"))


def test_two_files_may_not_be_in_an_archive_under_one_name():
    text = refusal(from_json, {"members": ["a", {"path": "b", "name": "a"}]})
    assert text == "the member 'a' is named twice"


def test_a_json_name_is_not_decoded():
    assert from_json({"members": ["a+b,c%20d"]}).members == (Entry("a+b,c%20d", "a+b,c%20d"),)


@pytest.mark.parametrize(
    ("member", "text"),
    [
        ("../a", "the member '../a' contains the segment '..'"),
        ({"path": "../a", "name": "a"}, "the member '../a' contains the segment '..'"),
        ({"path": "a", "name": "../a"}, "the member '../a' contains the segment '..'"),
        ({"path": "a", "name": ""}, "the member '' is empty"),
        ({"path": "", "name": "a"}, "the member '' is empty"),
    ],
)
def test_both_path_and_name_of_a_json_member_are_checked(member, text):
    assert refusal(from_json, {"members": [member]}) == text


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b"", "Invalid JSON"),
        (b"{", "Invalid JSON"),
        (b"\xff", "Invalid JSON"),
        (b'{"members": ["\\ud800"]}', "Invalid JSON"),
        (b"[" * 100_000, "Invalid JSON"),
        (b"[]", "not an object"),
        (b'"a"', "not an object"),
        (b"null", "not an object"),
        (b"{}", "members: "),
        (b'{"members": "a"}', "members: "),
        (b'{"members": null}', "members: "),
        (b'{"members": {"a": 1}}', "members: "),
        (b'{"members": [1]}', "members.0: neither a text nor an object with a path"),
        (b'{"members": ["a", null]}', "members.1: neither a text nor an object with a path"),
        (b'{"members": ["a", ["b"]]}', "members.1: neither a text nor an object with a path"),
        (b'{"members": [{}]}', "members.0.path: "),
        (b'{"members": [{"name": "a"}]}', "members.0.path: "),
        (b'{"members": [{"path": 1}]}', "members.0.path: "),
        (b'{"members": [{"path": "a", "name": 1}]}', "members.0.name: "),
        (b'{"members": [{"path": "a", "nane": "b"}]}', "members.0.nane: "),
        (b'{"members": ["a"], "filename": 1}', "filename: "),
        (b'{"members": ["a"], "file": "b"}', "file: "),
    ],
)
def test_a_json_list_that_is_not_understood_is_refused_with_the_place(body, place):
    assert refusal(from_json, body).startswith(f"the JSON list is not understood: {place}")


def test_a_json_list_of_nothing_is_refused():
    assert refusal(from_json, {"members": []}) == "no member is named: ask for at least one file"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["members", "path", "name", "filename"]), inner)
        ),
        max_leaves=8,
    )
)
def test_any_json_is_a_bundle_or_a_refusal(document):
    assert bundle_or_refusal(from_json, document)


# --- what is picked -----------------------------------------------------------------------------


PICK = Pick.of("d/", ["a", "b"], [1], 1_700_000_000)


def test_picks_and_packed_names_are_read():
    read = query(f"bundle&pick={PICK}&pick={quote(str(replace(PICK, directory='e/')))}")
    assert [pick.directory for pick in read.picks] == ["d/", "e/"]
    assert query(f"bundle&names={pack_names(['a b', 'd/'])}").members == ("a b", "d/")


def test_a_picked_directory_is_an_entry_with_its_pick():
    (entry,) = from_query(f"bundle&pick={PICK}", "reports/").members
    assert entry == Entry("reports/d/", "d/", is_tree=True, pick=PICK)
    (own,) = from_query(f"bundle&pick={replace(PICK, directory='')}", "reports/").members
    assert (own.path, own.name) == ("reports/", "")


@pytest.mark.parametrize("other", ["bundle=a", "bundle&manifest=list.json"])
@pytest.mark.parametrize("picked", [f"pick={PICK}", f"names={pack_names(['a'])}"])
def test_what_is_picked_goes_with_no_other_list(other, picked):
    assert "go neither with bundle=" in refusal(query, f"{other}&{picked}")


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ("pick=nonsense", "'nonsense' is not <directory>:<digest>.<time>.<bits>"),
        (f"pick={PICK}&pick={PICK}", "'d/' is picked from twice"),
        (f"pick={replace(PICK, bits=bytes(1))}", "selects nothing"),
        (f"pick={replace(PICK, bits=bytes(99))}", "holds more than 13 bytes"),
        ("names=%20", "names= is not raw DEFLATE"),
        (f"names={pack_names(['a'])}&names={pack_names(['b'])}", "more than once"),
    ],
)
def test_a_wrong_pick_is_refused_with_what_is_wrong(raw, told):
    assert told in refusal(query, f"bundle&{raw}")


@pytest.mark.parametrize("directory", ["../", "a//", "/"])
def test_a_pick_leads_nowhere_else(directory):
    assert "'" in refusal(from_query, f"bundle&pick={replace(PICK, directory=directory)}")


def test_picks_and_packed_names_count_as_members():
    many = Pick.of("", [f"{n:02}" for n in range(11)], range(11), 1)
    assert "more than 10 members" in refusal(query, f"bundle&pick={many}", kind=ContentTooLarge)
    names = pack_names(map(str, range(11)))
    assert "more than 10" in refusal(query, f"bundle&names={names}", kind=ContentTooLarge)


def test_what_a_form_asked_for_cannot_be_continued_by_its_address():
    assert "asked for by a form" in refusal(from_query, "bundle&pick")

"""Which names can lie side by side, and what an archive is called."""

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tar_gateway.archive.bundle import check_apart, free_name, numbered, renamed
from tar_gateway.http.paths import (
    BadName,
    shown,
)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a", "A"),
        ("a/b.TXT", "A/B.txt"),
        ("é", "e\u0301"),  # composed and decomposed
        ("É", "e\u0301"),
        ("Å", "\u212b"),  # a letter and the sign for a unit, which are canonically the same
        ("k", "\u212a"),
        ("straße", "STRASSE"),
        ("ß", "\u1e9e"),
        ("ﬁ", "fi"),
        ("ς", "Σ"),
        ("ǆ", "ǅ"),
        ("\u1fb3", "\u0391\u0399"),
        ("q\u0307\u0323", "q\u0323\u0307"),  # marks in another order
        ("가", "\u1100\u1161"),
        (".git", ".g\u200cit"),  # a character that nobody sees
        ("a", "\ufeffa"),
        ("a", "a\u034f"),  # a mark that nobody sees
        ("a", "a\ufe0f"),
        ("a", "\u3164a"),
        ("q\u0307\u0323", "q\u0323\u200d\u0307"),
    ],
    ids=ascii,
)
def test_strictly_names_that_only_case_or_unicode_form_tells_apart_are_one(one, other):
    check_apart([one, other])
    for names in ([one, other], [other, "between", one]):
        with pytest.raises(BadName, match=r"differ only in case or Unicode form$"):
            check_apart(names, strict=True)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "A/b"], "the member 'a' would have to be the directory of 'A/b'"),
        (["É/x", "e\u0301"], "the member 'e\u0301' would have to be the directory of 'É/x'"),
        (["a", "b", "a"], "the member 'a' is named twice"),
        (["d/", "d"], "the member 'd/' is named twice"),
    ],
)
def test_strictly_a_file_is_no_directory_of_another_case_either(names, message):
    with pytest.raises(BadName) as refused:
        check_apart(names, strict=True)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    "names",
    [
        ["A/x", "a/y"],  # one directory on some file systems, but no file is lost
        ["D/", "d/x"],
        ["a", "\uff41"],  # a full-width letter is another one everywhere
        ["①", "1"],
        ["e", "é"],
        ["\u0131", "i"],
        ["a.", "b ", "d./x", "d/y"],  # one directory on Windows, but no file is lost
        ["a", ".a", " a", "..a"],
        ["a\u0430", "aa"],  # a Cyrillic letter
        ["console", "con-1", "com", "com10", "lpt", "nul1.txt", "aux_", "xcon", "con!"],
    ],
    ids=ascii,
)
def test_strictly_all_other_names_stand_side_by_side(names):
    check_apart(names, strict=True)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a", "a."),
        ("a", "a "),
        ("a", "a. ."),
        ("A", "a."),
        ("d/a", "d./a"),
        ("d /a", "d/a"),
        ("d/", "D./"),
        ("é", "e\u0301 "),
    ],
    ids=ascii,
)
def test_strictly_dots_and_spaces_at_the_end_of_a_segment_tell_nothing_apart(one, other):
    check_apart([one, other])
    for names in ([one, other], [other, "between", one]):
        with pytest.raises(BadName, match=r"differ only in case, Unicode form, or dots and spaces"):
            check_apart(names, strict=True)


@pytest.mark.parametrize(
    ("name", "reason"),
    [(f"a/b{c}c", f"contains '{c}', which no file name on Windows may contain") for c in ':<>|?*"']
    + [
        (name, f"contains '{device}', which is a device on Windows")
        for name, device in [
            ("CON", "CON"),
            ("con/a", "con"),
            ("con/", "con"),
            ("a/Prn", "Prn"),
            ("a/aux.txt/b", "aux.txt"),
            ("NUL.tar.gz", "NUL.tar.gz"),
            ("nul .txt", "nul .txt"),
            ("nul.", "nul."),
            ("COM1", "COM1"),
            ("com9.log", "com9.log"),
            ("Com0", "Com0"),
            ("LPT¹", "LPT¹"),
            ("lpt².x", "lpt².x"),
            ("com³", "com³"),
            ("CONIN$", "CONIN$"),
            ("conout$.txt", "conout$.txt"),
        ]
    ]
    + [
        (name, "contains a segment of dots, spaces or invisible characters only")
        for name in ("...", " ", "a/. ./b", "a/ /", "a/\u200d/b", "\u200d.", "\ufe0f", "\u3164.")
    ],
    ids=ascii,
)
def test_strictly_a_name_that_windows_cannot_have_is_refused(name, reason):
    check_apart([name])
    with pytest.raises(BadName) as refused:
        check_apart(["b", name], strict=True)
    assert str(refused.value) == f"the member {shown(name)} {reason}"


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("LONGFI~1.TXT", "longfilename.txt"),
        ("longfi~1.txt", "LongFileName.txt"),
        ("longf~10.txt", "longfilename.txt"),
        ("LO1A2F~1.TXT", "longfilename.txt"),
        ("GIT~1", ".git"),
        ("AB~1.TAR", "a b.tarball"),
        ("ARCHIV~1.GZ", "archive.tar.gz"),
        ("A_B~1", "a+b"),
        ("d/LONGFI~1", "d/longfilename"),
        ("LONGFI~1/a", "longfilename/a"),
        ("a/b/LONGFI~1/a", "a/b/longfilename/c/d"),
        ("LONGFI~1/", "longfilename/b"),
    ],
)
def test_strictly_a_name_may_not_be_what_windows_makes_of_another(short, long):
    check_apart([short, long])
    for names in ([short, long], [long, "between", short]):
        with pytest.raises(BadName) as refused:
            check_apart(names, strict=True)
        assert str(refused.value) == (
            f"the member {shown(short)} may be the short name of {shown(long)}"
        )


@pytest.mark.parametrize(
    "names",
    [
        ["report~1.txt", "report.txt"],  # which is short, so that no other is made for it
        ["report~1.txt", "reports-of-2026.pdf"],
        ["report~1.txt", "receipts-of-2026.txt"],
        ["report~1.txt", "old/reports-of-2026.txt"],
        ["LONGFI~1.TXT", "LONGFI~2.TXT"],
        ["longfilename.txt~", "longfilename.txt"],
        ["longfilename~1.txt", "longfilename.txt"],
        ["~1", "1"],
    ],
)
def test_strictly_other_names_with_a_tilde_stand_side_by_side(names):
    check_apart(names, strict=True)


_MARKS = ["\u0301", "\u0316", "\u0344", "\u0f73", "\u0f75", "\u0f81", "\U0001d165"]


@given(
    st.text(st.sampled_from(_MARKS), min_size=31, max_size=31),
    st.lists(st.sampled_from(["", "\u200d", "\u034f", "\ufe0f"]), min_size=31, max_size=31),
)
def test_strictly_more_than_30_marks_in_a_row_are_refused_whatever_invisible_is_between(
    marks, between
):
    name = "a" + "".join(mark + other for mark, other in zip(marks, between, strict=True))
    with pytest.raises(BadName, match=r"contains more than 30 combining marks in a row$"):
        check_apart([name], strict=True)
    check_apart([name])


@given(st.lists(st.text(st.sampled_from(_MARKS), max_size=30), max_size=9))
def test_strictly_as_many_marks_as_a_language_needs_are_taken(runs):
    check_apart(["a" + "a".join(runs)], strict=True)


# Of every sort that folding knows, so that most pairs are close to each other.
alike = st.lists(
    st.sampled_from(["a", "A", "e", "É", "é", "\u0301", "ß", "SS", "ﬀ", "\u200d", "\ufe0f"])
    | st.sampled_from([".", " ", "/", "con", "¹", "K", "\u212a", "日"]),
    min_size=1,
    max_size=6,
).map("".join)


def _accepted(*names):
    try:
        check_apart(names, strict=True)
    except BadName:
        return False
    return True


@given(alike)
def test_strictly_no_name_stands_beside_itself_in_another_case_form_or_with_a_dot(name):
    for other in (
        name.upper(),
        name.swapcase(),
        unicodedata.normalize("NFD", name),
        unicodedata.normalize("NFC", name),
        name + ".",
        name + " ",
        "\u200d" + name,
        name.replace("/", " ./"),
    ):
        assert not _accepted(name, other)


@given(st.lists(alike, max_size=4))
def test_strictly_it_does_not_matter_in_which_order_names_come(names):
    assert _accepted(*names) == _accepted(*reversed(names)) == _accepted(*sorted(names))


def test_strictly_the_time_grows_with_the_length_of_the_names():
    def seconds(names):
        begun = time.process_time()
        check_apart(names, strict=True)
        return time.process_time() - begun

    def marked(count):
        return [f"{i:04}" + ("a" + "\u0301\u0316" * 15) * 60 for i in range(count)]

    def deep(count):
        return [f"{i:04}" + "/a~1" * 900 for i in range(count)]

    for names in (marked, deep):
        seconds(names(10))
        assert seconds(names(400)) < 100 * max(seconds(names(20)), 0.002)


def test_strictly_what_one_upper_case_letter_stands_for_is_one_as_windows_has_it():
    # But for the dotless i, which Windows leaves as it is.
    alike: dict[str, str] = {}
    for character in map(chr, range(0xA0, 0x10000)):
        upper = character.upper()
        if len(upper) == 1 and character not in {upper, "\u0131"}:
            alike[character] = upper
            with pytest.raises(BadName):
                check_apart([upper, character], strict=True)
    assert len(alike) > 1000


@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1), max_size=4))
def test_strict_rules_refuse_at_least_what_the_others_do(names):
    try:
        check_apart(names)
    except BadName:
        with pytest.raises(BadName):
            check_apart(names, strict=True)


# --- names that are free --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "second"),
    [
        ("a.txt", "a (2).txt"),
        ("a", "a (2)"),
        ("a.b.txt", "a.b (2).txt"),
        ("a.tar.gz", "a (2).tar.gz"),
        ("A.TAR.GZ", "A (2).TAR.GZ"),
        (".bashrc", ".bashrc (2)"),
        ("Mr. Smith", "Mr. Smith (2)"),
        ("x.y/a", "x.y/a (2)"),
        ("x/.a.txt", "x/.a (2).txt"),
        ("x.y/", "x (2).y/"),
        ("...", "... (2)"),
    ],
)
def test_a_number_stands_before_the_suffix(name, second):
    assert numbered(name, 2) == second


@pytest.mark.parametrize(
    ("names", "free"),
    [
        ([], "A.txt"),
        (["x/A.txt"], "A.txt"),
        (["a.TXT"], "A (2).txt"),
        (["A.txt. "], "A (2).txt"),
        (["A.txt/b"], "A (2).txt"),
        (["A.txt/"], "A (2).txt"),
        (["A.txt", "a (2).txt/x", "A (3).txt"], "A (4).txt"),
    ],
)
def test_a_free_name_is_no_files_and_no_directorys_on_any_system(names, free):
    assert free_name("A.txt", names) == free
    check_apart([*names, free])


@pytest.mark.parametrize(
    ("names", "made"),
    [
        (["a", "b"], ["a", "b"]),
        (["a", "a", "a"], ["a", "a (2)", "a (3)"]),
        (["a.txt", "b", "a.txt"], ["a.txt", "b", "a (2).txt"]),
        (["a", "a", "a (2)"], ["a", "a (3)", "a (2)"]),
        (["a (2)", "a", "a", "a (2)"], ["a (2)", "a", "a (3)", "a (2) (2)"]),
        (["a", "a", "a (2)/x"], ["a", "a (3)", "a (2)/x"]),
        (["a/x", "a/x"], ["a/x", "a/x (2)"]),
        (["a/", "a/"], ["a/", "a (2)/"]),
        (["a", "A"], ["a", "A"]),
    ],
)
def test_all_but_the_first_of_a_name_are_numbered(names, made):
    assert renamed(names) == made
    check_apart(made)


@pytest.mark.parametrize(
    ("names", "made"),
    [
        (["a.txt", "A.TXT"], ["a.txt", "A (2).TXT"]),
        (["\u00e4", "a\u0308"], ["\u00e4", "a\u0308 (2)"]),
        (["a", "a.", "A", "A (2)"], ["a", "a. (2)", "A (3)", "A (2)"]),
    ],
)
def test_where_fewer_names_are_told_apart_more_are_numbered(names, made):
    assert renamed(names, strict=True) == made
    check_apart(made, strict=True)


@given(st.lists(st.text("aA (2)./", min_size=1, max_size=6), max_size=8), st.booleans())
def test_after_renaming_no_name_occurs_twice(names, strict):
    try:
        made = renamed(names, strict=strict)
    except BadName:
        return
    folded = [name.rstrip("/").lower() if strict else name.rstrip("/") for name in made]
    assert len(set(folded)) == len(folded)


def test_a_hundred_thousand_of_one_name_are_numbered_in_no_time():
    began = time.process_time()
    made = renamed(["a.txt"] * 100_000)
    assert made[-1] == "a (100000).txt"
    assert time.process_time() - began < 5

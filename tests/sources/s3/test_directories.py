"""Directories made of keys: files, directories, and keys that are no paths."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tar_gateway.http.paths import BadName, check_name
from tar_gateway.sources import Listing
from tar_gateway.sources.listing.found import BadListing
from tar_gateway.sources.listing.s3 import Page, StoredObject
from tar_gateway.sources.s3.directories import Directories


def stored(key: str, size: int = 1, etag: str | None = '"x"', *, archived=False) -> StoredObject:
    return StoredObject(key, size, 1_700_000_000, etag, archived)


def made(*keys: StoredObject | str, prefix="d/", deep=True, prefixes=()) -> Listing:
    found = Directories(prefix, deep=deep)
    objects = tuple(each if isinstance(each, StoredObject) else stored(each) for each in keys)
    assert found.add(Page(objects, tuple(prefixes), None)) == len(keys) + len(prefixes)
    return found.listing(1)


def paths(listing: Listing, above: str = "") -> set[str]:
    """Return the paths of files, and of directories that hold nothing."""
    found: set[str] = set()
    for each in listing.entries:
        if not each.is_directory:
            found.add(above + each.name)
        elif each.listing is not None and each.listing.entries:
            found |= paths(each.listing, f"{above}{each.name}/")
        else:
            found.add(f"{above}{each.name}/")
    return found


def test_a_list_of_all_below_brings_the_directories_with_what_they_hold():
    keys = ["d/a", "d/b/c", "d/b/d/e", "d/f/"]
    assert paths(made(*[stored(key, 0) for key in keys])) == {"a", "b/c", "b/d/e", "f/"}


def test_a_list_of_one_directory_tells_nothing_of_those_below():
    listing = made("d/a", prefixes=["d/b/"], deep=False)
    assert [(e.name, e.is_directory, e.listing) for e in listing.entries] == [
        ("a", False, None),
        ("b", True, None),
    ]


def test_a_file_is_told_as_a_head_would_tell_it():
    (entry,) = made(stored("d/a", 5)).entries
    assert (entry.stat.size, entry.stat.mtime) == (5, 1_700_000_000)
    assert (entry.stat.validator.text, entry.stat.validator.strong) == ('"x"', True)
    assert (entry.stat.version, entry.stat.dated, entry.stat.checksum) == (None, None, None)


@pytest.mark.parametrize("each", [stored("d/a", etag=None), stored("d/a", archived=True)])
def test_a_file_of_which_a_head_tells_more_is_asked_about(each):
    assert made(each).entries[0].stat is None


def test_a_directorys_own_key_is_no_file():
    assert made(stored("d/", 0)).entries == ()
    assert paths(made(stored("d/", 0), "d/a")) == {"a"}


def test_both_a_file_and_a_directory_may_have_a_name():
    assert paths(made("d/a", "d/a/b")) == {"a", "a/b"}


@pytest.mark.parametrize(
    ("key", "at", "name"),
    [
        ("d//a", [], "/a"),
        ("d//", [], "/"),
        ("d/a//b", ["a"], "/b"),
        ("d/a//", ["a"], "/"),
        ("d/../a", [], "../a"),
        ("d/a/../../b", ["a"], "../../b"),
        ("d/a/..", ["a"], ".."),
        ("d/.", [], "."),
        ("d/b/c/./a", ["b", "c"], "./a"),
        ("d/a\x01b", [], r"a\x01b"),
        ("d/a\nb", [], r"a\nb"),
        ("d/a\\b", [], "a\\b"),
        ("d/%2e%2e/a", [], "%2e%2e/a"),
        ("d/..;/a", [], "..;/a"),
        ("d/C:/a", [], "C:/a"),
        ("d/\x7f/", [], r"\x7f"),
    ],
)
def test_a_key_that_is_no_path_is_told_where_it_lies(key, at, name):
    listing = made("d/good", stored(key, 0))
    for segment in at:
        (listing,) = [e.listing for e in listing.entries if e.name == segment]
    assert [each.name for each in listing.unusable] == [name]
    assert [e.name for e in listing.entries if not e.is_directory] == ([] if at else ["good"])


def test_a_prefix_that_is_no_path_is_told_as_well():
    assert [e.name for e in made(prefixes=["/"], prefix="", deep=False).unusable] == ["/"]
    assert [e.name for e in made(prefixes=["d/../"], deep=False).unusable] == [".."]


def test_bytes_under_a_directorys_name_are_told_in_it():
    listing = made(stored("d/", 5), stored("d/b/", 6))
    assert [each.reason for each in listing.unusable] == [
        "is a key of 5 bytes that ends with a slash"
    ]
    (below,) = listing.entries
    assert [each.reason for each in below.listing.unusable] == [
        "is a key of 6 bytes that ends with a slash"
    ]


def test_a_key_that_is_listed_twice_is_an_error():
    with pytest.raises(BadListing, match="twice"):
        made("d/b/a", "d/c", "d/b/a")


def test_a_key_below_a_directory_that_was_to_be_left_out_is_an_error():
    with pytest.raises(BadListing, match="not directly below"):
        made("d/b/c", deep=False)


def test_a_key_of_as_many_directories_as_can_be_is_read():
    (path,) = paths(made("a/" * 511 + "b", prefix=""))
    assert path.count("/") == 511


@given(st.lists(st.text("ab/.", min_size=1, max_size=6), unique=True))
def test_each_key_is_a_file_a_directory_or_told_as_neither(keys):
    def told(listing: Listing, above: str = "") -> Iterator[tuple[str, str]]:
        yield from ((above + each.name, "unusable") for each in listing.unusable)
        for each in listing.entries:
            yield f"{above}{each.marked}", "directory" if each.is_directory else "file"
            if each.listing is not None:
                yield from told(each.listing, f"{above}{each.marked}")

    found = set(told(made(*[stored("d/" + key, 0) for key in sorted(keys)])))
    for key in keys:
        try:
            check_name(key.removesuffix("/"))
        except BadName:
            assert any(each == "unusable" and key.startswith(name) for name, each in found)
        else:
            assert (key, "directory" if key.endswith("/") else "file") in found
    assert {name for name, each in found if each == "file"} <= set(keys)

"""Globs: what matches, what may match below, and how long that takes at worst."""

import time

import pytest

from tar_gateway.archive.globs import Filter, Glob
from tar_gateway.http.paths import BadName


def matches(glob: str, path: str) -> bool:
    made = Glob(glob)
    state = made.start
    for segment in path.split("/"):
        state = made.step(state, segment)
    return made.matches(state)


@pytest.mark.parametrize(
    ("glob", "path", "does"),
    [
        ("*.pdf", "a.pdf", True),
        ("*.pdf", "x/a.pdf", False),
        ("**/*.pdf", "a.pdf", True),
        ("**/*.pdf", "x/y/a.pdf", True),
        ("x/**", "x/y/z", True),
        ("x/", "x/y/z", True),
        ("x/**", "y/x/z", False),
        ("**/x/**/y", "a/x/b/c/y", True),
        ("**/x/**/y", "a/x/b/c/z", False),
        ("a?c", "abc", True),
        ("a?c", "ac", False),
        ("ab*b", "ab", False),
        ("ab*b", "abb", True),
        ("*a*b*", "xaxbx", True),
        ("*a*b*", "xbxax", False),
        ("[ab].txt", "[ab].txt", True),
        ("[ab].txt", "a.txt", False),
        ("a.c", "abc", False),
        ("**", "any/thing", True),
    ],
)
def test_a_glob_matches_whole_paths_segment_by_segment(glob, path, does):
    assert matches(glob, path) is does


@pytest.mark.parametrize("glob", ["", "/a", "a//b", "a**b", "**a", "../a", "a/."])
def test_a_glob_that_can_match_nothing_is_refused(glob):
    with pytest.raises(BadName):
        Glob(glob)


def test_what_cannot_match_is_not_looked_into():
    taken = Filter(["a/*.txt", "b/**"], ["b/tmp"])
    at = {name: taken.step(taken.start, name) for name in "abc"}
    assert [taken.looks_below(place) for place in at.values()] == [True, True, False]
    assert not taken.looks_below(taken.step(at["b"], "tmp"))
    assert taken.takes(taken.step(at["a"], "x.txt"))
    assert not taken.takes(taken.step(at["a"], "x.pdf"))


@pytest.mark.parametrize("glob", ["*a" * 500 + "b", "**/" * 340 + "b", "*?" * 500 + "b"])
def test_no_glob_takes_long(glob):
    path = "/".join(["a" * 200] * 20)
    began = time.process_time()
    assert not matches(glob, path)
    assert time.process_time() - began < 1

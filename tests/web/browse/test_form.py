"""A form becomes the shortest link that asks for exactly what was ticked."""

import random
from hashlib import sha256
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tar_gateway.archive.picks import base36, listing_digest
from tar_gateway.errors import BadRequest, ContentTooLarge, Refusal
from tar_gateway.settings import Settings
from tar_gateway.web.browse.form import read_selection, shortest_query
from tar_gateway.web.query import read_query

MADE = 1_700_000_000
NAMES = [f"file {number:05}.txt" for number in range(10_000)]

NAME = st.text(
    st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=30
)
LISTING = st.lists(NAME | NAME.map(lambda name: name + "/"), min_size=1, unique=True).map(sorted)


def version(names):
    return f"{listing_digest(names)}.{base36(MADE)}"


def link(pairs, *listed, **settings):
    chosen = Settings(**settings)
    return shortest_query(read_selection(urlencode(pairs).encode(), chosen), listed, chosen)


def own(names, *ticked, **more):
    return [("of", version(names)), *(("row", i) for i in ticked), *more.items()]


@given(st.data())
def test_the_link_asks_for_what_was_ticked_and_nothing_else(data):
    here, there = data.draw(LISTING), data.draw(LISTING)
    ticked = data.draw(st.sets(st.sampled_from(range(len(here))), min_size=1))
    others = data.draw(st.sets(st.sampled_from(range(len(there)))))
    pairs = own(here, *ticked)
    if others:
        pairs.append(("ticked", f"sub/:{version(there)}:{','.join(map(str, others))}"))
    query = read_query(link(pairs, here, there) if others else link(pairs, here), Settings())
    asked = set(query.members)
    listed = {"": here, "sub/": there}
    for pick in query.picks:
        rows = [(name, MADE) for name in listed[pick.directory]]
        asked |= {pick.directory + name for name in pick.names(rows)}
    assert asked == {here[i] for i in ticked} | {f"sub/{there[i]}" for i in others}


def test_few_names_stand_there_as_they_are():
    assert link(own(["a.txt", "b/"], 0, 1), ["a.txt", "b/"]) == "bundle=a.txt&bundle=b/"


def test_many_are_a_pick_of_at_most_1700_bytes():
    every_other = link(own(NAMES, *range(0, 10_000, 2)), NAMES)
    assert every_other.startswith("bundle&pick=:")
    assert len(every_other) < 100
    mixed = random.Random(1).sample(range(10_000), 5_000)
    assert len(link(own(NAMES, *mixed), NAMES).removeprefix("bundle&pick=")) <= 1_700


def test_everything_here_is_the_directory_itself():
    assert link([("of", "x"), ("all", "yes"), ("row", 3), ("format", "zip")]) == (
        "bundle=./&format=zip"
    )


def test_what_holds_anyway_is_not_said():
    assert link(own(["a"], 0, format="tar", missing=""), ["a"]) == "bundle=a"
    assert link(own(["a"], 0, format="zip", missing="report"), ["a"]) == (
        "bundle=a&format=zip&missing=report"
    )


def test_a_range_of_rows_is_sent_in_short_by_a_script():
    names = ["a", "b", "c", "d"]
    by_rows = link(own(names, 0, 1, 3), names)
    assert link([("ticked", f":{version(names)}:0-1,3")], names) == by_rows


@pytest.mark.parametrize(
    ("pairs", "told"),
    [
        ([], "nothing is selected"),
        ([("of", "abc"), ("row", 1)], "is not understood"),
        ([("row", 1)], "is not understood"),
        (own(["a"], "x"), "is not understood"),
        ([("ticked", "sub/:x:1")], "is not understood"),
        ([("ticked", f"sub:{version(['a'])}:0")], "has no slash at its end"),
        ([("ticked", f"../:{version(['a'])}:0")], "contains the segment '..'"),
        ([("ticked", f"/:{version(['a'])}:0")], "is empty"),
        ([("ticked", f"a/:{version(['a'])}:0")] * 2, "one directory is sent twice"),
    ],
)
def test_a_form_that_no_page_sends_is_refused(pairs, told):
    with pytest.raises(BadRequest) as refused:
        link(pairs, ["a"])
    assert told in refused.value.detail


def test_an_entry_that_is_not_there_is_refused():
    with pytest.raises(BadRequest, match="there is no entry 1"):
        link(own(["a"], 1), ["a"])


@pytest.mark.parametrize("rows", ["0-999999999", ",".join(map(str, range(11)))])
def test_more_than_a_bundle_may_have_is_refused_at_once(rows):
    with pytest.raises(ContentTooLarge):
        link([("ticked", f":{version(NAMES)}:{rows}")], NAMES, max_members=10)


def test_a_link_that_no_server_takes_is_refused_with_what_to_do():
    names = [f"{number:04}" for number in range(2_000)]
    pairs, listed = [], []
    for number in range(120):
        directory = (
            f"{sha256(bytes([number])).hexdigest()}{sha256(bytes([0, number])).hexdigest()}/"
        )
        pairs.append(("ticked", f"{directory}:{version(names)}:{number}"))
        listed.append(names)
    with pytest.raises(ContentTooLarge, match="too long for a link"):
        link(pairs, *listed)


@given(st.binary(max_size=200))
def test_any_body_is_read_or_refused(body):
    settings = Settings()
    try:
        selection = read_selection(body, settings)
        shortest_query(selection, [["a"]] * len(selection.ticked), settings)
    except Refusal:
        pass

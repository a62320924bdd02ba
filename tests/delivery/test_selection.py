"""A request gets the slice that its conditions choose, of a plan that is still true."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from tar_gateway.delivery.planner import Planner
from tar_gateway.delivery.selection import Asked, Selection, Selector
from tar_gateway.delivery.threads import FetcherPool
from tar_gateway.errors import (
    MemberChanged,
    MembersChanged,
    MembersFailed,
    PreconditionFailed,
    RangeNotSatisfiable,
)
from tar_gateway.http.conditions import Conditions
from tar_gateway.settings import Settings
from tar_gateway.sources import Caller
from tests.support.fakes import MemorySource, bundle_of, missing, plan_of

FILES = {"a": b"alpha", "b": b"beta"}
PART = Conditions(range="bytes=512-514")
TAG = plan_of(MemorySource(FILES)).layout.etag


class Room:
    """A selector of one source, and how often something was planned."""

    def __init__(self, source: MemorySource, fetchers: FetcherPool) -> None:
        self.source = source
        self.planned = 0
        settings = Settings(retries=0, fetch_ahead=0, plan_memory=60)
        self._selector = Selector(Planner(source, settings, fetchers), fetchers)

    def select(
        self, conditions: Conditions = PART, *, method: str = "GET", version: str | None = None
    ) -> Selection:
        asked = Asked(bundle_of(*self.source.files), Caller(), method, conditions, version)
        return self._selector.select(asked, self._on_planned)

    def bytes_of(self, conditions: Conditions) -> bytes:
        body = self.select(conditions).body
        assert body is not None
        with closing(body):
            return b"".join(body)

    def surveys(self) -> int:
        """Return how often all members were asked about."""
        return len(self.source.asked) // len(self.source.files)

    def _on_planned(self) -> None:
        self.planned += 1


@pytest.fixture
def fetchers() -> Iterator[FetcherPool]:
    with closing(FetcherPool(2, memory=0)) as fetchers:
        yield fetchers


@pytest.fixture
def room(fetchers: FetcherPool) -> Room:
    return Room(MemorySource(FILES), fetchers)


def test_a_part_is_chosen_and_its_member_is_open_before_anything_is_said(room):
    selection = room.select()
    assert (selection.decision.status, room.source.opened) == (206, [("a", 0, 3)])
    with closing(selection.body):
        assert b"".join(selection.body) == b"alp"
    assert (room.planned, room.source.held) == (1, 0)


def test_the_next_part_of_a_bundle_that_begins_with_a_member_needs_no_survey(room):
    room.bytes_of(PART)
    assert room.bytes_of(Conditions(range="bytes=1536-1537")) == b"be"
    assert (room.surveys(), room.planned) == (1, 2)


@pytest.mark.parametrize(
    "conditions",
    [
        Conditions(),
        Conditions(range="pages=1-2"),
        Conditions(range="bytes=512-514", if_range='"other"'),
    ],
)
def test_a_whole_archive_is_planned_anew(room, conditions):
    room.bytes_of(PART)
    room.bytes_of(conditions)
    assert (room.surveys(), room.planned) == (2, 2)


def test_a_part_without_a_member_is_chosen_of_a_plan_of_a_moment_ago(room):
    room.bytes_of(PART)
    assert room.bytes_of(Conditions(range="bytes=2048-")) == bytes(8192)  # the trailer
    assert (room.surveys(), room.planned) == (1, 2)


@pytest.mark.parametrize(
    ("method", "conditions", "status"),
    [("HEAD", Conditions(), 200), ("GET", Conditions(if_none_match=TAG.text), 304)],
)
def test_what_the_headers_say_is_said_of_a_plan_of_a_moment_ago(room, method, conditions, status):
    room.bytes_of(PART)
    selection = room.select(conditions, method=method)
    assert (selection.decision.status, room.surveys(), room.planned) == (status, 1, 2)
    assert selection.plan.cancellation.is_cancelled


@pytest.mark.parametrize(
    ("conditions", "version"),
    [
        (Conditions(range="bytes=512-514", if_match='"other"'), None),
        (PART, "other"),
    ],
)
def test_another_version_than_the_one_asked_for_is_refused_once_it_is_seen_anew(
    room, conditions, version
):
    room.bytes_of(PART)
    with pytest.raises(PreconditionFailed):
        room.select(conditions, version=version)
    assert room.surveys() == 2


def test_a_range_beyond_the_end_is_refused_with_the_size(room):
    with pytest.raises(RangeNotSatisfiable) as raised:
        room.select(Conditions(range="bytes=99999-"))
    assert raised.value.headers == (("Content-Range", "bytes */10240"),)
    with pytest.raises(RangeNotSatisfiable):
        room.select(Conditions(range="bytes=99999-"))
    assert room.surveys() == 1


@pytest.mark.parametrize(
    ("method", "conditions", "status"),
    [
        ("HEAD", Conditions(), 200),
        ("HEAD", PART, 200),
        ("GET", Conditions(if_none_match=TAG.text), 304),
    ],
)
def test_where_the_headers_say_all_nothing_is_opened_or_held(room, method, conditions, status):
    selection = room.select(conditions, method=method)
    assert (selection.decision.status, selection.body) == (status, None)
    assert room.source.opened == []
    assert selection.plan.cancellation.is_cancelled


def test_a_first_member_that_has_changed_is_planned_once_more(fetchers):
    room = Room(MemorySource(FILES, given={"a": [MemberChanged("changed")]}), fetchers)
    assert room.bytes_of(PART) == b"alp"
    assert (room.surveys(), room.planned) == (2, 2)


def test_one_that_changes_all_the_time_is_given_up(fetchers):
    changes = [MemberChanged("changed"), MemberChanged("changed")]
    room = Room(MemorySource(FILES, given={"a": changes}), fetchers)
    with pytest.raises(MembersChanged):
        room.select()
    assert (room.surveys(), room.source.held) == (2, 0)


def test_a_first_member_that_fails_is_a_refusal_and_its_plan_is_closed(fetchers):
    room = Room(MemorySource(FILES, given={"a": [missing()]}), fetchers)
    caller = Caller()
    asked = Asked(bundle_of("a", "b"), caller, "GET", PART)
    with pytest.raises(MembersFailed):
        room._selector.select(asked, lambda: None)
    assert room.source.callers[0].cancellation.is_cancelled
    assert not caller.cancellation.is_cancelled

"""Checksums of what was sent before: what is read again for them, when, and by whom."""

import io
import threading
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise

import pytest

from tar_gateway.archive.bundle import FORMATS, Bundle, Entry
from tar_gateway.delivery import checksums, reread, selection
from tar_gateway.delivery.planner import Planner
from tar_gateway.delivery.selection import Asked, Selection, Selector
from tar_gateway.delivery.threads import FetcherPool
from tar_gateway.errors import BrokenOff, Busy, Cancelled
from tar_gateway.http.conditions import Conditions
from tar_gateway.settings import Settings
from tar_gateway.sources import Caller
from tests.support.fakes import MemorySource, broken
from tests.support.servers import wait_until

FILES = {"a": b"alpha", "b": b"beta" * 20_000, "c": b"gamma" * 9, "empty": b""}
BYTES = sum(map(len, FILES.values()))


class Room:
    """A selector of zips of one source."""

    def __init__(self, source: MemorySource, *, limit: int = BYTES, memory: int = 0) -> None:
        self.source = source
        self._fetchers = FetcherPool(2, memory=0)
        settings = Settings(retries=0, fetch_ahead=0, plan_memory=60)
        self._selector = Selector(
            Planner(source, settings, self._fetchers),
            self._fetchers,
            reread_limit=limit,
            checksum_memory=memory,
        )

    def select(
        self,
        span: str | None = None,
        *,
        names: bool = True,
        format: str = "zip",
        members: tuple[str, ...] | None = None,
        user: str = "",
        **more: str,
    ) -> Selection:
        entries = tuple(Entry(path, path) for path in members or self.source.files)
        bundle = Bundle(entries, "", format=FORMATS[format], **more)
        caller = Caller((("authorization", user),))
        if span is None:
            asked = Asked(bundle, caller, "GET", Conditions())
            return self._selector.select(asked, lambda: None)
        whole = self.select(format=format, members=members, user=user, **more)
        whole.body.close()
        tag = whole.plan.layout.etag.text if names else None
        asked = Asked(bundle, caller, "GET", Conditions(if_range=tag, range=f"bytes={span}"))
        self.source.opened.clear()
        return self._selector.select(asked, lambda: None)

    def bytes_of(self, *args, **more) -> bytes:
        with closing(self.select(*args, **more).body) as body:
            return b"".join(body)

    def close(self) -> None:
        self._fetchers.close()


@pytest.fixture
def room() -> Iterator[Room]:
    with closing(Room(MemorySource(FILES))) as room:
        yield room


@pytest.mark.parametrize(
    ("options", "edges"),
    [
        ({"format": "zip"}, [1, 40, 80, 150, 70_000, 80_200, 80_400, -300, -200, -50, -5]),
        ({"format": "zip", "checksums": "sha256"}, [1, 40, 150, 70_000, 80_400, -700, -300, -5]),
        ({"format": "tar", "checksums": "sha256"}, [1, 512, 514, 2000, 80_000, -9000, -30]),
    ],
    ids=["zip", "zip with digests", "tar with digests"],
)
def test_a_part_is_that_part_of_the_whole(room, options, edges):
    whole = room.bytes_of(**options)
    edges = sorted(edge % len(whole) for edge in edges)
    for start in edges:
        assert room.bytes_of(f"{start}-", **options) == whole[start:]
    for start, stop in pairwise(edges):
        assert room.bytes_of(f"{start}-{stop - 1}", **options) == whole[start:stop]


def test_only_members_that_a_part_needs_and_does_not_bring_are_read_again(room):
    whole = room.bytes_of()
    offset = whole.index(b"gamma")
    assert room.bytes_of(f"{offset}-") == whole[offset:]
    assert sorted(room.source.opened) == [("a", 0, 5), ("b", 0, 80_000), ("c", 0, 45)]
    room.bytes_of(f"{offset + 2}-{offset + 20}")
    assert room.source.opened == [("c", 2, 21)]


def test_the_member_that_a_part_begins_in_is_read_before_all_others(room):
    whole = room.bytes_of()
    offset = whole.index(b"gamma") + 2
    room.bytes_of(f"{offset}-")
    again = [path for path, start, _ in room.source.opened if not start]
    assert again == ["c", "a", "b"]


def test_a_range_that_names_no_version_gets_the_whole(room):
    selection = room.select("100-", names=False)
    with closing(selection.body):
        assert (selection.decision.status, selection.takes_ranges) == (200, True)


@pytest.mark.parametrize(("limit", "taken"), [(BYTES, True), (BYTES - 1, False)])
def test_ranges_are_taken_where_all_members_fit_into_the_limit(limit, taken):
    with closing(Room(MemorySource(FILES), limit=limit)) as room:
        selection = room.select("100-")
        with closing(selection.body):
            status = 206 if taken else 200
            assert (selection.decision.status, selection.takes_ranges) == (status, taken)


def test_a_full_pass_saves_reading_for_the_same_caller(monkeypatch):
    with closing(Room(MemorySource(FILES), memory=10)) as room:
        whole = room.bytes_of(user="one")
        assert room.bytes_of("-240", user="one") == whole[-240:]
        assert room.source.opened == []
        assert room.bytes_of("-240", user="other") == whole[-240:]
        assert sorted(path for path, *_ in room.source.opened) == ["a", "b", "c"]


def test_what_was_read_again_is_remembered_as_well():
    with closing(Room(MemorySource(FILES), memory=10)) as room:
        part = room.bytes_of("-240")
        assert room.source.opened
        assert (room.bytes_of("-240"), room.source.opened) == (part, [])


def test_no_more_members_are_remembered_than_may_be():
    with closing(Room(MemorySource(FILES), memory=2)) as room:
        room.bytes_of()
        room.bytes_of("-240")
        assert [path for path, *_ in room.source.opened] == ["a"]


@pytest.mark.parametrize("is_fast", [True, False])
def test_a_tar_teaches_checksums_where_they_are_computed_fast(monkeypatch, is_fast):
    monkeypatch.setattr(reread, "IS_FAST", is_fast)
    with closing(Room(MemorySource(FILES), memory=10)) as room:
        room.bytes_of(format="tar")
        room.bytes_of("-240")
        assert bool(room.source.opened) is not is_fast


def test_digests_and_checksums_of_a_member_are_remembered_side_by_side():
    with closing(Room(MemorySource(FILES), memory=10)) as room:
        room.bytes_of()
        room.bytes_of(format="tar", checksums="sha256")
        room.bytes_of("-240", checksums="sha256")
        assert room.source.opened == []


def test_a_member_that_fails_as_it_is_read_again_breaks_the_part():
    source = MemorySource(FILES, given={"b": [[FILES["b"]], [broken()]]})
    with closing(Room(source)) as room:
        room.bytes_of()
        part = begin(room, "-240")
        with closing(part.body), pytest.raises(BrokenOff, match="'b'"):
            list(part.body)


class Held(MemorySource):
    """Serves members only once they are let go."""

    def __init__(self, files) -> None:
        super().__init__(files)
        self.let_go = threading.Event()

    def open(self, path, start, stop, stat, caller):
        content = super().open(path, start, stop, stat, caller)
        cancelled = caller.cancellation.event
        wait_until(lambda: self.let_go.is_set() or cancelled.is_set(), "the test")
        return content


@pytest.fixture
def held() -> Iterator[Room]:
    with closing(Room(Held(FILES))) as room:
        room.source.let_go.set()
        room.whole = room.bytes_of()
        room.source.let_go.clear()
        yield room
        room.source.let_go.set()


def test_equal_readings_are_one(held):
    source = held.source
    source.opened.clear()
    parts = [begin(held, "-240") for _ in range(3)]
    source.let_go.set()
    assert [b"".join(part.body) for part in parts] == [held.whole[-240:]] * 3
    for part in parts:
        part.body.close()
    assert sorted(path for path, *_ in source.opened) == ["a", "b", "c"]


def begin(room: Room, span: str, *members: str) -> Selection:
    """Select a part, without the whole before it."""
    entries = tuple(Entry(path, path) for path in members or room.source.files)
    bundle = Bundle(entries, "", format=FORMATS["zip"])
    caller = Caller((("authorization", ""),))
    plan = room._selector.plan(Asked(bundle, caller, "GET", Conditions()), lambda: None)
    tag = plan.layout.etag.text
    plan.close()
    asked = Asked(bundle, caller, "GET", Conditions(if_range=tag, range=f"bytes={span}"))
    return room._selector.select(asked, lambda: None)


def test_a_reading_goes_on_when_the_request_that_began_it_leaves(held):
    first, second = begin(held, "-240"), begin(held, "-240")
    first.body.close()
    held.source.let_go.set()
    with closing(second.body):
        assert b"".join(second.body) == held.whole[-240:]


def test_no_more_than_two_archives_are_read_again_at_once(held):
    first, second = begin(held, "-70", "a"), begin(held, "-70", "b")
    with pytest.raises(Busy) as refused:
        begin(held, "-70", "c")
    assert ("Retry-After", "5") in refused.value.headers
    first.body.close()
    third = begin(held, "-70", "c")
    for each in (second, third):
        each.body.close()


def test_a_request_that_leaves_waits_for_no_reading(held):
    first, second = begin(held, "-240"), begin(held, "-240")
    ended: list[BaseException] = []

    def read() -> None:
        try:
            b"".join(second.body)
        except Cancelled as error:
            ended.append(error)

    waiting = threading.Thread(target=read)
    waiting.start()
    wait_until(second.body._in_use.locked, "the read")
    second.body.close()
    waiting.join(5)
    assert ended
    held.source.let_go.set()
    with closing(first.body):
        assert b"".join(first.body) == held.whole[-240:]


def test_a_reading_that_has_read_everything_takes_no_room(held):
    held.source.let_go.set()
    slow = [begin(held, "-70", "a"), begin(held, "-70", "b")]
    for part in slow:
        wait_until(lambda part=part: not part.body._checksums._again.would_wait(0), "the reading")
    held.source.let_go.clear()
    others = [begin(held, "-70", "c"), begin(held, "-70", "b", "c"), begin(held, "-70", "a")]
    for part in slow + others:
        part.body.close()


@pytest.mark.parametrize("failure", [RuntimeError, Busy])
def test_whatever_fails_as_a_part_is_opened_leaves_no_reading(room, monkeypatch, failure):
    def fails(*_):
        raise failure("at its first member")

    monkeypatch.setattr(selection.Body, "prime", fails)
    for name in "abc":
        with pytest.raises(failure, match="at its first member"):
            begin(room, "-70", name)


def test_a_slice_that_needs_nothing_again_is_never_refused(held):
    held.source.let_go.set()
    parts = [begin(held, "-70", "a"), begin(held, "-70", "b"), begin(held, "0-20", "c")]
    for part in parts:
        part.body.close()


def test_a_source_of_one_thread_is_read_again_at_its_turn(room, monkeypatch):
    monkeypatch.setattr(room.source, "is_concurrent", lambda _: False)
    threads = set()
    opening = room.source.open

    def noted(*args):
        threads.add(threading.current_thread())
        return opening(*args)

    monkeypatch.setattr(room.source, "open", noted)
    whole = room.bytes_of()
    assert room.bytes_of("-240") == whole[-240:]
    assert threads == {threading.current_thread()}


def test_both_ways_to_a_crc_are_the_same():
    data = bytes(range(256)) * 300
    assert checksums.crc32(data, 5) == zlib.crc32(data, 5)


def test_a_whole_archive_made_of_parts_is_a_zip(room):
    size = len(room.bytes_of())
    parts = [room.bytes_of(f"{at}-{min(at + 9_999, size - 1)}") for at in range(0, size, 10_000)]
    with zipfile.ZipFile(io.BytesIO(b"".join(parts))) as archive:
        assert archive.testzip() is None


def test_a_tar_is_not_held_to_a_checksum_that_was_told_for_a_zip(monkeypatch):
    monkeypatch.setattr(reread, "IS_FAST", True)
    with closing(Room(MemorySource(FILES, validator=None), memory=10)) as learning:
        entries = (Entry("a", "a", size=5, checksum=1),)
        asked = Asked(Bundle(entries, ""), Caller(), "GET", Conditions())
        with closing(learning._selector.select(asked, lambda: None).body) as body:
            assert b"alpha" in b"".join(body)

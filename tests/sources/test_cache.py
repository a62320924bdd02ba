"""What is remembered is forgotten in time, and before it takes too much room."""

import pytest

from tar_gateway.sources.cache import ExpiringCache


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """Give the time, which a test may change."""
    now = [1000.0]
    monkeypatch.setattr("tar_gateway.sources.cache.time.monotonic", lambda: now[0])
    return now


def test_what_was_kept_is_recalled_by_its_key(clock):
    remembered = ExpiringCache[str](10, 5)
    remembered.keep(b"a", "alpha", 1)
    assert remembered.recall(b"a") == "alpha"
    assert remembered.recall(b"b") is None


def test_it_is_forgotten_in_time_however_often_it_is_recalled(clock):
    remembered = ExpiringCache[str](10, 5)
    remembered.keep(b"a", "alpha", 1)
    for _ in range(9):
        clock[0] += 1
        assert remembered.recall(b"a") == "alpha"
    clock[0] += 1
    assert remembered.recall(b"a") is None


def test_what_is_kept_later_takes_the_place_of_what_there_was(clock):
    remembered = ExpiringCache[str](10, 5)
    remembered.keep(b"a", "alpha", 5)
    clock[0] += 9
    remembered.keep(b"a", "alef", 5)
    clock[0] += 9
    assert remembered.recall(b"a") == "alef"


def test_the_oldest_are_forgotten_where_there_is_no_more_room(clock):
    remembered = ExpiringCache[str](10, 5)
    for key, weight in ((b"a", 2), (b"b", 2), (b"c", 2)):
        remembered.keep(key, "value", weight)
    assert [remembered.recall(key) for key in (b"a", b"b", b"c")] == [None, "value", "value"]


def test_what_has_no_room_at_all_is_not_kept(clock):
    remembered = ExpiringCache[str](10, 5)
    remembered.keep(b"a", "alpha", 6)
    assert remembered.recall(b"a") is None
    remembered.keep(b"b", "beta", 5)
    assert remembered.recall(b"b") == "beta"


def test_what_is_forgotten_is_gone_and_gives_its_room_back(clock):
    remembered = ExpiringCache[str](10, 5)
    remembered.keep(b"a", "alpha", 3)
    remembered.keep(b"b", "beta", 2)
    remembered.forget(b"b")
    remembered.forget(b"never kept")
    remembered.keep(b"c", "gamma", 2)
    assert [remembered.recall(key) for key in (b"a", b"b", b"c")] == ["alpha", None, "gamma"]


def test_what_is_out_of_date_holds_no_room_once_another_is_kept(clock):
    class Value:
        deleted = False

        def __del__(self) -> None:
            Value.deleted = True

    remembered = ExpiringCache[Value](10, 5)
    remembered.keep(b"a", Value(), 1)
    clock[0] += 11
    remembered.keep(b"b", Value(), 1)
    assert Value.deleted

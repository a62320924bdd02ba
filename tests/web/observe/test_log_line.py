"""A line of a log is one line of printable ASCII, whatever it tells of."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tar_gateway.web.observe.log_line import log_line

values = st.recursive(
    st.text() | st.integers() | st.booleans(), lambda v: st.dictionaries(st.text(), v, min_size=1)
)


@given(st.text(), st.dictionaries(st.text().filter(lambda k: k not in {"event", "time"}), values))
def test_a_line_is_printable_ascii_and_is_read_back_as_it_was_told(event, fields):
    line = log_line(event, fields)
    assert line.isascii()
    assert line.isprintable()
    read = json.loads(line)
    assert read.pop("event") == event
    assert datetime.fromisoformat(read.pop("time")).tzinfo == UTC
    assert read == fields


@pytest.mark.parametrize(
    "character", ["\n", "\x1b", "\x7f", "\x85", "\x9b", "\u2028", "\u202e", "\ud800", "\U000e0041"]
)
def test_what_moves_a_cursor_splits_a_line_or_hides_is_escaped(character):
    line = log_line("request", {"path": f"a{character}b"})
    assert character not in line
    assert json.loads(line)["path"] == f"a{character}b"


def test_what_is_not_known_is_left_out():
    assert '"a"' not in log_line("request", {"a": None})
    assert '"a"' not in log_line("request", {"a": {}})
    assert json.loads(log_line("request", {"a": 0, "b": ""})).keys() == {"event", "time", "a", "b"}


def test_the_time_is_that_of_the_event():
    at = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    line = log_line("log", {"level": "INFO"}, at=at)
    assert line == '{"event": "log", "time": "2026-01-02T03:04:05.678+00:00", "level": "INFO"}'

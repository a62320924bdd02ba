"""What is noted of a download, and when it is believed."""

import json
import os
from dataclasses import replace

import pytest

from tar_gateway.client.failures import DiskError
from tar_gateway.client.spans import Spans
from tar_gateway.client.state import Identity, State

IDENTITY = Identity("source", '"etag"', "directory", 1000)


@pytest.fixture
def parent(tmp_path):
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.fixture
def state(parent):
    state = State(parent, "here", IDENTITY)
    yield state
    state.close()


def tail(position: int) -> tuple[str, int] | None:
    return ("7", position - 100) if position > 100 else None


def noted(state: State, data: bytes = b"x" * 500) -> None:
    with os.fdopen(state.part(7), "wb") as file:
        file.write(data)
    state.write(lambda: Spans([(0, 600)]), tail, now=True)


def test_what_was_noted_is_there_again(state):
    noted(state)
    assert list(state.read(tail)) == [(0, 600)]


def test_a_part_whose_last_bytes_are_others_is_not_believed(state):
    noted(state)
    with os.fdopen(state.part(7), "r+b") as file:
        file.seek(490)
        file.write(bytes(10))
    assert list(state.read(tail)) == []


def test_a_part_that_is_gone_is_not_believed(state):
    noted(state)
    os.unlink("7", dir_fd=state.fd)
    assert list(state.read(tail)) == []


@pytest.mark.parametrize("edit", ["of", "spans", "tails", "check"])
def test_a_state_that_was_changed_is_not_believed(state, tmp_path, edit):
    noted(state)
    file = tmp_path / state.name / "state"
    told = json.loads(file.read_text())
    told[edit] = [[0, 700]] if edit == "spans" else ["other"]
    file.write_text(json.dumps(told))
    assert list(state.read(tail)) == []


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"spans": 5}', "\xff"])
def test_a_state_that_is_none_is_nothing(state, tmp_path, text):
    (tmp_path / state.name / "state").write_text(text, "latin-1")
    assert list(state.read(tail)) == []


def test_a_state_of_another_source_is_not_believed(parent, state):
    noted(state)
    state.close()
    other = State(parent, "here", replace(IDENTITY, source="elsewhere"))
    assert list(other.read(tail)) == []
    state.fd = other.fd  # closed by the fixture


def test_it_is_in_use_by_one_download_at_a_time(parent, state):
    with pytest.raises(DiskError, match="another download of the same uses here/"):
        State(parent, "here", IDENTITY)


def test_it_is_removed_with_all_in_it(state, tmp_path):
    noted(state)
    state.remove()
    assert os.listdir(tmp_path) == []

"""Where workers share their counts: whose directory it is, and what is left in it by the dead."""

import mmap
import os
from pathlib import Path

import pytest

from tar_gateway.server import metrics_directory

# gunicorn started by root may give its workers to another user.
WORKERS = (65534, 65534) if os.geteuid() == 0 else (os.getuid(), os.getgid())


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv(metrics_directory.VARIABLE, str(tmp_path / "of" / "mine"))
    return tmp_path / "of" / "mine"


def test_a_named_directory_is_made_and_nothing_is_in_it(named: Path):
    metrics_directory.share(*WORKERS)
    assert list(named.iterdir()) == []
    assert (named.stat().st_uid, named.stat().st_gid) == WORKERS


@pytest.mark.parametrize("named", [None, ""])
def test_without_a_named_one_it_is_a_temporary_one(named, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv(metrics_directory.VARIABLE, named or "")
    if named is None:
        monkeypatch.delenv(metrics_directory.VARIABLE)
    metrics_directory.share(*WORKERS)
    (made,) = tmp_path.iterdir()
    assert os.environ[metrics_directory.VARIABLE] == str(made)
    assert (made.stat().st_uid, made.stat().st_gid) == WORKERS


def test_what_the_dead_had_under_way_is_forgotten_but_not_what_they_did(named: Path):
    named.mkdir(parents=True)
    # The id of a process that lives, but has not counted here.
    for name in ("gauge_livesum_4194304.db", f"gauge_livesum_{os.getpid()}.db", "counter_7.db"):
        (named / name).touch()
    metrics_directory.share(*WORKERS)
    assert [file.name for file in named.iterdir()] == ["counter_7.db"]


def test_what_a_living_process_has_under_way_is_kept(named: Path):
    named.mkdir(parents=True)
    path = named / f"gauge_livesum_{os.getpid()}.db"
    path.write_bytes(b"0" * 4096)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0):
        metrics_directory.share(*WORKERS)
    assert path.exists()

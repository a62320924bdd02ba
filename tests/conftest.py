"""What every test relies on: programs that may be missing, no skip in CI, quiet to measure in."""

import fcntl
import os
import shutil
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

# A machine under load must not make a property look slow.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")

IN_CI = bool(os.environ.get("CI"))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*programs): skips where one is not installed")
    config.addinivalue_line("markers", "alone: measures time or memory; no test runs beside it")


def pytest_runtest_setup(item: pytest.Item) -> None:
    wanted = [name for marker in item.iter_markers("needs") for name in marker.args]
    missing = [name for name in wanted if shutil.which(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Let a skipped test fail the run where everything is meant to be installed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if IN_CI and reporter is not None and reporter.stats.get("skipped"):
        reporter.write_line("\nSkipped tests fail the run here: CI installs what they need.")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


class Room:
    """Where the processes of one run test: many side by side, or one alone.

    Its locks are those of two places in the clone that all of the processes can open.
    """

    def __init__(self) -> None:
        here = Path(__file__)
        self._door = os.open(here, os.O_RDONLY)
        self._inside = os.open(here.parent, os.O_RDONLY)
        self._is_alone = False

    def enter(self, *, alone: bool) -> None:
        """Wait for the others to leave, if alone; else for one who is alone, or waits to be."""
        if self._is_alone:
            return
        fcntl.flock(self._door, fcntl.LOCK_EX)  # so that those who come later can't overtake
        fcntl.flock(self._inside, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(self._door, fcntl.LOCK_UN)
        self._is_alone = alone

    def leave(self) -> None:
        fcntl.flock(self._inside, fcntl.LOCK_UN)
        self._is_alone = False


_ROOM = Room()


def _is_alone(item: pytest.Item | None) -> bool:
    return item is not None and item.get_closest_marker("alone") is not None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, object, object]:
    """Run a test in the room, with the setting up and tearing down of its fixtures."""
    if not hasattr(item.config, "workerinput"):  # the run has one process
        return (yield)
    _ROOM.enter(alone=_is_alone(item))
    try:
        return (yield)
    finally:
        if not (_is_alone(item) and _is_alone(nextitem)):  # one wait for all in a row
            _ROOM.leave()

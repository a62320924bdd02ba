"""What every test relies on: programs that may be missing, and none skipped in silence."""

import os
import shutil

import pytest
from hypothesis import settings

# A machine under load must not make a property look slow.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")

IN_CI = bool(os.environ.get("CI"))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*programs): skips where one is not installed")


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

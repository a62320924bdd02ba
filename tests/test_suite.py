"""The run's own gates: a skip fails it in CI, and a test that measures runs alone."""

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

CONFTEST = Path(__file__).with_name("conftest.py")
SKIPPED = "import pytest\n\ndef test_skipped():\n    pytest.skip('not installed: x')\n"
NOTED = """
import os, time
import pytest

@pytest.mark.parametrize("number", range(3)){mark}
def test_it(number):
    began = time.monotonic()
    time.sleep(0.1)
    with open(os.environ["NOTES"], "a") as notes:
        notes.write(f"{{began}} {{time.monotonic()}} {name}\\n")
"""


def run(place: Path, *options: str, **environment: str) -> subprocess.CompletedProcess:
    """Run the tests of a directory as ours are run."""
    (place / "conftest.py").write_text(CONFTEST.read_text())
    (place / "pytest.ini").write_text("[pytest]\n")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "COV", "CI"))}
    command = [sys.executable, "-m", "pytest", "-p", "xdist", *options, str(place)]
    environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "yes"}
    return subprocess.run(
        command, cwd=place, env=inherited | environment, capture_output=True, text=True
    )


def test_a_skipped_test_fails_the_run_in_ci_and_nowhere_else(tmp_path: Path):
    (tmp_path / "test_it.py").write_text(SKIPPED)
    assert run(tmp_path).returncode == 0
    done = run(tmp_path, "-n", "1", CI="true")
    assert done.returncode == 1
    assert "Skipped tests fail the run here" in done.stdout


def test_a_test_that_is_alone_runs_beside_no_other(tmp_path: Path):
    names = {"one": "", "other": "", "measured": "\n@pytest.mark.alone"}
    for name, mark in names.items():
        (tmp_path / f"test_{name}.py").write_text(NOTED.format(name=name, mark=mark))
    notes = tmp_path / "notes"
    done = run(tmp_path, "-n", "2", "--dist", "loadfile", NOTES=str(notes))
    assert done.returncode == 0, done.stdout
    times = sorted(
        (float(began), float(ended), name)
        for began, ended, name in map(str.split, notes.read_text().splitlines())
    )
    assert len(times) == 9
    overlapping = {(a, b) for (_, end, a), (start, _, b) in pairwise(times) if start < end}
    assert overlapping <= {("one", "other"), ("other", "one")}

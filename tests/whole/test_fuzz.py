"""The fuzzing runs, and finds what it is there to find."""

import os
import subprocess
import sys
from collections.abc import Iterable

import pytest

from tar_gateway.http import paths
from tests import fuzz
from tests.fuzzed import Target, Violation, environ_of


def run(*options: str) -> subprocess.CompletedProcess[str]:
    # What measures coverage would leave little time for anything else.
    environment = {name: text for name, text in os.environ.items() if not name.startswith("COV")}
    command = [sys.executable, "-m", "tests.fuzz", "--requests", "2500", *options]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


@pytest.mark.parametrize("options", [("--plain", "--seed", "11"), ("--seed", "12")], ids=str)
def test_some_fuzzing_finds_nothing(options):
    done = run(*options)
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith("violations: 0\n")
    for status in ("200", "400", "404", "412", "502"):
        assert f"'{status}'" in done.stdout


def test_the_same_bytes_make_the_same_request():
    data = bytes(range(256))
    one, other = environ_of(data), environ_of(data)
    streams = ("wsgi.input", "wsgi.errors")
    assert {key: one[key] for key in one if key not in streams} == {
        key: other[key] for key in other if key not in streams
    }


def test_a_name_that_is_not_checked_is_found(monkeypatch, capsys):
    monkeypatch.setattr("logging.disable", lambda: None)
    monkeypatch.setattr(paths, "_check_once", lambda *_: None)
    assert fuzz.main(["--plain", "--seconds", "1"]) == 1
    assert "the path" in capsys.readouterr().out


def test_a_defect_is_found(monkeypatch):
    def broken(*_):
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr("tar_gateway.web.endpoint.read_query", broken)
    with Target() as target, pytest.raises(Violation, match="a defect"):
        consume(target.run(b"%d" % number * 20) for number in range(1000))


def consume(results: Iterable[object]) -> None:
    for _ in results:
        pass

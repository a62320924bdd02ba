"""The commands of `deploy/README.md`, run as they stand there, and the table that it shows.

Only addresses are replaced: loopback's by ones of their own, and the upstream's.
"""

import os
import random
import re
import signal
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests import capacity
from tests.capacity import SizedContent
from tests.support.papers import PAPERS, block
from tests.support.servers import PATIENCE, listens, nginx, wait_until

ROOT = Path(__file__).parents[2]
FILES = {"january.pdf": 70_000, "february.pdf": 1_000}


@dataclass
class Shell:
    """A directory in which commands are run as in a clone, with loopback addresses of its own."""

    place: Path
    upstream: str
    net: str
    groups: list[int] = field(default_factory=list)

    def run(self, marker: str) -> str:
        """Run what the page says, and give what it prints."""
        script = block(marker)
        script = script.replace("127.0.0.", self.net)
        script = script.replace("http://files.internal:8080/base/", self.upstream)
        log = self.place / "log"
        with (self.place / "output").open("w+") as output, log.open("a") as errors:
            process = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", script],
                cwd=self.place,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                start_new_session=True,
            )
            self.groups.append(process.pid)
            assert process.wait(2 * PATIENCE) == 0, log.read_text()
            output.seek(0)
            return output.read()

    def environment(self) -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("TAR_GATEWAY_")}
        # Of the first block, in the reader's own shell.
        return clean | {"WEB_CONCURRENCY": "1", "TAR_GATEWAY_UPSTREAM": self.upstream}

    def close(self) -> None:
        """End what the commands have left in the background."""
        for group in self.groups:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)

    def process(self, name: str) -> int | None:
        """Give the process that a pid file names, if there is one."""
        file = self.place / f"{name}.pid"
        return int(file.read_text()) if file.exists() else None

    def names(self) -> list[str]:
        """Give the names that the page's archive has, as tar lists them."""
        return [
            line.split()[-1]
            for line in self.run("command: look").splitlines()
            if line.startswith("-r")
        ]

    def listens(self) -> list[bool]:
        """Tell whether HAProxy and each replica does."""
        return [listens(8080, self.net + "1")] + [listens(8000, f"{self.net}{n}") for n in (1, 2)]


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    place, files = tmp_path / "clone", tmp_path / "files"
    (place / ".venv").mkdir(parents=True)
    (place / ".venv" / "bin").symlink_to(sysconfig.get_path("scripts"))
    (place / "gunicorn.conf.py").symlink_to(ROOT / "gunicorn.conf.py")
    files.mkdir()
    for name, size in FILES.items():
        (files / name).write_bytes(bytes(size))
    net = f"127.{random.randint(1, 254)}.{random.randint(1, 254)}."
    text = (ROOT / "deploy" / "haproxy.cfg").read_text()
    (place / "deploy").mkdir()
    (place / "deploy" / "haproxy.cfg").write_text(
        text.replace("bind :8080", f"bind {net}1:8080").replace("127.0.0.", net)
    )
    with (
        nginx(files, tmp_path / "nginx") as upstream,
        closing(Shell(place, upstream, net)) as made,
    ):
        yield made


@pytest.mark.needs("nginx", "haproxy", "curl", "tar")
def test_from_nothing_to_two_replicas_one_of_which_is_replaced(shell: Shell):
    shell.run("command: start")
    assert shell.names() == list(FILES)
    first = shell.process("gateway-1")
    shell.run("command: replace")
    wait_until(lambda: shell.process("gateway-1") not in {None, first}, "the new replica")
    assert shell.names() == list(FILES)
    assert shell.listens() == [True] * 3
    shell.run("command: end")
    wait_until(lambda: shell.listens() == [False] * 3, "the end of all")


def test_the_first_command_installs_what_the_others_use():
    (line,) = block("command: install").splitlines()
    made, installed = line.split(" && ")
    assert made == "python3 -m venv .venv"
    assert installed.split()[0] == ".venv/bin/pip"
    assert installed.split()[-1] == "'.[metrics]'"
    used = set(re.findall(r"\.venv/bin/([\w-]+)", PAPERS["deploy/README.md"]))
    assert used == {"pip", "gunicorn", "tar-gateway"}


def test_what_a_fleet_needs_is_worked_out_of_what_was_measured():
    shown = block("output: capacity")
    assert shown == capacity.table() + "\n", "python -m tests.capacity prints the new one"


@pytest.mark.parametrize(
    ("one", "rate", "name", "value"),
    [
        (SizedContent(0.7, 0), 10e9, "the gateway's cores", "2"),  # 1.16 GiB/s of 0.7 s, 70 % busy
        (SizedContent(7, 0), 10e9, "the gateway's cores", "12"),
        (SizedContent(7, 0), 10e9, "processes, MAX_DOWNLOADS each", "12"),
        (
            SizedContent(0.7, 0),
            10e9,
            "processes, MAX_DOWNLOADS each",
            "6",
        ),  # 500 downloads, 96 each
        (SizedContent(0.7, 1), 10e9, "memory of all, GiB", "0.7"),  # 500 MiB, and 6 of 40
        (SizedContent(0.7, 0), 1e12, "machines of 16 cores, 25 Gbit/s", "58"),  # their cards
        (SizedContent(7, 0), 1e12, "machines of 16 cores, 25 Gbit/s", "73"),  # their cores
    ],
)
def test_a_fleet_is_as_large_as_its_tightest_part(one, rate, name, value):
    assert capacity.needs(rate, one)[name] == value

"""Any replica goes on with what another began, and one of another release begins anew."""

import os
import random
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests import rolling
from tests.support.servers import PATIENCE, gateway, nginx

pytestmark = pytest.mark.needs("nginx")

SIZE = 512_000  # of the archive
QUERY = "?bundle=a.bin&bundle=b.bin"
# A release that writes other bytes for the same members, and says so as it has to.
OTHER_RELEASE = """
from tar_gateway.archive import tar

tar.LAYOUT_VERSION += 1
tar._MODES[b"0"] = 0o600

from tar_gateway.wsgi import application
"""


@dataclass(frozen=True)
class Answer:
    status: int
    etag: str | None
    body: bytes


def get(url: str, query: str = QUERY, **headers: str) -> Answer:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    request = urllib.request.Request(url + query, headers=named)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return Answer(answer.status, answer.headers["ETag"], answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.status, None, error.read())


@pytest.fixture(scope="module")
def replicas(tmp_path_factory) -> Iterator[tuple[str, str]]:
    """Run two gateways on one upstream: one as it is, one of another release."""
    root, place = tmp_path_factory.mktemp("files"), tmp_path_factory.mktemp("servers")
    for name, size in [("a.bin", 300_000), ("b.bin", 200_000)]:
        (root / name).write_bytes(random.Random(name).randbytes(size))
        os.utime(root / name, (1_600_000_000, 1_600_000_000))
    (place / "other_release.py").write_text(OTHER_RELEASE)
    options = ["--pythonpath", str(place)]
    with (
        nginx(root, place / "nginx") as upstream,
        gateway(upstream, place / "this") as this,
        gateway(
            upstream, place / "other", *options, application="other_release:application"
        ) as other,
    ):
        yield this.url, other.url


def test_another_layout_has_another_etag(replicas: tuple[str, str]):
    this, other = (get(url) for url in replicas)
    assert (len(this.body), len(other.body)) == (SIZE, SIZE)
    assert this.body != other.body
    assert this.etag != other.etag


@pytest.mark.parametrize("there", [1, 511, SIZE // 2, SIZE - 1])
def test_a_replica_of_another_layout_answers_a_resume_with_all_of_its_own(replicas, there: int):
    this, other = replicas
    begun, own = get(this), get(other)
    resumed = get(other, Range=f"bytes={there}-", If_Range=str(begun.etag))
    assert resumed == own
    assert resumed.status == 200


@pytest.mark.parametrize("there", [1, 511, SIZE // 2, SIZE - 1])
def test_a_replica_of_another_layout_refuses_a_blind_resume_of_the_pinned_url(replicas, there: int):
    this, other = replicas
    pinned = QUERY + "&v=" + str(get(this).etag).strip('"')
    assert get(this, pinned, Range=f"bytes={there}-").status == 206
    assert get(other, pinned, Range=f"bytes={there}-").status == 412


def test_a_replica_of_another_layout_refuses_a_part_that_must_match(replicas):
    this, other = replicas
    etag = str(get(this).etag)
    assert get(this, Range="bytes=512-", If_Match=etag).status == 206
    assert get(other, Range="bytes=512-", If_Match=etag).status == 412


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(["--kills", "5"], id="one after the other"),
        pytest.param(["--kills", "3", "--bucket"], id="before a bucket"),
        pytest.param(["--kills", "4", "--format", "zip"], id="under zips"),
        pytest.param(
            ["--kills", "3", "--balanced"], id="behind HAProxy", marks=pytest.mark.needs("haproxy")
        ),
    ],
)
def test_downloads_survive_the_killing_of_replicas(options: list[str]):
    command = [sys.executable, "-m", "tests.kills", "--seed", "5", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"kills: {options[1]}, " in done.stdout
    assert done.stdout.endswith("lost: 0, corrupted: 0\n")


@pytest.mark.needs("haproxy")
def test_a_rolling_restart_refuses_nobody_and_loses_nothing():
    outcome = rolling.run(downloads=4, seed=5)
    assert (outcome.refused, outcome.lost) == ([], [])
    assert len(outcome.answering) == 2
    assert sum(outcome.answering) > 0, "nothing was running when the replicas were stopped"

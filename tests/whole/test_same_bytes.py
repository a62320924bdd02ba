"""The same members make the same bytes, whatever process, locale, clock or worker makes them."""

import os
import random
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.support.servers import PATIENCE, WORKERS, gateway, nginx

pytestmark = pytest.mark.needs("nginx")

# Times in winter, in summer, in the hour that a change of clocks repeats, and past 2038.
FILES = {
    "plain.txt": 1_600_000_000,
    "ümläut/Größe İıſ.txt": 1_700_000_000,
    "日本語.txt": 1_698_539_400,
    "B.txt": 1_500_000_000,
    "a.txt": 4_000_000_000,
    "d" * 120 + "/" + "e" * 120: 1,
}
TARGET = "?" + urlencode([("bundle", name) for name in FILES] + [("filename", "größe.tar")])
TOLD = ("ETag", "Last-Modified", "Content-Length", "Content-Disposition", "Link")


@dataclass(frozen=True)
class Process:
    """How a gateway is started: its environment, and gunicorn's options."""

    environment: dict[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()


PROCESSES = {
    "started again": Process(),
    "hash seed 0": Process({"PYTHONHASHSEED": "0"}),
    "hash seed 4294967295": Process({"PYTHONHASHSEED": "4294967295"}),
    "east of Greenwich": Process({"TZ": "EAST-14"}),
    "west of it, in summer": Process({"TZ": "WEST+3:30SUMMER,M3.2.0,M11.1.0"}),
    "the C locale in ASCII": Process(
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ),
    "the C locale": Process({"LC_ALL": "C"}),
    "optimised Python": Process({"PYTHONOPTIMIZE": "1"}),
    "sync worker": Process({}, WORKERS["sync"]),
    "worker of threads": Process({}, (*WORKERS["threads"], "--threads", "2")),
    "gevent worker": Process({}, WORKERS["gevent"]),
    "two workers": Process({}, ("--workers", "2")),
    "all of it": Process(
        {"PYTHONHASHSEED": "7", "TZ": "XYZ+11:30", "LC_ALL": "POSIX"}, WORKERS["gevent"]
    ),
}


@dataclass(frozen=True)
class Answer:
    """What a client can tell of a response, but for when and by whom it was given."""

    status: int
    headers: dict[str, str | None]
    body: bytes


def get(url: str, **headers: str) -> Answer:
    request = urllib.request.Request(url + TARGET, headers=headers)
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        told = {name: answer.headers[name] for name in TOLD}
        return Answer(answer.status, told, answer.read())


@pytest.fixture(scope="module")
def upstream(tmp_path_factory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("files")
    for name, mtime in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random.Random(name).randbytes(70_001))
        os.utime(path, (mtime, mtime))
    with nginx(root, tmp_path_factory.mktemp("nginx")) as url:
        yield url


@pytest.fixture(scope="module")
def expected(upstream: str, tmp_path_factory) -> Answer:
    with gateway(upstream, tmp_path_factory.mktemp("gateway")) as running:
        return get(running.url)


def test_the_bundle_has_a_strong_validator(expected: Answer):
    assert expected.status == 200
    assert expected.headers["ETag"].startswith('"')


@pytest.mark.parametrize("kind", PROCESSES)
def test_every_process_gives_the_same_bytes_and_headers(
    upstream: str, expected: Answer, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    process = PROCESSES[kind]
    for name, text in process.environment.items():
        monkeypatch.setenv(name, text)
    middle = len(expected.body) // 2
    with gateway(upstream, tmp_path, *process.options) as running:
        whole = get(running.url)
        rest = get(
            running.url, Range=f"bytes={middle}-", **{"If-Range": str(expected.headers["ETag"])}
        )
    assert whole == expected
    assert (rest.status, rest.body) == (206, expected.body[middle:])

"""A thousand ranges over one connection: each is the slice, and costs hardly more than it.

Of a zip as of a tar: its checksums are remembered from the whole, for the same user.
"""

import http.client
import os
import random
import re
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

from tar_gateway import zip_size
from tests.support.servers import PATIENCE, gateway, nginx, wait_until

pytestmark = pytest.mark.needs("nginx")

RANGES = 1000
SEED = 20_260
MORE = 512 * 1024  # bytes that the upstream may give beyond a slice's length
SLICE = 100_000
SIZES = (0, 1, 511, 512, 513, 10_240, 20_000_000, 70_001, 22_222_222, 0, 7_700_001)
DATE = 1_600_000_000
NAMES = [f"{index}.bin" for index in range(len(SIZES))]


@dataclass(frozen=True)
class Archive:
    """What is asked for: a format, and how long the archive is in it."""

    format: str
    size: int

    @property
    def target(self) -> str:
        return "/?" + urlencode([*(("bundle", name) for name in NAMES), ("format", self.format)])

    def user(self, name: str) -> str:
        """Give who asks: for zips always the same."""
        return "zip" if self.format == "zip" else name


TAR = Archive("tar", 50_022_400)
ZIP = Archive(
    "zip", zip_size([(name, size, DATE) for name, size in zip(NAMES, SIZES, strict=True)])
)

# nginx's own format; the user's name tells which range a request was for.
LOGGED = re.compile(r'^\S+ - (\S+) \[[^]]*\] "GET [^"]*" \d+ (\d+) ', re.MULTILINE)


@dataclass(frozen=True)
class Asked:
    """A Range's text, and the slice of the archive that it asks for."""

    text: str
    start: int
    stop: int


@dataclass(frozen=True)
class Servers:
    """A gateway, the upstream behind it, and what that one logs."""

    gateway: str
    upstream: str
    log: Path

    def costs(self, last: str) -> Counter[str]:
        """Give the bytes of content that the upstream gave, by user.

        ``last`` is a user of nobody else: what came before is in the log once that one is.
        """
        with closing(connect(self.upstream)) as connection:
            get(connection, "/0.bin", last)
        wait_until(lambda: f" - {last} [" in self.log.read_text(), "the upstream's log")
        given: Counter[str] = Counter()
        for user, count in LOGGED.findall(self.log.read_text()):
            given[user] += int(count)
        return given


def connect(url: str) -> http.client.HTTPConnection:
    """Open a connection that is never opened again in silence."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=PATIENCE)
    connection.connect()
    connection.auto_open = 0
    return connection


def get(
    connection: http.client.HTTPConnection, target: str, user: str, **headers: str
) -> tuple[int, str | None, bytes]:
    """Give the status, the Content-Range and the body that a user gets."""
    credentials = b64encode(f"{user}:".encode()).decode()
    headers["Authorization"] = f"Basic {credentials}"
    connection.request("GET", target, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.headers["Content-Range"], answer.read()


def random_range(choose: random.Random, size: int) -> Asked:
    """Make a range of any form: mostly of some kilobytes, rarely of nearly everything."""
    largest = size if choose.random() < 0.01 else 2_000_000
    length = int(largest ** choose.random())
    match choose.choice(["from to", "from to", "from", "last"]):
        case "from":
            return Asked(f"bytes={size - length}-", size - length, size)
        case "last":
            return Asked(f"bytes=-{length}", size - length, size)
        case _:
            start = choose.randrange(size)
            last = start + length - 1  # which may lie behind the end
            return Asked(f"bytes={start}-{last}", start, min(last + 1, size))


@pytest.fixture(scope="module")
def servers(tmp_path_factory) -> Iterator[Servers]:
    root, place = tmp_path_factory.mktemp("files"), tmp_path_factory.mktemp("servers")
    for name, size in zip(NAMES, SIZES, strict=True):
        (root / name).write_bytes(random.Random(name).randbytes(size))
        os.utime(root / name, (DATE, DATE))
    with nginx(root, place / "nginx") as upstream, gateway(upstream, place) as running:
        yield Servers(running.url, upstream, place / "nginx" / "access.log")


@pytest.fixture(scope="module", params=[TAR, ZIP], ids=["tar", "zip"])
def archive(request) -> Archive:
    return request.param


@dataclass(frozen=True)
class Whole:
    """An archive as it came undisturbed."""

    etag: str
    body: bytes


@pytest.fixture(scope="module")
def whole(servers: Servers, archive: Archive) -> Whole:
    with closing(connect(servers.gateway)) as connection:
        tag = head(connection, archive)
        _, _, body = get(connection, archive.target, archive.user("whole"))
    assert len(body) == archive.size
    return Whole(tag, body)


def head(connection: http.client.HTTPConnection, archive: Archive) -> str:
    connection.request("HEAD", archive.target)
    answer = connection.getresponse()
    answer.read()
    return answer.headers["ETag"]


@pytest.fixture(scope="module")
def answered(servers: Servers, archive: Archive, whole: Whole) -> list[tuple[Asked, bool]]:
    """All the ranges asked for over one connection, and whether each response was right."""
    choose = random.Random(SEED)
    asked = [random_range(choose, archive.size) for _ in range(RANGES)]
    answers = []
    with closing(connect(servers.gateway)) as connection:
        for index, each in enumerate(asked):
            named = {"Range": each.text, "If-Range": whole.etag}
            answer = get(connection, archive.target, archive.user(f"range-{index}"), **named)
            span = f"bytes {each.start}-{each.stop - 1}/{archive.size}"
            right = answer == (206, span, whole.body[each.start : each.stop])
            answers.append((each, right))
    return answers


def test_every_range_is_the_slice_of_the_whole(answered: list[tuple[Asked, bool]]):
    assert len(answered) == RANGES
    assert [each for each, right in answered if not right] == []


def test_every_form_of_a_range_was_asked_for(answered: list[tuple[Asked, bool]]):
    forms = Counter(re.sub(r"\d+", "n", each.text) for each, _ in answered)
    assert set(forms) == {"bytes=n-n", "bytes=n-", "bytes=-n"}
    assert min(forms.values()) > RANGES / 5


def test_no_range_costs_the_upstream_much_more_than_the_slice(
    servers: Servers, archive: Archive, answered
):
    costs = servers.costs(last=f"after-{archive.format}")
    if archive is ZIP:  # all by one user, the whole before them
        asked = archive.size + sum(each.stop - each.start + MORE for each, _ in answered)
        assert archive.size < costs["zip"] < asked
        return
    too_dear = {
        each: costs[f"range-{index}"]
        for index, (each, _) in enumerate(answered)
        if costs[f"range-{index}"] > each.stop - each.start + MORE
    }
    assert sum(costs.values()) > archive.size
    assert too_dear == {}


@pytest.mark.parametrize("place", [0, 10_000, 0.3, 20_000_000, 0.5, 42_000_000, 0.99, 1])
def test_a_small_slice_costs_little_wherever_it_lies(servers: Servers, archive, whole, place):
    if archive is ZIP:
        user = "zip"
        before = servers.costs(last=f"before-zip-{place}")[user]
    else:
        user, before = f"slice-{place}", 0
    start = place if place > 1 else int(place * (archive.size - SLICE))
    named = {"Range": f"bytes={start}-{start + SLICE - 1}", "If-Range": whole.etag}
    with closing(connect(servers.gateway)) as connection:
        _, _, body = get(connection, archive.target, user, **named)
    assert body == whole.body[start : start + SLICE]
    cost = servers.costs(last=f"after-{archive.format}-{place}")[user] - before
    assert cost <= SLICE + MORE

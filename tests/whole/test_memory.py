"""A member of any size passes through a few read buffers."""

import os
import urllib.request
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.keys import page
from tests.support.scripted import Scripted, Wire, answer
from tests.support.servers import LARGE_FILES, gateway, nginx
from tests.support.stores import Keys

pytestmark = pytest.mark.alone

MIB = 1024 * 1024


def drain(url: str) -> int:
    count, block = 0, bytearray(MIB)
    with urllib.request.urlopen(url) as answer:
        while got := answer.readinto(block):
            count += got
    return count


@pytest.mark.needs("nginx")
def test_memory_stays_flat_while_four_gibibytes_pass(tmp_path: Path, capsys, monkeypatch):
    for name in [name for name in os.environ if name.startswith("COV")]:
        monkeypatch.delenv(name)  # what measures coverage takes memory of its own
    files = tmp_path / "files"
    files.mkdir()
    sizes = {"small.bin": MIB, "medium.bin": 256 * MIB, "large.bin": 4096 * MIB}
    for name, size in sizes.items():
        with (files / name).open("wb") as file:
            file.truncate(size)
    peaks = []
    with (
        nginx(files, tmp_path / "nginx", LARGE_FILES) as upstream,
        gateway(upstream, tmp_path / "gateway") as running,
    ):
        for name, size in sizes.items():
            assert drain(running.url + "?bundle=" + name) > size
            peaks.append(running.memory())
    small, medium, large = peaks
    with capsys.disabled():
        print(f"\n  peak memory, one member of 1 MiB, 256 MiB and 4 GiB: {peaks} bytes")
    assert large - medium < 2 * MIB
    assert large - small < 8 * MIB  # the few read buffers that only a fast download has


OBJECTS, A_PAGE = 100_000, 1000


def keys(wire: Wire) -> None:
    """Be a bucket of so many objects, a hundred in each directory."""
    query = parse_qs(urlsplit(wire.request.target).query)
    if "max-keys" in query or query["prefix"] == ["pre/directory-00000/"]:
        answer(page(("pre/directory-00000/file", 1, "x")))(wire)
        return
    first = int(query.get("continuation-token", ["0"])[0])
    numbers = range(first, first + A_PAGE)
    listed = [(f"pre/directory-{n // 100:05}/file-{n:07}.bin", n, f"{n:032x}") for n in numbers]
    answer(page(*listed, token=str(first + A_PAGE) if first + A_PAGE < OBJECTS else None))(wire)


def test_a_bundle_of_100_000_objects_takes_about_a_kilobyte_for_each(
    tmp_path: Path, capsys, monkeypatch
):
    for name in [name for name in os.environ if name.startswith("COV")]:
        monkeypatch.delenv(name)
    for name, value in Keys("key", "secret").environment.items():
        monkeypatch.setenv(name, value)
    with Scripted({"/bucket": keys}) as store:
        told = {"s3_endpoint": store.url, "s3_public": "yes", "max_members": str(OBJECTS)}
        with gateway("s3://bucket/pre/", tmp_path / "gateway", **told) as running:

            def peak(query: str) -> int:
                asked = urllib.request.Request(f"{running.url}?{query}", method="HEAD")
                with urllib.request.urlopen(asked) as response:
                    assert response.status == 200
                return running.memory()

            before = peak("bundle=directory-00000/")
            taken = (peak("bundle=./") - before) / OBJECTS
        assert len(store.requests) < 1.1 * OBJECTS / A_PAGE
    with capsys.disabled():
        print(f"\n  a bundle of 100,000 objects takes {taken:.0f} bytes for each")
    assert taken < 1536

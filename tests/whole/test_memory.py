"""A member of any size passes through a few read buffers."""

import os
import urllib.request
from pathlib import Path

import pytest

from tests.support.servers import LARGE_FILES, gateway, nginx

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

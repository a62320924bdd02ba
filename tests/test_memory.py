"""A member of any size passes through a few read buffers."""

import urllib.request
from pathlib import Path

import pytest

from tests.servers import gateway, nginx

MIB = 1024 * 1024


def drain(url: str) -> int:
    count = 0
    with urllib.request.urlopen(url) as answer:
        while block := answer.read(MIB):
            count += len(block)
    return count


@pytest.mark.needs("nginx")
def test_memory_stays_flat_while_four_gibibytes_pass(tmp_path: Path, capsys):
    files = tmp_path / "files"
    files.mkdir()
    for name, size in [("small.bin", MIB), ("large.bin", 4096 * MIB)]:
        with (files / name).open("wb") as file:
            file.truncate(size)
    with (
        nginx(files, tmp_path / "nginx") as upstream,
        gateway(upstream, tmp_path / "gateway") as running,
    ):
        drain(running.url + "?bundle=small.bin")
        before = running.memory()
        assert drain(running.url + "?bundle=large.bin") > 4096 * MIB
        after = running.memory()
    with capsys.disabled():
        print(f"\n  peak memory, one member of 1 MiB and of 4 GiB: {before} and {after} bytes")
    assert after - before < 4 * MIB

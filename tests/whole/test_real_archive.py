"""Archives as users get them: nginx behind, gunicorn in front, read by the tools they have."""

import io
import os
import subprocess
import tarfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.support.servers import LARGE_FILES, Running, gateway, nginx

pytestmark = pytest.mark.needs("nginx", "tar", "bsdtar")

MTIME = 1_600_000_000
LARGE = 9 * 1024**3
NAMES = {
    "a.txt": b"abc",
    "empty": b"",
    "block": b"x" * 512,
    "sub/dir/b c.bin": bytes(range(256)) * 40,
    "ümläut/Größe, 100%.txt": b"gr\xc3\xbc\xc3\x9fe",
    "日本語.txt": b"nihongo",
    "-rf": b"a leading dash",
    "semi;colon&amp=?#.txt": b"reserved characters",
    "p" * 90 + "/" + "n" * 90: b"fits ustar with a prefix",
    "l" * 140: b"too long for ustar",
    "d" * 120 + "/" + "e" * 120 + "/" + "f" * 120: b"longer than any ustar name",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("files")
    for name, data in NAMES.items():
        path = root / "reports" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, (MTIME, MTIME))
    with (root / "large.bin").open("wb") as file:
        file.truncate(LARGE)
    os.utime(root / "large.bin", (MTIME, MTIME))
    (root / "behind.txt").write_bytes(b"behind the large one")
    return root


@pytest.fixture(scope="module")
def running(files: Path, tmp_path_factory) -> Iterator[Running]:
    place = tmp_path_factory.mktemp("servers")
    with (
        nginx(files, place / "nginx", LARGE_FILES) as upstream,
        gateway(upstream, place) as running,
    ):
        yield running


def bundle(running: Running, names: list[str], directory: str = "reports/") -> str:
    return running.url + directory + "?" + urlencode([("bundle", name) for name in names])


@pytest.fixture(scope="module")
def archive(running: Running) -> bytes:
    with urllib.request.urlopen(bundle(running, list(NAMES))) as answer:
        body = answer.read()
        assert len(body) == int(answer.headers["Content-Length"])
        return body


def test_python_reads_every_name_and_byte(archive: bytes):
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        read = {member.name: tar.extractfile(member).read() for member in tar}
    assert read == NAMES


def test_members_are_plain_files_of_nobody_with_the_upstreams_date(archive: bytes):
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        kinds = {(m.type, m.mode, m.uid, m.gid, m.uname, m.gname, m.mtime) for m in tar}
    assert kinds == {(tarfile.REGTYPE, 0o644, 0, 0, "", "", MTIME)}


@pytest.mark.parametrize("program", ["tar", "bsdtar"])
def test_unpacks_without_a_word(archive: bytes, program: str, tmp_path: Path):
    done = subprocess.run(
        [program, "-xf", "-", "-C", str(tmp_path)],
        input=archive,
        capture_output=True,
        env=os.environ | {"LC_ALL": "C.UTF-8"},
    )
    unpacked = {
        str(path.relative_to(tmp_path)): path.read_bytes()
        for path in tmp_path.rglob("*")
        if path.is_file()
    }
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert unpacked == NAMES


def test_the_archive_is_whole_records(archive: bytes):
    assert len(archive) % 10_240 == 0
    assert archive.endswith(bytes(1024))


def test_a_pinned_download_is_the_same_bytes_again(running: Running, archive: bytes):
    with urllib.request.urlopen(bundle(running, list(NAMES))) as answer:
        assert answer.read() == archive


def test_nine_gibibytes_pass_and_what_follows_them_is_found_by_every_reader(
    running: Running, tmp_path: Path
):
    """The large member is zeros, which take no room on the disk, and readers step over them."""
    block, kept = bytearray(1024 * 1024), tmp_path / "archive.tar"
    zeros, count, others = bytes(len(block)), 0, 0
    with (
        urllib.request.urlopen(bundle(running, ["large.bin", "behind.txt"], "")) as answer,
        kept.open("wb") as file,
    ):
        while got := answer.readinto(block):
            data = memoryview(block)[:got]
            count += got
            if zeros.startswith(data):
                file.seek(count)
            else:
                others += file.write(data)
        file.truncate(count)
        assert count == int(answer.headers["Content-Length"])
    assert others < 4 * len(block)  # headers, and what came in one block with them
    with tarfile.open(kept) as tar:
        found = [(member.name, member.size) for member in tar]
    assert found == [("large.bin", LARGE), ("behind.txt", 20)]
    for program in ("tar", "bsdtar"):
        listed = subprocess.check_output([program, "-tf", str(kept)], stderr=subprocess.STDOUT)
        assert listed == b"large.bin\nbehind.txt\n"

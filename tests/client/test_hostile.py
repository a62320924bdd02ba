"""A server that means harm: nothing is written outside, nothing wrong is called complete."""

import os
import random
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tar_gateway.client import Download, Options, Patience
from tar_gateway.client.failures import BrokenArchive, DiskError, DownloadError, NetworkError
from tests.support.bundles import BundleServer, Handler, whole
from tests.support.hostile import REFUSED

FILES = {"a.txt": b"a" * 5, "sub/b.bin": random.Random(1).randbytes(70_000), "c": b"ccc"}
QUICK = Patience(attempts=3, first_pause=0.001, longest_pause=0.002)


def download(server: BundleServer, out: Path, **options) -> None:
    Download(server.url, Options(directory=out, patience=QUICK, **options)).run()


def everything(place: Path) -> set[str]:
    return {str(p.relative_to(place)) for p in place.rglob("*") if ".tar-gateway-" not in str(p)}


@pytest.fixture
def server():
    with BundleServer(FILES) as server:
        yield server


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [name.decode() for name in REFUSED if name.isascii()], ids=lambda name: repr(name)[:40]
)
def test_a_hostile_name_in_the_plan_is_refused_before_anything_is_asked_for(server, out, name):
    server.bundle.plan["members"][0]["name"] = name
    with pytest.raises(BrokenArchive):
        download(server, out)
    assert server.archive_requests == []
    assert not out.exists()


@pytest.mark.parametrize(
    "names",
    [("a", "a"), ("a", "a/b"), ("a/b", "a"), ("a/", "a"), (".tar-gateway-0/x", "b")],
    ids=str,
)
def test_names_that_do_not_lie_side_by_side_are_refused(server, out, names):
    for member, name in zip(server.bundle.plan["members"], names, strict=False):
        member["name"] = name
    with pytest.raises(BrokenArchive):
        download(server, out)
    assert not out.exists()


@pytest.mark.parametrize("name", ["/etc/x", "../x.tar", ".x.tar", "a/b.tar", ""])
def test_a_hostile_file_name_of_the_archive_is_refused(server, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    server.bundle.plan["filename"] = name
    with pytest.raises(BrokenArchive, match="file name"):
        Download(server.url, Options(patience=QUICK)).run()
    assert everything(tmp_path) == set()


# --- plans that lie -------------------------------------------------------------------------------

LIES = {
    "negative size": ("size", -1),
    "a size of text": ("size", "5"),
    "a size of truth": ("size", True),
    "a size beyond all": ("size", 1 << 63),
    "no offset": ("offset", None),
    "an offset in another": ("offset", 512),
    "no place of the data": ("data_offset", None),
    "data before the header": ("data_offset", 0),
    "data within a block": ("data_offset", 600),
    "data far away": ("data_offset", 512 * 1024),
    "a date before all": ("mtime", -5),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_plan_whose_numbers_make_no_archive_is_refused(server, out, lie):
    key, value = LIES[lie]
    server.bundle.plan["members"][0][key] = value
    with pytest.raises(BrokenArchive):
        download(server, out)
    assert not out.exists()


@pytest.mark.parametrize("size", [0, 1, 512, -512, 1 << 62, "9", None])
def test_a_plan_whose_size_is_not_its_members_is_refused(server, out, size):
    server.bundle.plan["size"] = size
    with pytest.raises(DownloadError):
        download(server, out)
    assert not (out / "a.txt").exists()


@pytest.mark.parametrize("link", ["http://127.0.0.1:9/", "//127.0.0.1:9/?v=a", "/other?v=a", ""])
def test_the_plan_can_not_send_a_client_elsewhere(server, out, link):
    server.bundle.plan["link"] = link
    with pytest.raises(BrokenArchive, match="link leads elsewhere"):
        download(server, out)


# --- archives that are not the plan's -------------------------------------------------------------


def edit_header(server: BundleServer, start: int, new: bytes) -> None:
    """Change the first member's header, and make its checksum right again."""
    block = bytearray(server.bundle.archive[:512])
    block[start : start + len(new)] = new
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    server.bundle.archive = bytes(block) + server.bundle.archive[512:]


EDITS = {
    "a hard link": (156, b"1"),
    "a symbolic link": (156, b"2"),
    "a character device": (156, b"3"),
    "a block device": (156, b"4"),
    "a directory": (156, b"5"),
    "a pipe": (156, b"6"),
    "a sparse file": (156, b"S"),
    "a GNU long name": (156, b"L"),
    "global pax records": (156, b"g"),
    "an old regular file": (156, b"\0"),
    "a link's target": (157, b"/etc/passwd"),
    "another name": (0, b"b.txt"),
    "a climbing name": (0, b"../../x"),
    "a prefix": (345, b"/etc"),
    "another size": (124, b"00000000006"),
    "a size in base 256": (124, b"\x80"),
    "another date": (136, b"00000000001"),
    "no magic": (257, b"xxxxx"),
    "GNU's magic": (257, b"ustar  \0"),
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("kind", ["directory", "file"])
def test_a_header_that_is_not_the_plans_is_refused(server, tmp_path, edit, kind):
    edit_header(server, *EDITS[edit])
    options = {kind: tmp_path / "out"}
    with pytest.raises(BrokenArchive, match="the header of 'a"):
        Download(server.url, Options(patience=QUICK, **options)).run()
    assert everything(tmp_path) <= {"out"}
    assert not (tmp_path / "out").is_file()


def test_a_wrong_checksum_of_a_header_is_refused(server, out):
    server.bundle.replace(b"0000644", b"0000755")
    with pytest.raises(BrokenArchive, match="wrong checksum"):
        download(server, out)


@pytest.mark.parametrize("place", [512 + 5, 512 + 511, -1, -1024])
def test_bytes_where_there_is_only_padding_are_refused(server, out, place):
    archive = bytearray(server.bundle.archive)
    archive[place] = 1
    server.bundle.archive = bytes(archive)
    with pytest.raises(BrokenArchive, match="behind a member"):
        download(server, out)


def test_pax_records_that_say_something_else_are_refused(out):
    name = "x" * 150
    with BundleServer({name: b"1"}) as server:
        server.bundle.replace(b"path=" + b"x" * 150, b"path=" + b"../" * 50)
        with pytest.raises(BrokenArchive, match="the header of"):
            download(server, out)
    assert everything(out) == set()


# --- responses that lie ---------------------------------------------------------------------------


def another_range(handler: Handler, start: int, stop: int) -> None:
    handler.head(start + 1, stop)
    handler.body(start + 1, stop)


def another_total(handler: Handler, start: int, stop: int) -> None:
    handler.head(start, stop, Content_Range=f"bytes {start}-{stop - 1}/{stop + 1}")
    handler.body(start, stop)


def another_version(handler: Handler, start: int, stop: int) -> None:
    handler.head(start, stop, ETag='"other"')
    handler.body(start, stop)


def no_range(handler: Handler, start: int, stop: int) -> None:
    handler.head(start, stop, Content_Range="bytes x")
    handler.body(start, stop)


def too_little(handler: Handler, start: int, stop: int) -> None:
    handler.head(start, stop, Content_Length="5")
    handler.body(start, start + 5)


def too_much(handler: Handler, start: int, stop: int) -> None:
    handler.head(start, stop, Content_Length=str(stop - start + 512))
    handler.body(start, stop)
    handler.wfile.write(bytes(512))


def garbage(handler: Handler, start: int, stop: int) -> None:
    handler.wfile.write(b"\x16\x03\x01 no HTTP\r\n\r\n")
    handler.end()


def two_lengths(handler: Handler, start: int, stop: int) -> None:
    handler.send_response(206)
    handler.send_header("Content-Length", "5, 6")
    handler.end_headers()
    handler.end()


def bad_chunks(handler: Handler, start: int, stop: int) -> None:
    handler.send_response(206)
    handler.send_header("ETag", handler.server.home.bundle.plan["etag"])
    size = len(handler.server.home.bundle.archive)
    handler.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"zz\r\nnot a chunk\r\n")
    handler.end()


RESPONSES = [
    *(another_range, another_total, another_version, no_range, too_little, too_much, garbage),
    *(two_lengths, bad_chunks),
]


@pytest.mark.parametrize("lie", RESPONSES)
@pytest.mark.parametrize("at", [0, 600, 20_000])
def test_a_response_that_lies_makes_no_wrong_file(server, out, lie, at):
    """It is refused, or asked for again: what is called complete is right."""

    def breaks_off(handler: Handler, start: int, stop: int) -> None:
        handler.head(start, stop)
        handler.body(start, start + at)
        handler.end()

    server.answers.extend([breaks_off, lie] if at else [lie])
    with suppress(DownloadError):
        download(server, out)
    for name, data in FILES.items():
        assert not (out / name).exists() or (out / name).read_bytes() == data


def test_a_server_that_lies_on_and_on_is_given_up(server, out):
    server.answers.extend([garbage] * 10)
    with pytest.raises(NetworkError):
        download(server, out)
    assert len(server.archive_requests) == QUICK.attempts


# --- what is there already ------------------------------------------------------------------------


def test_a_link_below_the_target_is_not_followed(server, out, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    out.mkdir()
    (out / "sub").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DiskError, match="a part of the path is a link"):
        download(server, out)
    assert everything(tmp_path / "elsewhere") == set()


def test_a_link_in_a_members_place_is_replaced_and_its_target_stays(server, out, tmp_path):
    (tmp_path / "precious").write_bytes(b"precious")
    out.mkdir()
    (out / "a.txt").symlink_to(tmp_path / "precious")
    download(server, out)
    assert (tmp_path / "precious").read_bytes() == b"precious"
    assert not (out / "a.txt").is_symlink()


def test_a_hard_link_in_a_members_place_is_replaced_and_the_other_stays(server, out, tmp_path):
    (tmp_path / "precious").write_bytes(b"precious")
    out.mkdir()
    os.link(tmp_path / "precious", out / "a.txt")
    download(server, out)
    assert (tmp_path / "precious").read_bytes() == b"precious"


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_what_is_no_file_in_a_members_place_is_replaced_and_not_opened(server, out, kind):
    out.mkdir()
    if kind == "pipe":
        os.mkfifo(out / "a.txt")
    else:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(out / "a.txt"))
    download(server, out)
    assert (out / "a.txt").read_bytes() == FILES["a.txt"]


def test_a_directory_in_a_members_place_stays_and_is_named(server, out):
    (out / "a.txt").mkdir(parents=True)
    with pytest.raises(DiskError, match=r"out/a\.txt can't be written"):
        download(server, out)
    assert (out / "a.txt").is_dir()


def test_a_directory_that_is_swapped_for_a_link_meanwhile_leads_nowhere(server, out, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def swap(handler: Handler, start: int, stop: int) -> None:
        (out / "sub").symlink_to(elsewhere)
        whole(handler, start, stop)

    server.answers.append(swap)
    with pytest.raises(DiskError):
        download(server, out)
    assert everything(elsewhere) == set()


def test_a_state_that_is_a_link_is_refused(server, out, tmp_path):
    download(server, out)
    state = state_name(server, out)
    (tmp_path / "theirs").mkdir()
    (out / state).symlink_to(tmp_path / "theirs")
    with pytest.raises(DiskError, match="is a link or no directory: remove it"):
        download(server, out)
    assert everything(tmp_path / "theirs") == set()


def test_a_state_that_is_open_to_others_is_refused(server, out):
    download(server, out)
    state = out / state_name(server, out)
    state.mkdir(mode=0o755)
    with pytest.raises(DiskError, match="belongs to another user, or is open to others"):
        download(server, out)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_state_of_another_user_is_refused(server, out):
    download(server, out)
    state = out / state_name(server, out)
    state.mkdir(mode=0o700)
    os.chown(state, 65534, 65534)
    with pytest.raises(DiskError, match="belongs to another user"):
        download(server, out)


def test_a_link_among_the_parts_is_not_written_through(server, out, tmp_path):
    (tmp_path / "precious").write_bytes(b"precious")
    download(server, out)
    state = out / state_name(server, out)
    state.mkdir(mode=0o700)
    (state / "0").symlink_to(tmp_path / "precious")
    download(server, out)
    assert (tmp_path / "precious").read_bytes() == b"precious"
    assert (out / "a.txt").read_bytes() == FILES["a.txt"]


def state_name(server: BundleServer, out: Path) -> str:
    """Return what the state of such a download is called: it is gone once that is complete."""
    seen: list[str] = []

    def look(handler: Handler, start: int, stop: int) -> None:
        seen.extend(name for name in os.listdir(out) if name.startswith(".tar-gateway-"))
        whole(handler, start, stop)

    server.answers.append(look)
    download(server, out)
    return seen[0]


# --- disks ----------------------------------------------------------------------------------------


def run_in(space: str, server: BundleServer) -> subprocess.CompletedProcess:
    """Run the command in a mount of its own: a file system of some options, called disk."""
    script = (
        f"set -e; mkdir disk; mount -t tmpfs -o {space} none disk; cd disk; "
        f'exec "$0" -m tar_gateway.cli get -d out "$1"'
    )
    command = ["unshare", "--mount", "sh", "-c", script, sys.executable, server.url]
    return subprocess.run(command, capture_output=True, text=True)


def can_mount() -> bool:
    probe = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    return os.geteuid() == 0 and subprocess.run(probe, capture_output=True).returncode == 0


@pytest.mark.skipif(not can_mount(), reason="file systems can't be mounted here")
def test_a_disk_without_room_is_noticed_before_anything_is_fetched(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run_in("size=64k", server)
    assert done.returncode == 3
    assert "has room for" in done.stderr
    assert server.archive_requests == []


@pytest.mark.skipif(not can_mount(), reason="file systems can't be mounted here")
def test_a_disk_that_is_full_in_the_middle_is_an_error_of_the_disk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = {f"{i}": b"x" for i in range(40)}  # each takes a page and an inode
    with BundleServer(files) as server:
        done = run_in("size=1m,nr_inodes=20", server)
    assert done.returncode == 3
    assert "can't be written: no space left on device" in done.stderr


@pytest.mark.skipif(not can_mount(), reason="file systems can't be mounted here")
def test_a_target_that_is_read_only_is_an_error_of_the_disk(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run_in("ro", server)
    assert done.returncode == 3
    assert "read-only file system" in done.stderr
    assert server.archive_requests == []

"""Archives of the nastiest names that are allowed, unpacked by every tool that users have.

All of it lands inside the directory, byte for byte under its own name.
"""

import io
import os
import subprocess
import sys
import tarfile
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tar_gateway.archive.bundle import check_apart
from tar_gateway.archive.format import written_name
from tar_gateway.http.paths import BadName
from tests.support.files_upstream import TEXT, Canned, FilesUpstream, gateway_to
from tests.support.hostile import KEPT

pytestmark = pytest.mark.needs("tar", "bsdtar", "7z", "busybox")

# Beside the corpus: what file systems, shells and the formats' own limits make of names.
MORE = [
    *("COM1.txt", "lpt9", "CONIN$", "a.lnk", "desktop.ini", ".bashrc", ".git", ".;", "ab::$DATA"),
    *(" . ", "a\u00a0", "trailing space /in/a directory ", "trailing dot./x", "a...", "-", "--"),
    *("n" * 99, "n" * 155, "n" * 157, "p" * 155 + "/" + "n" * 100, "p" * 156 + "/" + "n" * 100),
    *("p" * 155 + "/" + "n" * 101, "q" * 90 + "/" + "n" * 90, "é" * 127, "é" * 50 + "/" + "é" * 50),
    *(
        "deep/" * 200 + "f",
        "deep/" * 150 + "f",
        ("w" * 255 + "/") * 10 + "w" * 255,
        "日" * 85,
        "\U0001f600" * 63,
    ),
]


def fits(name: str) -> bool:
    """Tell whether a file system can hold a name at all."""
    return len(name.encode()) < 3500 and all(len(each.encode()) < 256 for each in name.split("/"))


def sorted_apart(names: list[str]) -> list[list[str]]:
    """Distribute names over as few archives as let all stand side by side."""
    archives: list[list[str]] = []
    for name in names:
        for archive in archives:
            try:
                check_apart([*archive, name])
            except BadName:
                continue
            archive.append(name)
            break
        else:
            archives.append([name])
    return archives


NAMES = [name for name in dict.fromkeys([*(name.decode() for name in KEPT), *MORE]) if fits(name)]
ARCHIVES = sorted_apart(NAMES)


def content(name: str) -> bytes:
    return name.encode() * (len(name) % 7)


@dataclass(frozen=True)
class Tool:
    """A program that unpacks ``archive.tar`` into ``inside``, and how it writes a name."""

    command: tuple[str, ...]
    written: Callable[[str], str] = str


def composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


TOOLS = {
    "GNU tar": Tool(("tar", "-xf", "archive.tar", "-C", "inside")),
    # libarchive composes what it reads as UTF-8: e and an accent become one letter.
    "bsdtar": Tool(("bsdtar", "-xf", "archive.tar", "-C", "inside"), composed),
    "7z": Tool(("7z", "x", "-y", "-bd", "-oinside", "archive.tar")),
    "busybox": Tool(("busybox", "tar", "-xf", "archive.tar", "-C", "inside")),
    "tarfile": Tool(
        (
            sys.executable,
            "-c",
            "import tarfile; tarfile.open('archive.tar').extractall('inside', filter='data')",
        )
    ),
}


@pytest.fixture(scope="module")
def archives() -> Iterator[list[bytes]]:
    """Give the archives as the gateway makes them."""
    with FilesUpstream({name: content(name) for name in NAMES}) as upstream:
        with gateway_to(upstream) as app:
            made = [
                app.post("/?bundle", urlencode([("bundle", name) for name in names])).body
                for names in ARCHIVES
            ]
        yield made


def unpack(tool: Tool, archive: bytes, place: Path) -> dict[str, bytes | None]:
    """Unpack; give what there is below ``inside``, directories as `None`."""
    (place / "inside").mkdir(parents=True)
    (place / "archive.tar").write_bytes(archive)
    done = subprocess.run(
        tool.command, cwd=place, capture_output=True, env=os.environ | {"LC_ALL": "C.UTF-8"}
    )
    assert (done.returncode, done.stderr) == (0, b""), done.stdout
    assert {path.name for path in place.iterdir()} == {"inside", "archive.tar"}
    found: dict[str, bytes | None] = {}
    for root, directories, files in os.walk(place / "inside"):
        for each in [*directories, *files]:
            path = os.path.join(root, each)
            assert not os.path.islink(path)
            data = None if os.path.isdir(path) else Path(path).read_bytes()
            found[os.path.relpath(path, place / "inside")] = data
    return found


@pytest.mark.parametrize("kind", TOOLS)
def test_every_allowed_name_is_unpacked_inside_its_directory_byte_for_byte(
    archives, kind, tmp_path
):
    tool = TOOLS[kind]
    for number, (names, archive) in enumerate(zip(ARCHIVES, archives, strict=True)):
        found = unpack(tool, archive, tmp_path / str(number))
        files = {name: data for name, data in found.items() if data is not None}
        assert files == {tool.written(name): content(name) for name in names}


PERL = Tool(
    (
        "perl",
        "-MArchive::Tar",
        "-e",
        "chdir 'inside'; Archive::Tar->extract_archive('../archive.tar')",
    )
)


@pytest.mark.needs("perl")
def test_a_program_that_skips_pax_records_finds_names_of_any_alphabet(tmp_path: Path):
    names = ["äpfel.txt", "öpfel.txt", "报告.txt", "数据.txt", "Фото/1.jpg", "café.txt", "cafè.txt"]
    files = {name: content(name) for name in names}
    with FilesUpstream(files) as upstream, gateway_to(upstream) as app:
        archive = app.post("/?bundle", urlencode([("bundle", name) for name in names])).body
    assert unpack(PERL, archive, tmp_path) == {"Фото": None, **files}


def test_an_archive_holds_nothing_but_plain_files_with_relative_names(archives):
    listed = []
    for archive in archives:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            for member in tar:
                assert member.type == tarfile.REGTYPE
                assert member.linkname == ""
                assert (member.mode, member.uid, member.gid) == (0o644, 0, 0)
                assert not member.name.startswith("/")
                assert not set(member.name.removeprefix("./").split("/")) & {"", ".", ".."}
                listed.append(member.name)
    assert sorted(listed) == sorted(written_name(name) for name in NAMES)


@pytest.mark.parametrize("kind", TOOLS)
def test_directories_that_an_application_lists_are_unpacked_inside_too(kind, tmp_path):
    names = ["-d", "~", "trailing ", "d." + "x" * 200, "ü/" * 60 + "e", "CON"]
    lines = "".join(f"- 0 @directory {name}\n- 1 /a {name}/-f\n" for name in names)
    listed = Canned(200, (TEXT, ("X-Archive-Files", "tar")), lines.encode())
    with FilesUpstream({"list": listed, "a": b"a"}) as upstream, gateway_to(upstream) as app:
        found = unpack(TOOLS[kind], app.get("/list").body, tmp_path)
    for name in names:
        assert (found[name], found[name + "/-f"]) == (None, b"a")


def test_the_corpus_is_large_and_goes_over_every_limit_of_the_format():
    lengths = [len(name.encode()) for name in NAMES]
    assert len(NAMES) > 150
    for limit in (100, 155, 256, 1000):
        assert any(length > limit for length in lengths)
        assert any(limit // 2 < length <= limit for length in lengths)

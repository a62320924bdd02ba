"""Zips of every kind that a reader may fail at, and the readers: a table says who reads what."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from shutil import which

from tar_gateway.archive.format import Borrowed, Checksum, Literal, Member
from tar_gateway.archive.layout import Layout
from tar_gateway.archive.zip import BLOCK, ZIP
from tar_gateway.delivery.checksums import crc32

GIB = 2**30
UTF_8 = {**os.environ, "LC_ALL": "C.UTF-8"}
_PIECE = bytes(2**20)


@dataclass(frozen=True)
class Case:
    """Members of zeros, and what is read of them: all, or the last one alone."""

    name: str
    members: tuple[Member, ...]
    only_last: bool = False
    unpacks: bool = False
    """Whether what counts is how the files are called on disk."""

    @property
    def is_large(self) -> bool:
        """Whether its bytes take minutes to read."""
        return sum(member.size for member in self.members) > GIB

    @property
    def read(self) -> tuple[Member, ...]:
        return self.members[-1:] if self.only_last else self.members

    @cached_property
    def checksum(self) -> int:
        """The CRC-32 of all that is read, one behind the other."""
        return _of_zeros(sum(member.size for member in self.read))

    def write(self, file: Path) -> None:
        """Write the zip, which takes the disk a sixteenth of its length: zeros are left out."""
        layout, position = Layout(self.members, ZIP), 0
        with file.open("wb") as output:
            for segment in layout.slice(0, layout.size):
                output.seek(position)
                match segment:
                    case Literal(data=data):
                        output.write(data)
                    case Checksum(index=index):
                        value = _of_zeros(self.members[index].size)
                        output.write(value.to_bytes(4, "little"))
                    case Borrowed(start=start, stop=stop, blocks=blocks):
                        for block in range(start + BLOCK, stop, BLOCK):
                            output.seek(position + blocks.between(start, block) + block - start)
                            output.write(blocks.before(block))
                position += len(segment)
            output.truncate(layout.size)


def _of_zeros(size: int) -> int:
    value = 0
    while size:
        piece = _PIECE[: min(size, len(_PIECE))]
        value = crc32(piece, value)
        size -= len(piece)
    return value


_SIZES = (0, 1, BLOCK, BLOCK + 1, 200_000)
_NAMES = ("Füße/日本語.txt", "d" * 100 + "/" + "n" * 200, "b c&d.txt", "empty/")

CASES = (
    Case("0, 65,535, 65,536 bytes", tuple(Member(f"{size}.bin", size, 10**9) for size in _SIZES)),
    Case(
        "long, non-ASCII names",
        tuple(Member(name, 0 if name.endswith("/") else 9, 10**9) for name in _NAMES),
        unpacks=True,
    ),
    Case("65,535 members", tuple(Member(f"{number:05}", 1) for number in range(65_535))),
    Case("70,000 members", tuple(Member(f"{number:05}", 1) for number in range(70_000))),
    Case("over 4 GiB", (Member("large", 4 * GIB + 5, 10**9),)),
    Case(
        "behind 4 GiB",
        (*(Member(str(number), 3 * GIB // 2, 10**9) for number in range(3)), Member("last", 99)),
        only_last=True,
    ),
)


# --- readers ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reader:
    """A program that reads a zip: what it needs, and whether it has read a case right.

    ``read`` is given a zip, the case, and an empty directory to work in.
    """

    name: str
    programs: tuple[str, ...]
    read: Callable[[Path, Case, Path], bool]

    def missing(self) -> list[str]:
        return [program for program in self.programs if which(program) is None]


def _poured(*command: str, is_piped: bool = False) -> Callable[[Path, Case, Path], bool]:
    """Read by a program that pours out what is in an archive, or unpacks where names count."""

    def read(file: Path, case: Case, place: Path) -> bool:
        last = [case.read[0].name] if case.only_last else []
        made = [str(file) if part == "FILE" else part for part in command]
        with file.open("rb") as zipped:
            source = zipped if is_piped else subprocess.DEVNULL
            running = subprocess.Popen(
                [*made, *last],
                stdin=source,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=place,
                env=UTF_8,
            )
            value = 0
            with running, running.stdout as output:
                while block := output.read(2**20):
                    value = crc32(block, value)
        return running.returncode == 0 and value == case.checksum

    return read


def _unpacked(*command: str, is_piped: bool = False) -> Callable[[Path, Case, Path], bool]:
    """Read by a program that unpacks into the directory it runs in."""

    def read(file: Path, case: Case, place: Path) -> bool:
        made = [str(file) if part == "FILE" else part for part in command]
        with file.open("rb") as zipped:
            source = zipped if is_piped else subprocess.DEVNULL
            done = subprocess.run(made, stdin=source, capture_output=True, cwd=place, env=UTF_8)
        found = {
            str(each.relative_to(place)) + ("/" if each.is_dir() else "")
            for each in place.rglob("*")
            if each.is_file() or not any(each.iterdir())
        }
        return done.returncode == 0 and found == {member.name for member in case.members}

    return read


def _either(
    pour: Callable[[Path, Case, Path], bool], unpack: Callable[[Path, Case, Path], bool]
) -> Callable[[Path, Case, Path], bool]:
    return lambda file, case, place: (unpack if case.unpacks else pour)(file, case, place)


def _listed(case: Case, found: Iterable[tuple[str, int]], checksum: int) -> bool:
    expected = [(member.name, member.size) for member in case.read]
    return list(found) == expected and checksum == case.checksum


def _python(file: Path, case: Case, place: Path) -> bool:
    found, value = [], 0
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist()[-1 if case.only_last else 0 :]:
            found.append((info.filename, info.file_size))
            with archive.open(info) as member:
                while block := member.read(2**20):
                    value = crc32(block, value)
    return _listed(case, found, value)


def _stream_unzip(file: Path, case: Case, place: Path) -> bool:
    from stream_unzip import stream_unzip  # noqa: PLC0415 - a reader that may be missing

    def pieces() -> Iterator[bytes]:
        with file.open("rb") as zipped:
            while block := zipped.read(2**18):
                yield block

    found: list[tuple[str, int]] = []
    value = 0
    for name, _, blocks in stream_unzip(pieces(), chunk_size=2**18):
        size = 0
        is_read = not case.only_last or name.decode() == case.read[0].name
        for block in blocks:
            size += len(block)
            value = crc32(block, value) if is_read else value
        if is_read:
            found.append((name.decode(), size))
    return _listed(case, found, value)


_JAVA = """
import java.io.*; import java.util.*; import java.util.zip.*;
class Read {
  static CRC32 crc = new CRC32(); static byte[] room = new byte[1 << 20];
  static StringBuilder names = new StringBuilder();
  static void tell(ZipEntry e, InputStream in, String only) throws IOException {
    boolean is_read = only.isEmpty() || e.getName().equals(only);
    long size = 0;
    for (int n; (n = in.read(room)) > 0; size += n) if (is_read) crc.update(room, 0, n);
    if (is_read) names.append(e.getName()).append(' ').append(size).append('\\n');
  }
  public static void main(String[] args) throws IOException {
    if (args[0].equals("stream")) {
      try (ZipInputStream in = new ZipInputStream(System.in)) {
        for (ZipEntry e; (e = in.getNextEntry()) != null;) tell(e, in, args[2]);
      }
    } else try (ZipFile file = new ZipFile(args[1])) {
      for (ZipEntry e : Collections.list(file.entries()))
        if (args[2].isEmpty() || e.getName().equals(args[2]))
          tell(e, file.getInputStream(e), args[2]);
    }
    new PrintStream(System.out, true, "UTF-8").print(names.toString() + crc.getValue());
  }
}
"""


def _java(way: str) -> Callable[[Path, Case, Path], bool]:
    def read(file: Path, case: Case, place: Path) -> bool:
        program = place.parent / "java"
        if not program.exists():
            program.mkdir()
            (program / "Read.java").write_text(_JAVA)
            subprocess.run(["javac", "Read.java"], cwd=program, check=True, capture_output=True)
        last = case.read[0].name if case.only_last else ""
        with file.open("rb") as zipped:
            done = subprocess.run(
                ["java", "-cp", program, "Read", way, file, last],
                stdin=zipped,
                capture_output=True,
                env=UTF_8,
            )
        *lines, value = done.stdout.decode().split("\n")
        found = [(name, int(size)) for name, _, size in (line.rpartition(" ") for line in lines)]
        return done.returncode == 0 and _listed(case, found, int(value))

    return read


READERS = (
    Reader(
        "Info-ZIP unzip",
        ("unzip",),
        _either(_poured("unzip", "-p", "FILE"), _unpacked("unzip", "-q", "FILE")),
    ),
    Reader(
        "7-Zip",
        ("7z",),
        _either(_poured("7z", "x", "-so", "FILE"), _unpacked("7z", "x", "FILE")),
    ),
    Reader("Python `zipfile`", (), _python),
    Reader(
        "bsdtar (libarchive), a file",
        ("bsdtar",),
        _either(_poured("bsdtar", "-xOf", "FILE"), _unpacked("bsdtar", "-xf", "FILE")),
    ),
    Reader(
        "bsdtar, a pipe",
        ("bsdtar",),
        _either(
            _poured("bsdtar", "-xOf", "-", is_piped=True),
            _unpacked("bsdtar", "-xf", "-", is_piped=True),
        ),
    ),
    Reader(
        "busybox unzip",
        ("busybox",),
        _either(
            _poured("busybox", "unzip", "-p", "FILE"), _unpacked("busybox", "unzip", "-q", "FILE")
        ),
    ),
    Reader(
        "unar (The Unarchiver)",
        ("unar",),
        _either(
            _poured("unar", "-q", "-o", "-", "FILE"),
            _unpacked("unar", "-q", "-D", "FILE"),
        ),
    ),
    Reader("Java `ZipFile`", ("java", "javac"), _java("file")),
    Reader("Java `ZipInputStream`, a pipe", ("java", "javac"), _java("stream")),
    Reader("stream-unzip (Python), a pipe", (), _stream_unzip),
)


def reads(reader: Reader, case: Case, file: Path, place: Path) -> bool:
    """Return whether a reader reads a case's zip; what it raises counts as no."""
    place.mkdir()
    try:
        return reader.read(file, case, place)
    except Exception as error:
        print(f"{reader.name}, {case.name}: {error!r}", file=sys.stderr)
        return False

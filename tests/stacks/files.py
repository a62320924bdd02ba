"""The few files that every application here serves, and word of when they are closed."""

import base64
import hashlib
import os
import random
import socket
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate

from tar_gateway import Member, TarStream

MODIFIED = 1_600_000_000
LAST_MODIFIED = formatdate(MODIFIED, usegmt=True)
USER, PASSWORD = "ada", "lovelace"
CREDENTIALS = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

SMALL = b"small\n"
MIDDLE = random.Random(1).randbytes(300_000)
SECRET = b"for those who are logged in\n"
MADE = b"".join(b"line %d\n" % number for number in range(1000))
FILES = {"small.txt": SMALL, "middle.bin": MIDDLE, "grün & weiß.txt": "grün\n".encode()}

BLOCK = bytes(64 * 1024)
LARGE_SIZE = 4096 * len(BLOCK)  # far more than any server and kernel take in for a client
DRIP_SIZE = 600 * 1024
BROKEN_SIZE = 2 * len(MIDDLE)

LIST = (
    f"- {len(SMALL)} /files/small.txt docs/small.txt\r\n"
    "- - /files/middle.bin docs/middle.bin\r\n"
    "- 0 @directory empty\r\n"
)
"""What an application answers with ``X-Archive-Files: tar``, for its archive to be made."""


def etag(name: str) -> str:
    """Give the strong validator of a file whose content never changes."""
    return f'"{hashlib.sha256(name.encode()).hexdigest()[:16]}"'


def notes_address() -> tuple[str, int] | None:
    """Tell where notes are sent, `None` for nowhere."""
    host, _, port = os.environ.get("STACKS_NOTES", "").rpartition(":")
    return (host, int(port)) if host else None


class Noted:
    """Blocks of a file, whose making and closing is told to whoever runs the server."""

    def __init__(self, name: str, blocks: Iterator[bytes]) -> None:
        self._name = name
        self._blocks = blocks
        self._tell("opened")

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._blocks)

    def close(self) -> None:
        self._tell("closed")

    def _tell(self, what: str) -> None:
        address = notes_address()
        if address is not None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.sendto(f"{what} {self._name}".encode(), address)


def breaks() -> Iterator[bytes]:
    """Give half of what was promised, and fail."""
    yield MIDDLE
    raise RuntimeError("the disk has gone")


def streams() -> Iterator[bytes]:
    """Give as much as is taken."""
    for _ in range(LARGE_SIZE // len(BLOCK)):
        yield BLOCK


def drips() -> Iterator[bytes]:
    """Give a little now and then."""
    for _ in range(DRIP_SIZE // 1024):
        time.sleep(0.1)
        yield bytes(1024)


def makes() -> Iterator[bytes]:
    """Give lines as they are made."""
    yield from MADE.splitlines(keepends=True)


# Files that are streams: their length, `None` for one that nobody knows, and what gives them.
STREAMS: dict[str, tuple[int | None, Callable[[], Iterator[bytes]]]] = {
    "broken.bin": (BROKEN_SIZE, breaks),
    "large.bin": (LARGE_SIZE, streams),
    "drip.bin": (DRIP_SIZE, drips),
    "made.txt": (None, makes),
}


def stream(name: str) -> Noted:
    """Begin one of `STREAMS`."""
    return Noted(name, STREAMS[name][1]())


def archive(name: str) -> TarStream:
    """Make an archive of data at hand, ``whole`` or of data that breaks."""
    if name == "whole":
        return TarStream([Member("data", len(SMALL), MODIFIED, SMALL)])
    return TarStream([Member("data", BROKEN_SIZE, MODIFIED, stream("broken.bin"))])

"""What a download has so far, in a directory of its own beside what it makes.

``.tar-gateway-<8 hex of the version>/``, mode 0700, holds the parts, which are numbered and never
called by a member's name, and ``state``: a digest of where the archive is from, its version, which
bytes are there, and hashes of the last bytes of each part. No URL and no credential is in it. It
is written again and again under another name and renamed, so that it is always whole.
"""

import fcntl
import json
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import astuple, dataclass
from hashlib import sha256
from threading import Lock
from typing import Any

from tar_gateway.client.failures import DiskError
from tar_gateway.client.plan import OWN_PREFIX
from tar_gateway.client.spans import Spans
from tar_gateway.client.tree import disk_error, on_disk, open_regular

_FORMAT = 1
_NAME, _NEXT, _MEMBERS = "state", "state.next", "members"
_EVERY = 0.2
"""Seconds between two states: what a kill may lose."""
_TAIL = 16 * 1024
"""Bytes before a span's end that are hashed: after a loss of power there may be zeros."""
_LARGEST = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Identity:
    """What a state is of: where it is from, its version, what is made, and its size in bytes."""

    source: str
    version: str
    kind: str
    size: int | None


Tails = Callable[[int], tuple[str, int] | None]
"""Return which part holds the bytes before an offset of the archive, and where in it."""


class State:
    """The directory, locked for this process; ``fd`` is its descriptor."""

    def __init__(self, parent: int, where: str, identity: Identity) -> None:
        """Open it in the directory ``parent``, which messages call ``where``, or make it.

        Raise `DiskError` if it is a link, another user's, or in use by another download.
        """
        self.name = directory_name(identity)
        self.shown = f"{where}/{self.name}"
        self._parent = parent
        self._identity = identity
        self._lock = Lock()
        self._written = 0.0
        with on_disk(self.shown), suppress(FileExistsError):
            os.mkdir(self.name, 0o700, dir_fd=parent)
        try:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            self.fd = os.open(self.name, flags, dir_fd=parent)
        except OSError as error:
            raise DiskError(f"{self.shown} is a link or no directory: remove it") from error
        try:
            self._check_owner()
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self.fd)
            raise DiskError(f"another download of the same uses {self.shown}") from error
        except OSError as error:
            os.close(self.fd)
            raise disk_error(self.shown, error) from error
        except DiskError:
            os.close(self.fd)
            raise

    def read(self, tails: Tails) -> Spans:
        """Return which bytes are there: none if the state is of something else, or is broken."""
        try:
            fd = open_regular(_NAME, os.O_RDONLY, self.fd)
            with os.fdopen(fd, "rb") as file:
                told = json.loads(file.read(_LARGEST))
            spans = [(int(start), int(stop)) for start, stop in told["spans"]]
            if told["of"] != self._of() or told["check"] != _check(told["spans"]):
                return Spans()
            hashes = dict(zip((stop for _, stop in spans), told["tails"], strict=True))
        except (OSError, ValueError, KeyError, TypeError):
            return Spans()
        return Spans(
            (start, stop) for start, stop in spans if self._tail(tails, start, stop) == hashes[stop]
        )

    def write(self, there: Callable[[], Spans], tails: Tails, *, now: bool = False) -> None:
        """Note which bytes are there, unless that was done a moment ago. Raise `DiskError`."""
        moment = time.monotonic()
        if not now and moment < self._written + _EVERY:
            return
        with self._lock, on_disk(self.shown):
            self._written = moment
            listed = [list(span) for span in there()]
            told = {
                "of": self._of(),
                "spans": listed,
                "tails": [self._tail(tails, start, stop) for start, stop in listed],
                "check": _check(listed),
            }
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            fd = open_regular(_NEXT, flags, self.fd, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(json.dumps(told).encode("ascii"))
            os.rename(_NEXT, _NAME, src_dir_fd=self.fd, dst_dir_fd=self.fd)

    def note_members(self, digests: Iterable[str]) -> None:
        """Note what its members are, by a digest of each. Raise `DiskError`."""
        with on_disk(self.shown):
            fd = open_regular(_MEMBERS, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, self.fd, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write("\n".join(digests).encode("ascii"))

    def members(self) -> frozenset[str]:
        """Return the digests of its members, none where they were not noted."""
        try:
            with os.fdopen(open_regular(_MEMBERS, os.O_RDONLY, self.fd), "rb") as file:
                return frozenset(file.read().decode("ascii", "replace").split())
        except OSError:
            return frozenset()

    def part_size(self, number: int) -> int:
        """Return the bytes of a part, 0 where there is none."""
        try:
            return os.stat(str(number), dir_fd=self.fd, follow_symlinks=False).st_size
        except OSError:
            return 0

    def part(self, number: int) -> int:
        """Open a part to read and write, made where there is none. Raise `OSError`."""
        return open_regular(str(number), os.O_RDWR | os.O_CREAT, self.fd)

    def forget(self) -> None:
        """Remove all parts and what is noted of them."""
        with on_disk(self.shown):
            for name in os.listdir(self.fd):
                os.unlink(name, dir_fd=self.fd)

    def remove(self) -> None:
        """Remove the directory with all in it: the download is complete."""
        self.forget()
        with on_disk(self.shown):
            os.rmdir(self.name, dir_fd=self._parent)

    def close(self) -> None:
        """Let another process have it."""
        os.close(self.fd)

    def _check_owner(self) -> None:
        found = os.fstat(self.fd)
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise DiskError(
                f"{self.shown} belongs to another user, or is open to others: remove it"
            )

    def _of(self) -> list[Any]:
        return [_FORMAT, *astuple(self._identity)]

    def _tail(self, tails: Tails, start: int, stop: int) -> str | None:
        """Hash the last bytes of a span, as far as a part holds them."""
        place = tails(stop)
        if place is None:
            return None
        part, end = place
        try:
            fd = open_regular(part, os.O_RDONLY, self.fd)
        except OSError:
            return ""
        with os.fdopen(fd, "rb") as file:
            length = min(end, stop - start, _TAIL)
            return sha256(os.pread(file.fileno(), length, end - length)).hexdigest()


def directory_name(identity: Identity) -> str:
    """Return what the directory is called for a version: it tells nothing of the URL."""
    return OWN_PREFIX + sha256(f"{identity.version} {identity.kind}".encode()).hexdigest()[:8]


def of_other_versions(parent: int, where: str, identity: Identity) -> Iterator[State]:
    """Return the states of downloads of the same that were begun when it had another version."""
    with on_disk(where):
        names = os.listdir(parent)
    for name in sorted(names):
        if not name.startswith(OWN_PREFIX) or name == directory_name(identity):
            continue
        other = _identity_in(parent, name)
        if other is None or directory_name(other) != name:
            continue
        if (other.source, other.kind) == (identity.source, identity.kind):
            with suppress(DiskError):  # in use, or not ours
                yield State(parent, where, other)


def _identity_in(parent: int, name: str) -> Identity | None:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
        try:
            with os.fdopen(open_regular(_NAME, os.O_RDONLY, fd), "rb") as file:
                _, *values = json.loads(file.read(_LARGEST))["of"]
        finally:
            os.close(fd)
        return Identity(*values)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _check(spans: list[Any]) -> str:
    return sha256(json.dumps(spans).encode("ascii")).hexdigest()

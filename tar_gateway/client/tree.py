"""A directory that members are put into, whatever its file system holds already.

Every step down is a descriptor of the directory above and one name, and no link is followed: not
one that was there, nor one that another program puts there meanwhile.
"""

import os
import stat
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock

from tar_gateway.client.failures import DiskError
from tar_gateway.http.paths import shown

_MOST_OPEN = 32
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def on_disk(what: str) -> Iterator[None]:
    """Turn an error of the file system into a `DiskError` that names ``what`` it is about."""
    try:
        yield
    except OSError as error:
        raise disk_error(what, error) from error


def disk_error(what: str, error: OSError) -> DiskError:
    """Return an error of the file system as one that names ``what`` it is about."""
    reason = error.strerror or type(error).__name__
    if isinstance(error, NotADirectoryError) or error.errno == 40:  # ELOOP
        reason = "a part of the path is a link, or no directory"
    return DiskError(f"{what} can't be written: {reason[:1].lower()}{reason[1:]}")


class Tree:
    """A directory, made where there is none. Safe for threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with on_disk(str(path)):
            path.mkdir(parents=True, exist_ok=True)
            # The user named this one, who may mean a link.
            self.fd = os.open(path, _DIRECTORY & ~os.O_NOFOLLOW)
        self._lock = Lock()
        self._open: OrderedDict[str, int] = OrderedDict()

    def close(self) -> None:
        """Close all descriptors."""
        for fd in (*self._open.values(), self.fd):
            os.close(fd)

    def free(self) -> int:
        """Return the bytes that a user may still write."""
        with on_disk(str(self.path)):
            found = os.fstatvfs(self.fd)
        return found.f_bavail * found.f_frsize

    def folds(self, name: str) -> bool:
        """Return whether the file system takes a name of ours in capitals for the same."""
        return self._lstat(self.fd, name.upper()) is not None

    def put(self, name: str, source: int, part: str) -> None:
        """Rename a part, in the directory ``source``, to a member's name. Raise `OSError`."""
        directory, _, base = name.rpartition("/")
        with self._lock:
            os.rename(part, base, src_dir_fd=source, dst_dir_fd=self._descend(directory))

    def make(self, name: str, mtime: int) -> None:
        """Make a directory, unless it is there, and give it its date if it has one."""
        with self._lock:
            fd = self._descend(name.rstrip("/"))
            if mtime:
                os.utime(fd, (mtime, mtime))

    def has(self, name: str, size: int, mtime: int) -> bool:
        """Return whether a regular file of this size and date is there; date 0 is unknown."""
        directory, _, base = name.rpartition("/")
        with self._lock:
            try:
                found = self._lstat(self._descend(directory, make=False), base)
            except OSError:
                return False
        if found is None or not stat.S_ISREG(found.st_mode) or found.st_size != size:
            return False
        return not mtime or int(found.st_mtime) == mtime

    def has_directory(self, name: str) -> bool:
        """Return whether a directory is there."""
        with self._lock:
            try:
                self._descend(name.rstrip("/"), make=False)
            except OSError:
                return False
        return True

    def read(self, name: str) -> int:
        """Open a regular file to read, and return its descriptor. Raise `OSError`."""
        directory, _, base = name.rpartition("/")
        with self._lock:
            parent = self._descend(directory, make=False)
            return open_regular(base, os.O_RDONLY, parent)

    def _descend(self, directory: str, *, make: bool = True) -> int:
        """Return a descriptor of a directory below, which stays open for a while."""
        if not directory:
            return self.fd
        if directory in self._open:
            self._open.move_to_end(directory)
            return self._open[directory]
        above, _, base = directory.rpartition("/")
        parent = self._descend(above, make=make)
        if make:
            with suppress(FileExistsError):
                os.mkdir(base, 0o755, dir_fd=parent)
        fd = os.open(base, _DIRECTORY, dir_fd=parent)
        self._open[directory] = fd
        if len(self._open) > _MOST_OPEN:
            os.close(self._open.popitem(last=False)[1])
        return fd

    @staticmethod
    def _lstat(fd: int, name: str) -> os.stat_result | None:
        try:
            return os.stat(name, dir_fd=fd, follow_symlinks=False)
        except OSError:
            return None


def open_regular(name: str, flags: int, directory: int, mode: int = 0o644) -> int:
    """Open a file that is a regular one, without following a link. Raise `OSError`."""
    fd = os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, mode, dir_fd=directory)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(0, f"{shown(name)} is no regular file")
    return fd

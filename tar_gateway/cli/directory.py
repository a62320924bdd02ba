"""A directory's files, opened so that nothing outside the directory is ever opened.

It knows no HTTP. A path is resolved first, links and all, and then opened one directory after the
other without following links. So links within the directory work, links that lead out of it are
not found, and neither is what was replaced by a link between the two steps.
"""

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_AS_DIRECTORY = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_PATH, where there is one, also opens directories that may be entered but not listed.
_DIRECTORY = getattr(os, "O_PATH", os.O_RDONLY) | _AS_DIRECTORY
# O_NONBLOCK: opening a FIFO does not wait for a writer.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

# How opening fails where there is no such file: nothing, a file or a link on the way, a loop of
# links, a name that is too long, a socket.
_NOT_FOUND = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO}


@dataclass(frozen=True, slots=True)
class Shown:
    """A name in a directory, and what is known of the file or directory that it leads to."""

    name: str
    status: os.stat_result

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory; otherwise it is a regular file."""
        return stat.S_ISDIR(self.status.st_mode)


class Directory:
    """The regular files below ``path``; names that begin with a dot only if ``hidden``."""

    def __init__(self, path: Path, *, hidden: bool = False) -> None:
        self._root = os.path.realpath(path)
        self._hidden = hidden

    def open(self, path: str) -> BinaryIO:
        """Open a file by its path below the directory, such as ``reports/january.pdf``.

        Raise `FileNotFoundError` if the directory has no such file to show, another `OSError`,
        such as `PermissionError`, if the file cannot be opened.
        """
        missing = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        asked = path.split("/")
        if not self._shows(asked):
            raise missing
        real = os.path.relpath(os.path.realpath(os.path.join(self._root, *asked)), self._root)
        names = real.split("/")
        # A link to a hidden file does not show it; a path that leads out begins with "..".
        if not self._shows(names):
            raise missing
        try:
            descriptor = self._open(names)
        except OSError as error:
            raise (missing if error.errno in _NOT_FOUND else error) from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise missing
        return open(descriptor, "rb", buffering=0)

    def shown_in(self, path: str) -> list[Shown]:
        """Return what a directory has to show, by its path, which ends with a slash or is empty.

        Raise `FileNotFoundError` if there is no such directory to show, or another `OSError`.
        """
        missing = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        asked = path.split("/")[:-1]
        if not self._shows(asked):
            raise missing
        real = os.path.relpath(os.path.realpath(os.path.join(self._root, *asked)), self._root)
        names = [] if real == "." else real.split("/")
        if not self._shows(names):
            raise missing
        try:
            place = self._enter(names, os.O_RDONLY)
        except OSError as error:
            raise (missing if error.errno in _NOT_FOUND else error) from error
        try:
            inside = ((name, os.lstat(name, dir_fd=place)) for name in sorted(os.listdir(place)))
            found = (self._shown(path, name, status) for name, status in inside)
            return [each for each in found if each is not None]
        finally:
            os.close(place)

    def _shown(self, path: str, name: str, status: os.stat_result) -> Shown | None:
        """Return what is known of a name, `None` where `open` and `shown_in` show nothing."""
        if not self._shows([name]):
            return None
        if stat.S_ISLNK(status.st_mode):
            place = os.path.realpath(os.path.join(self._root, path, name))
            names = os.path.relpath(place, self._root).split("/")
            try:
                status = os.lstat(place)
            except OSError:
                return None  # it leads to nothing
            if names != ["."] and not self._shows(names):
                return None
        known = stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)
        return Shown(name, status) if known else None

    def _shows(self, names: list[str]) -> bool:
        return not any(
            name in {"", ".", ".."} or "\0" in name or (name.startswith(".") and not self._hidden)
            for name in names
        )

    def _open(self, names: list[str]) -> int:
        place = self._enter(names[:-1])
        try:
            return os.open(names[-1], _FILE, dir_fd=place)
        finally:
            os.close(place)

    def _enter(self, names: list[str], access: int | None = None) -> int:
        """Open a directory without following links; with ``access`` for more than entering it."""
        last = _DIRECTORY if access is None else access | _AS_DIRECTORY
        place = os.open(self._root, _DIRECTORY if names else last)
        try:
            for position, name in enumerate(names, start=1):
                flags = last if position == len(names) else _DIRECTORY
                inner = os.open(name, flags, dir_fd=place)
                os.close(place)
                place = inner
        except BaseException:
            os.close(place)
            raise
        return place

"""A directory's files, opened so that nothing outside the directory is ever opened.

It knows no HTTP. A path is resolved first, links and all, and then opened one directory after the
other without following links. So links within the directory work, links that lead out of it are
not found, and neither is what was replaced by a link between the two steps.
"""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

# O_PATH, where there is one, also opens directories that may be entered but not listed.
_DIRECTORY = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: opening a FIFO does not wait for a writer.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

# How opening fails where there is no such file: nothing, a file or a link on the way, a loop of
# links, a name that is too long, a socket.
_NOT_FOUND = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO}


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

    def _shows(self, names: list[str]) -> bool:
        return not any(
            name in {"", ".", ".."} or "\0" in name or (name.startswith(".") and not self._hidden)
            for name in names
        )

    def _open(self, names: list[str]) -> int:
        place = os.open(self._root, _DIRECTORY)
        try:
            for name in names[:-1]:
                inner = os.open(name, _DIRECTORY, dir_fd=place)
                os.close(place)
                place = inner
            return os.open(names[-1], _FILE, dir_fd=place)
        finally:
            os.close(place)

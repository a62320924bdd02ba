"""Where an archive's bytes go: into a directory's files, into one file, or into a pipe."""

import os
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import Protocol

from tar_gateway.client.failures import DiskError, DownloadError
from tar_gateway.client.plan import Plan
from tar_gateway.client.spans import Span
from tar_gateway.client.state import State
from tar_gateway.client.tree import Tree, disk_error
from tar_gateway.client.walk import Sink, View
from tar_gateway.http.paths import shown


class Worker(Sink, Protocol):
    """A sink of one thread."""

    def finish(self, index: int) -> None:
        """Put a member that is complete into its place."""

    def close(self) -> None:
        """Close what is open."""


class Target(Protocol):
    """What all sinks of a download write into."""

    def worker(self) -> Worker:
        """Return a sink for one thread."""

    def tail(self, position: int) -> tuple[str, int] | None:
        """Return the part that holds the bytes before an offset of the archive, and where in it."""


class Directory:
    """Members as files of a directory; parts lie with the state until they are complete."""

    def __init__(self, tree: Tree, state: State, plan: Plan) -> None:
        self.tree = tree
        self.state = state
        self.plan = plan

    def worker(self) -> "Unpacker":
        """Return a sink for one thread."""
        return Unpacker(self)

    def tail(self, position: int) -> tuple[str, int] | None:
        """Return the part that holds the bytes before an offset of the archive, and where in it."""
        index = self.plan.index_at(position)
        if index == len(self.plan.members):
            return None
        member = self.plan.members[index]
        assert member.data_offset is not None
        there = min(position - member.data_offset, member.size)
        return (str(index), there) if there > 0 else None


class Unpacker:
    """Writes one member after another."""

    by_member = True

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._index = -1
        self._fd = -1

    def raw(self, position: int, data: View) -> None:
        """Members are taken one by one."""

    def data(self, index: int, position: int, data: View) -> None:
        """Write bytes of a member into its part."""
        try:
            if index != self._index:
                self._open(index)
            write_at(self._fd, data, position)
        except OSError as error:
            raise self._failed(index, error) from error

    def finish(self, index: int) -> None:
        """Give a member's part its date, and rename it."""
        directory, member = self._directory, self._directory.plan.members[index]
        try:
            if member.is_directory:
                directory.tree.make(member.name, member.mtime)
                return
            if index != self._index:
                self._open(index)
            if os.fstat(self._fd).st_size != member.size:
                raise DiskError(
                    f"the part of {shown(member.name)} in {directory.state.shown} was changed by "
                    "another program: remove that directory"
                )
            if member.mtime:
                os.utime(self._fd, (member.mtime, member.mtime))
            self.close()
            directory.tree.put(member.name, directory.state.fd, str(index))
        except OSError as error:
            raise self._failed(index, error) from error

    def close(self) -> None:
        """Close the part that is open."""
        if self._fd >= 0:
            fd, self._fd, self._index = self._fd, -1, -1
            os.close(fd)

    def _open(self, index: int) -> None:
        self.close()
        self._fd = self._directory.state.part(index)
        self._index = index

    def _failed(self, index: int, error: OSError) -> DiskError:
        name = self._directory.plan.members[index].name
        return disk_error(str(self._directory.tree.path / name), error)


class Archive:
    """The archive, or some runs of it one after the other, as one file: part 0 of the state."""

    by_member = False

    def __init__(self, state: State, runs: Sequence[Span], path: str) -> None:
        self._path = path
        self._starts = [start for start, _ in runs]
        lengths = (stop - start for start, stop in runs)
        self._places = list(accumulate(lengths, initial=0))
        try:
            self.fd = state.part(0)
        except OSError as error:
            raise disk_error(path, error) from error

    def worker(self) -> "Archive":
        """Return a sink for one thread."""
        return self

    def tail(self, position: int) -> tuple[str, int] | None:
        """Return the part that holds the bytes before an offset of the archive, and where in it."""
        return "0", self.place(position)

    def place(self, position: int) -> int:
        """Return where in the file an offset of the archive is."""
        run = max(0, bisect_left(self._starts, position) - 1)
        if run + 1 < len(self._starts) and self._starts[run + 1] == position:
            run += 1
        return self._places[run] + position - self._starts[run]

    def raw(self, position: int, data: View) -> None:
        """Write bytes of the archive."""
        try:
            write_at(self.fd, data, self.place(position))
        except OSError as error:
            raise disk_error(self._path, error) from error

    def data(self, index: int, position: int, data: View) -> None:
        """Bytes are written as they are in the archive."""

    def finish(self, index: int) -> None:
        """There is nothing to do for a member."""

    def close(self) -> None:
        """Leave the file open, until the download ends."""


class Pipe:
    """The archive into a descriptor, in order, and no byte twice."""

    by_member = False

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def worker(self) -> "Pipe":
        """Return a sink for one thread."""
        return self

    def tail(self, position: int) -> None:
        """Nothing of a pipe is kept."""

    def raw(self, position: int, data: View) -> None:
        """Write bytes of the archive."""
        self.write(data)

    def write(self, data: View) -> None:
        """Write bytes, all of them."""
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except BrokenPipeError as error:
            raise DownloadError("the program that reads the pipe has ended") from error
        except OSError as error:
            raise disk_error("the pipe", error) from error

    def data(self, index: int, position: int, data: View) -> None:
        """Bytes are written as they are in the archive."""

    def finish(self, index: int) -> None:
        """There is nothing to do for a member."""

    def close(self) -> None:
        """Leave the descriptor open: it is another's."""


def write_at(fd: int, data: View, position: int) -> None:
    """Write all of the data at a position. Raise `OSError`."""
    while data:
        count = os.pwrite(fd, data, position)
        data, position = data[count:], position + count

"""Files of unknown size, set aside until their sizes are known, within one limit.

The limit holds for a process, memory and disk together. It knows nothing of archives.
"""

import math
import tempfile
import threading
import time
from array import array
from typing import IO

from tar_gateway.errors import SourceError
from tar_gateway.sources.budget import Budget
from tar_gateway.sources.wire.asking import Read, Steps
from tar_gateway.sources.wire.response import Content

# Bytes of a file that are kept in memory before it is on the disk.
_IN_MEMORY = 64 * 1024

# Bytes of a member that are gathered in memory before they are put into its download's file. Only
# a member's last chunk is shorter, so that one offset for each tells where everything stands.
_CHUNK = 64 * 1024


class Spool:
    """The room for such files: ``limit`` bytes in all, shared by a process's downloads."""

    def __init__(self, limit: int) -> None:
        self._budget = Budget(limit)

    @property
    def used(self) -> int:
        """Bytes that are set aside now, in memory or on the disk."""
        return self._budget.used

    def file(self) -> "SpoolFile":
        """Return an empty file. Its holder closes it."""
        return SpoolFile(self._budget)


class SpoolFile:
    """One temporary file, for all that a download sets aside; on the disk where it is much.

    It holds one descriptor at the most. Many threads may use it at once.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._file: IO[bytes] | None = None
        self._closed = False
        self._lock = threading.Lock()
        self._free: list[int] = []  # where chunks stand that are not wanted any more
        self.size = 0
        """Bytes of the file, all of which count against the budget."""

    def hold(
        self, content: Content, deadline: float, limit: float = math.inf
    ) -> Steps["SpooledMember"]:
        """Read a content to its end and keep it; close the content in any case.

        ``deadline`` is a `time.monotonic` moment. A content of more than ``limit`` bytes is kept
        as far as shows that. Raise `SourceError`.
        """
        offsets = array("Q")
        chunk = bytearray()
        size = 0
        try:
            while size <= limit and (block := (yield Read(content, _CHUNK - len(chunk)))):
                if time.monotonic() > deadline:
                    raise SourceError("it was not there in time", status=504)
                self._take(len(block))
                chunk += block
                size += len(block)
                if len(chunk) == _CHUNK:
                    offsets.append(self._put(chunk))
                    chunk = bytearray()
            if chunk:
                offsets.append(self._put(chunk))
        except BaseException:
            self._budget.release(len(chunk))
            with self._lock:
                self._free.extend(offsets)  # whole ones: the last is put when all went well
            raise
        finally:
            content.close()
        return SpooledMember(self, offsets, size)

    def append(self, data: bytes) -> None:
        """Add bytes at the end. Raise `SourceError`."""
        self._take(len(data))
        try:
            self._put(data)
        except BaseException:
            self._budget.release(len(data))
            raise

    def read(self, offset: int, count: int) -> bytes:
        """Return so many bytes from an offset on. Raise `SourceError`."""
        with self._lock:
            if self._file is None:
                raise SourceError("what was set aside is closed")
            try:
                self._file.seek(offset)
                return self._file.read(count)
            except OSError as error:
                raise SourceError("what was set aside could not be read") from error

    def clear(self) -> None:
        """Forget all bytes. The file can be used on."""
        with self._lock:
            self._clear()

    def close(self) -> None:
        """Delete the file and release its room. May be called again.

        A thread that is about to add to it gets a `SourceError`.
        """
        with self._lock:
            self._closed = True
            self._clear()

    def _take(self, count: int) -> None:
        if not self._budget.take(count):
            raise SourceError(
                "its size is unknown, and it can not be set aside: the room for that is full, "
                f"{self._budget.limit} bytes (SPOOL_LIMIT)"
            )

    def _put(self, data: bytes | bytearray) -> int:
        """Write bytes whose room was taken. Return the offset at which they stand."""
        with self._lock:
            if self._closed:
                raise SourceError("what was set aside is closed")
            reused = len(data) == _CHUNK and bool(self._free)
            offset = self._free[-1] if reused else self.size
            try:
                if self._file is None:
                    self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115
                self._file.seek(offset)
                self._file.write(data)
                self._file.flush()
            except OSError as error:
                raise SourceError(
                    "its size is unknown, and it can not be set aside: the temporary disk is full",
                    cause=error.strerror,
                ) from error
            if reused:
                self._free.pop()
                self._budget.release(len(data))  # that place is counted already
            else:
                self.size += len(data)
        return offset

    def _clear(self) -> None:
        file, self._file = self._file, None
        size, self.size = self.size, 0
        self._free.clear()
        try:
            if file is not None:
                file.close()
        except OSError:
            pass  # what a full disk did not take is not wanted any more
        finally:
            self._budget.release(size)


class SpooledMember:
    """One member in its download's file: ``size`` bytes, in chunks at these offsets."""

    __slots__ = ("_file", "_offsets", "size")

    def __init__(self, file: SpoolFile, offsets: "array[int]", size: int) -> None:
        self._file = file
        self._offsets = offsets
        self.size = size

    def open(self, start: int, stop: int) -> Content:
        """Open a slice."""
        return _Slice(self, start, stop)

    def read(self, start: int, count: int) -> bytes:
        """Return bytes from ``start`` on, ``count`` at the most. Raise `SourceError`."""
        index, within = divmod(start, _CHUNK)
        return self._file.read(self._offsets[index] + within, min(count, _CHUNK - within))


class _Slice:
    def __init__(self, spooled: SpooledMember, start: int, stop: int) -> None:
        self._spooled = spooled
        self._position = start
        self._stop = stop

    def read(self, limit: int) -> bytes:
        count = min(limit, self._stop - self._position)
        if not count:
            return b""
        block = self._spooled.read(self._position, count)
        self._position += len(block)
        return block

    def close(self) -> None:
        """Leave the file to the plan, which owns it."""

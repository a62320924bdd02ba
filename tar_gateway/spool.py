"""Files of unknown size, set aside until their sizes are known, within one limit.

The limit holds for a process, memory and disk together. It knows nothing of archives.
"""

import math
import tempfile
import threading
import time
from typing import IO

from tar_gateway.budget import Budget
from tar_gateway.errors import SourceError
from tar_gateway.sources import Content

# Bytes that are kept in memory before there is a file on the disk.
_IN_MEMORY = 64 * 1024

_READ_SIZE = 64 * 1024


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

    def hold(self, content: Content, deadline: float, limit: float = math.inf) -> "Spooled":
        """Read a content to its end and keep it; closes the content in any case.

        ``deadline`` is a `time.monotonic` moment. A content of more than ``limit`` bytes is kept
        as far as shows that. Raises `SourceError`.
        """
        spooled = Spooled(self.file())
        try:
            while spooled.size <= limit and (block := content.read(_READ_SIZE)):
                if time.monotonic() > deadline:
                    raise SourceError("it was not there in time", status=504)
                spooled.add(block)
        except BaseException:
            spooled.close()
            raise
        finally:
            content.close()
        return spooled


class SpoolFile:
    """A temporary file whose bytes count against a budget; on the disk where they are many."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._file: IO[bytes] | None = None
        self._closed = False
        self._lock = threading.Lock()
        self.size = 0

    def append(self, data: bytes) -> int:
        """Add bytes at the end. Return the offset at which they stand. Raise `SourceError`."""
        with self._lock:
            if self._closed:
                raise SourceError("what was set aside is closed")
            if not self._budget.take(len(data)):
                raise SourceError(
                    f"its size is unknown, and the {self._budget.limit} bytes that may be set "
                    "aside for such files are in use"
                )
            offset = self.size
            self.size += len(data)
            try:
                if self._file is None:
                    self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115
                self._file.seek(offset)
                self._file.write(data)
                self._file.flush()
            except OSError as error:
                raise SourceError("its size is unknown, and the disk has no room for it") from error
        return offset

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
        """Delete the file and release its room. May be called again."""
        with self._lock:
            self._closed = True
            self._clear()

    def _clear(self) -> None:
        file, self._file = self._file, None
        size, self.size = self.size, 0
        try:
            if file is not None:
                file.close()
        except OSError:
            pass  # what a full disk did not take is not wanted any more
        finally:
            self._budget.release(size)


class Spooled:
    """One member that was set aside, ``size`` bytes long. Its holder closes it."""

    def __init__(self, file: SpoolFile) -> None:
        self._file = file
        self.size = 0

    def add(self, block: bytes) -> None:
        """Add bytes at the member's end. Raise `SourceError`."""
        self._file.append(block)
        self.size += len(block)

    def open(self, start: int, stop: int) -> Content:
        """Open a slice."""
        return _Slice(self._file, start, stop)

    def close(self) -> None:
        """Delete the file and release its room. May be called again."""
        self._file.close()


class _Slice:
    def __init__(self, file: SpoolFile, start: int, stop: int) -> None:
        self._file = file
        self._position = start
        self._stop = stop

    def read(self, limit: int) -> bytes:
        count = min(limit, self._stop - self._position)
        if not count:
            return b""
        block = self._file.read(self._position, count)
        self._position += len(block)
        return block

    def close(self) -> None:
        """Leave the file to the plan, which owns it."""

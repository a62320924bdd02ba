"""Members of untold size, set aside in temporary files until their sizes are known."""

import tempfile
import threading
import time
from typing import IO

from tar_gateway.errors import SourceError
from tar_gateway.sources import Content

_READ_SIZE = 64 * 1024


class Spool:
    """The room for such members, ``limit`` bytes in all, shared by a process's downloads."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self.used = 0

    def hold(self, content: Content, deadline: float) -> "Spooled":
        """Read a content to its end and keep it; closes the content in any case.

        ``deadline`` is a `time.monotonic` moment. Raises `SourceError`.
        """
        # Small answers never touch the disk.
        file = tempfile.SpooledTemporaryFile(max_size=_READ_SIZE)  # noqa: SIM115
        spooled = Spooled(self, file)
        try:
            while block := content.read(_READ_SIZE):
                if time.monotonic() > deadline:
                    raise SourceError("it was not there in time", status=504)
                self._take(len(block))
                spooled.size += len(block)
                file.write(block)
            file.flush()
        except OSError as error:
            spooled.close()
            raise SourceError("its size is not told, and the disk has no room for it") from error
        except BaseException:
            spooled.close()
            raise
        finally:
            content.close()
        return spooled

    def _take(self, count: int) -> None:
        with self._lock:
            if self.used + count > self._limit:
                raise SourceError(
                    f"its size is not told, and the {self._limit} bytes set aside "
                    "for such members are in use"
                )
            self.used += count

    def give_back(self, count: int) -> None:
        """Make room again."""
        with self._lock:
            self.used -= count


class Spooled:
    """One member that was set aside, ``size`` bytes long. Whoever holds it closes it."""

    def __init__(self, spool: Spool, file: IO[bytes]) -> None:
        self._spool = spool
        self._file = file
        self._closed = False
        self.size = 0

    def open(self, start: int, stop: int) -> Content:
        """Open a slice. One is read at a time."""
        return _Slice(self._file, start, stop)

    def close(self) -> None:
        """Delete the file and give its room back. May be called again."""
        if self._closed:
            return
        self._closed = True
        try:
            self._file.close()
        except OSError:
            pass  # what a full disk did not take is not wanted any more
        finally:
            self._spool.give_back(self.size)


class _Slice:
    def __init__(self, file: IO[bytes], start: int, stop: int) -> None:
        self._file = file
        self._position = start
        self._stop = stop

    def read(self, limit: int) -> bytes:
        try:
            self._file.seek(self._position)
            block = self._file.read(min(limit, self._stop - self._position))
        except OSError as error:
            raise SourceError("what was set aside can't be read back") from error
        self._position += len(block)
        return block

    def close(self) -> None:
        """Leave the file to the plan, which owns it."""

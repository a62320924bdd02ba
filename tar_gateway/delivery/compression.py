"""An archive compressed on its way: block by block, beside the fetching of the next.

What is compressed says nothing about its length beforehand, and is no part of another response:
releases of one library do not promise the same bytes.
"""

import threading
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from queue import SimpleQueue
from types import ModuleType
from typing import Any, Protocol

from tar_gateway.archive.format import Coding

# The fastest level: it is compressed for a client that waits.
_LEVEL = 1

# Bits of the window, and what makes zlib write gzip's header and trailer.
_GZIP = 15 + 16

# Blocks that are there before their turn: one is compressed while another is fetched.
_BLOCKS_AHEAD = 2


class Compressor(Protocol):
    """Compresses blocks, each so that its bytes can be read without the next."""

    def compress(self, block: bytes) -> bytes:
        """Return a block and what is left of those before, as far as it is not empty."""

    def end(self) -> bytes:
        """Return what ends the stream."""


class _Gzip:
    def __init__(self, library: ModuleType) -> None:
        self._library = library
        self._made: Any = library.compressobj(_LEVEL, library.DEFLATED, _GZIP)

    def compress(self, block: bytes) -> bytes:
        made: bytes = self._made.compress(block) + self._made.flush(self._library.Z_SYNC_FLUSH)
        return made

    def end(self) -> bytes:
        made: bytes = self._made.flush()
        return made


class _Zstd:
    def __init__(self, library: ModuleType) -> None:
        self._made: Any = library.ZstdCompressor(level=_LEVEL)

    def compress(self, block: bytes) -> bytes:
        made: bytes = self._made.compress(block, self._made.FLUSH_BLOCK)
        return made

    def end(self) -> bytes:
        made: bytes = self._made.flush()
        return made


def _first_of(*names: str) -> ModuleType | None:
    """Return the first of these libraries that is installed."""
    for name in names:
        with suppress(ImportError):
            return import_module(name)
    return None


_LIBRARIES: dict[Coding, ModuleType | None] = {
    "gzip": _first_of("isal.isal_zlib", "zlib"),
    "zstd": _first_of("compression.zstd", "backports.zstd"),
}

CODINGS = frozenset(name for name, library in _LIBRARIES.items() if library is not None)
"""The codings whose libraries are installed."""


def compressor(coding: Coding) -> Compressor:
    """Return a new compressor of one of `CODINGS`."""
    library = _LIBRARIES[coding]
    assert library is not None
    return _Gzip(library) if coding == "gzip" else _Zstd(library)


class Closable(Protocol):
    """A body: blocks that one thread reads, and any may close."""

    def __iter__(self) -> Iterator[bytes]:
        """Return itself."""

    def __next__(self) -> bytes:
        """Return the next block. Raise what breaks it off."""

    def close(self) -> None:
        """Release everything. May be called again."""


class Compressed:
    """The blocks of a body, compressed; it owns the body and closes it.

    With ``is_ahead`` a thread reads the body, so that it is fetched while a block is compressed.
    """

    def __init__(self, body: Closable, coding: Coding, *, is_ahead: bool) -> None:
        self._body = body
        self._blocks = _Ahead(body) if is_ahead else body
        self._compressor = compressor(coding)
        self._ended = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._ended:
            raise StopIteration
        for block in self._blocks:
            return self._compressor.compress(block)
        # Only a body that is whole ends so: what breaks it off is raised.
        self._ended = True
        return self._compressor.end()

    def close(self) -> None:
        """Close the body. May be called again, and from any thread."""
        self._blocks.close()


class _Ahead:
    """A body's blocks, read by a thread a little before their turn."""

    def __init__(self, body: Closable) -> None:
        self._body = body
        self._ready: SimpleQueue[bytes | BaseException] = SimpleQueue()
        self._room = threading.Semaphore(_BLOCKS_AHEAD)
        self._thread: threading.Thread | None = None
        self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._thread is None and not self._starts():
            return next(self._body)
        ready = self._ready.get()
        if isinstance(ready, BaseException):
            self._ready.put(ready)  # for whoever asks again
            raise ready
        self._room.release()
        return ready

    def _starts(self) -> bool:
        """Start the thread. Return whether that was possible."""
        thread = threading.Thread(target=self._read, name="tar-gateway-compress", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system has none left
            return False
        self._thread = thread
        return True

    def close(self) -> None:
        self._closed = True
        self._room.release()
        self._body.close()

    def _read(self) -> None:
        try:
            while self._room.acquire() and not self._closed:
                self._ready.put(next(self._body))
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that sends
            self._ready.put(error)

"""Members whose bytes are at hand: the source behind `TarStream`."""

import io
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import BinaryIO, TypeAlias, cast

from tar_gateway.errors import SourceError
from tar_gateway.sources import Caller, Stat
from tar_gateway.sources.wire.response import Content

Data: TypeAlias = bytes | Iterable[bytes] | BinaryIO
"""What a member's bytes come as."""

_READ_SIZE = 128 * 1024


def wrong_data(data: object) -> str | None:
    """Say why this is no data, as the end of a sentence; `None` where it may be."""
    if isinstance(data, io.TextIOBase):
        return 'is a file of text: open it with mode "rb"'
    known = callable(data) or hasattr(data, "read") or isinstance(data, Iterable)
    if known and not isinstance(data, str):
        return None
    kinds = "bytes, blocks of bytes, a binary file, or a function of an offset"
    return f"must be {kinds}, and not {type(data).__name__}"


class DataMembers:
    """A `Source` of members that hold their own data; ``members`` are by reference.

    Whatever has a ``close`` is closed once: when its member is done, or with the source.
    """

    def __init__(self, members: Mapping[str, tuple[Stat, object]]) -> None:
        self._members = dict(members)
        self._unclosed = {path: data for path, (_, data) in members.items()}

    def is_concurrent(self, caller: Caller) -> bool:
        """Say no: there is nothing to wait for."""
        return False

    def cache_key(self, caller: Caller) -> None:
        """Say nothing: what is at hand is never asked for again."""

    def stat(self, path: str, caller: Caller) -> Stat:
        """Return what was promised of a member."""
        return self._members[path][0]

    def open(self, path: str, start: int, stop: int, stat: Stat, caller: Caller) -> Content:
        """Begin a member at an offset. Raise `SourceError` when its data can't be opened."""
        _, data = self._members[path]
        # What comes up to the end is not cut there: more than was promised has to be seen.
        length = None if stop == stat.size else stop - start
        if not callable(data):
            return _DataContent(_blocks(data, start), length, partial(self._close_data, path))
        try:
            given = data(start)
        except Exception as error:
            raise SourceError(f"its data raised {type(error).__name__}") from error
        return _DataContent(_blocks(given, 0), length, partial(_close, given))

    def close(self) -> None:
        """Close the data of all members. May be called again."""
        for path in list(self._unclosed):
            self._close_data(path)

    def _close_data(self, path: str) -> None:
        _close(self._unclosed.pop(path, None))


class _DataContent:
    def __init__(
        self,
        blocks: Generator[memoryview, None, None],
        length: int | None,
        close: Callable[[], None],
    ) -> None:
        self._blocks = blocks
        self._left = length
        self._close = close
        self._closed = False
        self._rest = memoryview(b"")

    def read(self, limit: int) -> bytes:
        if self._left is not None:
            limit = min(limit, self._left)
        if not limit:
            return b""
        try:
            while not self._rest:
                block = next(self._blocks, None)
                if block is None:
                    return b""
                self._rest = block
        except Exception as error:  # an OSError, say, which servers would blame on the client
            raise SourceError(f"its data raised {type(error).__name__}") from error
        given, self._rest = self._rest[:limit], self._rest[limit:]
        if self._left is not None:
            self._left -= len(given)
        return bytes(given)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._blocks.close()
            self._close()


def _blocks(data: object, skip: int) -> Generator[memoryview, None, None]:
    """Return data block by block, from an offset on."""
    if isinstance(data, bytes | bytearray | memoryview):
        yield _view(data)[skip:]
    elif hasattr(data, "read"):
        yield from _file_blocks(cast(BinaryIO, data), skip)
    elif isinstance(data, Iterable) and not isinstance(data, str):
        for given in data:
            block = _view(given)
            yield block[skip:]
            skip = max(0, skip - len(block))
    else:
        raise TypeError(f"data must be bytes, a file or blocks, not {type(data).__name__}")


def _view(block: bytes | bytearray | memoryview) -> memoryview:
    return memoryview(block).cast("B")  # counts in bytes, whatever it is an array of


def _file_blocks(file: BinaryIO, skip: int) -> Iterator[memoryview]:
    if skip:
        try:
            file.seek(skip, io.SEEK_CUR)
        except (OSError, AttributeError, NotImplementedError):  # a pipe, say
            while skip and (block := file.read(min(skip, _READ_SIZE))):
                skip -= len(block)
    read = getattr(file, "read1", file.read)
    while block := read(_READ_SIZE):
        yield _view(block)


def _close(data: object) -> None:
    with suppress(Exception):  # the bytes are right all the same
        close = getattr(data, "close", None)
        if close is not None:
            close()

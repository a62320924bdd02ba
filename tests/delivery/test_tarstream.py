"""An archive of data at hand: right in every byte, of the size that was told, closed once."""

import asyncio
import io
import math
import os
import re
import tarfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tar_gateway import BrokenOff, Member, TarStream, Validator, tar_size
from tar_gateway.http.paths import BadName
from tests.support.wrapped import Counted, unpacked

DATA = bytes(range(256)) * 1200  # more than two reads
SIZE = len(DATA)


class NoSeek(io.RawIOBase):
    """A file that can only be read, as a socket's or a pipe's."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)
        self.closes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        return self._file.readinto(buffer)

    def close(self) -> None:
        self.closes += not self.closed
        super().close()


class ReadsOnly:
    """The least that can be called a file."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def read(self, size: int) -> bytes:
        return self._file.read(size)


def dripping(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), 1000):
        yield b""
        yield data[start : start + 1000]


def pipe(data: bytes):
    """The reading end of a real pipe, which cannot seek."""
    reading, writing = os.pipe()

    def write() -> None:
        try:
            with open(writing, "wb") as file:
                file.write(data)
        except BrokenPipeError:
            pass  # the reader has had enough

    threading.Thread(target=write).start()
    return open(reading, "rb")


def moved(data: bytes) -> io.BytesIO:
    """A file that stands behind what is not to be sent."""
    file = io.BytesIO(b"before" + data)
    file.seek(6)
    return file


KINDS: dict[str, Callable[[bytes], object]] = {
    "bytes": lambda data: data,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "memoryview of larger items": lambda data: memoryview(data).cast("I"),
    "list of blocks": lambda data: [data[:7], b"", data[7:]],
    "tuple of a bytearray and a memoryview": lambda data: (
        bytearray(data[:7]),
        memoryview(data)[7:],
    ),
    "list of views of larger items": lambda data: [memoryview(data).cast("I")],
    "generator": dripping,
    "file in memory": io.BytesIO,
    "file that stands behind its start": moved,
    "buffered file without seek": lambda data: io.BufferedReader(NoSeek(data)),
    "raw file without seek": NoSeek,
    "pipe": pipe,
    "object that reads": ReadsOnly,
    "bytes at an offset": lambda data: lambda offset: data[offset:],
    "blocks at an offset": lambda data: lambda offset: dripping(data[offset:]),
    "a file at an offset": lambda data: lambda offset: io.BytesIO(data[offset:]),
}


def read(stream: TarStream) -> bytes:
    with closing(stream):
        return b"".join(stream)


def of(data: object, size: int = SIZE, **slice_: int) -> TarStream:
    """Give a stream whose second member is of this data."""
    return TarStream(
        [("first", 5, 0, b"first"), ("it", size, 0, data), ("z", 1, 0, b"z")], **slice_
    )


WHOLE = read(of(DATA))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_data_makes_the_same_archive(kind):
    assert read(of(KINDS[kind](DATA))) == WHOLE


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("start", "stop"), [(1, 2), (1535, 1537), (1536, 1544), (3000, 200_000), (140_001, None)]
)
def test_every_kind_of_data_makes_the_same_slice(kind, start, stop):
    stream = of(KINDS[kind](DATA), start=start, stop=stop)
    size, given = stream.size, read(stream)
    assert given == WHOLE[start:stop]
    assert size == len(given)


def test_an_archive_holds_what_it_was_given_in_order():
    members = [Member("b/ü.txt", 3, 1_600_000_000, b"abc"), ("a", 0, 0, b""), ("n", 0, 0, None)]
    archive = read(TarStream(members))
    assert list(unpacked(archive).items()) == [("b/ü.txt", b"abc"), ("a", b""), ("n", b"")]


def test_no_member_makes_an_empty_archive():
    stream = TarStream([])
    assert (stream.size, read(stream)) == (10240, bytes(10240))


def test_members_may_come_from_a_generator():
    assert unpacked(read(TarStream((name, 1, 0, b"x") for name in "ab"))) == {"a": b"x", "b": b"x"}


def dates(*given: object) -> list[float]:
    archive = read(TarStream([(str(i), 0, date, b"") for i, date in enumerate(given)]))
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return [member.mtime for member in opened]


MOMENT = datetime(2020, 9, 13, 12, 26, 40)


@pytest.mark.parametrize(
    "date",
    [
        1_600_000_000,
        1_600_000_000.9,
        MOMENT,
        MOMENT.replace(microsecond=999_999),
        MOMENT.replace(tzinfo=UTC),
        (MOMENT + timedelta(hours=5, minutes=30)).replace(
            tzinfo=timezone(timedelta(hours=5, minutes=30))
        ),
    ],
    ids=str,
)
def test_a_date_is_seconds_or_a_datetime_that_without_a_zone_is_utc(date):
    assert dates(date) == [1_600_000_000]


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_a_date_without_a_zone_does_not_depend_on_the_machines(zone, monkeypatch):
    monkeypatch.setenv("TZ", zone)
    assert dates(MOMENT) == [1_600_000_000]


@pytest.mark.parametrize("date", [-1, -0.5, -1e12, datetime(1960, 1, 1), 0, 0.9])
def test_a_date_before_1970_is_written_as_1970(date):
    assert dates(date) == [0]
    assert tar_size([("a", 5, date)]) == TarStream([("a", 5, date, b"12345")]).size


def test_a_members_date_may_be_a_float_as_the_file_system_tells_it(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    os.utime(path, ns=(0, 1_600_000_000_987_654_321))
    told = path.stat()
    member = Member("a", told.st_size, told.st_mtime, b"12345")
    with tarfile.open(fileobj=io.BytesIO(read(TarStream([member])))) as opened:
        assert [(each.mtime, each.pax_headers) for each in opened] == [(1_600_000_000, {})]


def test_a_bad_name_is_named_among_many():
    members = [(str(i), 0, 0, b"") for i in range(9)]
    with pytest.raises(BadName, match=re.escape("the member 'a\\b' contains a backslash")):
        TarStream([*members, ("a\\b", 0, 0, b"")])


def test_dates_beyond_what_ustar_holds_are_kept():
    assert dates(8**11, 8**12) == [8**11, 8**12]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/a",
        "../a",
        "a/../b",
        "./a",
        "a//b",
        "a/",
        "a\\b",
        "C:/a",
        "a\0",
        "a\n",
        "\udc80",
        "%2e.",
    ],
)
def test_a_name_that_no_archive_may_hold_is_refused(name):
    with pytest.raises(ValueError, match=r"."):
        TarStream([(name, 1, 0, b"x")])


@pytest.mark.parametrize("names", [("a", "a"), ("a", "a/b"), ("a/b", "a")])
def test_names_that_stand_in_each_others_way_are_refused(names):
    with pytest.raises(ValueError, match="a"):
        TarStream([(name, 1, 0, b"x") for name in names])


@pytest.mark.parametrize(
    ("size", "date"),
    [(-1, 0), (1, math.nan), (1, math.inf), (1, -math.inf)],
)
def test_a_size_or_date_that_can_not_be_is_refused(size, date):
    with pytest.raises(ValueError, match=r"."):
        TarStream([("a", size, date, b"x")])


@pytest.mark.parametrize(
    ("start", "stop"), [(-1, 5), (5, 4), (0, 10241), (10241, None), (0, -1), (10241, 10241)]
)
def test_a_slice_outside_the_archive_is_refused(start, stop):
    with pytest.raises(ValueError, match="outside"):
        TarStream([], start=start, stop=stop)


def broken_off(stream: TarStream) -> bytes:
    """Read a stream that has to break, and give what came before."""
    received: list[bytes] = []
    with closing(stream), pytest.raises(BrokenOff) as raised:
        received.extend(stream)
    assert not isinstance(raised.value, OSError | StopIteration)
    return b"".join(received)


LIARS = [kind for kind in KINDS if "larger items" not in kind]


@pytest.mark.parametrize("given", [0, 1, SIZE - 1, SIZE + 1, 2 * SIZE])
@pytest.mark.parametrize("kind", LIARS)
def test_data_that_is_longer_or_shorter_than_promised_breaks_the_stream(kind, given):
    received = broken_off(of(KINDS[kind]((DATA * 2)[:given])))
    assert WHOLE[:1536].startswith(received[:1536])
    assert len(received) <= 1536 + SIZE


@pytest.mark.parametrize("kind", LIARS)
def test_data_of_a_member_that_was_promised_to_be_empty_breaks_the_stream(kind):
    assert broken_off(of(KINDS[kind](b"x"), size=0)) == b""


@pytest.mark.parametrize("kind", LIARS)
def test_a_member_that_is_empty_may_be_of_any_kind(kind):
    assert unpacked(read(of(KINDS[kind](b""), size=0)))["it"] == b""


@pytest.mark.parametrize("start", [0, 3000])
@pytest.mark.parametrize(
    "data",
    [None, ["text"], [5], {}],
    ids=["None", "strs", "ints", "dict"],
)
def test_data_of_no_known_kind_breaks_the_stream(data, start):
    received = broken_off(of(data, start=start))
    assert WHOLE[start:].startswith(received)


@pytest.mark.parametrize("data", [5, "text", object(), io.StringIO("text")])
def test_data_of_no_known_kind_is_refused_with_the_members_name(data):
    with pytest.raises(ValueError, match=r"^the data of 'it' (must be|is a file of text)"):
        of(data)


@pytest.mark.parametrize("date", ["today", None, math.nan, (2026, 1, 1)])
def test_a_date_of_no_known_kind_is_refused_with_the_members_name(date):
    with pytest.raises(ValueError, match=r"^the date of 'it' is .* datetime$"):
        TarStream([("it", 1, date, b"a")])


def test_a_validator_of_no_known_kind_is_refused_with_the_members_name():
    with pytest.raises(TypeError, match=r"^the validator of 'it' must be such as Validator"):
        TarStream([Member("it", 1, 0, b"a", validator="v1")])


# --- for other frameworks -----------------------------------------------------------------------


def answered(stream, method="GET", **environ):
    """Return the status, the headers and the body of a stream's response."""
    said = []
    request = {"REQUEST_METHOD": method, **environ}
    blocks = stream.respond(request, lambda *given: said.append(given), filename="x.tar")
    body = b"".join(blocks)
    ((status, headers),) = said
    return int(status[:3]), dict(headers), body


def proved():
    tag = Validator.etag("1", strong=True)
    return TarStream([Member("it", 5, 1_600_000_000, b"bytes", validator=tag)])


def test_a_stream_answers_a_request_whole_in_part_or_not_at_all():
    whole = read(proved())
    status, headers, body = answered(proved())
    assert (status, body, headers["Content-Length"]) == (200, whole, str(len(whole)))
    tag = headers["ETag"]
    ranged = {"HTTP_RANGE": "bytes=510-520", "HTTP_IF_RANGE": tag}
    status, headers, body = answered(proved(), **ranged)
    assert (status, body) == (206, whole[510:521])
    assert headers["Content-Range"] == f"bytes 510-520/{len(whole)}"
    assert answered(proved(), **{**ranged, "HTTP_IF_RANGE": '"another"'})[::2] == (200, whole)
    assert answered(proved(), HTTP_IF_NONE_MATCH=tag)[::2] == (304, b"")
    assert answered(proved(), HTTP_IF_MATCH='"another"')[::2] == (412, b"")
    assert answered(proved(), HTTP_RANGE="bytes=99999-")[::2] == (416, b"")
    assert answered(proved(), "HEAD")[::2] == (200, b"")


def test_a_stream_without_validators_takes_no_ranges():
    status, headers, _ = answered(of(b"x" * 307_200), HTTP_RANGE="bytes=0-9")
    assert (status, headers["Accept-Ranges"]) == (200, "none")


def test_a_stream_is_iterated_by_async_for_a_block_at_a_time():
    taken = []

    def blocks():
        for number in range(20):
            taken.append((number, threading.current_thread().name))
            yield bytes([number]) * 100_000

    async def main():
        received, ahead = [], []
        async for block in TarStream([("it", 2_000_000, 0, blocks())]):
            received.append(block)
            ahead.append(len(taken) - sum(map(len, received)) // 100_000)
        return b"".join(received), max(ahead)

    archive, ahead = asyncio.run(main())
    assert len(unpacked(archive)["it"]) == 2_000_000
    assert ahead <= 2
    assert len({name for _, name in taken}) == 1  # one thread for all of them


def test_a_stream_whose_async_reader_is_cancelled_closes_its_data():
    data = Counted([b"x" * 100_000] * 20)

    async def main():
        async for _ in TarStream([("it", 2_000_000, 0, data)]):
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert data.closes == 1


class Fails:
    """A file that is all errors."""

    def __init__(self, error: BaseException, good: bytes = b"") -> None:
        self._error = error
        self._good = good
        self.closes = 0

    def read(self, size: int) -> bytes:
        good, self._good = self._good, b""
        if not good:
            raise self._error
        return good

    def close(self) -> None:
        self.closes += 1
        raise self._error


def raising(error: BaseException, *good: bytes) -> Iterator[bytes]:
    yield from good
    raise error


def always(error: BaseException) -> Callable[[int], bytes]:
    def data(offset: int) -> bytes:
        raise error

    return data


ERRORS = [OSError("disk"), ConnectionResetError("peer"), ValueError("own"), StopIteration("own")]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    "make",
    [
        Fails,
        lambda error: Fails(error, b"good"),
        raising,
        lambda error: raising(error, b"good"),
        always,
        lambda error: lambda _: raising(error, b"good"),
    ],
    ids=["file", "file, late", "blocks", "blocks, late", "callable", "callable, late"],
)
def test_data_that_fails_breaks_the_stream_with_no_error_that_servers_blame_on_the_client(
    make, error
):
    received = broken_off(of(make(error)))
    assert len(received) <= 1536 + len(b"good")


def test_an_interrupt_is_not_taken_for_the_datas_failure():
    stream = of(raising(KeyboardInterrupt()))
    with closing(stream), pytest.raises(KeyboardInterrupt):
        b"".join(stream)


def blocks_of(data: bytes) -> Counted:
    return Counted([data[:7], data[7:]])


@pytest.mark.parametrize("blocks_read", [0, 1, 2, 3, 99])
def test_data_is_closed_once_however_far_the_stream_was_read(blocks_read):
    members = [blocks_of(DATA) for _ in range(3)]
    stream = TarStream((str(i), SIZE, 0, data) for i, data in enumerate(members))
    for _ in zip(range(blocks_read), stream, strict=False):
        pass
    stream.close()
    stream.close()
    assert [data.closes for data in members] == [1, 1, 1]


@pytest.mark.parametrize("promised", [0, SIZE - 1, SIZE + 1])
def test_data_is_closed_once_when_the_stream_breaks(promised):
    members = [blocks_of(DATA) for _ in range(3)]
    sizes = [SIZE, promised, SIZE]
    stream = TarStream((f"{i}", sizes[i], 0, data) for i, data in enumerate(members))
    broken_off(stream)
    assert [data.closes for data in members] == [1, 1, 1]


def test_data_outside_the_slice_is_closed_once_too():
    members = [blocks_of(DATA) for _ in range(3)]
    listed = [(str(i), SIZE, 0, data) for i, data in enumerate(members)]
    read(TarStream(listed, start=SIZE + 2000, stop=SIZE + 2010))
    assert [data.closes for data in members] == [1, 1, 1]


def test_data_is_closed_when_its_member_is_done():
    first, second = blocks_of(DATA), blocks_of(DATA)
    stream = TarStream([("1", SIZE, 0, first), ("2", SIZE, 0, second)])
    closes = [(first.closes, second.closes) for _ in stream]
    assert closes[0] == (0, 0)
    assert closes[-1] == (1, 1)
    assert (1, 0) in closes
    stream.close()


@pytest.mark.parametrize("data", ["blocks", "file"])
@pytest.mark.parametrize("blocks_read", [0, 4, 99])
def test_what_a_callable_gives_is_closed_once(data, blocks_read):
    given: list[Counted | NoSeek] = []

    def at(offset: int) -> Iterable[bytes]:
        given.append(blocks_of(DATA[offset:]) if data == "blocks" else NoSeek(DATA[offset:]))
        return given[-1]

    stream = of(at)
    for _ in zip(range(blocks_read), stream, strict=False):
        pass
    stream.close()
    assert [each.closes for each in given] == [1] * min(blocks_read, 1)


def test_a_file_on_the_disk_is_closed_with_the_stream(tmp_path: Path):
    place = tmp_path / "data"
    place.write_bytes(DATA)
    file = place.open("rb")
    assert read(of(file, start=2000)) == WHOLE[2000:]
    assert file.closed


def test_a_failure_to_close_does_not_undo_what_was_sent():
    sticking, last = Fails(OSError("it sticks"), DATA), blocks_of(b"last")
    sticking.read = io.BytesIO(DATA).read
    assert unpacked(read(TarStream([("a", SIZE, 0, sticking), ("b", 4, 0, last)])))["b"] == b"last"
    assert (sticking.closes, last.closes) == (1, 1)


def test_a_slice_of_a_callable_reads_nothing_before_it():
    offsets: list[int] = []

    def at(offset: int) -> bytes:
        offsets.append(offset)
        return DATA[offset:]

    assert read(of(at, start=1536 + 100_000)) == WHOLE[1536 + 100_000 :]
    assert offsets == [100_000]


NAMES = st.lists(
    st.text(
        st.characters(codec="utf-8", exclude_characters="/\\%:\x7f", min_codepoint=33), min_size=1
    )
    .map(lambda name: "n" + name.replace("\x85", "") * 9)
    .filter(str.isprintable),
    unique=True,
    max_size=6,
)


@given(NAMES, st.data())
def test_the_size_is_predicted_and_a_slice_is_that_part_of_the_whole(names, data):
    members = [
        (name, data.draw(st.binary(max_size=1100)), data.draw(st.sampled_from([0, 1, 8**11])))
        for name in names
    ]
    listed = [(name, len(content), date, content) for name, content, date in members]
    whole = TarStream(listed)
    size, archive = whole.size, read(whole)
    start = data.draw(st.integers(0, size))
    stop = data.draw(st.integers(start, size))
    assert unpacked(archive) == {name: content for name, content, _ in members}
    assert tar_size([(name, len(content), date) for name, content, date in members]) == size
    assert size == len(archive)
    part = TarStream(listed, start=start, stop=stop)
    assert (part.size, read(part)) == (stop - start, archive[start:stop])


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 8**11 - 1, 8**11, 2**60])
def test_tar_size_needs_no_data(size):
    assert tar_size([("a.txt", size)]) == TarStream([("a.txt", size, 0, None)]).size


@pytest.mark.parametrize(
    "members",
    [
        [("a", -1)],
        [("a", 1, math.inf)],
        [("../a", 1)],
        [("a", 1), ("a", 1)],
        [("a", 1), ("a/b", 1)],
    ],
)
def test_what_makes_no_archive_has_no_size(members):
    with pytest.raises(ValueError, match=r".") as refused:
        tar_size(members)
    with pytest.raises(ValueError, match=f"^{re.escape(str(refused.value))}$"):
        TarStream([(name, size, *(date or [0]), b"") for name, size, *date in members])

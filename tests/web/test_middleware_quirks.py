"""Applications with quirks of their own, as members: a right archive, or a visible error.

One table: each quirk is the response of one path, between two members that are ordinary.
"""

import gzip
import io
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass

import pytest
from webob import Request

from tar_gateway import BrokenOff, BundleMiddleware, Settings
from tests.support.wrapped import TAGGED, TEXT, Counted, Page, Probes, WSGIApp, unpacked

DATA = b"0123456789abcdef" * 20_000
LENGTH = ("Content-Length", str(len(DATA)))
FIRST, LAST = Page(b"first" * 400), Page(b"last" * 400)
URL = "/?bundle=first&bundle=quirk&bundle=last"

BEFORE = "an error that names it"
BREAKS = "a download that breaks off"


@dataclass(frozen=True)
class Quirk:
    """An application, and what its member becomes: bytes, or one of the two failures."""

    app: WSGIApp
    becomes: bytes | str
    reason: str = ""

    def __post_init__(self) -> None:
        QUIRKS[self.app.__name__.replace("_", " ")] = self


QUIRKS: dict[str, Quirk] = {}


def quirk(becomes: bytes | str, reason: str = "") -> Callable[[WSGIApp], Quirk]:
    return lambda app: Quirk(app, becomes, reason)


@quirk(DATA)
def knows_no_head(environ, start_response):
    if environ["REQUEST_METHOD"] != "GET":
        start_response("405 Method Not Allowed", [TEXT])
        return [b"no"]
    start_response("200 OK", [TEXT, TAGGED, LENGTH])
    return [DATA]


@quirk(DATA)
def tells_no_length(environ, start_response):
    start_response("200 OK", [TEXT])
    return (DATA[start : start + 999] for start in range(0, len(DATA), 999))


@quirk(DATA)
def tells_no_length_but_a_validator(environ, start_response):
    start_response("200 OK", [TEXT, TAGGED])
    return [DATA]


@quirk(DATA)
def writes(environ, start_response):
    write = start_response("200 OK", [TEXT])
    write(DATA[:100_000])
    write(b"")
    write(DATA[100_000:])
    return []


@quirk(DATA)
def writes_then_yields(environ, start_response):
    write = start_response("200 OK", [TEXT, TAGGED, LENGTH])
    write(DATA[:100_000])
    return [DATA[100_000:]]


@quirk(DATA)
def writes_while_it_yields(environ, start_response):
    write = start_response("200 OK", [TEXT, LENGTH])
    for start in range(0, len(DATA), 20_000):
        write(DATA[start : start + 10_000])
        yield DATA[start + 10_000 : start + 20_000]


@quirk(DATA)
def writes_last_of_all(environ, start_response):
    write = start_response("200 OK", [TEXT, TAGGED, LENGTH])
    yield DATA[:-7]
    write(DATA[-7:])


@quirk(DATA)
def starts_when_it_is_iterated(environ, start_response):
    yield b""
    start_response("200 OK", [TEXT, TAGGED, LENGTH])
    yield b""
    yield DATA


@quirk(b"")
def is_empty(environ, start_response):
    start_response("200 OK", [TEXT])
    yield b""


@quirk(b"")
def is_empty_and_has_no_block(environ, start_response):
    start_response("200 OK", [TEXT, TAGGED, ("Content-Length", "0")])
    yield from ()


@quirk(b"")
def has_neither_a_block_nor_a_length(environ, start_response):
    start_response("200 OK", [TEXT])
    yield from ()


@quirk(DATA)
def writes_all_once_it_is_iterated(environ, start_response):
    start_response("200 OK", [TEXT, LENGTH])(DATA)
    yield from ()


@quirk(DATA)
def drips(environ, start_response):
    start_response("200 OK", [TEXT, LENGTH])
    yield from (b"", *(DATA[at : at + 100] for at in range(0, len(DATA), 100)), b"")


@quirk(DATA)
def gives_a_tuple(environ, start_response):
    start_response("200 OK", [TEXT, TAGGED, LENGTH])
    return (DATA,)


@quirk(DATA)
def gives_what_only_knows_its_items(environ, start_response):
    class Items:
        def __getitem__(self, index: int) -> bytes:
            return [DATA[:5], DATA[5:]][index]

    start_response("200 OK", [TEXT, TAGGED, LENGTH])
    return Items()


@quirk(DATA)
def wraps_a_file_where_the_server_can(environ, start_response):
    start_response("200 OK", [TEXT, TAGGED, LENGTH])
    file = io.BytesIO(DATA)
    if "wsgi.file_wrapper" in environ:
        return environ["wsgi.file_wrapper"](file)
    return iter(lambda: file.read(8192), b"")


@quirk(DATA)
def writes_headers_in_small_letters(environ, start_response):
    headers = [TEXT, ("etag", '"1"'), ("content-length", LENGTH[1])]
    start_response("200 Whatever Else", headers)
    return [DATA]


@quirk(DATA)
def answers_ranges(environ, start_response):
    asked = environ.get("HTTP_RANGE")
    if asked is None:
        start_response("200 OK", [TEXT, TAGGED, LENGTH])
        return [DATA]
    start, stop = map(int, asked.removeprefix("bytes=").split("-"))
    told = ("Content-Range", f"bytes {start}-{stop}/{len(DATA)}")
    start_response("206 Partial Content", [TEXT, TAGGED, told])
    return [DATA[start : stop + 1]]


@quirk(DATA)
def changes_its_mind(environ, start_response):
    start_response("500 Oh", [TEXT])
    try:
        raise ValueError("an early one")
    except ValueError:
        start_response("200 OK", [TEXT, TAGGED, LENGTH], sys.exc_info())
    return [DATA]


@quirk(DATA)
def names_its_errors_by_keyword(environ, start_response):
    start_response("200 OK", [TEXT, TAGGED, LENGTH], exc_info=None)
    return [DATA]


class Sticking(Counted):
    def close(self) -> None:
        super().close()
        raise OSError("it sticks")


@quirk(DATA)
def fails_to_close(environ, start_response):
    start_response("200 OK", [TEXT, TAGGED, LENGTH])
    return Sticking([DATA])


@quirk(BEFORE, "the application failed")
def raises(environ, start_response):
    raise OSError("secret")


@quirk(BEFORE, "the application failed")
def raises_what_ends_iterations(environ, start_response):
    raise StopIteration("secret")


@quirk(BEFORE, "the application failed")
def raises_before_its_first_block(environ, start_response):
    start_response("200 OK", [TEXT])
    raise OSError("secret")
    yield b""


@quirk(BEFORE, "the application failed")
def raises_in_the_middle_of_an_answer_without_a_length(environ, start_response):
    start_response("200 OK", [TEXT])
    yield DATA[:1000]
    raise OSError("secret")


@quirk(BREAKS)
def raises_in_the_middle(environ, start_response):
    start_response("200 OK", [TEXT, TAGGED, LENGTH])
    yield DATA[:1000]
    raise OSError("secret")


@quirk(BREAKS)
def writes_and_raises(environ, start_response):
    start_response("200 OK", [TEXT, TAGGED, LENGTH])(DATA[:1000])
    if "HTTP_IF_MATCH" in environ:
        raise OSError("secret")
    return []


@quirk(BREAKS)
def fails_too_late_for_another_status(environ, start_response):
    start_response("200 OK", [TEXT, TAGGED, LENGTH])
    yield DATA[:1000]
    try:
        raise OSError("secret")
    except OSError:
        start_response("500 Oh", [TEXT], sys.exc_info())
    yield b"an error's page"


@quirk(BREAKS)
def is_shorter_than_it_says(environ, start_response):
    start_response("200 OK", [TEXT, TAGGED, LENGTH])
    return [DATA[:-1]]


@quirk(BREAKS)
def is_longer_than_it_says(environ, start_response):
    start_response("200 OK", [TEXT, TAGGED, LENGTH])
    return [DATA, b"!"]


@quirk(BEFORE, "ended too early")
def is_made_once_and_shorter_than_it_says(environ, start_response):
    start_response("200 OK", [TEXT, LENGTH])
    return [DATA[:-1]]


@quirk(BEFORE, "longer")
def is_made_once_and_longer_than_it_says(environ, start_response):
    start_response("200 OK", [TEXT, LENGTH])
    return [DATA, b"!"]


@quirk(BREAKS)
def ends_with_no_bytes_at_all(environ, start_response):
    start_response("200 OK", [TEXT, TAGGED, LENGTH])
    return [DATA[:-1], None]


@quirk(BEFORE, "the application failed")
def gives_text(environ, start_response):
    start_response("200 OK", [TEXT])
    return ["text"]


@quirk(BEFORE, "the application failed")
def writes_text(environ, start_response):
    start_response("200 OK", [TEXT])("text")
    return []


@quirk(BEFORE, "the application failed")
def gives_nothing(environ, start_response):
    start_response("200 OK", [TEXT])


@quirk(BEFORE, "gave no response")
def never_starts(environ, start_response):
    return [b"", b""]


@quirk(BEFORE, "gave no response")
def never_starts_and_has_no_block(environ, start_response):
    yield from ()


@quirk(BEFORE, "500 Internal Server Error")
def fails_without_a_block(environ, start_response):
    start_response("500 Oh", [("Content-Length", "0")])
    yield from ()


@quirk(BEFORE, "the application failed")
def starts_twice(environ, start_response):
    start_response("200 OK", [TEXT])
    start_response("200 OK", [TEXT])
    return [DATA]


@quirk(BEFORE, "the application failed")
def gives_no_status(environ, start_response):
    start_response("OK", [TEXT])
    return [DATA]


@quirk(BEFORE, "not a length")
def says_that_it_is_shorter_than_nothing(environ, start_response):
    start_response("200 OK", [TEXT, ("Content-Length", "-5")])
    return [DATA]


@quirk(BEFORE, "not a length")
def says_two_lengths(environ, start_response):
    start_response("200 OK", [TEXT, LENGTH, ("Content-Length", "5")])
    return [DATA]


@quirk(BEFORE, "encoded")
def compresses_whatever_is_asked(environ, start_response):
    start_response("200 OK", [TEXT, ("Content-Encoding", "gzip")])
    return [gzip.compress(DATA)]


@quirk(BEFORE, "500 Internal Server Error")
def makes_a_page_of_its_error(environ, start_response):
    start_response("200 OK", [TEXT])
    try:
        raise ValueError("secret")
    except ValueError:
        start_response("500 Oh", [TEXT], sys.exc_info())
    return [b"an error's page"]


GOOD = {name: q for name, q in QUIRKS.items() if isinstance(q.becomes, bytes)}
FAILING = {name: q for name, q in QUIRKS.items() if q.becomes == BEFORE}
BREAKING = {name: q for name, q in QUIRKS.items() if q.becomes == BREAKS}


@dataclass
class Asked:
    """A response of the middleware, and the application that gave the members."""

    app: Probes
    status: str
    headers: dict[str, str]
    blocks: Iterator[bytes]


@contextmanager
def ask(
    found: Quirk, *, method: str = "GET", multithread: bool = False, **headers: str
) -> Iterator[Asked]:
    """Ask for the three members, and leave at the end."""
    app = Probes({"/first": FIRST, "/quirk": found.app, "/last": LAST})
    request = Request.blank(URL, method=method, headers=headers)
    request.environ["wsgi.multithread"] = multithread
    with closing(BundleMiddleware(app, settings=Settings(retries=0))) as middleware:
        status, fields, blocks = request.call_application(middleware)
        try:
            yield Asked(app, status, dict(fields), iter(blocks))
        finally:
            close = getattr(blocks, "close", None)
            if close is not None:
                close()


@pytest.mark.parametrize("multithread", [False, True], ids=["one thread", "threads"])
@pytest.mark.parametrize("name", GOOD)
def test_a_member_is_right_in_every_byte(name, multithread):
    with ask(GOOD[name], multithread=multithread) as asked:
        archive = b"".join(asked.blocks)
    expected = {"first": FIRST.content, "quirk": GOOD[name].becomes, "last": LAST.content}
    assert unpacked(archive) == expected
    assert len(archive) == int(asked.headers["Content-Length"])
    assert asked.app.closes == {1}


@pytest.mark.parametrize("name", GOOD)
def test_asking_for_the_headers_closes_every_answer_once(name):
    with ask(GOOD[name], method="HEAD") as asked:
        assert asked.status == "200 OK"
        assert list(asked.blocks) == []
    assert asked.app.closes == {1}


@pytest.mark.parametrize("multithread", [False, True], ids=["one thread", "threads"])
@pytest.mark.parametrize("blocks_read", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("name", [*GOOD, *BREAKING])
def test_a_client_that_leaves_closes_every_answer_once(name, blocks_read, multithread):
    with ask(QUIRKS[name], multithread=multithread) as asked, suppress(BrokenOff):
        for _ in zip(range(blocks_read), asked.blocks, strict=False):
            pass
    assert asked.app.closes == {1}


@pytest.mark.parametrize("name", GOOD)
def test_a_range_is_that_part_of_the_archive(name):
    with ask(GOOD[name]) as whole:
        archive = b"".join(whole.blocks)
    with ask(GOOD[name], Range="bytes=5000-200000") as part:
        given = b"".join(part.blocks)
    ranges = whole.headers["Accept-Ranges"] == "bytes"
    assert part.status[:3] == ("206" if ranges else "200")
    assert given == (archive[5000:200001] if ranges else archive)
    assert part.app.closes == {1}


@pytest.mark.parametrize("multithread", [False, True], ids=["one thread", "threads"])
@pytest.mark.parametrize("name", FAILING)
def test_a_failure_before_the_first_byte_is_an_error_that_names_the_member(name, multithread):
    with ask(FAILING[name], multithread=multithread) as asked:
        body = b"".join(asked.blocks)
    assert asked.status == "502 Bad Gateway"
    assert b'"path": "quirk"' in body
    assert FAILING[name].reason.encode() in body
    assert b"secret" not in body
    assert asked.app.closes <= {1}


@pytest.mark.parametrize("multithread", [False, True], ids=["one thread", "threads"])
@pytest.mark.parametrize("name", BREAKING)
def test_a_failure_after_the_first_byte_breaks_the_download_off(name, multithread):
    received: list[bytes] = []
    with ask(BREAKING[name], multithread=multithread) as asked, pytest.raises(BrokenOff):
        received.extend(asked.blocks)
    assert 2560 < len(b"".join(received)) <= 2560 + 512 + len(DATA)
    assert asked.app.closes == {1}


@pytest.mark.parametrize(
    ("status", "told"), [("302 Found", 403), ("401 No", 401), ("403 No", 403), ("404 No", 404)]
)
def test_what_a_late_answer_without_a_block_says_is_heard(status, told):
    def refuses(environ, start_response):
        start_response(status, [("Location", "/login")])
        yield from ()

    with ask(Quirk(refuses, BEFORE)) as asked:
        assert b'"path": "quirk"' in b"".join(asked.blocks)
    assert int(asked.status[:3]) == told


@pytest.mark.parametrize("when", ["called", "iterated"])
def test_a_server_that_ends_its_worker_closes_every_answer_once(when):
    def ended(environ, start_response):
        start_response("200 OK", [TEXT])
        if when == "called":
            raise SystemExit(1)
        return iter(ends())

    def ends():
        yield b"x"
        raise SystemExit(1)

    app = Probes({"/first": FIRST, "/quirk": ended, "/last": LAST})
    with closing(BundleMiddleware(app)) as middleware, pytest.raises(SystemExit):
        Request.blank(URL).call_application(middleware)
    assert app.closes == {1}


def test_a_large_block_is_handed_on_in_parts_and_not_over_and_over():
    large = bytes(64 * 1024 * 1024)
    app = Probes({"/first": Page(large)})
    with closing(BundleMiddleware(app)) as middleware:
        _, fields, blocks = Request.blank("/?bundle=first").call_application(middleware)
        with closing(blocks):
            lengths = [len(block) for block in blocks]
    assert sum(lengths) == int(dict(fields)["Content-Length"])
    assert max(lengths) <= 1024 * 1024

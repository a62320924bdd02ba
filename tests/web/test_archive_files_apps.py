"""Wrapped applications that list files in every way that PEP 3333 allows them to answer."""

import sys
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
from webob import Request

from tar_gateway import BundleMiddleware
from tests.support.wrapped import TAGGED, TEXT, Counted, Page, Probes, unpacked, wrapped

LIST = ("X-Archive-Files", "tar")
LINES = b"- 5 /a a\n- 4 /b sub/b\n"
FILES = {"/a": Page(b"alpha"), "/b": Page(b"beta", ())}
CONTENTS = {"a": b"alpha", "sub/b": b"beta"}


def at_once(environ, start_response):
    start_response("200 OK", [TEXT, LIST])
    return [LINES[:3], b"", LINES[3:]]


def late(environ, start_response):
    start_response("200 OK", [TEXT, LIST])
    yield LINES[:3]
    yield LINES[3:]


def written(environ, start_response):
    write = start_response("200 OK", [TEXT, LIST])
    write(LINES[:3])
    write(LINES[3:])
    return []


def written_and_given(environ, start_response):
    start_response("200 OK", [TEXT, LIST])(LINES[:3])
    return [LINES[3:]]


def written_while_it_is_given(environ, start_response):
    write = start_response("200 OK", [TEXT, LIST])
    for place in range(0, len(LINES), 6):
        write(LINES[place : place + 4])
        yield LINES[place + 4 : place + 6]


def written_late_and_nothing_given(environ, start_response):
    write = start_response("200 OK", [TEXT, LIST])
    write(LINES[:3])
    yield b""
    write(LINES[3:])


def after_another_status(environ, start_response):
    start_response("500 Oh", [TEXT])
    try:
        raise ValueError("early")
    except ValueError:
        start_response("200 OK", [TEXT, LIST], sys.exc_info())
    return [LINES]


class OfAClass:
    def __init__(self, environ, start_response) -> None:
        self._start_response = start_response

    def __iter__(self) -> Iterator[bytes]:
        self._start_response("200 OK", [TEXT, LIST])
        yield LINES


WAYS = [
    at_once,
    late,
    written,
    written_and_given,
    written_while_it_is_given,
    written_late_and_nothing_given,
    after_another_status,
    OfAClass,
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_list_is_heard_however_it_is_given(way, method):
    app = Probes({"/list": way, **FILES})
    with wrapped(app) as client:
        response = client.request("/list", method=method)
    assert unpacked(response.body) == CONTENTS
    assert app.closes == {1}


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_head_asks_for_the_list_once_more_and_closes_both_answers(way):
    app = Probes({"/list": way, **FILES})
    with wrapped(app) as client:
        response = client.head("/list")
    assert response.headers["Content-Length"] == "10240"
    assert [environ["REQUEST_METHOD"] for environ in app.environs] == ["HEAD", "GET"]
    assert app.asked == ["/list", "/list"]
    assert app.closes == {1}


@pytest.mark.parametrize("blocks_read", [0, 1, 2])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_client_that_leaves_closes_every_answer_once(way, blocks_read):
    app = Probes({"/list": way, **FILES})
    with closing(BundleMiddleware(app)) as middleware:
        answer = middleware(Request.blank("/list").environ, lambda *_: None)
        for _ in zip(range(blocks_read), answer, strict=False):
            pass
        answer.close()
    assert app.closes == {1}


@pytest.mark.parametrize("way", [at_once, late, written_late_and_nothing_given])
@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=0-1"}])
def test_the_list_is_closed_before_its_files_are_asked_for(way, headers):
    lock = threading.Lock()

    class Holding(Counted):
        def close(self) -> None:
            super().close()
            lock.release()

    def app(environ, start_response):
        assert lock.acquire(blocking=False), "called while it answers"
        page = way if environ["PATH_INFO"] == "/list" else FILES[environ["PATH_INFO"]]
        return Holding(page(environ, start_response))

    with wrapped(app) as client:
        response = client.get("/list", headers=headers)
    assert unpacked(response.body) == CONTENTS
    assert not lock.locked()


def conditional(status: str, *headers: tuple[str, str]):
    """A list that its framework answers conditions and ranges on as if it were the response."""

    def app(environ, start_response):
        if {"HTTP_RANGE", "HTTP_IF_NONE_MATCH", "HTTP_IF_MODIFIED_SINCE"} & set(environ):
            start_response(status, [LIST, *headers])
            return [LINES[:4]] if status.startswith("206") else []
        return at_once(environ, start_response)

    return app


DATE = {"If-Modified-Since": "Sun, 13 Sep 2020 12:26:40 GMT"}


@pytest.mark.parametrize(
    ("way", "headers"),
    [
        (
            conditional("206 Partial", TEXT, ("Content-Range", "bytes 0-3/99")),
            {"Range": "bytes=0-3"},
        ),
        (conditional("416 No", TEXT), {"Range": "bytes=999999-"}),
        (conditional("304 Same", TAGGED), {"If-None-Match": '"1"'}),
        (conditional("304 Same"), DATE),
        (conditional("412 No", TEXT), DATE | {"Range": "bytes=0-3"}),
    ],
)
def test_what_a_list_answers_to_the_archives_conditions_is_asked_for_anew(way, headers):
    app = Probes({"/list": way, **FILES})
    with wrapped(app) as client:
        response = client.get("/list", headers=headers, status=200)
    assert unpacked(response.body) == CONTENTS
    assert app.asked[:2] == ["/list", "/list"]
    assert app.closes == {1}


@pytest.mark.parametrize("status", ["201 Made", "302 Found", "403 No", "404 None", "500 Oh"])
@pytest.mark.parametrize(
    ("method", "headers"),
    [("GET", {}), ("GET", {"Range": "bytes=0-"}), ("GET", DATE), ("HEAD", {}), ("POST", {})],
)
def test_an_error_is_passed_on_even_if_it_says_that_it_lists_files(status, method, headers):
    app = Probes({"/list": Page(b"no", (LIST,), status)})
    with wrapped(app) as client:
        response = client.request("/list", method=method, headers=headers, status="*")
    assert response.status == status
    assert response.headers["X-Archive-Files"] == "tar"
    assert app.asked == ["/list"]


def test_an_archives_tag_at_another_answer_is_the_applications_to_judge():
    tag = '"tar-' + "0" * 40 + '"'
    app = Probes({"/page": Page(b"a page")})
    with wrapped(app) as client:
        response = client.get("/page", headers={"If-None-Match": tag})
    assert response.body == b"a page"
    assert [environ.get("HTTP_IF_NONE_MATCH") for environ in app.environs] == [None, tag]
    assert app.closes == {1}


def test_an_application_that_lists_to_head_alone_is_a_bad_gateway():
    def app(environ, start_response):
        listing = [LIST] if environ["REQUEST_METHOD"] == "HEAD" else []
        start_response("200 OK", [TEXT, *listing])
        return []

    with wrapped(app) as client:
        response = client.head("/list", status=502)
    assert response.body == b""


def raises_when_called(environ, start_response):
    start_response("200 OK", [TEXT, LIST])
    raise OSError("own")


def raises_after_a_line(environ, start_response):
    start_response("200 OK", [TEXT, LIST])
    yield LINES[:9]
    raise OSError("own")


def raises_before_a_line(environ, start_response):
    start_response("200 OK", [TEXT, LIST])
    raise OSError("own")
    yield b""


def hands_raising_on(environ, start_response):
    start_response("200 OK", [TEXT, LIST])
    return raises_after_a_line(environ, lambda *_: None)


def answers_its_own_error(environ, start_response):
    start_response("200 OK", [TEXT, LIST])
    yield LINES[:9]
    try:
        raise OSError("own")
    except OSError:
        start_response("500 Oh", [TEXT], sys.exc_info())
    yield b"an error's page"


RAISING = [
    raises_when_called,
    raises_after_a_line,
    raises_before_a_line,
    hands_raising_on,
    answers_its_own_error,
]


@pytest.mark.parametrize("way", RAISING, ids=lambda way: way.__name__)
def test_what_is_raised_while_files_are_listed_is_the_applications_own(way):
    app, told = Probes({"/list": way}), []

    def read(middleware: BundleMiddleware) -> None:
        environ = Request.blank("/list").environ
        with closing(middleware(environ, lambda *said: told.append(said))) as answer:
            b"".join(answer)

    with closing(BundleMiddleware(app)) as middleware, pytest.raises(OSError, match="own"):
        read(middleware)
    assert told == []
    assert app.closes <= {1}


def test_an_error_before_anything_was_listed_may_still_be_answered():
    def app(environ, start_response):
        start_response("200 OK", [TEXT, LIST])
        try:
            raise OSError("own")
        except OSError:
            start_response("500 Oh", [TEXT], sys.exc_info())
        return [b"an error's page"]

    with wrapped(app) as client:
        assert client.get("/list", status=500).body == b"an error's page"


@pytest.mark.parametrize("headers", [{"Range": "bytes=0-1"}, {"If-None-Match": '"tar-x"'}])
@pytest.mark.parametrize("way", [raises_after_a_line, raises_before_a_line])
def test_a_list_that_fails_when_it_is_asked_for_anew_is_a_bad_gateway(way, headers, caplog):
    def app(environ, start_response):
        conditional = set(environ) & {"HTTP_RANGE", "HTTP_IF_NONE_MATCH"}
        return (at_once if conditional else way)(environ, start_response)

    counted = Probes({"/list": app})
    with wrapped(counted) as client:
        response = client.get("/list", headers=headers, status=502)
    assert response.content_type == "application/problem+json"
    assert "own" in caplog.text
    assert counted.closes == {1}


@pytest.mark.parametrize("give", ["written", "given"])
def test_a_list_without_end_is_refused_in_time(give):
    given = 0

    def app(environ, start_response):
        nonlocal given
        write = start_response("200 OK", [TEXT, LIST])
        for _ in range(1000):
            given += 1
            if give == "written":
                write(LINES)
            yield b"" if give == "written" else LINES

    with wrapped(app, max_body=200) as client:
        response = client.get("/list", status=413)
    assert "larger than 200 bytes" in response.json["detail"]
    assert given < 20


@pytest.mark.parametrize("value", ["tar", "zip"])
def test_all_lists_are_left_to_a_server_in_front_if_the_setting_says_so(value):
    def app(environ, start_response):
        start_response("200 OK", [TEXT, ("X-Archive-Files", value)])
        return [LINES]

    with wrapped(app, archive_files="no") as client:
        response = client.get("/", headers={"Range": "bytes=0-"})
    assert (response.headers["X-Archive-Files"], response.body) == (value, LINES)

"""How many downloads there may be at once, and the line that each leaves in the log."""

import json
import logging
import time
from contextlib import suppress

import pytest
from webtest import TestApp

from tar_gateway import BundleMiddleware, Gateway, Settings, Upstream
from tests.support.fakes import MemorySource
from tests.support.papers import block
from tests.support.scripted import File, Scripted, Wire, answer

URL = "/?bundle=a"
SIZE = 10240


@pytest.fixture
def upstream():
    with Scripted() as server:
        server.on("/a", File(b"content of a"))
        server.on("/none", answer(b"", status="404 Not Found"))
        yield server


@pytest.fixture
def application(upstream):
    gateway = Gateway(Upstream(upstream.url), Settings(max_downloads=2, retries=0))
    yield gateway
    gateway.close()


@pytest.fixture
def lines(caplog):
    """Give the lines that were logged, read back."""
    caplog.set_level(logging.INFO, "tar_gateway.download")
    return lambda: [
        json.loads(record.getMessage())
        for record in caplog.records
        if record.name == "tar_gateway.download"
    ]


def cut(wire):
    """Break off in the middle of the content, once it was asked for."""
    then = Wire.close if wire.request.method == "GET" else None
    answer(b"cut", 'ETag: "1"', length=9, then=then)(wire)


def call(application, url=URL, method="GET", **environ):
    """Give the status, the headers and the iterable of a response that was not iterated yet."""
    said = {}

    def start_response(status, headers, exc_info=None):
        said.update(status=int(status[:3]), headers=dict(headers))

    path, _, query = url.partition("?")
    request = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "REMOTE_ADDR": "192.0.2.1",
        **environ,
    }
    iterable = application(request, start_response)
    return said["status"], said["headers"], iterable


# --- limits -------------------------------------------------------------------------------------


def test_a_full_gateway_answers_503_and_says_when_to_come_back(application):
    held = [call(application)[2] for _ in range(2)]
    status, headers, _ = call(application)
    assert (status, headers["Retry-After"]) == (503, "5")
    for iterable in held:
        iterable.close()
    status, _, iterable = call(application)
    iterable.close()
    assert status == 200


def test_plain_files_count_as_downloads(application):
    held = [call(application, "/a")[2] for _ in range(2)]
    assert call(application)[0] == 503
    for iterable in held:
        iterable.close()


@pytest.mark.parametrize(
    ("url", "method", "environ"),
    [
        (URL, "HEAD", {}),
        (URL, "GET", {"HTTP_RANGE": "bytes=99999-"}),
        (URL, "GET", {"HTTP_IF_NONE_MATCH": "*"}),
        ("/?bundle=none", "GET", {}),
        ("/?bundle", "GET", {}),
        ("/a", "DELETE", {}),
    ],
)
def test_what_streams_nothing_holds_no_room(application, url, method, environ):
    for _ in range(3):
        status, _, iterable = call(application, url, method, **environ)
        assert status != 503
        getattr(iterable, "close", lambda: None)()


def test_one_client_gets_429_while_others_are_served(upstream):
    gateway = Gateway(Upstream(upstream.url), Settings(max_downloads_per_client=1))
    held = [call(gateway, REMOTE_ADDR=f"192.0.2.{number}")[2] for number in (1, 2)]
    for url in (URL, "/a"):
        status, headers, _ = call(gateway, url, REMOTE_ADDR="192.0.2.1")
        assert (status, headers["Retry-After"]) == (429, "5")
    for iterable in held:
        iterable.close()
    gateway.close()


def test_a_request_that_its_server_ends_makes_room():
    class Ending(MemorySource):
        def cache_key(self, caller):
            raise SystemExit

    middleware = BundleMiddleware(lambda *_: [], Ending({"a": b"1"}), Settings(max_downloads=1))
    for _ in range(2):
        with pytest.raises(SystemExit):
            call(middleware)
    middleware.close()


def test_a_wrapped_applications_own_answers_are_not_counted():
    def app(environ, start_response):
        start_response("200 OK", [])
        return [b"its own"]

    middleware = BundleMiddleware(app, MemorySource({"a": b"1"}), Settings(max_downloads=1))
    held = call(middleware)[2]
    assert call(middleware)[0] == 503
    assert call(middleware, "/page")[0] == 200
    held.close()
    middleware.close()


# --- the id -------------------------------------------------------------------------------------


def test_the_callers_id_is_taken_and_answered(application):
    _, headers, iterable = call(application, HTTP_X_REQUEST_ID="req-1.a:b")
    iterable.close()
    assert headers["X-Request-ID"] == "req-1.a:b"


@pytest.mark.parametrize("id_", ["", "a b", "é", 'a"b', "a,b", "a" * 129, "a\nb", "<a>"])
def test_an_id_that_could_be_taken_for_more_is_replaced(application, id_):
    _, headers, iterable = call(application, HTTP_X_REQUEST_ID=id_)
    iterable.close()
    assert headers["X-Request-ID"].isalnum()
    assert len(headers["X-Request-ID"]) == 32


def test_a_plain_file_has_one_id_and_it_is_ours(application, upstream):
    upstream.on(
        "/named",
        answer(b"x", "Content-Type: text/plain", "X-Request-ID: theirs", "Server-Timing: db"),
    )
    response = TestApp(application).get("/named", headers={"X-Request-ID": "mine"})
    assert response.headers.getall("X-Request-ID") == ["mine"]
    assert [value.partition(";")[0] for value in response.headers.getall("Server-Timing")] == [
        "upstream"
    ]


def test_a_refusal_has_an_id_too(application):
    _, headers, _ = call(application, "/?bundle", HTTP_X_REQUEST_ID="r1")
    assert headers["X-Request-ID"] == "r1"


def test_an_archive_says_what_its_time_went_into(application):
    _, headers, iterable = call(application)
    iterable.close()
    names = [part.partition(";")[0].strip() for part in headers["Server-Timing"].split(",")]
    assert names == ["plan", "open"]


# --- the line -----------------------------------------------------------------------------------


def test_a_complete_archive_leaves_one_line_that_says_all(application, lines):
    ranged = {"HTTP_X_REQUEST_ID": "r1", "HTTP_RANGE": "bytes=0-99"}
    status, _, iterable = call(application, **ranged)
    assert (status, len(b"".join(iterable))) == (206, 100)
    iterable.close()
    (line,) = lines()
    measured = {
        key: line.pop(key) for key in list(line) if key.endswith("seconds") or key == "time"
    }
    assert line == {
        "event": "bundle",
        "id": "r1",
        "outcome": "complete",
        "status": 206,
        "method": "GET",
        "path": "/",
        "query": "bundle=a",
        "members": 1,
        "range": f"bytes 0-99/{SIZE}",
        "bytes_sent": 100,
        "bytes_promised": 100,
        "requests": {"200": 1},
        "retries": 0,
        "resumes": 0,
    }
    assert set(measured) == {
        "time",
        "seconds",
        "plan_seconds",
        "first_byte_seconds",
        "upstream_seconds",
    }


def test_a_client_that_leaves_is_no_failure(application, lines):
    _, _, iterable = call(application)
    next(iter(iterable))
    iterable.close()
    (line,) = lines()
    assert (line["outcome"], line["bytes_sent"], line["bytes_promised"]) == ("client_left", 0, SIZE)


def test_a_member_that_breaks_is_named_with_its_reason(application, upstream, lines):
    upstream.on("/a", cut)
    _, _, iterable = call(application)
    with pytest.raises(Exception, match="member 'a' failed"):
        list(iterable)
    iterable.close()
    (line,) = lines()
    assert (line["outcome"], line["member"]) == ("upstream_failed", "a")
    assert line["reason"] == "the upstream broke the connection"
    shown = json.loads(block("output: log line"))
    assert list(line) == list(shown)
    assert line["reason"] == shown["reason"]


def test_a_refusal_names_the_first_member_at_fault(application, lines):
    call(application, "/?bundle=a&bundle=none")[2].close()
    (line,) = lines()
    told = (line["outcome"], line["status"], line["member"], line["reason"])
    assert told == ("refused", 404, "none", "it does not exist")


def test_a_refusal_holds_its_room_until_it_was_sent(upstream):
    gateway = Gateway(Upstream(upstream.url), Settings(max_downloads=1))
    _, _, refusal = call(gateway, "/?bundle=none")
    assert b"".join(refusal)
    assert call(gateway, "/a")[0] == 503
    refusal.close()
    _, _, iterable = call(gateway, "/a")
    iterable.close()
    gateway.close()


def test_a_refusal_tells_how_long_the_upstream_was_waited_for(application, upstream, lines):
    def late(wire):
        time.sleep(0.05)
        answer(b"", status="404 Not Found")(wire)

    upstream.on("/late", late)
    call(application, "/?bundle=late")[2].close()
    (line,) = lines()
    assert 0.05 <= line["upstream_seconds"] <= line["seconds"]


def test_a_retry_and_a_resume_are_counted(upstream, lines):
    content = b"x" * 300_000
    broken = [answer(content[:1000], 'ETag: "1"', length=len(content), then=Wire.close)]

    def script(wire):
        if wire.request.method == "GET" and broken:
            return broken.pop()(wire)
        return File(content, etag='"1"')(wire)

    upstream.on("/breaks", script)
    gateway = Gateway(Upstream(upstream.url), Settings(retry_pause=0))
    _, _, iterable = call(gateway, "/?bundle=breaks")
    list(iterable)
    iterable.close()
    gateway.close()
    (line,) = lines()
    assert (line["outcome"], line["retries"], line["resumes"]) == ("complete", 1, 1)


def test_a_signature_is_not_logged(application, lines):
    call(application, "/?bundle&signature=secret&expires=1")[2].close()
    (line,) = lines()
    assert line["query"] == "bundle&signature=...&expires=1"


def test_a_plain_file_leaves_no_line_unless_it_failed(application, upstream, lines):
    upstream.on("/cut", cut)
    for url in ("/a", "/cut"):
        _, _, iterable = call(application, url)
        with suppress(Exception):
            list(iterable)
        iterable.close()
    (line,) = lines()
    assert (line["event"], line["path"], line["outcome"]) == ("file", "/cut", "upstream_failed")


def test_a_wrapped_applications_bundle_leaves_the_same_line(lines):
    source = MemorySource({"a": b"1"})
    middleware = BundleMiddleware(lambda *_: [], source, Settings())
    _, _, iterable = call(middleware)
    list(iterable)
    iterable.close()
    middleware.close()
    assert [line["outcome"] for line in lines()] == ["complete"]


def test_a_defect_in_the_middle_is_ours_and_not_a_client_that_left(lines):
    source = MemorySource({"a": b"1"}, given={"a": [(RuntimeError("a defect"),)]})
    middleware = BundleMiddleware(lambda *_: [], source, Settings())
    _, _, iterable = call(middleware)
    with pytest.raises(RuntimeError, match="a defect"):
        list(iterable)
    iterable.close()
    middleware.close()
    assert [line["outcome"] for line in lines()] == ["failed"]

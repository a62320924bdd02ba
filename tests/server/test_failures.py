"""What is no request is refused without quoting it: secrets may be in the line at fault."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from gunicorn.http import errors as found

from tar_gateway.server.failures import refusal_of
from tests.support.servers import PATIENCE, Running, gateway, wait_until

SECRET = b"hunter2"
GET = b"GET / HTTP/1.1\r\nHost: x\r\n"
CHUNKED = b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Fault:
    """A request with a secret where it is malformed, and what is told of it."""

    name: str
    request: bytes
    status: int
    detail: str


FAULTS = [
    Fault(
        "a name that is not encoded in a signed link",
        "GET /?bundle=café.pdf&signature=hunter2 HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
        400,
        "the URL contains characters beyond ASCII: percent-encode them as UTF-8 (%C3%A9)",
    ),
    Fault(
        "a broken host in a signed link",
        b"GET http://[x/?bundle=a&signature=hunter2 HTTP/1.1\r\n\r\n",
        400,
        "the request line is malformed",
    ),
    Fault(
        "lines without a carriage return",
        b"GET /?bundle=a&signature=hunter2 HTTP/1.1\nHost: x\n\n",
        400,
        "the request line is malformed",
    ),
    Fault("a method", b"(hunter2) / HTTP/1.1\r\n\r\n", 400, "the method is malformed"),
    Fault(
        "a version of HTTP",
        b"GET / HTTP/hunter2\r\n\r\n",
        400,
        "the version of HTTP is not understood",
    ),
    Fault(
        "a header without its colon",
        GET + b"Authorization Bearer hunter2\r\n\r\n",
        400,
        "a header is malformed or contradicts another",
    ),
    Fault(
        "a header with a control character",
        GET + b"Authorization: Bearer hunter2\0\r\n\r\n",
        400,
        "a header is malformed or contradicts another",
    ),
    Fault(
        "a header's name",
        GET + b"Cookie: a=b; hunter2 : x\r\nhunter2 : x\r\n\r\n",
        400,
        "a header's name is malformed or not allowed",
    ),
    Fault(
        "a folded header",
        GET + b"Authorization: Bearer\r\n hunter2\r\n\r\n",
        400,
        "a header is folded over several lines",
    ),
    Fault(
        "a length",
        GET + b"Content-Length: hunter2\r\n\r\n",
        400,
        "a header is malformed or contradicts another",
    ),
    Fault(
        "a URL with a space",
        b"GET /?bundle=a hunter2 HTTP/1.1\r\nHost: x\r\n\r\n",
        400,
        "the URL contains a space: write it as %20",
    ),
    Fault(
        "a chunk's size",
        b"POST /body" + CHUNKED + b"password=hunter2\r\n\r\n",
        400,
        "a chunk's size is malformed",
    ),
    Fault(
        "a chunk's size, in a body that is read late",
        b"POST /body-late" + CHUNKED + b"password=hunter2\r\n\r\n",
        400,
        "a chunk's size is malformed",
    ),
    Fault(
        "a chunk's end",
        b"POST /body" + CHUNKED + b"2\r\nhunter2\r\n0\r\n\r\n",
        400,
        "a chunk is longer than its size",
    ),
    Fault(
        "a chunk's extension",
        b"POST /body" + CHUNKED + b"1;password=hunter2\1\r\na\r\n0\r\n\r\n",
        400,
        "a chunk's extension is malformed",
    ),
    Fault(
        "a trailer",
        b"POST /body" + CHUNKED + b"0\r\nAuthorization hunter2\r\n\r\n",
        400,
        "a header is malformed or contradicts another",
    ),
    Fault(
        "too long a link",
        b"GET /?signature=hunter2&bundle=" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        414,
        "the request line is too long",
    ),
    Fault(
        "an expectation",
        GET + b"Expect: hunter2\r\n\r\n",
        417,
        "only 100-continue can be expected",
    ),
    Fault(
        "too long a header",
        GET + b"Authorization: Bearer hunter2" + b"a" * 9000 + b"\r\n\r\n",
        431,
        "a header is too long, or there are too many",
    ),
    Fault(
        "a coding",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: hunter2\r\n\r\n0\r\n\r\n",
        501,
        "the body's coding is not known",
    ),
]


def told(at: Running, request: bytes) -> bytes:
    """Send a request, and receive until the server has ended the connection."""
    with socket.create_connection(("127.0.0.1", at.port), timeout=PATIENCE) as client:
        client.sendall(request)
        return b"".join(iter(lambda: client.recv(65536), b""))


def status_in(answer: bytes) -> int:
    return int(answer.removeprefix(b"HTTP/1.1 ")[:3])


@contextmanager
def serving(place: Path, *options: str) -> Iterator[Running]:
    with gateway(
        "http://127.0.0.1:9/", place, *options, application="tests.server.worker_app"
    ) as at:
        yield at


@pytest.fixture(scope="module")
def at(tmp_path_factory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("own")) as at:
        yield at


@pytest.fixture(scope="module")
def stock(tmp_path_factory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("stock"), "--worker-class", "gthread") as at:
        yield at


@pytest.fixture(params=FAULTS, ids=lambda fault: fault.name)
def fault(request) -> Fault:
    return request.param


def test_a_malformed_request_is_refused_in_words_that_hold_nothing_of_it(fault, at):
    head, _, body = told(at, fault.request).partition(b"\r\n\r\n")
    assert status_in(head) == fault.status
    assert b"\r\nContent-Type: application/problem+json\r\n" in head
    assert json.loads(body)["detail"] == fault.detail
    assert SECRET not in head + body


def test_a_malformed_request_has_the_status_that_gunicorn_gives_it(fault, stock):
    assert status_in(told(stock, fault.request)) == fault.status


def test_the_log_says_who_was_refused_and_why_and_holds_nothing_of_the_request(tmp_path):
    with serving(tmp_path) as at:
        for fault in FAULTS:
            told(at, fault.request)
        log = at.log.read_text()
    lines = [json.loads(line) for line in log.splitlines() if '"reason"' in line]
    assert [line | {"time": None} for line in lines] == [
        {
            "event": "request",
            "time": None,
            "client": "127.0.0.1",
            "status": fault.status,
            "reason": fault.detail,
        }
        for fault in FAULTS
    ]
    assert SECRET.decode() not in log


def test_gunicorns_own_logger_says_as_much(tmp_path):
    with serving(tmp_path, "--logger-class", "gunicorn.glogging.Logger") as at:
        told(at, FAULTS[0].request)
        assert f"Refused 127.0.0.1: 400, {FAULTS[0].detail}\n" in at.log.read_text()
        assert SECRET not in at.log.read_bytes()


def test_a_malformed_body_behind_the_beginning_of_an_answer_breaks_it_off_and_is_not_logged(at):
    request = b"POST /body-late?1" + CHUNKED + b"password=hunter2\r\n\r\n"
    assert told(at, request).endswith(b"\r\n\r\n1")
    assert SECRET not in at.log.read_bytes()


def test_a_malformed_body_that_nobody_read_is_not_answered_after_the_answer(at):
    answer = told(at, b"POST /quick" + CHUNKED + b"password=hunter2\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\nquick")
    assert SECRET not in at.log.read_bytes()


@pytest.mark.parametrize("path", ["fails", "fails-at-once"])
def test_a_failing_application_is_logged_without_the_query_that_opened_the_link(path, at):
    request = f"GET /{path}?signature=hunter2 HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    assert status_in(told(at, request)) == 500
    wait_until(lambda: f'"Error handling request GET /{path}"' in at.log.read_text(), "the line")
    assert SECRET not in at.log.read_bytes()


def test_all_that_gunicorn_finds_wrong_with_a_request_has_words_of_its_own():
    kinds = [kind for kind in vars(found).values() if isinstance(kind, type)]
    parsing = [kind for kind in kinds if issubclass(kind, found.ParseException)]
    refusals = {kind.__name__: refusal_of(kind.__new__(kind)) for kind in parsing}
    words = {name: refusal and refusal.detail for name, refusal in refusals.items()}
    assert [name for name, said in words.items() if said == words["ParseException"]] == [
        "ParseException"
    ]
    assert {name for name, said in words.items() if said is None} == {
        "InvalidResponseHeader",
        "InvalidResponseHeaderName",
    }


def test_what_an_application_raises_is_not_taken_for_a_malformed_request():
    assert refusal_of(ValueError("a defect")) is None
    assert refusal_of(OSError("no such file")) is None

"""A list of files whose giver knows no HEAD: HEAD is asked as GET, and nothing else changes."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from webtest import TestApp

from tar_gateway import BundleMiddleware, Gateway, Settings, Upstream
from tar_gateway.sources.wire.asking import Steps as Asking
from tar_gateway.sources.wire.asking import calling
from tar_gateway.sources.wire.response import Response
from tests.support.fakes import MemorySource, Steps, missing
from tests.support.scripted import Scripted, Wire, answer

LIST = b"- 5 /a.txt first.txt\n"
STATUSES = ["405 Method Not Allowed", "501 Not Implemented"]


def application(environ, start_response):
    """Knows GET only: a list, a page, and a file."""
    if environ["REQUEST_METHOD"] != "GET":
        start_response(environ["test.refusal"], [("Allow", "GET"), ("Content-Length", "0")])
        return []
    headers = [("X-Archive-Files", "tar")] if environ["PATH_INFO"] == "/list" else []
    body = {"/list": LIST, "/a.txt": b"alpha"}.get(environ["PATH_INFO"], b"a page")
    start_response("200 OK", [*headers, ("Content-Length", str(len(body)))])
    return [body]


def scripted(refusal: str):
    """Give the script of an upstream that does the same."""

    def script(wire: Wire) -> None:
        if wire.request.method != "GET":
            return answer(b"", "Allow: GET", status=refusal)(wire)
        path = wire.request.path
        body = {"/list": LIST, "/a.txt": b"alpha"}.get(path, b"a page")
        return answer(body, *(["X-Archive-Files: tar"] if path == "/list" else []))(wire)

    return script


@pytest.fixture(params=[(face, status) for face in ("app", "upstream") for status in STATUSES])
def client(request) -> Iterator[TestApp]:
    face, refusal = request.param
    if face == "app":
        with closing(BundleMiddleware(application)) as middleware:
            yield TestApp(middleware, extra_environ={"test.refusal": refusal})
        return
    script = scripted(refusal)
    with (
        Scripted({"/list": script, "/a.txt": script, "/page": script}) as upstream,
        closing(Gateway(Upstream(upstream.url))) as gateway,
    ):
        yield TestApp(gateway)


def test_head_of_a_list_tells_of_the_archive(client: TestApp):
    told, got = client.head("/list"), client.get("/list")
    assert told.status_int == 200
    assert told.headers["Content-Length"] == str(len(got.body)) == "10240"


def test_head_of_anything_else_stays_refused(client: TestApp):
    refused = client.head("/page", status="*")
    assert refused.status_int in {405, 501}
    assert refused.headers["Allow"] == "GET"


class FailsAfter(MemorySource):
    """A file server that gives these responses in turn, and then fails."""

    def __init__(self, *answers: Response) -> None:
        super().__init__()
        self.answers = list(answers)

    def forward_steps(self, *request: object) -> Asking[Response]:
        return calling(self.forward)

    def forward(self) -> Response:
        if not self.answers:
            raise missing()
        return self.answers.pop(0)

    def reach(self) -> None:
        pass

    def close(self) -> None:
        pass


PART = {"Range": "bytes=0-9"}
IS_LIST = [("X-Archive-Files", "tar")]


@pytest.mark.parametrize(
    ("method", "status", "headers"),
    [("HEAD", 405, []), ("HEAD", 501, []), ("GET", 206, IS_LIST), ("GET", 416, IS_LIST)],
)
def test_an_answer_is_closed_where_the_question_after_it_fails(method, status, headers):
    content = Steps()
    server = FailsAfter(Response(status, headers, content))
    with closing(Gateway(server, Settings(retries=0))) as gateway:
        TestApp(gateway).request("/a", method=method, headers=PART, status=404)
    assert content.closed

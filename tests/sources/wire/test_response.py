"""What a response's headers say of its length and version."""

import pytest

from tar_gateway.errors import SourceError
from tar_gateway.sources import Caller
from tar_gateway.sources.members import HttpMembers
from tar_gateway.sources.wire.response import Headers, Response
from tests.support.fakes import Steps


def test_an_etag_that_comes_twice_is_none():
    content = Steps()
    answer = Response(200, [("ETag", '"1"'), ("etag", '"2"')], content)
    assert answer.validator() is None


@pytest.mark.parametrize(
    ("headers", "length"),
    [
        ([], None),
        ([("Content-Length", " 12 ")], 12),
        ([("content-length", "12"), ("Content-Length", "12")], 12),
        ([("Content-Length", "9" * 19)], 10**19 - 1),
        ([("Content-Length", "12"), ("Transfer-Encoding", "chunked")], None),
    ],
)
def test_a_length_is_what_all_headers_agree_on(headers: Headers, length: int | None):
    assert Response(200, headers, Steps()).length() == length


def test_two_different_lengths_are_refused():
    answer = Response(200, [("Content-Length", "1"), ("Content-Length", "2")], Steps())
    with pytest.raises(SourceError, match="not a length"):
        answer.length()


@pytest.mark.parametrize("name", ["X-Accel-Redirect", "X-Sendfile", "x-archive-files"])
@pytest.mark.parametrize("status", [200, 206])
def test_an_answer_that_a_server_in_front_would_replace_is_no_member(name: str, status: int):
    content = Steps(b"/secret/place")
    answered = Response(status, [(name, "/secret/place"), ("Content-Length", "13")], content)
    members = HttpMembers(lambda *_: answered)
    with pytest.raises(SourceError, match="left to a server in front"):
        members.stat("a", Caller())
    assert content.closed

"""What a response's headers say of its length and version."""

import pytest

from tar_gateway.errors import SourceError
from tar_gateway.http.validators import Validator
from tar_gateway.sources import Caller
from tar_gateway.sources.members import HttpMembers
from tar_gateway.sources.wire.asking import calling
from tar_gateway.sources.wire.response import Headers, Response
from tests.support.fakes import Steps, waited


def test_an_etag_that_comes_twice_is_none():
    content = Steps()
    answer = Response(200, [("ETag", '"1"'), ("etag", '"2"')], content)
    assert answer.validator() is None


ARRIVED = 1600000000
AN_HOUR_BEFORE = "Sun, 13 Sep 2020 11:26:40 GMT"
SIXTY_SECONDS_BEFORE = "Sun, 13 Sep 2020 12:25:40 GMT"
SIXTY_ONE_SECONDS_BEFORE = "Sun, 13 Sep 2020 12:25:39 GMT"


@pytest.mark.parametrize(
    ("modified", "strong"),
    [
        (AN_HOUR_BEFORE, True),
        (SIXTY_ONE_SECONDS_BEFORE, True),
        (SIXTY_SECONDS_BEFORE, False),
        ("Sun, 13 Sep 2020 13:00:00 GMT", False),
    ],
)
def test_without_a_date_the_arrival_stands_for_it_with_a_margin(modified: str, strong: bool):
    response = Response(200, [("Last-Modified", modified)], Steps(), arrived=ARRIVED)
    assert response.validator() == Validator(modified, strong=strong)


@pytest.mark.parametrize("dates", [["yesterday"], [""], ["Fri, 31 Dec 9999 23:59:59 GMT"] * 2])
def test_a_date_that_is_none_is_not_replaced_by_the_arrival(dates: list[str]):
    headers = [("Last-Modified", AN_HOUR_BEFORE), *(("Date", date) for date in dates)]
    response = Response(200, headers, Steps(), arrived=ARRIVED)
    assert response.validator() == Validator(AN_HOUR_BEFORE, strong=False)


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
    members = HttpMembers(lambda *_: calling(lambda: answered))
    with pytest.raises(SourceError, match="left to a server in front"):
        waited(members.stat("a", Caller()))
    assert content.closed

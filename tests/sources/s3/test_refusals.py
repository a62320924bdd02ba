"""What a store's errors mean: a table of codes, and what a client and an operator are told."""

import io

import pytest

from tar_gateway.delivery.missing import is_missing
from tar_gateway.sources.s3.refusals import Complaint
from tar_gateway.sources.wire.response import Response
from tests.support.keys import error

DATE = "Wed, 25 Nov 2026 12:00:00 GMT"
NOW = 1_795_608_000.0


def response(status: int, *headers: tuple[str, str]) -> Response:
    return Response(status, [("Date", DATE), *headers], io.BytesIO(), arrived=NOW + 1200)


def fault(status: int, body: bytes, *headers: tuple[str, str]):
    told = response(status, *headers)
    return Complaint.read(body, told).fault(told)


@pytest.mark.parametrize(
    ("status", "code", "seen", "missing", "transient"),
    [
        (403, "AccessDenied", 403, True, False),
        (404, "NoSuchKey", 404, True, False),
        (400, "KeyTooLongError", 404, True, False),
        (404, "NoSuchBucket", 502, False, False),
        (403, "InvalidAccessKeyId", 502, False, False),
        (403, "SignatureDoesNotMatch", 502, False, False),
        (400, "ExpiredToken", 502, False, False),
        (400, "InvalidToken", 502, False, False),
        (403, "RequestTimeTooSkewed", 502, False, False),
        (403, "AccountProblem", 502, False, False),
        (403, "AllAccessDisabled", 502, False, False),
        (403, "InvalidObjectState", 502, False, False),
        (403, "SomethingNew", 502, False, False),
        (401, "AccessDenied", 502, False, False),
        (400, "AuthorizationHeaderMalformed", 502, False, False),
        (301, "PermanentRedirect", 502, False, False),
        (307, "TemporaryRedirect", 502, False, False),
        (405, "MethodNotAllowed", 502, False, False),
        (503, "SlowDown", 502, False, True),
        (503, "ServiceUnavailable", 502, False, True),
        (500, "InternalError", 502, False, True),
        (504, "GatewayTimeout", 504, False, True),
        (429, "TooManyRequests", 502, False, True),
    ],
)
def test_each_code_means_one_thing(status, code, seen, missing, transient):
    found = fault(status, error(code))
    assert (found.status, is_missing(found), found.transient) == (seen, missing, transient)


@pytest.mark.parametrize("body", [b"", b"<html>denied</html>", b"<Error></Error>", b"\xff\xfe"])
def test_a_403_that_does_not_say_that_the_file_is_denied_denies_it_to_no_one(body):
    found = fault(403, body)
    assert (found.status, found.of_service) == (502, True)
    assert fault(404, body).status == 404


def test_a_wrong_clock_is_told_as_one():
    found = fault(403, error("RequestTimeTooSkewed", ServerTime="2026-11-25T12:00:00Z"))
    assert found.for_operator.endswith(
        "RequestTimeTooSkewed: the gateway's clock is wrong: "
        "the store's time is 2026-11-25T12:00:00Z, which differs by 1200 seconds"
    )
    assert "clock" not in found.reason


def test_a_limit_of_a_stores_own_is_obeyed_as_any():
    slow = fault(503, error("SlowDown"), ("Retry-After", "7"))
    assert (slow.refused, slow.retry_after, slow.is_away) == (True, 7, True)


@pytest.mark.parametrize(
    ("status", "body", "headers", "region"),
    [
        (301, error("PermanentRedirect"), [("x-amz-bucket-region", "eu-west-1")], "eu-west-1"),
        (400, error("AuthorizationHeaderMalformed", Region="eu-west-1"), [], "eu-west-1"),
        (301, error("PermanentRedirect", Endpoint="evil.example"), [], None),
        (301, error("PermanentRedirect", Region="evil.example/"), [], None),
        (301, b"", [("x-amz-bucket-region", "a.evil.example")], None),
        (404, error("NoSuchKey"), [("x-amz-bucket-region", "eu-west-1")], None),
        (503, error("SlowDown"), [("x-amz-bucket-region", "eu-west-1")], None),
    ],
)
def test_another_region_is_believed_where_it_can_be_one(status, body, headers, region):
    assert Complaint.read(body, response(status, *headers)).region == region


def test_nothing_of_a_stores_message_is_told():
    for status, code in ((403, "SignatureDoesNotMatch"), (500, "InternalError"), (403, "What")):
        found = fault(status, error(code, AWSAccessKeyId="AKIASECRET", BucketName="bucket"))
        assert "AKIASECRET" not in found.for_operator
        assert "bucket and an account" not in found.for_operator
        assert code not in found.reason

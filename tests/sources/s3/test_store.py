"""A store over real sockets: regions, limits, expired credentials, clocks, errors to a HEAD."""

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from tar_gateway.errors import SourceError
from tar_gateway.settings import Settings
from tar_gateway.sources import Caller
from tar_gateway.sources.s3.composing import Scope
from tar_gateway.sources.s3.store import Store
from tar_gateway.sources.wire.asking import Pause
from tar_gateway.sources.wire.response import Response
from tar_gateway.sources.wire.tally import Place
from tests.support.fakes import waited
from tests.support.keys import error
from tests.support.scripted import Script, Scripted, answer, stall
from tests.support.stores import Keys

FIRST, SECOND = Keys("FIRST", "secret"), Keys("SECOND", "secret")


@pytest.fixture(autouse=True)
def credentials(monkeypatch):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in FIRST.environment.items():
        monkeypatch.setenv(name, value)


@contextmanager
def serving(*scripts: Script, **settings) -> Iterator[tuple[Scripted, Store]]:
    with Scripted({"/bucket/a": scripts}) as server:
        scope = Scope("bucket", "", server.url.rstrip("/"))
        with closing(Store(scope, Settings(**settings), Place("s3://bucket/"))) as store:
            yield server, store


def asked(store: Store, method: str = "GET", caller: Caller | None = None) -> Response:
    caller = caller or Caller()
    response = waited(store.ask(method, "/bucket/a", (), caller), caller)
    response.content.close()
    return response


def refusal(store: Store, method: str = "GET") -> SourceError:
    with pytest.raises(SourceError) as refused:
        asked(store, method)
    return refused.value


def regions(server: Scripted) -> list[str]:
    return [(seen.get("Authorization") or "").split("/")[2] for seen in server.requests]


def keys(server: Scripted) -> list[str]:
    told = [(seen.get("Authorization") or "") for seen in server.requests]
    return [text.partition("Credential=")[2].partition("/")[0] for text in told]


def refuses(status: str, code: str, *headers: str, **more: str) -> Script:
    return answer(error(code, **more), *headers, status=status)


MOVED = "x-amz-bucket-region: eu-west-1"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "moved",
    [
        refuses("301 Moved Permanently", "PermanentRedirect", MOVED),
        refuses("400 Bad Request", "AuthorizationHeaderMalformed", MOVED, Region="eu-west-1"),
    ],
    ids=["301", "AuthorizationHeaderMalformed"],
)
def test_a_bucket_of_another_region_is_asked_there_from_then_on(method, moved, caplog):
    with serving(moved, answer(b"abc")) as (server, store), caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert asked(store, method).status == 200
        assert regions(server) == ["us-east-1", "eu-west-1", "eu-west-1"]
        assert "is in the region eu-west-1: set S3_REGION" in caplog.text


def test_a_head_that_tells_no_region_is_followed_by_a_get_that_does():
    told = refuses("400 Bad Request", "AuthorizationHeaderMalformed", Region="eu-west-1")
    with serving(told, told, answer(b"abc")) as (server, store):
        assert asked(store, "HEAD").status == 200
        assert [seen.method for seen in server.requests] == ["HEAD", "GET", "GET", "HEAD"]
        assert regions(server) == ["us-east-1", "us-east-1", "eu-west-1", "eu-west-1"]


def test_a_store_that_sends_from_region_to_region_is_left():
    there = refuses("301 Moved Permanently", "PermanentRedirect", "x-amz-bucket-region: a")
    back = refuses("301 Moved Permanently", "PermanentRedirect", "x-amz-bucket-region: b")
    with serving(there, back, answer(b"abc")) as (server, store):
        assert "is S3_ENDPOINT that of the bucket?" in refusal(store).for_operator
        assert len(server.requests) == 2


def test_a_store_that_names_another_region_each_time_costs_no_memory_and_one_line(caplog):
    def moves(wire):
        region = f"x-amz-bucket-region: r{len(wire.server.requests)}"
        refuses("301 Moved Permanently", "PermanentRedirect", region)(wire)

    with serving(moves) as (_, store), caplog.at_level(logging.WARNING):
        for _ in range(5):
            assert refusal(store).status == 502
        assert len(store._hosts) == 1
        assert caplog.text.count("set S3_REGION") == 1


def test_no_redirect_is_followed():
    with Scripted() as elsewhere:
        away = answer(b"", f"Location: {elsewhere.url}", status="307 Temporary Redirect")
        with serving(away) as (server, store):
            assert refusal(store).status == 502
            assert (len(server.requests), elsewhere.requests) == (1, [])


def test_expired_credentials_are_looked_for_anew_once(monkeypatch):
    monkeypatch.setattr("tar_gateway.sources.s3.signing._AGAIN", 0)

    def expired(wire):
        for name, value in SECOND.environment.items():
            monkeypatch.setenv(name, value)
        refuses("400 Bad Request", "ExpiredToken")(wire)

    with serving(expired, answer(b"abc")) as (server, store):
        assert asked(store).status == 200
        assert keys(server) == ["FIRST", "SECOND"]


def test_credentials_that_stay_expired_are_told_as_such(monkeypatch):
    monkeypatch.setattr("tar_gateway.sources.s3.signing._AGAIN", 0)
    with serving(refuses("400 Bad Request", "ExpiredToken")) as (server, store):
        refused = refusal(store)
        assert (refused.status, refused.of_service) == (502, True)
        assert refused.for_operator.endswith(
            "ExpiredToken: the gateway's credentials: they have expired"
        )
        assert len(server.requests) == 2


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_of_the_three_meanings_of_a_403_one_is_a_denial(method):
    meanings = {"AccessDenied": 403, "SignatureDoesNotMatch": 502, "RequestTimeTooSkewed": 502}
    for code, status in meanings.items():
        with serving(refuses("403 Forbidden", code)) as (server, store):
            assert refusal(store, method).status == status
            assert [seen.method for seen in server.requests] == ["HEAD", "GET"][method == "GET" :]


def test_a_head_that_is_refused_where_get_is_not_says_nothing_of_the_file():
    def script(wire):
        status = "403 Forbidden" if wire.request.method == "HEAD" else "206 Partial Content"
        answer(b"a", status=status)(wire)

    with serving(script) as (_, store):
        assert refusal(store, "HEAD").status == 502


def test_a_store_that_wants_fewer_requests_gets_fewer():
    slow = refuses("503 Slow Down", "SlowDown")
    with serving(slow, answer(b"abc"), retry_pause=0.5) as (_, store):
        caller = Caller()
        refused = refusal(store)
        assert (refused.transient, refused.refused) == (True, True)
        question = next(store.ask("GET", "/bucket/a", (), caller))
        assert isinstance(question, Pause)
        assert 0.5 <= question.seconds <= 1.2
        assert asked(store).status == 200


def test_each_request_is_counted_by_its_status():
    caller = Caller()
    moved = refuses("301 Moved Permanently", "PermanentRedirect", MOVED)
    with serving(moved, answer(b"abc")) as (_, store):
        asked(store, "GET", caller)
    assert caller.tally.requests == {301: 1, 200: 1}


def test_an_endless_error_is_read_no_further_than_an_error_goes():
    never = threading.Event()
    endless = answer(b"<" * 20_000, status="403 Forbidden", length=10_000_000, then=stall(never))
    with serving(endless, read_timeout=20) as (_, store):
        before = time.monotonic()
        assert refusal(store).status == 502
        assert time.monotonic() - before < 10


def test_what_is_sent_is_what_was_composed_and_its_signature():
    environ = {"HTTP_X_AMZ_ACL": "public-read", "QUERY_STRING": "acl", "REMOTE_ADDR": "192.0.2.1"}
    caller = Caller((("Authorization", "Basic x"), ("Cookie", "y"), ("Via", "z")), environ)
    with serving(answer(b"abc")) as (server, store):
        asked(store, "GET", caller)
        (seen,) = server.requests
        assert {name.lower() for name, _ in seen.headers} == {
            *("host", "user-agent", "accept-encoding", "authorization"),
            *("x-amz-date", "x-amz-content-sha256"),
        }
        assert seen.all("Authorization")[0].startswith("AWS4-HMAC-SHA256 Credential=FIRST/")

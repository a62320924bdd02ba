"""A plan is remembered for the ranges of one download, and for nothing that it could make wrong."""

import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from types import MappingProxyType
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest
from webtest import TestApp

from tar_gateway import BundleMiddleware, Gateway, Settings, Upstream
from tar_gateway.sources.locations import Locations
from tar_gateway.sources.replicas import Replicas
from tests.support.files_upstream import MTIME, TEXT, Canned, File, FilesUpstream, gateway_to
from tests.support.scripted import PATIENCE, Script, Scripted, Wire, answer, chunked, wait_until
from tests.support.scripted import File as Served

URL = "/?bundle=a.txt&bundle=b.txt"
MINE = {"Cookie": "id=1"}
PART = {"Range": "bytes=512-514"}
SECOND = {"Range": "bytes=1536-1539"}


@pytest.fixture
def upstream() -> Iterator[FilesUpstream]:
    with FilesUpstream({"a.txt": b"alpha", "b.txt": b"beta"}) as running:
        yield running


@pytest.fixture
def app(upstream: FilesUpstream) -> Iterator[TestApp]:
    with gateway_to(upstream) as running:
        yield running


def asked(upstream: FilesUpstream) -> list[str]:
    """Give which members were asked about since the last time."""
    paths = [request.target[1:] for request in upstream.requests if request.method == "HEAD"]
    upstream.requests.clear()
    return sorted(paths)


BOTH = ["a.txt", "b.txt"]


def test_many_ranges_of_a_bundle_cost_the_upstream_one_survey(app, upstream):
    whole = app.get(URL).body
    assert asked(upstream) == BOTH
    for start in range(0, len(whole), 500):
        stop = min(start + 700, len(whole))
        part = app.get(URL, headers={"Range": f"bytes={start}-{stop - 1}"}, status=206)
        assert part.body == whole[start:stop]
        assert asked(upstream) == []


def test_a_first_range_is_enough_for_the_next(app, upstream):
    app.get(URL, headers=PART, status=206)
    assert asked(upstream) == BOTH
    app.get(URL, headers=SECOND, status=206)
    assert asked(upstream) == []


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"Cookie": "id=2"},
        {"Authorization": "Basic eDp5"},
        {**MINE, "Authorization": "Basic eDp5"},
    ],
)
def test_another_caller_is_another_survey(app, upstream, other):
    app.get(URL, headers=MINE | PART, status=206)
    asked(upstream)
    app.get(URL, headers=other | PART, status=206)
    assert asked(upstream) == BOTH


@pytest.mark.parametrize(
    ("url", "members"),
    [
        ("/?bundle=b.txt&bundle=a.txt", BOTH),
        ("/?bundle=a.txt", ["a.txt"]),
        ("/x/?bundle=a.txt&bundle=b.txt", ["x/a.txt", "x/b.txt"]),
    ],
)
def test_another_bundle_is_another_survey(app, upstream, url, members):
    upstream.files |= {"x/a.txt": b"alpha", "x/b.txt": b"beta"}
    app.get(URL, headers=PART, status=206)
    asked(upstream)
    app.get(url, headers=PART, status=206)
    assert asked(upstream) == members


def test_the_archives_own_name_is_the_requests(app, upstream):
    app.get(URL, headers=PART, status=206)
    named = app.get(URL + "&filename=mine.tar", headers=PART, status=206)
    assert "mine.tar" in named.headers["Content-Disposition"]


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", {}, 200),
        ("GET", {"Range": "pages=1-2"}, 200),
        ("GET", {"If-Range": '"another"'} | PART, 200),
        # The bundle may have become that version just now.
        ("GET", {"If-Match": '"another"'} | PART, 412),
        ("HEAD", {"If-Match": '"another"'}, 412),
    ],
)
def test_a_whole_archive_and_another_version_are_asked_anew(app, upstream, method, headers, status):
    app.get(URL)
    asked(upstream)
    app.request(URL, method=method, headers=headers, status=status)
    assert asked(upstream) == BOTH


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("HEAD", {}, 200),
        ("HEAD", PART, 200),
        ("HEAD", {"If-None-Match": "*"}, 304),
        ("GET", {"If-None-Match": "{etag}"}, 304),
        ("GET", {"If-None-Match": "{etag}"} | PART, 304),
        ("GET", {"Range": "bytes=99999-"}, 416),
        ("GET", {"Range": "bytes=0-511"}, 206),  # bytes of ours, and of no member
        ("GET", {"Range": "bytes=-1"}, 206),
    ],
)
def test_few_bytes_of_request_cost_no_question(app, upstream, method, headers, status):
    etag = app.get(URL).headers["ETag"]
    upstream.requests.clear()
    sent = {name: value.format(etag=etag) for name, value in headers.items()}
    app.request(URL, method=method, headers=sent, status=status)
    assert upstream.requests == []


@pytest.mark.parametrize("etag", ['W/"1"', None])
def test_what_has_no_strong_tag_is_remembered_for_its_headers_alone(app, upstream, etag):
    upstream.files["a.txt"] = File(b"alpha", mtime=None, etag=etag)
    first = app.head(URL)
    assert asked(upstream) == BOTH
    assert app.head(URL).headers["ETag"] == first.headers["ETag"]
    assert asked(upstream) == []
    app.get(URL, headers=PART, status=200)
    assert asked(upstream) == BOTH


def test_a_size_that_no_one_tells_is_not_read_again_for_head(upstream):
    reader = chunked(b"alpha")
    with Scripted({"/a": reader}) as server, closing(Gateway(Upstream(server.url))) as gateway:
        app = TestApp(gateway, lint=False)
        length = app.head("/?bundle=a").headers["Content-Length"]
        count = len(server.requests)
        assert app.head("/?bundle=a").headers["Content-Length"] == length
        assert len(server.requests) == count
        assert app.get("/?bundle=a", headers=PART, status=200).body[512:517] == b"alpha"


def test_it_is_forgotten_after_its_seconds(upstream, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("tar_gateway.sources.cache.time.monotonic", lambda: now[0])
    with gateway_to(upstream, plan_memory=3) as app:
        app.get(URL, headers=PART, status=206)
        now[0] += 2.9
        asked(upstream)
        app.get(URL, headers=PART, status=206)
        assert asked(upstream) == []
        now[0] += 0.2
        app.get(URL, headers=PART, status=206)
        assert asked(upstream) == BOTH


def test_nothing_is_remembered_for_no_seconds(upstream):
    with gateway_to(upstream, plan_memory=0) as app:
        for _ in range(2):
            app.get(URL, headers=PART, status=206)
            assert asked(upstream) == BOTH


def test_no_more_members_are_remembered_than_a_bundle_may_have(upstream):
    with gateway_to(upstream, max_members=2) as app:
        app.get("/?bundle=a.txt", headers=PART, status=206)
        app.get(URL, headers=PART, status=206)
        asked(upstream)
        app.get(URL, headers=PART, status=206)
        assert asked(upstream) == []
        app.get("/?bundle=a.txt", headers=PART, status=206)
        assert asked(upstream) == ["a.txt"]


def test_a_member_that_changed_meanwhile_is_planned_anew(app, upstream):
    etag = app.get(URL).headers["ETag"]
    upstream.files["a.txt"] = File(b"other", MTIME + 5)
    part = app.get(URL, headers=PART | {"If-Range": etag}, status=200)
    assert part.body[512:517] == b"other"
    assert part.headers["ETag"] != etag
    asked(upstream)
    again = app.get(URL, headers=PART | {"If-Range": part.headers["ETag"]}, status=206)
    assert again.body == b"oth"
    assert asked(upstream) == []  # the new plan is the one that is remembered


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_member_that_may_not_be_had_any_more_is_refused(app, upstream, status):
    app.get(URL)
    challenge = (("WWW-Authenticate", "Basic"),) if status == 401 else ()
    upstream.files["a.txt"] = Canned(status, challenge)
    refused = app.get(URL, headers=PART, status=status)
    assert [member["path"] for member in refused.json["members"]] == ["a.txt"]


def test_what_was_remembered_counts_no_more_once_a_member_was_refused(app, upstream):
    app.get(URL)
    was, upstream.files["b.txt"] = upstream.files["b.txt"], Canned(403)
    app.get(URL, status=403)
    app.get(URL, headers=PART, status=403)
    upstream.files["b.txt"] = was
    app.get(URL, headers=PART, status=206)


@pytest.mark.parametrize("status", [401, 403, 404, 503])
def test_a_refusal_is_not_remembered(app, upstream, status):
    upstream.files["b.txt"] = Canned(status)
    app.get(URL, headers=PART, status="4*" if status < 500 else "5*")
    upstream.files["b.txt"] = b"beta"
    app.get(URL, headers=PART, status=206)


def test_locations_and_their_replicas_are_remembered_for_each_caller(upstream):
    server = Upstream(upstream.url)
    with closing(Gateway(Locations({"/": Replicas([server, server])}))) as gateway:
        app = TestApp(gateway, lint=False)
        for headers, members in ((MINE, BOTH), (MINE, []), ({}, BOTH)):
            app.get(URL, headers=headers | PART, status=206)
            assert asked(upstream) == members


def test_an_authority_is_asked_each_time(upstream):
    with (
        Scripted({"/check": answer(b"yes")}) as authority,
        gateway_to(upstream, auth_request=authority.url + "check") as app,
    ):
        app.get(URL, headers=PART, status=206)
        authority.on("/check", answer(b"no", status="403 Forbidden"))
        app.get(URL, headers=PART, status=403)


def test_an_application_of_its_own_rules_is_asked_each_time():
    asked = []

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        asked.append(environ["PATH_INFO"])
        allowed = environ["REMOTE_ADDR"] == "10.0.0.1"
        start_response(
            "200 OK" if allowed else "403 Forbidden",
            [TEXT, ("ETag", '"1"'), ("Content-Length", "5")],
        )
        return [b"alpha"]

    with closing(BundleMiddleware(application)) as wrapped:
        app = TestApp(wrapped, lint=False)
        for address, status in (("10.0.0.1", 206), ("10.0.0.2", 403)):
            environ = {"REMOTE_ADDR": address}
            app.get("/?bundle=a", headers=PART, extra_environ=environ, status=status)
    assert len(asked) > 2


# --- equal plans under way ----------------------------------------------------------------------


@dataclass
class Slow:
    """An upstream of two files that answers HEAD once the gate is open, and who asks for them."""

    server: Scripted
    gateway: Gateway
    threads: ThreadPoolExecutor
    gate: threading.Event

    def ask(self, method: str = "GET", headers: Mapping[str, str] = MappingProxyType({})):
        app = TestApp(self.gateway, lint=False)
        return self.threads.submit(app.request, URL, method=method, headers=headers, status="*")

    def waiting(self, count: int) -> bool:
        """Wait until so many wait for one plan."""
        flights = self.gateway._bundles._planner._flights._flights
        return wait_until(lambda: sum(len(each.waiting) for each in flights.values()) == count)

    def asked(self, method: str) -> list[str]:
        return sorted(each.target for each in self.server.requests if each.method == method)


@pytest.fixture
def slow() -> Iterator[Slow]:
    gate = threading.Event()

    def late(file: Script) -> Script:
        def script(wire: Wire) -> None:
            if wire.request.method == "HEAD":
                wire.stall(gate)
            file(wire)

        return script

    files = {"/a.txt": late(Served(b"alpha")), "/b.txt": late(Served(b"beta"))}
    with (
        Scripted(files) as server,
        closing(Gateway(Upstream(server.url))) as gateway,
        ThreadPoolExecutor(8) as threads,
    ):
        yield Slow(server, gateway, threads, gate)
        gate.set()


def test_equal_plans_under_way_are_made_once(slow):
    asked = [slow.ask("HEAD"), slow.ask("GET", PART), slow.ask("GET"), slow.ask("HEAD")]
    assert slow.waiting(4)
    slow.gate.set()
    assert [each.result(PATIENCE).status_int for each in asked] == [200, 206, 200, 200]
    assert slow.asked("HEAD") == ["/a.txt", "/b.txt"]
    assert slow.asked("GET") == ["/a.txt", "/a.txt", "/b.txt"]


def test_another_callers_plan_is_another(slow):
    asked = [slow.ask("HEAD"), slow.ask("HEAD", MINE)]
    assert slow.waiting(2)
    slow.gate.set()
    assert [each.result(PATIENCE).status_int for each in asked] == [200, 200]
    assert slow.asked("HEAD") == ["/a.txt", "/a.txt", "/b.txt", "/b.txt"]


def test_what_is_wrong_is_told_to_all_who_wait(slow):
    slow.server.on("/b.txt", answer(b"", status="404 Not Found"))
    asked = [slow.ask(), slow.ask()]
    assert slow.waiting(2)
    slow.gate.set()
    told = [each.result(PATIENCE) for each in asked]
    assert [each.status_int for each in told] == [404, 404]
    said = [each.json for each in told]
    assert said[0].pop("request_id") != said[1].pop("request_id")
    assert said[0] == said[1]
    assert slow.asked("HEAD") == ["/a.txt", "/b.txt"]


def test_a_size_that_no_one_tells_is_learned_by_each_for_itself(slow):
    slow.server.on("/a.txt", chunked(b"alpha"))
    asked = [slow.ask(), slow.ask()]
    slow.gate.set()
    assert [each.result(PATIENCE).body[512:517] for each in asked] == [b"alpha"] * 2


def test_a_client_that_may_ask_no_more_does_not_refuse_the_others(slow):
    settings = Settings(questions_per_client=1, max_members=2, trusted_proxies="unix")
    with closing(Gateway(Upstream(slow.server.url), settings)) as gateway:
        one, other = ({"X-Forwarded-For": f"192.0.2.{number}"} for number in (1, 2))
        app = TestApp(gateway, lint=False)
        slow.gate.set()
        app.get(URL, headers=one)
        app.get(URL, headers=one, status=429)
        app.get(URL, headers=other, status=200)

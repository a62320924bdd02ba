"""What a request is answered with that can't have its archive."""

import json
import logging
import re
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from webob import Request
from webtest import TestApp

from tar_gateway import Gateway, Settings, Upstream
from tar_gateway.http.headers import page_policy
from tests.support.answers import lasting
from tests.support.files_upstream import TEXT, Canned, FilesUpstream, gateway_to

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
URL = "/reports/?bundle=a.txt&bundle=b.txt"
FORM = "application/x-www-form-urlencoded"
JSON = "application/json"


@pytest.fixture
def upstream() -> Iterator[FilesUpstream]:
    files = {
        "reports/a.txt": b"alpha",
        "reports/b.txt": b"beta",
        "reports/needs-login": Canned(401, (TEXT, ("WWW-Authenticate", 'Basic realm="r"'))),
        "reports/denied": Canned(403, (TEXT,)),
        "reports/gone": Canned(410, (TEXT,)),
        "reports/broken": Canned(500, (TEXT,)),
        "reports/late": Canned(504, (TEXT,)),
        "reports/moved": Canned(302, (TEXT, ("Location", "/reports/a.txt"))),
        "reports/folder": Canned(301, (TEXT, ("Location", "/reports/folder/"))),
        "reports/stored": Canned(302, (TEXT, ("Location", "https://x.test/a?sig=1"))),
        "reports/<i>&.txt": Canned(403, (TEXT,)),
    }
    with FilesUpstream(dict(files)) as running:
        yield running


@pytest.fixture
def app(upstream: FilesUpstream) -> Iterator[TestApp]:
    with gateway_to(upstream) as running:
        yield running


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("folder", "it is a directory: with a slash at its end it stands for all files in it"),
        ("stored", "it is redirected to an object store, whose host is not in REDIRECT_HOSTS"),
        ("moved", "the upstream redirects to a place that is not allowed"),
    ],
)
def test_a_redirect_says_what_it_leads_to(app, name, reason):
    (fault,) = app.get(f"/reports/?bundle={name}", status="*").json["members"]
    assert fault["reason"] == reason


def fetched(upstream: FilesUpstream) -> list[str]:
    return [r.target for r in upstream.asked("GET") if "range" not in r.headers]


def test_a_missing_member_costs_one_request_where_head_is_answered(upstream):
    missing = [f"none-{number}" for number in range(40)]
    with gateway_to(upstream, fetch_parallel=1) as app:
        app.head(URL)
        upstream.requests.clear()
        app.post_json("/reports/?bundle", {"members": missing}, status=404)
    asked = [(request.method, request.target[9:]) for request in upstream.requests]
    assert asked == [("HEAD", "none-0"), ("GET", "none-0"), *(("HEAD", m) for m in missing[1:])]


def test_an_error_is_a_problem_document(app):
    response = app.get("/reports/?bundle=a.txt&bundle=none", status=404)
    assert lasting(response) == [
        ("Content-Type", "application/problem+json"),
        ("Content-Length", str(len(response.body))),
        ("Cache-Control", "no-store"),
        *page_policy(),
        ("Vary", "Accept, Authorization, Cookie"),
    ]
    assert response.json == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "1 of 2 files could not be retrieved",
        "count": 1,
        "members": [{"path": "reports/none", "status": 404, "reason": "it does not exist"}],
        "request_id": response.headers["X-Request-ID"],
    }


def test_an_error_without_members_names_none(app):
    response = app.get("/reports/?bundle", status=400)
    assert response.json == {
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "detail": "no member is named: ask for at least one file",
        "request_id": response.headers["X-Request-ID"],
    }


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (BROWSER, "text/html"),
        ("text/*", "text/html"),
        ("text/html;q=0.9, application/json;q=0.1", "text/html"),
        (None, "application/problem+json"),
        ("*/*", "application/problem+json"),
        ("application/json", "application/problem+json"),
        ("application/json, text/html;q=0.9", "application/problem+json"),
        ("application/x-tar", "application/problem+json"),
        ("not an accept header", "application/problem+json"),
        ("", "application/problem+json"),
        (";;;q=,\x7f", "application/problem+json"),
    ],
)
def test_a_browser_gets_a_page_and_any_other_client_json(app, accept, media_type):
    headers = {} if accept is None else {"Accept": accept}
    response = app.get("/reports/?bundle=none", headers=headers, status=404)
    assert response.content_type == media_type


def test_a_page_shows_names_as_text(app):
    url = "/reports/?bundle=%3Ci%3E%26.txt"
    page = app.get(url, headers={"Accept": BROWSER}, status=403)
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert "<code><bdi>reports/&lt;i&gt;&amp;.txt</bdi></code>: access to it is denied" in page.text
    assert "<i>" not in page.text
    assert page.text.count("<h1>403 Forbidden</h1>") == 1


@pytest.mark.parametrize(
    "url", ["/?bundle=../%3Ci%3E", "/%3Ci%3E/../x?bundle=a", "/?bundle=%3Ci%3E//"]
)
def test_a_page_shows_a_refused_name_as_text(app, url):
    page = app.get(url, headers={"Accept": BROWSER}, status=400)
    assert "<i>" not in page.text


def test_the_paths_in_a_problem_keep_their_letters(app):
    response = app.get("/reports/?bundle=%C3%BCbung", status=404)
    assert "reports/übung".encode() in response.body


@pytest.mark.parametrize("url", ["/?bundle", "/reports/?bundle=none", "/reports/?bundle=denied"])
@pytest.mark.parametrize("accept", ["*/*", BROWSER])
def test_head_has_the_errors_of_get_without_a_body(app, url, accept):
    head = app.head(url, headers={"Accept": accept}, expect_errors=True)
    got = app.get(url, headers={"Accept": accept}, expect_errors=True)
    assert head.body == b""
    assert (head.status, lasting(head)) == (got.status, lasting(got))


@pytest.mark.parametrize(
    ("members", "status"),
    [
        ("none", 404),
        ("gone", 404),
        ("denied", 403),
        ("needs-login", 401),
        ("broken", 502),
        ("moved", 502),
        ("folder", 404),
        ("stored", 502),
        ("late", 504),
        ("none,late", 504),
        ("none,late,broken", 502),
        ("none,late,broken,denied", 403),
        ("none,late,broken,denied,needs-login", 401),
        ("denied,broken,none,late", 403),
    ],
)
def test_of_several_faults_the_first_of_401_403_502_504_404_is_told(app, members, status):
    faulty = members.split(",")
    response = app.get(f"/reports/?bundle=a.txt,{members},b.txt", status=status)
    told = response.json["members"]
    paths = [fault["path"] for fault in told]
    # A 401 decides, so that some of the others may not have been asked by then.
    expected = [f"reports/{name}" for name in faulty]
    assert paths == [path for path in expected if status != 401 or path in paths]
    assert status in {fault["status"] for fault in told}
    assert (response.headers.get("WWW-Authenticate") == 'Basic realm="r"') is (status == 401)


def test_nothing_is_fetched_of_a_bundle_with_a_fault(app, upstream):
    app.get("/reports/?bundle=a.txt&bundle=b.txt&bundle=denied", status=403)
    assert fetched(upstream) == []


def test_a_login_page_behind_a_redirect_is_no_member(app, upstream):
    app.get("/reports/?bundle=moved", status=502)
    assert {request.target for request in upstream.requests} == {"/reports/moved"}


def test_an_upstream_that_is_slow_is_a_gateway_timeout(upstream):
    released = threading.Event()
    upstream.before = lambda _: released.wait(10)
    with gateway_to(upstream, read_timeout=0.1) as app:
        response = app.get("/reports/?bundle=a.txt", status=504)
        released.set()
    assert response.json["members"][0]["status"] == 504


def test_members_not_told_of_in_time_are_all_named(upstream):
    released = threading.Event()
    upstream.before = lambda _: released.wait(10)
    with gateway_to(upstream, plan_timeout=0.1) as app:
        response = app.get(URL, status=504)
        released.set()
    assert [fault["path"] for fault in response.json["members"]] == [
        "reports/a.txt",
        "reports/b.txt",
    ]


def test_an_upstream_that_is_down_is_a_bad_gateway(upstream):
    with gateway_to(upstream) as app:
        upstream.__exit__(None, None, None)
        bundle = app.get("/reports/?bundle=a.txt", status=502)
        plain = app.get("/reports/a.txt", status=502)
    assert bundle.json["members"][0]["reason"] == "the upstream cannot be reached"
    assert plain.json["detail"] == "the upstream cannot be reached"


@pytest.fixture
def unheard() -> str:
    """Give a host and port at which no one listens."""
    with FilesUpstream() as gone:
        return gone.host


CLIENTS = ["/a", "/?bundle=a", "/?bundle&manifest=a", "/-/ready"]


@pytest.mark.parametrize("at_fault", ["upstream", "authority", "host that it redirects to"])
def test_the_operator_is_told_the_cause_and_the_client_is_not(upstream, unheard, caplog, at_fault):
    caplog.set_level(logging.INFO)
    upstream.files["a"] = Canned(302, (TEXT, ("Location", f"http://{unheard}/a")))
    chosen: dict[str, Any] = {
        "upstream": {"upstream": f"http://{unheard}/"},
        "authority": {"auth_request": f"http://{unheard}/"},
        "host that it redirects to": {"redirect_hosts": [unheard]},
    }[at_fault]
    settings = Settings(retries=0, **{"upstream": upstream.url, **chosen})
    with closing(Gateway(Upstream(settings.upstream or "", settings), settings)) as gateway:
        app = TestApp(gateway)
        answers = [
            app.get(url, headers={"Accept": accept}, expect_errors=True)
            for url in CLIENTS
            for accept in ("application/json", BROWSER)
        ]
    cause = f"connection refused ({unheard})"
    lines = [json.loads(message) for message in caplog.messages if message.startswith("{")]
    failed = [line for line in lines if line["status"] == 502]
    assert {line["event"] for line in failed} >= {"bundle"}
    assert [line["cause"] for line in failed] == [cause] * len(failed)
    assert len(failed) == sum(answer.status_int == 502 for answer in answers)
    assert any(f"cannot be reached: {cause}" in message for message in caplog.messages)
    for answer in answers:
        if answer.status_int != 302:  # a plain redirect is the client's to follow
            assert not re.search(rf"127\.0\.0|{unheard}|refused|rrno|Error", str(answer))


BAD_NAMES = [
    "",
    "/etc/passwd",
    "//evil",
    "..",
    "../up",
    "a/../../up",
    "a/..",
    ".",
    "./a",
    "a//b",
    "a//",
    "a\\b",
    "..\\up",
    "C:/x",
    "c:/x",
    "a\0b",
    "a\nb",
    "a\x7fb",
    "a\x85b",
    "%2e%2e/up",
    "a%2f..%2fb",
    "a%00",
    "%5c",
    "x" * 4097,
]


@pytest.mark.parametrize("name", BAD_NAMES, ids=lambda name: ascii(name)[:40])
def test_a_bad_name_is_refused_however_it_is_sent_and_never_reaches_the_upstream(
    app, upstream, name
):
    quoted = "".join(f"%{byte:02X}" for byte in name.encode())
    answers = [
        app.get(f"/reports/?bundle=a.txt&bundle={quoted or ','}", status=400),
        app.post("/reports/?bundle", [("bundle", "a.txt"), ("bundle", name)], status=400),
        app.post_json("/reports/?bundle", {"members": ["a.txt", name]}, status=400),
        app.post_json("/?bundle", {"members": [{"path": "a", "name": name}]}, status=400),
        app.get(f"/reports/?bundle=a.txt&filename={quoted or '%2F'}", status=400),
    ]
    assert all(len(answer.body) < 2000 for answer in answers)
    assert upstream.requests == []


@pytest.mark.parametrize(
    "query",
    [
        "bundle",
        "bundle=",
        "bundle=&filename=x",
        "bundle=,",
        "bundle=a,",
        "bundle=,a",
        "bundle=a,,b",
        "bundle=%ff",
        "bundle=%c3",
        "bundle=%ed%a0%80",
        "bundle=a&bundle=a",
        "bundle=a,b,a",
        "bundle=a&bundle=a/b",
        "bundle=a/b/c,a/b",
        "bundle=a&filename=x&filename=y",
        "bundle=a&filename=x/y",
        "bundle=a&filename=%ff",
        "bundle=a&v=1&v=1",
        "bundle=a&v=%ff",
        "bundle=a&manifest=list.json",
        "bundle&manifest=",
        "bundle&manifest=../list.json",
        "bundle&manifest=/list.json",
        "bundle&manifest=a&manifest=b",
    ],
)
def test_a_query_that_makes_no_sense_is_refused_and_never_reaches_the_upstream(
    app, upstream, query
):
    response = app.get("/reports/?" + query, status=400)
    assert response.json["title"] == "Bad Request"
    assert upstream.requests == []


@pytest.mark.parametrize(
    "path",
    [
        "//evil",
        "//evil/",
        "/a//b",
        "/../up/",
        "/a/../b/",
        "/./",
        "/a\\b",
        "/C:/",
        "/a\0",
        "/\xff/",
        "/%2e%2e/",
    ],
    ids=ascii,
)
@pytest.mark.parametrize("url", ["/?bundle=a.txt", "/"])
def test_a_bad_path_is_refused_and_never_reaches_the_upstream(app, upstream, path, url):
    response = app.get(url, extra_environ={"PATH_INFO": path}, status=400)
    assert "the path" in response.json["detail"]
    assert upstream.requests == []


@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        (FORM, b""),
        (FORM, b"x=1"),
        (FORM, b"bundle="),
        (FORM, b"bundle=a&bundle=%ff"),
        (FORM, b"bundle=\xff"),
        (JSON, b""),
        (JSON, b"{"),
        (JSON, b"null"),
        (JSON, b"[]"),
        (JSON, b'["a"]'),
        (JSON, b"{}"),
        (JSON, b'{"members": []}'),
        (JSON, b'{"members": "a"}'),
        (JSON, b'{"members": [1]}'),
        (JSON, b'{"members": [null]}'),
        (JSON, b'{"members": [["a"]]}'),
        (JSON, b'{"members": [{"name": "a"}]}'),
        (JSON, b'{"members": [{"path": "a", "name": 1}]}'),
        (JSON, b'{"members": [{"path": "a", "size": 1}]}'),
        (JSON, b'{"members": ["a"], "filename": 1}'),
        (JSON, b'{"members": ["a"], "filename": "x/y"}'),
        (JSON, b'{"members": ["a"], "<i>\\u0000": 1}'),
        (JSON, b'{"members": ["a", "a"]}'),
        (JSON, b'{"members": ["\\ud800"]}'),
        (JSON, b'{"members": ["\xff"]}'),
        (JSON, b'\xef\xbb\xbf\xef\xbb\xbf{"members": ["a"]}'),
        (JSON, b"[" * 10_000),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_a_body_that_makes_no_sense_is_refused_and_never_reaches_the_upstream(
    app, upstream, media_type, body
):
    response = app.post("/?bundle", body, content_type=media_type, status=400)
    assert response.json["title"] == "Bad Request"
    assert upstream.requests == []


@pytest.mark.parametrize("more", ["=a.txt", "&filename=x.tar", "&v=1", "&manifest=a.txt"])
def test_a_post_says_everything_in_its_body(app, upstream, more):
    response = app.post("/reports/?bundle" + more, {"bundle": "b.txt"}, status=400)
    assert "in its body" in response.json["detail"]
    assert upstream.requests == []


@pytest.mark.parametrize("parameter", ["bundle[]", "bundle%5B%5D", "bundle[0]"])
def test_a_post_to_a_list_in_brackets_is_told_what_to_write(app, upstream, parameter):
    response = app.post(f"/reports/?{parameter}", {"bundle": "b.txt"}, status=400)
    assert "use ?bundle alone" in response.json["detail"]
    assert upstream.requests == []


@pytest.mark.parametrize("query", ["?bundle[]=a.txt", "?bundle%5B%5D=a.txt", "?bundle[0]=a.txt"])
def test_a_list_in_brackets_is_never_passed_on(app, upstream, query):
    with_brackets = app.get(f"/reports/{query}")
    assert with_brackets.body == app.get("/reports/?bundle=a.txt").body


def test_an_encoded_slash_of_a_plain_file_is_passed_on_and_of_a_bundles_directory_refused(
    app, upstream
):
    def ask(raw: str, query: str) -> tuple[int, list[str]]:
        upstream.requests.clear()
        environ = {"RAW_URI": f"{raw}?{query}"}
        response = app.get(f"/reports/a.txt?{query}", extra_environ=environ, status="*")
        return response.status_int, [request.target for request in upstream.requests]

    assert ask("/reports%2Fa.txt", "")[1] == ["/reports%2Fa.txt"]
    assert ask("/reports%2Fa.txt", "bundle=b") == (400, [])


def test_an_authority_is_never_asked_of_one_path_and_the_upstream_of_another(upstream):
    raw = {"RAW_URI": "/reports%2Fa.txt"}
    with gateway_to(upstream, auth_request=upstream.url + "reports/b.txt") as guarded:
        response = guarded.get("/reports/a.txt", extra_environ=raw, status=400)
    assert "write '/' and not '%2F'" in response.json["detail"]
    assert upstream.requests == []


def test_a_body_that_is_coded_for_its_transfer_is_501(app, upstream):
    environ = {"HTTP_TRANSFER_ENCODING": "gzip, chunked"}
    response = app.post_json("/?bundle", {}, extra_environ=environ, status=501)
    assert "send chunked alone" in response.json["detail"]
    assert upstream.requests == []


@pytest.mark.parametrize("media_type", ["", "text/plain", "multipart/mixed", "application/tar"])
def test_a_body_of_another_type_is_415(app, upstream, media_type):
    environ = {"CONTENT_TYPE": media_type}
    response = app.post("/?bundle", b"bundle=a", extra_environ=environ, status=415)
    assert FORM in response.json["detail"]
    assert JSON in response.json["detail"]
    assert upstream.requests == []


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
def test_another_method_is_405(app, upstream, method):
    bundle = app.request("/reports/?bundle=a.txt", method=method, status=405)
    plain = app.request("/reports/a.txt", method=method, status=405)
    assert bundle.headers["Allow"] == "GET, HEAD, POST"
    assert plain.headers["Allow"] == "GET, HEAD"
    assert upstream.requests == []


def test_a_plain_file_cannot_be_posted_to(app, upstream):
    assert app.post("/reports/a.txt", b"x", status=405).headers["Allow"] == "GET, HEAD"
    assert upstream.requests == []


def test_too_many_members_are_413_however_they_are_sent(upstream):
    names = ["a.txt", "b.txt"]
    with gateway_to(upstream, max_members=1) as app:
        answers = [
            app.get("/reports/?bundle=a.txt,b.txt", status=413),
            app.get(URL, status=413),
            app.post("/reports/?bundle", [("bundle", name) for name in names], status=413),
            app.post_json("/reports/?bundle", {"members": names}, status=413),
        ]
        assert upstream.requests == []
        app.get("/reports/?bundle=a.txt", status=200)
    assert all("more than 1 members" in answer.json["detail"] for answer in answers)


def test_a_body_above_the_limit_is_413_and_one_of_exactly_the_limit_is_not(upstream):
    body = b"bundle=a.txt&x=1"
    with gateway_to(upstream, max_body=len(body)) as app:
        app.post("/reports/?bundle", body, content_type=FORM, status=200)
        upstream.requests.clear()
        app.post("/reports/?bundle", body + b"2", content_type=FORM, status=413)
    assert upstream.requests == []


@pytest.mark.parametrize(("limit", "status"), [(10240, 200), (10239, 413)])
def test_an_archive_above_the_limit_is_413_before_any_of_it_is_fetched(upstream, limit, status):
    with gateway_to(upstream, max_bytes=limit) as app:
        app.get(URL, status=status)
    assert bool(fetched(upstream)) is (status == 200)


def post_raw(app: TestApp, body: bytes, environ: dict[str, object]) -> tuple[int, bytes]:
    """Post what no honest server would give the gateway; give the status and the response."""
    request = Request.blank("/reports/?bundle", method="POST", body=body, content_type=FORM)
    told: list[str] = []
    blocks = app.gateway(request.environ | environ, lambda status, _: told.append(status))
    try:
        answer = b"".join(blocks)
    finally:
        getattr(blocks, "close", tuple)()
    return int(told[0][:3]), answer


def test_a_body_in_chunks_is_read_to_its_end_and_limit(upstream):
    body = b"bundle=a.txt&x=1"
    unsized = {"CONTENT_LENGTH": "", "wsgi.input_terminated": True}
    with gateway_to(upstream, max_body=len(body)) as app:
        fits, _ = post_raw(app, body, unsized)
        too_large, _ = post_raw(app, body + b"2", unsized)
    assert (fits, too_large) == (200, 413)


@pytest.mark.parametrize("length", ["-1", "1.5", "0x10", "a", " 5", "1" * 20, "\u0665", "99"])
def test_a_body_of_another_length_than_told_is_refused(app, upstream, length):
    status, _ = post_raw(app, b"bundle=a.txt", {"CONTENT_LENGTH": length})
    assert status == 400
    assert upstream.requests == []


def test_a_body_without_a_length_is_no_body(app, upstream):
    status, answer = post_raw(app, b"bundle=a.txt", {"CONTENT_LENGTH": ""})
    assert status == 400
    assert b"no member is named" in answer


class Torn:
    """A request's body whose client has left."""

    def read(self, limit: int) -> bytes:
        raise OSError(f"gone before {limit} bytes")


def test_a_body_that_breaks_off_is_a_bad_request_and_no_silence(app):
    status, answer = post_raw(app, b"", {"wsgi.input": Torn(), "CONTENT_LENGTH": "9"})
    assert status == 400
    assert b"the body could not be read" in answer


def test_a_url_in_place_of_an_upstream_is_refused_at_once_and_not_shown():
    with pytest.raises(TypeError, match=r"Gateway\(Upstream\(") as refused:
        Gateway("http://user:secret@files.internal/")
    assert "secret" not in str(refused.value)

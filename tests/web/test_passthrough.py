"""Plain requests go to the upstream and its responses come back, as through any reverse proxy."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from webob import Request
from webtest import TestApp

from tar_gateway import TarGatewayError, sign_url
from tests.support.answers import lasting
from tests.support.files_upstream import TEXT, Canned, File, FilesUpstream, gateway_to
from tests.support.servers import wait_until

MEBIBYTE = bytes(range(256)) * 4096


@pytest.fixture
def upstream() -> Iterator[FilesUpstream]:
    files = {
        "a.txt": b"alpha and more",
        "large": MEBIBYTE,
        "reports/": Canned(200, (("Content-Type", "text/html"),), b"<ul></ul>"),
        "reports/übung 100%.txt": "grün".encode(),
        "empty": b"",
        "nothing": Canned(204),
    }
    with FilesUpstream(files) as running:
        yield running


@pytest.fixture
def app(upstream: FilesUpstream) -> Iterator[TestApp]:
    with gateway_to(upstream) as running:
        yield running


def test_a_plain_file_comes_as_the_upstream_has_it(app, upstream):
    response = app.get("/a.txt", status=200)
    assert response.body == b"alpha and more"
    assert sorted(lasting(response)) == sorted(
        [
            *File(b"alpha and more").headers().items(),
            ("Accept-Ranges", "bytes"),
            ("Content-Length", "14"),
        ]
    )


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("/", "/"),
        ("/reports/", "/reports/"),
        ("/a.txt", "/a.txt"),
        ("/a.txt?x=1&y=a%20b+c&z", "/a.txt?x=1&y=a%20b+c&z"),
        ("/a.txt?bundles=1", "/a.txt?bundles=1"),
        ("/a.txt?x=bundle", "/a.txt?x=bundle"),
        ("/a.txt?x=%0D%0A&y=%ff", "/a.txt?x=%0D%0A&y=%ff"),
        ("/reports/%C3%BCbung%20100%25.txt", "/reports/%C3%BCbung%20100%25.txt"),
        ("/a%3Fb%23c", "/a%3Fb%23c"),
        ("/a;b=c,d@e:f", "/a%3Bb=c,d@e:f"),
        ("/-/other", "/-/other"),
    ],
)
def test_a_path_and_query_reach_the_upstream_as_they_were_meant(app, upstream, url, target):
    app.get(url, status="*")
    assert [request.target for request in upstream.requests] == [target]


@pytest.mark.parametrize(
    ("raw", "path", "target"),
    [
        ("/mount/@scope%2fname?x=1", "/@scope/name", "/@scope%2fname"),
        ("/mount/%41;v=1/y,z", "/A;v=1/y,z", "/%41;v=1/y,z"),
        ("HTTP://files.test/%6dount/%41", "/A", "/%41"),
        ("/mount/else%77here", "/A", "/A"),  # the path was rewritten on its way here
        ("/mount/a/.;/b", "/a/.;/b", "/a/.%3B/b"),
        ("http://files.test", "/", "/"),
        ("*", "/", "/"),
    ],
)
@pytest.mark.parametrize("name", ["RAW_URI", "REQUEST_URI"])
def test_a_path_is_asked_for_as_the_client_spelled_it(upstream, name, raw, path, target):
    environ = {name: raw, "SCRIPT_NAME": "/mount", "PATH_INFO": path}
    with gateway_to(upstream) as app:
        app.get("/", extra_environ=environ, status="*")
    assert [request.target for request in upstream.requests] == [target]


def test_what_was_judged_is_asked_for_in_the_spelling_that_was_judged(upstream, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text(f"k1:{'x' * 32}\n")
    link = sign_url("/%41;b,c", "x" * 32, expires=2**33, key_id="k1")
    with gateway_to(upstream, signing_keys_file=str(keys)) as app:
        app.get(link, extra_environ={"RAW_URI": link}, status=404)
    assert [request.target.partition("?")[0] for request in upstream.requests] == ["/A%3Bb,c"]


def test_a_path_is_below_the_base_of_the_upstream(upstream):
    with gateway_to(upstream, base="reports/") as app:
        index, file = app.get("/"), app.get("/%C3%BCbung%20100%25.txt")
    assert index.body == b"<ul></ul>"
    assert file.text == "grün"


def test_head_is_passed_on_as_head(app, upstream):
    response = app.head("/large")
    assert response.body == b""
    assert response.headers["Content-Length"] == str(len(MEBIBYTE))
    assert [request.method for request in upstream.requests] == ["HEAD"]


@pytest.mark.parametrize(
    ("headers", "status", "body"),
    [
        ({"Range": "bytes=2-4"}, 206, b"pha"),
        ({"Range": "bytes=2-4", "If-Range": '"other"'}, 200, b"alpha and more"),
        ({"Range": "bytes=99-"}, 416, b""),
        ({"If-None-Match": File(b"alpha and more").headers()["ETag"]}, 304, b""),
        ({"If-Match": '"other"'}, 412, b""),
        ({"If-Unmodified-Since": "Sun, 13 Sep 2020 12:26:39 GMT"}, 412, b""),
    ],
)
def test_ranges_and_conditions_are_the_upstreams_to_decide(app, upstream, headers, status, body):
    upstream.files["a.txt"] = File(b"alpha and more")
    response = app.get("/a.txt", headers=headers, status=status)
    assert response.body == body


@pytest.mark.parametrize("path", ["/empty", "/nothing"])
def test_an_answer_without_content_is_one(app, path):
    assert app.get(path).body == b""


END_TO_END = {
    "Accept": "text/html",
    "Accept-Encoding": "gzip",
    "Accept-Language": "de",
    "Authorization": "Bearer caller",
    "Cookie": "session=1",
    "Referer": "http://a.test/",
    "User-Agent": "a browser",
    "X-Custom": "yes",
}


def test_a_request_keeps_its_end_to_end_headers_and_no_others(app, upstream):
    own_connection = {
        "Connection": "close, Accept, User-Agent",
        "Keep-Alive": "timeout=5",
        "Proxy-Authorization": "Basic eDp5",
        "Proxy-Connection": "keep-alive",
        "TE": "trailers",
        "Trailer": "X-Sum",
        "Upgrade": "websocket",
        "X-Accel-Redirect": "/secret",
        "HTTP2-Settings": "AAMAAABkAARAAAAAAAIAAAAA",
        "Host": "public.test",
        "Expect": "100-continue",
    }
    app.get("/a.txt", headers={**END_TO_END, **own_connection})
    (request,) = upstream.requests
    expected = {name.lower(): value for name, value in END_TO_END.items()}
    told = {name: request.headers[name] for name in ("via", "x-request-id")}
    assert request.headers == {**expected, **told, "host": upstream.host}


def test_a_request_that_says_nothing_asks_for_the_file_itself(app, upstream):
    response = app.get("/a.txt")
    (request,) = upstream.requests
    assert request.headers == {
        "host": upstream.host,
        "user-agent": "tar_gateway",
        "accept-encoding": "identity",
        "via": request.headers["via"],
        "x-request-id": response.headers["X-Request-ID"],
    }


def test_every_request_for_a_member_has_the_id_of_the_bundles(app, upstream):
    response = app.get("/?bundle=a.txt")
    ids = {request.headers["x-request-id"] for request in upstream.requests}
    assert ids == {response.headers["X-Request-ID"]}


def test_a_get_with_a_body_is_passed_on_without_it(app, upstream):
    environ = {"CONTENT_LENGTH": "3", "CONTENT_TYPE": "text/plain"}
    app.get("/a.txt", extra_environ=environ)
    assert not {"content-length", "content-type"} & set(upstream.requests[0].headers)


def test_an_answer_keeps_its_end_to_end_headers_and_no_others(app, upstream):
    kept = [
        ("Content-Type", "text/plain"),
        ("Content-Language", "de"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
        ("WWW-Authenticate", 'Basic realm="x"'),
        ("X-Custom", "yes"),
    ]
    removed = [
        ("Connection", "X-Mine, close"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Authenticate", "Basic"),
        ("Trailer", "X-Sum"),
        ("Upgrade", "h2c"),
        ("X-Accel-Redirect", "/secret"),
        ("X-Accel-Buffering", "yes"),
        ("Surrogate-Control", "max-age=9"),
        ("X-LIGHTTPD-KBytes-per-second", "1"),
        ("X-Mine", "private"),
    ]
    upstream.files["a.txt"] = Canned(200, (*kept, *removed), b"alpha")
    response = app.get("/a.txt")
    assert sorted(lasting(response)) == sorted([*kept, ("Content-Length", "5")])


def test_an_encoded_answer_is_passed_as_it_is(app, upstream):
    headers = (TEXT, ("Content-Encoding", "x-own"))
    upstream.files["a.txt"] = Canned(200, headers, b"\x00\x01encoded")
    request = Request.blank("/a.txt")
    _, fields, blocks = request.call_application(app.app)
    with closing(blocks):
        assert b"".join(blocks) == b"\x00\x01encoded"
    assert ("Content-Encoding", "x-own") in fields


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 418, 500, 503, 599])
def test_the_upstreams_own_errors_are_passed_as_they_are(app, upstream, status):
    upstream.files["a.txt"] = Canned(status, (TEXT,), b"its own words")
    response = app.get("/a.txt", status=status)
    assert response.body == b"its own words"
    assert response.content_type == "text/plain"


def test_content_comes_in_blocks_as_it_is_there(app, upstream):
    _, _, blocks = Request.blank("/large").call_application(app.app)
    with closing(blocks):
        received = list(blocks)
    assert b"".join(received) == MEBIBYTE
    assert max(map(len, received)) < len(MEBIBYTE) // 2


def test_an_answer_that_is_not_read_to_its_end_ends_its_connection(app, upstream):
    _, _, blocks = Request.blank("/large").call_application(app.app)
    with closing(blocks):
        first = next(iter(blocks))
        assert MEBIBYTE.startswith(first)
        assert upstream.connections == 1
    wait_until(lambda: upstream.connections == 0, "the upstream to see the end")
    assert app.get("/a.txt").body == b"alpha and more"


def test_an_upstream_that_breaks_in_the_middle_breaks_the_answer(app, upstream):
    upstream.files["a.txt"] = Canned(200, (TEXT,), b"only half", length=18)
    status, fields, blocks = Request.blank("/a.txt").call_application(app.app)
    received: list[bytes] = []
    with closing(blocks), pytest.raises(TarGatewayError) as raised:
        received.extend(blocks)
    assert status == "200 OK"
    assert dict(fields)["Content-Length"] == "18"
    assert not isinstance(raised.value, OSError | StopIteration)
    assert b"only half".startswith(b"".join(received))


def test_an_upstream_that_breaks_before_its_first_byte_is_told_by_a_status(app, upstream):
    upstream.files["a.txt"] = Canned(200, (TEXT,), b"", length=18)
    response = app.get("/a.txt", status=502)
    assert response.json["detail"] == "the upstream broke the connection"


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_handed_back_and_never_followed(app, upstream, code):
    upstream.files["old"] = Canned(code, (TEXT, ("Location", "/a.txt")), b"moved")
    response = app.get("/old", status=code)
    assert response.headers["Location"] == "/a.txt"
    assert response.body == b"moved"
    assert [request.target for request in upstream.requests] == ["/old"]


# Where the upstream's base is http://HOST/base/ and the gateway is mounted at MOUNT.
@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("http://HOST/base/a/", "MOUNT/a/"),
        ("http://HOST/base/", "MOUNT/"),
        ("HTTP://HOST/base/a?x=1#y", "MOUNT/a?x=1#y"),
        ("//HOST/base/a", "MOUNT/a"),
        ("/base/a%20b/%C3%BC", "MOUNT/a%20b/%C3%BC"),
        ("a/b", "a/b"),
        ("?x=1", "?x=1"),
        ("../a", "../a"),
        ("/elsewhere/", "/elsewhere/"),
        ("/basement/", "/basement/"),
        ("https://HOST/base/a", "https://HOST/base/a"),
        ("http://other.test/base/a", "http://other.test/base/a"),
        ("http://HOST:1/base/a", "http://HOST:1/base/a"),
        ("http://HOST@other.test/base/a", "http://HOST@other.test/base/a"),
        ("http://[/base/a", "http://[/base/a"),
        ("http://HOST/base//evil.test/", "http://HOST/base//evil.test/"),
        ("/base//evil.test/", "/base//evil.test/"),
        ("/base///evil.test/", "/base///evil.test/"),
    ],
)
@pytest.mark.parametrize("mount", ["", "/files", "/a b/ü".encode().decode("latin-1")])
def test_a_redirect_below_the_base_becomes_one_below_the_mount_point(
    upstream, location, expected, mount
):
    sent = location.replace("HOST", upstream.host)
    upstream.files["base/old"] = Canned(302, (TEXT, ("Location", sent)), b"moved")
    with gateway_to(upstream, base="base", environ={"SCRIPT_NAME": mount}) as app:
        request = Request.blank("/old", {"SCRIPT_NAME": mount})
        _, fields, blocks = request.call_application(app.app)
        with closing(blocks):
            assert b"".join(blocks) == b"moved"
    written = mount.encode("latin-1").decode().replace(" ", "%20").replace("ü", "%C3%BC")
    wanted = expected.replace("HOST", upstream.host).replace("MOUNT", written)
    assert dict(fields)["Location"] == wanted


def test_a_mount_point_is_no_part_of_the_path(upstream):
    with gateway_to(upstream, environ={"SCRIPT_NAME": "/files"}) as app:
        response = app.get("/files/a.txt")
    assert response.body == b"alpha and more"
    assert upstream.requests[0].target == "/a.txt"


@pytest.mark.parametrize("path", ["//evil.test", "//evil.test/", "/\\evil.test/", "///", "/a//"])
def test_a_path_that_might_become_a_host_in_a_redirect_is_refused(app, upstream, path):
    app.get("/", extra_environ={"PATH_INFO": path}, status=400)
    assert upstream.requests == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
def test_without_passing_through_there_is_nothing_but_bundles(upstream, method):
    with gateway_to(upstream, pass_through=False) as app:
        response = app.request("/a.txt", method=method, status=404)
        bundle = app.get("/?bundle=a.txt")
    assert "a.txt" not in {request.target for request in upstream.requests if method == "GET"}
    assert response.content_type == "application/problem+json"
    assert b"alpha and more" in bundle.body


def test_an_upstream_that_tells_no_honest_length_is_a_bad_gateway(app, upstream):
    upstream.files["a.txt"] = Canned(200, (TEXT,), b"x", length=-5)
    response = app.get("/a.txt", status=502)
    assert response.content_type == "application/problem+json"


def test_headers_that_the_server_refuses_are_a_defect_and_leave_nothing_open(app, upstream):
    told: list[str] = []

    def refuses(status: str, headers: list[tuple[str, str]]) -> None:
        told.append(status)
        if len(told) == 1:
            raise ValueError("no such headers, please")

    answer = app.gateway(Request.blank("/large").environ, refuses)
    assert told == ["200 OK", "500 Internal Server Error"]
    assert b"no such headers" not in b"".join(answer)
    wait_until(lambda: upstream.connections == 0, "the upstream to see the end")


@pytest.mark.parametrize("value", ["zip", "rar", "tar, zip"])
@pytest.mark.parametrize("name", ["X-Archive-Files", "X_Archive_Files"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_list_that_is_not_answered_here_is_shown_to_nobody(upstream, value, name, method):
    upstream.files["list"] = Canned(200, (TEXT, (name, value)), b"- 1 /internal/secret a\n")
    with gateway_to(upstream, archive_files="tar") as app:
        response = app.request("/list", method=method, status=502)
    assert b"secret" not in response.body
    assert "X-Archive-Files" not in response.headers


@pytest.mark.parametrize("value", ["tar", "zip"])
def test_lists_are_left_to_a_server_in_front_if_the_setting_says_so(upstream, value):
    listed = Canned(200, (TEXT, ("X-Archive-Files", value)), b"- 1 /a a\n")
    upstream.files["list"] = listed
    with gateway_to(upstream, archive_files="no") as app:
        response = app.get("/list", headers={"If-None-Match": '"a"'})
        assert (response.headers["X-Archive-Files"], response.body) == (value, listed.body)


def test_an_error_is_passed_on_without_its_orders(app, upstream):
    upstream.files["a.txt"] = Canned(404, (TEXT, ("X-Archive-Files", "zip")), b"gone")
    response = app.get("/a.txt", status=404)
    assert (response.body, "X-Archive-Files" in response.headers) == (b"gone", False)


@pytest.mark.parametrize("status", [400, 404, 412, 416, 500])
def test_an_error_that_announces_content_and_has_none_is_passed_as_it_is(app, upstream, status):
    told = (TEXT, ("Content-Range", "bytes */14"))
    upstream.files["a.txt"] = Canned(status, told, b"", length=14)
    response = app.get("/a.txt", headers={"Range": "bytes=99-"}, status=status)
    assert (response.body, response.headers["Content-Length"]) == (b"", "0")
    assert response.headers["Content-Range"] == "bytes */14"


@pytest.mark.parametrize("status", [200, 206])
def test_a_file_that_has_not_the_content_it_announces_is_a_bad_gateway(app, upstream, status):
    upstream.files["a.txt"] = Canned(status, (TEXT,), b"", length=14)
    app.get("/a.txt", status=502)

"""The authority: what it is asked, when, and what becomes of its responses."""

import io
import re
import socket
import tarfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from webtest import TestApp

from tar_gateway import BundleMiddleware, Gateway, Settings, Upstream, sign_url
from tests.cli.test_command import typed
from tests.support.files_upstream import TEXT, Canned, FilesUpstream, gateway_to
from tests.support.scripted import Script, Scripted, Seen, answer, chunked, close, raw, stall
from tests.support.servers import gateway, nginx

NEVER = threading.Event()
YES = answer(b"yes")
FILES = {
    "a": b"alpha",
    "sub/b c": b"beta",
    "sub/ü": b"gamma",
    "list": b'{"members": ["a", "sub/b c"]}',
}
CREDENTIALS = {"Authorization": "Bearer caller", "Cookie": "id=1"}


def decided(rights: Mapping[str, Script], otherwise: Script = YES) -> Script:
    """Answer by the URI that is asked about."""
    return lambda wire: rights.get(wire.request.get("X-Original-URI"), otherwise)(wire)


@contextmanager
def deciding(script: Script = YES) -> Iterator[Scripted]:
    with Scripted({"/check": script}) as server:
        server.url_to_ask = f"{server.url}check?for=files"
        yield server


@pytest.fixture
def authority() -> Iterator[Scripted]:
    with deciding() as running:
        yield running


@pytest.fixture
def upstream() -> Iterator[FilesUpstream]:
    with FilesUpstream(dict(FILES)) as running:
        yield running


@pytest.fixture
def app(upstream: FilesUpstream, authority: Scripted) -> Iterator[TestApp]:
    with gateway_to(upstream, auth_request=authority.url_to_ask, read_timeout=0.5) as running:
        yield running


def contents(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return {member.name: opened.extractfile(member).read() for member in opened}


def asked_about(authority: Scripted) -> list[str]:
    """List the methods and URIs that it was asked about."""
    return sorted(
        f"{request.get('X-Original-Method')} {request.get('X-Original-URI')}"
        for request in authority.requests
    )


# --- what it is asked --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_line", "asked"),
    [
        ("GET /a", ["GET /a"]),
        ("HEAD /a", ["HEAD /a"]),
        ("GET /a?x=1&y=%2f", ["GET /a?x=1&y=%2f"]),
        ("GET /", ["GET /"]),
        ("GET /sub/", ["GET /sub/"]),
        ("GET /sub/b%20c", ["GET /sub/b%20c"]),
        ("GET /sub/%C3%BC", ["GET /sub/%C3%BC"]),
        ("GET /?bundle=a", ["GET /a"]),
        ("HEAD /?bundle=a", ["GET /a"]),
        ("GET /sub/?bundle=b+c,%C3%BC", ["GET /sub/%C3%BC", "GET /sub/b%20c"]),
        ("GET /sub?bundle=b+c&v=x", ["GET /sub/b%20c"]),
        ("GET /?bundle&manifest=list", ["GET /a", "GET /list", "GET /sub/b%20c"]),
    ],
)
@pytest.mark.parametrize("mount", ["", "/m n"])
def test_each_file_is_asked_about_by_its_own_uri(upstream, authority, request_line, asked, mount):
    method, url = request_line.split()
    quoted = mount.replace(" ", "%20")
    chosen = {"environ": {"SCRIPT_NAME": mount}, "auth_request": authority.url_to_ask}
    with gateway_to(upstream, **chosen) as app:
        ask = app.head if method == "HEAD" else app.get
        ask(quoted + url, expect_errors=True)
    assert asked_about(authority) == [line.replace(" ", f" {quoted}") for line in asked]
    assert not any(quoted and quoted in request.target for request in upstream.requests)


def test_the_question_is_a_get_of_the_authoritys_own_url(app, authority):
    app.get("/a")
    app.get("/?bundle=a")
    asked = {(request.method, request.target) for request in authority.requests}
    assert asked == {("GET", "/check?for=files")}


def test_a_bundle_and_a_plain_get_ask_the_same_question(app, authority, upstream):
    for url in ("/sub/b%20c", "/sub/?bundle=b+c", "/?bundle=sub/b%20c"):
        app.get(url, headers={**CREDENTIALS, "X-Custom": "1", "X-Request-ID": "1"})
    first, *others = [dict(_lowered(request)) for request in authority.requests]
    assert others == [first, first]


def _lowered(request: Seen) -> list[tuple[str, str]]:
    return [(name.lower(), value) for name, value in request.headers]


SENT = {
    **CREDENTIALS,
    "Accept": "text/html",
    "Accept-Encoding": "gzip",
    "Referer": "http://a.test/",
    "User-Agent": "a browser",
    "X-Custom": "yes",
    "X-Request-ID": "1",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
}
NOT_SENT = {
    "Connection": "Accept, close",
    "HTTP2-Settings": "AAMAAABkAARAAAAAAAIAAAAA",
    "Content-Encoding": "br",
    "Content-Language": "de",
    "Expect": "100-continue",
    "If-Match": '"1"',
    "If-Modified-Since": "Sun, 13 Sep 2020 12:26:40 GMT",
    "If-None-Match": '"1"',
    "If-Range": '"1"',
    "If-Unmodified-Since": "Sun, 13 Sep 2020 12:26:40 GMT",
    "Keep-Alive": "timeout=5",
    "Proxy-Authorization": "Basic eDp5",
    "Range": "bytes=0-0",
    "TE": "trailers",
    "Trailer": "X-Sum",
    "Transfer-Encoding": "chunked",
    "Upgrade": "websocket",
    "X-Accel-Redirect": "/secret",
    "X-HTTP-Method-Override": "DELETE",
    "X-Rewrite-URL": "/forged",
    "X-Remote-User": "admin",
    "X-Forwarded-Uri": "/forged",
    "X-Original-Method": "DELETE",
    "X-Original-Other": "1",
    "X-Original-URI": "/forged",
    "X_Original_URI": "/forged",
}


@pytest.mark.parametrize("url", ["/a", "/?bundle=a"])
def test_the_callers_end_to_end_headers_go_along_and_no_others(app, authority, url):
    app.get(url, headers={**SENT, **NOT_SENT}, expect_errors=True)
    (request,) = authority.requests
    told = {"x-original-uri": "/a", "x-original-method": "GET", "via": request.get("Via")}
    sent = {name.lower(): value for name, value in SENT.items()}
    assert sorted(_lowered(request)) == sorted(
        {**sent, **told, "host": f"127.0.0.1:{authority.port}"}.items()
    )


def test_a_posts_body_and_its_headers_stay_here(app, authority):
    app.post("/?bundle", params={"bundle": "a"})
    (request,) = authority.requests
    assert request.method == "GET"
    assert not any(name.startswith("content-") for name, _ in _lowered(request))


def test_it_sees_the_credentials_that_the_upstream_will_see(app, authority, upstream):
    app.get("/?bundle=a", headers=CREDENTIALS)
    app.get("/a", headers=CREDENTIALS)
    for name, value in CREDENTIALS.items():
        assert {request.get(name) for request in authority.requests} == {value}
        assert {request.headers[name.lower()] for request in upstream.requests} == {value}


@pytest.mark.parametrize("url", ["/a", "/?bundle=a"])
def test_a_connection_that_would_remove_credentials_is_refused_before_anyone_is_asked(
    app, authority, upstream, url
):
    headers = {**CREDENTIALS, "Connection": "Authorization, Cookie"}
    assert "Authorization" in app.get(url, headers=headers, status=400).json["detail"]
    assert authority.requests == upstream.requests == []


def test_a_forwarded_header_cannot_take_the_place_of_the_uri(upstream, authority):
    chosen = {"auth_request": authority.url_to_ask, "forward_headers": ["X-Original-URI"]}
    with gateway_to(upstream, **chosen) as app:
        app.get("/?bundle=a", headers={"X-Original-URI": "/forged"})
    assert [request.all("X-Original-URI") for request in authority.requests] == [["/a"]]


def test_it_never_sees_the_services_own_credentials(upstream, authority, tmp_path):
    file = tmp_path / "headers"
    file.write_text("Authorization: Bearer service\nX-Service: 1\n")
    chosen = {"auth_request": authority.url_to_ask, "upstream_headers_file": file}
    with gateway_to(upstream, **chosen) as app:
        app.get("/a", headers=CREDENTIALS)
        app.get("/?bundle=a", headers=CREDENTIALS)
    for request in authority.requests:
        assert request.get("Authorization") == "Bearer caller"
        assert request.get("X-Service") is None
    assert {r.headers["authorization"] for r in upstream.requests} == {"Bearer service"}


@pytest.mark.parametrize("url", ["/a?x=1", "/?bundle=a"])
def test_it_never_sees_a_links_signature(upstream, authority, tmp_path, url):
    (tmp_path / "keys").write_text("k1:0123456789abcdef\n")
    signed = sign_url(url, b"0123456789abcdef", expires=4_000_000_000, key_id="k1")
    signature = re.search("signature=([^&]+)", signed)[1]
    chosen = {"auth_request": authority.url_to_ask, "signing_keys_file": tmp_path / "keys"}
    with gateway_to(upstream, **chosen) as app:
        app.get(signed, headers={"Referer": "http://a.test" + signed})
    (request,) = authority.requests
    assert request.get("Referer").startswith("http://a.test/")
    assert signature not in repr(request)


def test_its_connection_is_used_again(app, authority):
    for script in (YES, raw(b"HTTP/1.1 204 No Content\r\n\r\n"), chunked(b"ok")):
        authority.on("/check", script)
        for url in ("/a", "/a", "/?bundle=a"):
            app.get(url)
    assert authority.connections == 1


def test_members_are_asked_about_at_once(upstream):
    both = threading.Barrier(2, timeout=10)

    def together(wire):
        both.wait()
        YES(wire)

    with deciding(together) as authority:
        chosen = {"auth_request": authority.url_to_ask, "fetch_parallel": 3}
        with gateway_to(upstream, **chosen) as app:
            assert len(contents(app.get("/?bundle=a&bundle=sub/b+c").body)) == 2


# --- what becomes of its responses ---------------------------------------------------------------


def status(line: str, *headers: str) -> Script:
    return answer(b"its own words", *headers, status=line)


def broken_after(line: str) -> Script:
    return raw(f"HTTP/1.1 {line}\r\nContent-Length: 9\r\n\r\nhalf".encode(), close)


CHALLENGE = 'WWW-Authenticate: Basic realm="authority"'
ANSWERS = [
    pytest.param(status("200 OK"), 200, id="200"),
    pytest.param(raw(b"HTTP/1.1 204 No Content\r\n\r\n"), 200, id="204"),
    pytest.param(status("299 Fine"), 200, id="299"),
    pytest.param(status("401 Unauthorized", CHALLENGE), 401, id="401"),
    pytest.param(status("401 Unauthorized"), 401, id="401 without a challenge"),
    pytest.param(status("403 Forbidden"), 403, id="403"),
    pytest.param(broken_after("200 OK"), 200, id="200 and half a body"),
    pytest.param(broken_after("403 Forbidden"), 403, id="403 and half a body"),
    pytest.param(status("301 Moved", "Location: /yes"), 502, id="301"),
    pytest.param(status("302 Found", "Location: /yes"), 502, id="302"),
    pytest.param(raw(b"HTTP/1.1 304 Not Modified\r\n\r\n"), 502, id="304"),
    pytest.param(status("400 Bad Request"), 502, id="400"),
    pytest.param(status("404 Not Found"), 502, id="404"),
    pytest.param(status("407 Proxy Authentication Required"), 502, id="407"),
    pytest.param(status("410 Gone"), 502, id="410"),
    pytest.param(status("500 Internal Server Error"), 502, id="500"),
    pytest.param(status("503 Service Unavailable"), 502, id="503"),
    pytest.param(status("504 Gateway Timeout"), 504, id="504"),
    pytest.param(status("600 What"), 502, id="600"),
    pytest.param(close, 502, id="closed"),
    pytest.param(raw(b"nonsense\r\n\r\n", close), 502, id="nonsense"),
    pytest.param(raw(b"HTTP/1.1 100 Continue\r\n\r\n", close), 502, id="100 and no more"),
    pytest.param(stall(NEVER), 504, id="silence"),
]


@pytest.mark.parametrize(("script", "told"), ANSWERS)
@pytest.mark.parametrize("url", ["/a", "/?bundle=a", "/?bundle&manifest=list"])
def test_only_2xx_lets_pass_and_the_upstream_hears_nothing_otherwise(upstream, script, told, url):
    with (
        deciding(script) as authority,
        gateway_to(upstream, auth_request=authority.url_to_ask, read_timeout=0.5) as app,
    ):
        _check_decision(app, authority, upstream, told, url)


def _check_decision(app, authority, upstream, told, url):
    authority.on("/yes", YES)
    response = app.get(url, status=told)
    assert "/yes" not in {request.path for request in authority.requests}
    assert (upstream.requests != []) is (told == 200)
    if told == 200:
        return
    assert response.content_type == "application/problem+json"
    assert response.headers["Cache-Control"] == "no-store"
    assert "its own words" not in response.text
    if "bundle" in url:
        (fault,) = response.json["members"]
        assert fault["path"] == ("list" if "manifest" in url else "a")
        assert fault["status"] == told


@pytest.mark.parametrize("url", ["/a", "/?bundle=a", "/?bundle=a&bundle=sub/b+c"])
def test_its_challenge_is_handed_on(app, authority, url):
    authority.on("/check", status("401 Unauthorized", CHALLENGE))
    response = app.get(url, status=401)
    assert response.headers.getall("WWW-Authenticate") == ['Basic realm="authority"']


def test_a_refused_member_is_never_asked_of_the_upstream(app, authority, upstream):
    authority.on("/check", decided({"/a": status("403 Forbidden")}))
    response = app.get("/?bundle=a&bundle=sub/b+c", status=403)
    assert response.json["members"] == [
        {"path": "a", "status": 403, "reason": "access to it is denied"}
    ]
    assert {request.target for request in upstream.requests} == {"/sub/b%20c"}


def test_a_part_and_a_resume_are_asked_about_as_well(app, authority, upstream):
    app.get("/?bundle=a", headers={"Range": "bytes=512-516"}, status=206)
    authority.on("/check", status("403 Forbidden"))
    before = len(upstream.requests)
    app.get("/?bundle=a", headers={"Range": "bytes=512-516"}, status=403)
    assert len(upstream.requests) == before


def test_what_is_refused_by_its_name_is_not_asked_about(app, authority):
    app.get("/?bundle=../a", status=400)
    app.get("/", extra_environ={"PATH_INFO": "/../a"}, status=400)
    assert authority.requests == []


def test_an_authority_that_goes_on_failing_is_not_asked_again_for_every_member(upstream, authority):
    members = [f"{number}" for number in range(99)]  # one more would decide the response
    chosen = Settings(upstream=upstream.url, auth_request=authority.url_to_ask, fetch_parallel=8)
    authority.on("/check", close)
    with served(chosen) as app:
        response = app.get("/?" + "&".join(f"bundle={name}" for name in members), status=502)
    assert len(response.json["members"]) == len(members)
    # Three times each, were it not known; so are those that were under way before.
    assert len(authority.requests) < 2 * len(members)
    assert {request.get("X-Original-URI") for request in authority.requests} == {
        f"/{name}" for name in members
    }


def test_a_passing_failure_is_asked_about_again_as_the_upstreams_are(upstream, authority):
    busy = status("503 Service Unavailable", "Retry-After: 0")
    chosen = Settings(
        upstream=upstream.url, auth_request=authority.url_to_ask, retries=1, retry_pause=0
    )
    for url in ("/a", "/?bundle=a", "/?bundle&manifest=list"):
        authority.on("/check", busy, YES)
        with served(chosen) as app:
            app.get(url, status=200)


@contextmanager
def served(chosen: Settings) -> Iterator[TestApp]:
    with closing(Gateway(Upstream(chosen.upstream, chosen), chosen)) as gateway:
        yield TestApp(gateway)


def test_an_authority_that_is_down_lets_nobody_pass(upstream):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with gateway_to(upstream, auth_request=f"http://127.0.0.1:{port}/") as app:
        plain = app.get("/a", status=502)
        bundle = app.get("/?bundle=a", status=502)
    assert plain.json["detail"] == "the authority cannot be reached"
    assert bundle.json["members"][0]["reason"] == "the authority cannot be reached"
    assert upstream.requests == []


def test_an_authoritys_url_is_in_no_answer_and_no_repr(app, authority):
    authority.on("/check", close)
    assert "for=files" not in app.get("/a", expect_errors=True).text
    assert "for=files" not in repr(Settings(auth_request=authority.url_to_ask))


def test_the_check_before_a_start_reaches_it(authority, upstream):
    done = typed(
        "check",
        TAR_GATEWAY_UPSTREAM=upstream.url,
        TAR_GATEWAY_AUTH_REQUEST=authority.url_to_ask,
    )
    assert f"ok     authority: {authority.url}check?... answers 200\n" in done.stdout
    assert [request.target for request in authority.requests] == ["/check?for=files"]


# --- lists of files, and wrapped applications --------------------------------------------------

LIST = b"- 5 /a x/a\r\n- - /sub/b%20c?v=2 x/b\r\n- 0 @directory y\r\n"


def test_members_whose_size_is_given_are_asked_about_too(app, authority, upstream):
    upstream.files["archive"] = Canned(200, (TEXT, ("X-Archive-Files", "tar")), LIST)
    with_all = app.get("/archive")
    assert contents_of_files(with_all.body) == {"x/a": b"alpha", "x/b": b"beta"}
    assert asked_about(authority) == ["GET /a", "GET /archive", "GET /sub/b%20c?v=2"]
    upstream.requests.clear()
    authority.on("/check", decided({"/a": status("403 Forbidden")}))
    refused = app.get("/archive", status=403)
    assert [fault["path"] for fault in refused.json["members"]] == ["a"]
    assert "/a" not in {request.target for request in upstream.requests}


def contents_of_files(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return {m.name: opened.extractfile(m).read() for m in opened if m.isfile()}


def wrapped(asked: list[str]) -> Callable:
    def application(environ, start_response):
        asked.append(environ["PATH_INFO"])
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
        return [b"alpha"]

    return application


def test_a_wrapped_applications_bundles_are_asked_about(authority):
    asked: list[str] = []
    authority.on("/check", decided({"/b": status("403 Forbidden")}))
    chosen = Settings(auth_request=authority.url_to_ask)
    with closing(BundleMiddleware(wrapped(asked), settings=chosen)) as middleware:
        app = TestApp(middleware)
        assert contents(app.get("/?bundle=a").body) == {"a": b"alpha"}
        asked.clear()
        app.get("/?bundle=b", status=403)
        assert asked == []
        assert app.get("/b").body == b"alpha"  # plain requests are the application's own
    assert asked_about(authority) == ["GET /a", "GET /b"]


# --- for real ----------------------------------------------------------------------------------

# What an operator writes: a table of who may have what.
NGINX_AUTHORITY = """
location = /check {
    set $who "$http_cookie $http_x_original_uri";
    if ($who = "id=1 /files/a") { return 204; }
    if ($http_cookie = "") {
        add_header WWW-Authenticate 'Basic realm="nginx"' always;
        return 401;
    }
    return 403;
}
"""


@pytest.mark.needs("nginx")
@pytest.mark.parametrize("url", ["files/PATH", "files/?bundle=PATH"])
@pytest.mark.parametrize(
    ("path", "headers", "told"),
    [
        ("a", {"Cookie": "id=1"}, (200, None)),
        ("b", {"Cookie": "id=1"}, (403, None)),
        ("a", {"Cookie": "id=2"}, (403, None)),
        ("a", {}, (401, 'Basic realm="nginx"')),
    ],
)
def test_nginx_may_be_the_authority(real, url, path, headers, told):
    request = urllib.request.Request(real + url.replace("PATH", path), headers=headers)
    try:
        answer = urllib.request.urlopen(request)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        assert (answer.status, answer.headers["WWW-Authenticate"]) == told
        assert (b"alpha" in answer.read()) is (answer.status == 200)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    place = tmp_path_factory.mktemp("real")
    (place / "files" / "files").mkdir(parents=True)
    for name in ("a", "b"):
        (place / "files" / "files" / name).write_bytes(b"alpha")
    with (
        nginx(place / "files", place / "nginx", NGINX_AUTHORITY) as server,
        gateway(server, place / "gateway", auth_request=server + "check") as running,
    ):
        yield running.url


# --- the law -----------------------------------------------------------------------------------

PATHS = ["a", "b", "sub/c", "sub/d"]
AUTHORITY = {
    "200": YES,
    "401": status("401 Unauthorized", CHALLENGE),
    "403": status("403 Forbidden"),
    "302": status("302 Found", "Location: /yes"),
    "500": status("500 Internal Server Error"),
}
UPSTREAM = {
    "200": b"content",
    "401": Canned(401, (TEXT, ("WWW-Authenticate", "Basic"))),
    "403": Canned(403, (TEXT,)),
    "404": Canned(404, (TEXT,)),
    "302": Canned(302, (TEXT, ("Location", "/login"))),
}


def rights(kinds: Mapping[str, object]) -> st.SearchStrategy[dict[str, str]]:
    fine_mostly = st.one_of(*[st.just("200")] * 5, st.sampled_from(sorted(kinds)))
    return st.fixed_dictionaries(dict.fromkeys(PATHS, fine_mostly))


@pytest.fixture(scope="module")
def lawful() -> Iterator[tuple[TestApp, FilesUpstream, Scripted]]:
    with (
        deciding() as authority,
        FilesUpstream() as upstream,
        gateway_to(upstream, auth_request=authority.url_to_ask) as app,
    ):
        yield app, upstream, authority


@settings(max_examples=150)
@given(
    granted=rights(AUTHORITY),
    served_as=rights(UPSTREAM),
    wanted=st.lists(st.sampled_from(PATHS), min_size=1, unique=True),
)
def test_a_bundle_comes_if_and_only_if_each_plain_get_by_the_same_caller_does(
    lawful, granted, served_as, wanted
):
    app, upstream, authority = lawful
    by_uri = {f"/{path}": AUTHORITY[kind] for path, kind in granted.items()}
    authority.on("/check", decided(by_uri))
    upstream.files.clear()
    upstream.files.update({path: UPSTREAM[kind] for path, kind in served_as.items()})
    plain = {path: app.get(f"/{path}", expect_errors=True) for path in wanted}
    faulty = [path for path, response in plain.items() if response.status_int != 200]
    upstream.requests.clear()
    bundle = app.get("/?" + "&".join(f"bundle={path}" for path in wanted), expect_errors=True)
    refused = {path for path, kind in granted.items() if kind != "200"}
    assert not refused & {request.target[1:] for request in upstream.requests}
    if faulty:
        assert bundle.status_int >= 400
        named = [fault["path"] for fault in bundle.json["members"]]
        decided_early = any(plain[path].status_int == 401 for path in faulty)
        assert set(named) <= set(faulty) if decided_early else named == faulty
    else:
        assert contents(bundle.body) == {path: plain[path].body for path in wanted}

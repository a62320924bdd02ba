"""What pages of other origins may read: preflights, headers of every response, and `Vary`."""

from collections.abc import Iterator

import pytest
from webtest import TestApp

from tar_gateway.web.cors import CrossOrigin
from tests.support.files_upstream import Canned, File, FilesUpstream, gateway_to
from tests.support.wrapped import Page, Probes, wrapped

APP = "https://app.example.com"
OTHER = "https://evil.example.com"

ALLOWED = {
    "Access-Control-Allow-Origin": APP,
    "Access-Control-Allow-Credentials": "true",
    "Access-Control-Expose-Headers": "Content-Length, Content-Range, Content-Disposition, "
    "Accept-Ranges, ETag, Link, Retry-After, Bundle-Missing, X-Request-ID",
}
OPENED = {**ALLOWED, "Access-Control-Allow-Origin": "*"}
del OPENED["Access-Control-Allow-Credentials"]

OF_THE_UPSTREAM = (
    ("Access-Control-Allow-Origin", OTHER),
    ("access-control-allow-credentials", "true"),
    ("Access-Control-Expose-Headers", "X-Secret"),
    ("Vary", "Accept-Language, Origin"),
    ("Vary", "Cookie"),
)
FILES = {
    "a.txt": File(b"alpha", more=OF_THE_UPSTREAM),
    "old.txt": Canned(304, OF_THE_UPSTREAM),
    "list": Canned(200, (*OF_THE_UPSTREAM, ("X-Archive-Files", "tar")), b"- 5 /a.txt a.txt\n"),
}


@pytest.fixture(scope="module")
def upstream() -> Iterator[FilesUpstream]:
    with FilesUpstream(dict(FILES)) as running:
        yield running


@pytest.fixture(scope="module")
def app(upstream) -> Iterator[TestApp]:
    with gateway_to(upstream, cors_origins=[APP, "http://localhost:5173"]) as running:
        yield running


@pytest.fixture(scope="module")
def open_app(upstream) -> Iterator[TestApp]:
    with gateway_to(upstream, cors_origins="*") as running:
        yield running


def said(response) -> dict[str, str]:
    """Give what a response says of origins."""
    found = [(k, v) for k, v in response.headers.items() if k.lower().startswith("access-control-")]
    assert len(dict(found)) == len(found)
    return dict(found)


def vary(response) -> list[str]:
    (line,) = response.headers.getall("Vary")
    return line.split(", ")


def preflight(app, url="/?bundle=a.txt", **headers: str):
    asked = {"Origin": APP, "Access-Control-Request-Method": "GET", **headers}
    return app.options(url, headers=asked, expect_errors=True)


# --- every response -----------------------------------------------------------------------------

ANSWERS = {
    "archive": ("GET", "/?bundle=a.txt", {}, 200),
    "head": ("HEAD", "/?bundle=a.txt", {}, 200),
    "range": ("GET", "/?bundle=a.txt", {"Range": "bytes=0-99"}, 206),
    "not modified": ("GET", "/?bundle=a.txt", {"If-None-Match": "*"}, 304),
    "failed precondition": ("GET", "/?bundle=a.txt", {"If-Match": '"x"'}, 412),
    "range behind the end": ("GET", "/?bundle=a.txt", {"Range": "bytes=999999-"}, 416),
    "posted": ("POST", "/?bundle", {"Content-Type": "application/json"}, 400),
    "plan": ("GET", "/?bundle=a.txt&plan=json", {}, 200),
    "no member": ("GET", "/?bundle", {}, 400),
    "missing member": ("GET", "/?bundle=none", {}, 404),
    "page for a browser": ("GET", "/?bundle=none", {"Accept": "text/html"}, 404),
    "plain": ("GET", "/a.txt", {}, 200),
    "plain, not modified": ("GET", "/old.txt", {}, 304),
    "plain, missing": ("GET", "/none", {}, 404),
    "list of files": ("GET", "/list", {}, 200),
    "method": ("PUT", "/a.txt", {}, 405),
    "no preflight": ("OPTIONS", "/a.txt", {}, 405),
}


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        (APP, ALLOWED),
        (
            "http://localhost:5173",
            {**ALLOWED, "Access-Control-Allow-Origin": "http://localhost:5173"},
        ),
        (OTHER, {}),
        ("null", {}),
        (None, {}),
    ],
)
def test_every_response_says_what_an_origin_may_read_and_that_it_depends_on_it(
    app, answer, origin, expected
):
    method, url, headers, status = ANSWERS[answer]
    sent = headers | ({} if origin is None else {"Origin": origin})
    response = app.request(url, method=method, headers=sent, status=status)
    assert said(response) == expected
    assert vary(response).count("Origin") == 1


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize(
    ("origin", "expected"), [(APP, OPENED), (OTHER, OPENED), ("null", {}), (None, OPENED)]
)
def test_with_a_star_every_origin_reads_and_none_with_credentials(
    open_app, answer, origin, expected
):
    method, url, headers, status = ANSWERS[answer]
    sent = headers | ({} if origin is None else {"Origin": origin})
    response = open_app.request(url, method=method, headers=sent, status=status)
    assert said(response) == expected
    assert "Origin" in vary(response)


@pytest.mark.parametrize(
    "origin",
    [
        *(f"{APP}/", f"{APP}:443", f"{APP}:8443", f"{APP}.evil.example", f"{APP}, {OTHER}"),
        *(APP.replace("https", "http"), APP.upper(), f" {APP}", f"{APP}\t", "", "*", "https://"),
        *("app.example.com", "https://xapp.example.com", "https://app.example.com@evil.example"),
    ],
)
def test_only_an_origin_as_it_stands_in_the_setting_is_allowed(app, origin):
    environ = {"HTTP_ORIGIN": origin}
    assert said(app.get("/?bundle=a.txt", extra_environ=environ)) == {}
    asks = {**environ, "HTTP_ACCESS_CONTROL_REQUEST_METHOD": "GET"}
    response = app.options("/?bundle=a.txt", extra_environ=asks, status=403)
    assert said(response) == {}


def test_what_an_upstream_says_else_of_its_variants_is_kept(app):
    assert vary(app.get("/old.txt", status=304)) == [
        *("Accept-Language", "Origin", "Cookie"),
    ]


def test_an_archive_still_varies_by_what_goes_along_with_its_members(app):
    assert vary(app.get("/?bundle=a.txt")) == ["Authorization", "Cookie", "Origin"]


def test_without_the_setting_an_upstreams_own_word_is_handed_on(upstream):
    with gateway_to(upstream) as app:
        plain = app.get("/a.txt", headers={"Origin": APP})
        archive = app.get("/?bundle=a.txt", headers={"Origin": APP})
        refused = preflight(app)
    assert said(plain)["Access-Control-Allow-Origin"] == OTHER
    assert said(archive) == {}
    assert vary(archive) == ["Authorization", "Cookie"]
    assert refused.status_int == 405


# --- preflights ---------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["/?bundle=a.txt", "/?bundle", "/a.txt", "/none", "/%2e%2e/x"])
def test_a_preflight_is_answered_before_the_upstream(app, upstream, url):
    upstream.requests.clear()
    response = preflight(app, url, **{"Access-Control-Request-Headers": "range,if-range"})
    assert response.status == "204 No Content"
    assert said(response) == {
        "Access-Control-Allow-Origin": APP,
        "Access-Control-Allow-Credentials": "true",
        "Access-Control-Allow-Methods": "GET, HEAD, POST",
        "Access-Control-Allow-Headers": "range, if-range",
        "Access-Control-Max-Age": "600",
    }
    assert vary(response) == [
        *("Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers"),
    ]
    assert upstream.requests == []


def test_a_preflight_to_everyone_allows_no_credentials(open_app):
    response = preflight(open_app)
    assert said(response)["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in said(response)


@pytest.mark.parametrize("origin", [OTHER, "null"])
def test_a_preflight_of_an_origin_that_is_not_allowed_says_so(app, upstream, origin):
    upstream.requests.clear()
    response = preflight(app, Origin=origin)
    assert response.status_int == 403
    assert response.json["detail"] == (
        f"pages of the origin '{origin}' may not read what is served here"
    )
    assert said(response) == {}
    assert upstream.requests == []


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [
        ("authorization,content-type", "authorization, content-type"),
        ("x-csrf-token, traceparent", "x-csrf-token, traceparent"),
        ("range,x-forwarded-for,x-original-url", "range"),
        ("x-http-method-override,remote-user,X_Forwarded_For", None),
        ("a b,\xe9,,:", None),
        ("", None),
        (
            ",".join(f"x-{number}" for number in range(5000)),
            ", ".join(f"x-{n}" for n in range(100)),
        ),
    ],
)
def test_a_preflight_allows_headers_but_those_that_no_client_may_speak_by(app, asked, allowed):
    environ = {"HTTP_ACCESS_CONTROL_REQUEST_HEADERS": asked}
    asks = {**environ, "HTTP_ORIGIN": APP, "HTTP_ACCESS_CONTROL_REQUEST_METHOD": "GET"}
    response = app.options("/?bundle=a.txt", extra_environ=asks, status=204)
    assert said(response).get("Access-Control-Allow-Headers") == allowed


def test_a_preflight_needs_no_signature_and_asks_no_authority(upstream, tmp_path):
    (tmp_path / "keys").write_text("k1:" + "s" * 32 + "\n")
    upstream.requests.clear()
    chosen = {"signing_keys_file": tmp_path / "keys", "auth_request": upstream.url + "auth"}
    with gateway_to(upstream, cors_origins=APP, **chosen) as app:
        assert preflight(app).status_int == 204
        refused = app.get("/?bundle=a.txt", headers={"Origin": APP}, status=403)
    assert said(refused) == ALLOWED
    assert upstream.requests == []


def test_a_preflight_takes_no_room_among_the_downloads(upstream):
    with gateway_to(upstream, cors_origins=APP, max_downloads=1) as app:
        app.gateway._door.downloads.take({})
        busy = app.get("/?bundle=a.txt", headers={"Origin": APP}, status=503)
        assert preflight(app).status_int == 204
    assert said(busy) == ALLOWED


def test_the_gateways_own_pages_are_for_no_other_origin(app):
    healthy = app.get("/-/healthy", headers={"Origin": APP})
    assert (said(healthy), preflight(app, "/-/healthy").status_int) == ({}, 405)


def test_without_origins_there_are_no_preflights():
    asks = {"REQUEST_METHOD": "OPTIONS", "HTTP_ORIGIN": APP}
    asks["HTTP_ACCESS_CONTROL_REQUEST_METHOD"] = "GET"
    assert CrossOrigin([APP]).is_preflight(asks)
    assert not CrossOrigin([]).is_preflight(asks)


# --- around an application ----------------------------------------------------------------------

PAGES = {
    "/a.txt": Page(b"alpha", (("ETag", '"1"'), ("Access-Control-Allow-Origin", OTHER))),
    "/list": Page(
        b"- 5 /a.txt a.txt\n",
        (("X-Archive-Files", "tar"), ("Access-Control-Allow-Origin", OTHER)),
    ),
}


@pytest.fixture
def pages() -> Probes:
    return Probes(PAGES)


@pytest.fixture
def around(pages) -> Iterator[TestApp]:
    with wrapped(pages, cors_origins=APP) as client:
        yield client


@pytest.mark.parametrize("url", ["/?bundle=a.txt", "/?bundle=none", "/list"])
def test_an_archive_of_an_applications_files_is_for_our_origins(around, url):
    response = around.get(url, headers={"Origin": APP}, expect_errors=True)
    assert said(response) == ALLOWED
    assert "Origin" in vary(response)


def test_an_application_says_itself_who_may_read_what_it_answers(around, pages):
    response = around.get("/a.txt", headers={"Origin": APP})
    assert said(response) == {"Access-Control-Allow-Origin": OTHER}
    assert "Vary" not in response.headers
    assert preflight(around, "/a.txt").status_int == 200
    assert pages.environs[-1]["REQUEST_METHOD"] == "OPTIONS"


def test_an_application_hears_of_no_preflight_of_a_bundle(around, pages):
    assert preflight(around).status_int == 204
    assert pages.environs == []


def test_an_application_hears_of_all_preflights_where_no_origins_are_set(pages):
    with wrapped(pages) as client:
        preflight(client, "/a.txt?bundle=a.txt")
    assert pages.asked == ["/a.txt?bundle=a.txt"]

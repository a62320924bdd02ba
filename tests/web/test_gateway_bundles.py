"""What a bundle request is answered with when all is well: the archive, its headers, its asking."""

import io
import tarfile
from collections.abc import Iterator
from urllib.parse import quote, urlencode

import pytest
from webtest import TestApp

from tests.support.answers import lasting
from tests.support.files_upstream import MTIME, File, FilesUpstream, gateway_to

QUOTE = '"'
FILES = {
    "top.txt": b"at the top",
    "reports/a.txt": b"alpha",
    "reports/b.txt": File(b"beta " * 300, MTIME + 60),
    "reports/a,b.txt": b"a comma",
    "reports/a b+c.txt": b"a space and a plus",
    "reports/a;b.txt": b"a semicolon",
    "reports/a&b=c.txt": b"an ampersand",
    "reports/100%.txt": b"a percent sign",
    "reports/sub/c.txt": b"gamma",
    "reports/übung.txt": "grün".encode(),
    "reports/2026 Übung/d.txt": b"delta",
}


@pytest.fixture
def upstream() -> Iterator[FilesUpstream]:
    with FilesUpstream(dict(FILES)) as running:
        yield running


@pytest.fixture
def app(upstream: FilesUpstream) -> Iterator[TestApp]:
    with gateway_to(upstream) as running:
        yield running


def contents(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return {member.name: opened.extractfile(member).read() for member in opened}


def disposition(response) -> str:
    return response.headers["Content-Disposition"]


def test_an_archive_holds_the_members_in_the_order_asked_for(app):
    response = app.get("/reports/?bundle=b.txt&bundle=a.txt")
    assert list(contents(response.body).items()) == [("b.txt", b"beta " * 300), ("a.txt", b"alpha")]


def test_a_member_is_dated_and_readable_by_all_and_says_nothing_of_the_server(app):
    response = app.get("/reports/?bundle=b.txt")
    with tarfile.open(fileobj=io.BytesIO(response.body)) as opened:
        (member,) = opened
    assert (member.mtime, member.mode, member.uname, member.uid) == (MTIME + 60, 0o644, "", 0)


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("bundle=a.txt", ["a.txt"]),
        ("bundle=a.txt,b.txt", ["a.txt", "b.txt"]),
        ("bundle=b.txt&bundle=a.txt,sub/c.txt", ["b.txt", "a.txt", "sub/c.txt"]),
        ("bundle&bundle=a.txt", ["a.txt"]),
        ("x=1&bundle=a.txt&&y", ["a.txt"]),
        ("bundle=a%2Cb.txt", ["a,b.txt"]),
        ("bundle=a%2cb.txt,a.txt", ["a,b.txt", "a.txt"]),
        ("bundle=a+b%2Bc.txt", ["a b+c.txt"]),
        ("bundle=a%20b%2bc.txt", ["a b+c.txt"]),
        ("bundle=a;b.txt", ["a;b.txt"]),
        ("bundle=a%26b%3Dc.txt", ["a&b=c.txt"]),
        ("bundle=a%26b=c.txt", ["a&b=c.txt"]),
        ("bundle=100%25.txt", ["100%.txt"]),
        ("bundle=%C3%BCbung.txt", ["übung.txt"]),
        ("b%75ndle=a.txt", ["a.txt"]),
    ],
)
def test_members_are_read_from_the_raw_query(app, query, names):
    response = app.get("/reports/?" + query)
    assert list(contents(response.body)) == names
    for name, content in contents(response.body).items():
        assert FilesUpstream(FILES).find(f"reports/{name}").content == content


def test_a_member_in_bytes_that_no_url_holds_is_the_member_it_spells(app):
    response = app.get("/reports/?bundle=" + "übung.txt".encode().decode("latin-1"))
    assert contents(response.body) == {"übung.txt": "grün".encode()}


def test_a_directory_without_its_slash_is_the_same_directory(app):
    with_slash = app.get("/reports/?bundle=a.txt")
    without = app.get("/reports?bundle=a.txt")
    assert without.body == with_slash.body
    assert lasting(without) == lasting(with_slash)


@pytest.mark.parametrize(
    ("path", "member", "filename"),
    [
        ("/", "top.txt", "bundle.tar"),
        ("/reports/", "a.txt", "reports.tar"),
        ("/reports", "a.txt", "reports.tar"),
        ("/reports/sub/", "c.txt", "sub.tar"),
        ("/", "reports/sub/c.txt", "bundle.tar"),
    ],
)
def test_an_archive_is_named_after_the_last_directory(app, path, member, filename):
    response = app.get(f"{path}?bundle={member}")
    assert disposition(response) == f'attachment; filename="{filename}"'


@pytest.mark.parametrize(
    ("filename", "written"),
    [
        ("mine.tar", 'filename="mine.tar"'),
        ("no ending", 'filename="no ending.tar"'),
        ("page.html", 'filename="page.html.tar"'),
        ("mine.zip", 'filename="mine.tar"'),
        ("a;b.tar", 'filename="a;b.tar"'),
        ('a"b.tar', "filename=\"a_b.tar\"; filename*=UTF-8''a%22b.tar"),
        ("50%.tar", "filename=\"50_.tar\"; filename*=UTF-8''50%25.tar"),
        ("Übung.tar", "filename=\"Ubung.tar\"; filename*=UTF-8''%C3%9Cbung.tar"),
        ("日本.tar", "filename=\"__.tar\"; filename*=UTF-8''%E6%97%A5%E6%9C%AC.tar"),
    ],
)
def test_a_file_name_is_written_as_rfc_6266_has_it(app, filename, written):
    by_query = app.get("/reports/?bundle=a.txt&filename=" + quote(filename))
    by_json = app.post_json("/reports/?bundle", {"members": ["a.txt"], "filename": filename})
    assert disposition(by_query) == f"attachment; {written}"
    assert disposition(by_json) == f"attachment; {written}"


def test_a_directory_that_is_not_ascii_gives_the_archive_its_name(app):
    response = app.get("/reports/2026%20%C3%9Cbung/?bundle=d.txt")
    assert disposition(response) == (
        "attachment; filename=\"2026 Ubung.tar\"; filename*=UTF-8''2026%20%C3%9Cbung.tar"
    )


def test_these_are_exactly_the_headers_of_an_archive(app):
    response = app.get("/reports/?bundle=a.txt&bundle=b.txt")
    etag = response.headers["ETag"]
    assert response.status == "200 OK"
    assert sorted(lasting(response)) == [
        ("Accept-Ranges", "bytes"),
        ("Cache-Control", "private, no-cache, no-transform"),
        ("Content-Disposition", 'attachment; filename="reports.tar"'),
        ("Content-Length", str(len(response.body))),
        ("Content-Type", "application/x-tar"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
        ("ETag", etag),
        ("Last-Modified", "Sun, 13 Sep 2020 12:27:40 GMT"),
        ("Link", f"<?bundle=a.txt&bundle=b.txt&v={etag.strip(QUOTE)}>; rel={QUOTE}bookmark{QUOTE}"),
        ("Vary", "Authorization, Cookie"),
        ("X-Accel-Buffering", "no"),
        ("X-Content-Type-Options", "nosniff"),
    ]
    assert etag == f"{QUOTE}{etag.strip(QUOTE)}{QUOTE}"
    assert quote(etag.strip(QUOTE), safe="") == etag.strip(QUOTE)


def test_head_is_answered_with_the_headers_of_get_and_no_body(app):
    query = "/reports/?bundle=a.txt&bundle=b.txt"
    head = app.head(query)
    assert head.body == b""
    assert lasting(head) == lasting(app.get(query))


def test_head_asks_for_no_byte_of_any_member(app, upstream):
    app.head("/reports/?bundle=a.txt&bundle=b.txt")
    assert [request.method for request in upstream.requests] == ["HEAD", "HEAD"]


def test_get_asks_twice_for_each_member_and_proves_the_version(app, upstream):
    app.get("/reports/?bundle=a.txt&bundle=b.txt")
    fetched = upstream.asked("GET")
    assert len(upstream.asked("HEAD")) == 2
    assert [request.target for request in fetched] == ["/reports/a.txt", "/reports/b.txt"]
    assert all(request.headers["if-match"].startswith('"') for request in fetched)
    assert not any("range" in request.headers for request in fetched)


def test_a_form_and_json_and_a_query_give_the_same_archive(app):
    names = ["b.txt", "a,b.txt", "a b+c.txt", "übung.txt"]
    by_query = app.get("/reports/?" + urlencode([("bundle", name) for name in names]))
    by_form = app.post("/reports/?bundle", [("bundle", name) for name in names])
    by_json = app.post_json("/reports/?bundle", {"members": names})
    assert list(contents(by_query.body)) == names
    assert by_form.body == by_json.body == by_query.body


def test_a_comma_in_a_form_is_part_of_a_name(app):
    response = app.post(
        "/reports?bundle",
        "bundle=a,b.txt&filename=mine.tar",
        content_type="Application/X-WWW-Form-Urlencoded ; charset=UTF-8",
    )
    assert contents(response.body) == {"a,b.txt": b"a comma"}
    assert disposition(response) == 'attachment; filename="mine.tar"'


def test_a_member_of_a_json_list_may_be_called_anything_in_the_archive(app):
    members = ["a.txt", {"path": "sub/c.txt", "name": "x/y.txt"}, {"path": "sub/c.txt"}]
    response = app.post_json("/reports/?bundle", {"members": members})
    assert contents(response.body) == {
        "a.txt": b"alpha",
        "x/y.txt": b"gamma",
        "sub/c.txt": b"gamma",
    }


def test_a_post_is_answered_like_a_get_but_offers_no_ranges_and_no_link(app):
    posted = dict(lasting(app.post_json("/reports/?bundle", {"members": ["a.txt"]})))
    got = dict(lasting(app.get("/reports/?bundle=a.txt")))
    assert posted.pop("Accept-Ranges") == "none"
    assert got.pop("Accept-Ranges") == "bytes"
    assert got.pop("Link")
    assert posted == got


def test_a_member_without_any_bytes_is_a_member(app, upstream):
    upstream.files["reports/empty"] = b""
    response = app.get("/reports/?bundle=empty&bundle=a.txt")
    assert contents(response.body) == {"empty": b"", "a.txt": b"alpha"}


def test_members_without_a_strong_validator_give_a_weak_tag_and_no_ranges(app, upstream):
    upstream.files["reports/weak.txt"] = File(b"weak", etag='W/"1"', mtime=None)
    response = app.get("/reports/?bundle=weak.txt")
    assert response.headers["ETag"].startswith('W/"')
    assert response.headers["Accept-Ranges"] == "none"
    assert "Last-Modified" not in response.headers


def test_two_gateways_give_the_same_answer(upstream):
    query = "/reports/?bundle=a.txt&bundle=b.txt&bundle=%C3%BCbung.txt"
    with gateway_to(upstream) as one, gateway_to(upstream) as other:
        first, second = one.get(query), other.get(query)
    assert first.body == second.body
    assert lasting(first) == lasting(second)


def test_members_are_found_below_the_base_of_the_upstream(upstream):
    with gateway_to(upstream, base="reports") as app:
        response = app.get("/sub/?bundle=c.txt")
    assert contents(response.body) == {"c.txt": b"gamma"}
    assert disposition(response) == 'attachment; filename="sub.tar"'


def test_a_mount_point_is_no_part_of_a_members_path(upstream):
    with gateway_to(upstream, environ={"SCRIPT_NAME": "/files"}) as app:
        response = app.get("/files/reports/?bundle=a.txt")
        at_the_root = app.get("/files?bundle=top.txt")
    assert contents(response.body) == {"a.txt": b"alpha"}
    assert contents(at_the_root.body) == {"top.txt": b"at the top"}
    assert disposition(at_the_root) == 'attachment; filename="bundle.tar"'


def test_the_parameter_may_be_called_something_else(upstream):
    with gateway_to(upstream, parameter="tar") as app:
        by_query = app.get("/reports/?tar=a.txt")
        by_form = app.post("/reports/?tar", {"tar": "a.txt"})
        plain = app.get("/top.txt?bundle=a.txt")
    assert contents(by_query.body) == {"a.txt": b"alpha"}
    assert by_form.body == by_query.body
    assert plain.body == b"at the top"


def test_a_directory_on_disk_is_served_as_well(tmp_path):
    (tmp_path / "on disk.txt").write_bytes(b"from a disk")
    with FilesUpstream(directory=tmp_path) as upstream, gateway_to(upstream) as app:
        response = app.get("/?bundle=on+disk.txt")
    assert contents(response.body) == {"on disk.txt": b"from a disk"}


CREDENTIALS = {"Authorization": "Bearer caller", "Cookie": "session=1; other=2"}


@pytest.mark.parametrize("connection", ["close", "Accept, User-Agent", "te,keep-alive"])
def test_only_the_callers_credentials_go_along_with_members(app, upstream, connection):
    more = {
        "Connection": connection,
        "Accept": "text/html",
        "Accept-Encoding": "gzip",
        "Accept-Language": "de",
        "If-Modified-Since": "Sun, 13 Sep 2020 12:26:39 GMT",
        "If-None-Match": '"another"',
        "Origin": "http://a.test",
        "Proxy-Authorization": "Basic eDp5",
        "Range": "bytes=600-699",
        "Referer": "http://a.test/",
        "Transfer-Encoding": "identity",
        "User-Agent": "a browser",
        "X-Forwarded-For": "192.0.2.1",
        "X-Real-IP": "192.0.2.1",
    }
    app.get("/reports/?bundle=b.txt", headers={**CREDENTIALS, **more}, status=206)
    asked, fetched = (dict(request.headers) for request in upstream.requests)
    own = {
        "host": upstream.host,
        "user-agent": "tar_gateway",
        "accept-encoding": "identity",
        "authorization": "Bearer caller",
        "cookie": "session=1; other=2",
        "via": asked["via"],
        "x-request-id": asked["x-request-id"],
    }
    etag = File(b"beta " * 300).headers()["ETag"]
    assert asked == own
    # the archive's first 512 bytes are the member's header
    assert fetched == {**own, "if-match": etag, "range": "bytes=88-187"}


def test_which_credentials_go_along_is_a_setting(upstream):
    with gateway_to(upstream, forward_headers="X-Api-Key") as app:
        response = app.get("/reports/?bundle=a.txt", headers={**CREDENTIALS, "X-Api-Key": "secret"})
    assert response.headers["Vary"] == "X-Api-Key"
    for request in upstream.requests:
        assert request.headers["x-api-key"] == "secret"
        assert not {"authorization", "cookie"} & set(request.headers)


def test_without_forwarded_headers_an_answer_varies_on_none(upstream):
    with gateway_to(upstream, forward_headers=()) as app:
        response = app.get("/reports/?bundle=a.txt", headers=CREDENTIALS)
    assert "Vary" not in response.headers
    assert not any("authorization" in request.headers for request in upstream.requests)


def test_a_caller_gets_what_the_upstream_gives_to_his_credentials(upstream):
    upstream.credentials = "Bearer caller"
    with gateway_to(upstream) as app:
        allowed = app.get("/reports/?bundle=a.txt", headers=CREDENTIALS)
        refused = app.get("/reports/?bundle=a.txt", status=401)
    assert contents(allowed.body) == {"a.txt": b"alpha"}
    assert refused.headers["WWW-Authenticate"] == 'Basic realm="files"'


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_a_bundle_for_a_page_of_another_site_costs_the_upstream_nothing(app, upstream, method):
    picture = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    app.request("/reports/?bundle=a.txt", method=method, headers=picture, status=403)
    app.request("/reports/?bundle=a.txt", headers={"Sec-Fetch-Dest": "iframe"}, status=403)
    assert upstream.requests == []
    plain = app.get("/reports/a.txt", headers={**picture, "Sec-Fetch-Dest": "iframe"}, status=200)
    assert "Cross-Origin-Resource-Policy" not in plain.headers

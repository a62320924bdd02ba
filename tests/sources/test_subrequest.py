"""Members from the wrapped application: what it is asked, as whom, how often, in which thread."""

import threading
import tracemalloc
from contextlib import closing
from io import BytesIO

import pytest
from webob import Request

from tar_gateway.errors import SourceError
from tar_gateway.sources import Caller, UnknownSize
from tar_gateway.sources.spool import Spool
from tar_gateway.sources.subrequest import Subrequests
from tests.support.wrapped import TAGGED, TEXT, Counted, Page, Probes, unpacked, wrapped

OLD = ("Last-Modified", "Sun, 13 Sep 2020 12:26:40 GMT")
WEAK = ("ETag", 'W/"1"')
MADE_ANEW = ("Last-Modified", "Fri, 01 Jan 2100 00:00:00 GMT")  # not before the response itself

OUTER = {
    "CONTENT_TYPE": "application/x-www-form-urlencoded",
    "HTTP_ACCEPT_ENCODING": "gzip",
    "HTTP_CONTENT_ENCODING": "identity",
    "HTTP_EXPECT": "100-continue",
    "HTTP_IF_MATCH": "*",
    "HTTP_IF_MODIFIED_SINCE": OLD[1],
    "HTTP_IF_NONE_MATCH": '"1"',
    "HTTP_IF_RANGE": '"1"',
    "HTTP_IF_UNMODIFIED_SINCE": OLD[1],
    "HTTP_RANGE": "bytes=0-1",
    "HTTP_TRANSFER_ENCODING": "identity",
    "HTTP_X_HTTP_METHOD_OVERRIDE": "DELETE",
    "HTTP_X_METHOD_OVERRIDE": "DELETE",
    "HTTP_X_HTTP_METHOD": "DELETE",
    "HTTP_X_ORIGINAL_URL": "/another",
    "HTTP_X_REWRITE_URL": "/another",
    "HTTP_PROXY": "http://evil.test",
    "bottle.request": "the outer one",
    "flask.app": "the outer one",
    "gunicorn.socket": None,
    "webob.adhoc_attrs": {"user": "the outer one"},
    "werkzeug.request": "the outer one",
    "wsgi.input_terminated": True,
}
OWN = {
    "HTTP_AUTHORIZATION": "Bearer caller",
    "HTTP_COOKIE": "session=1",
    "HTTP_HOST": "public.test",
    "HTTP_ACCEPT_LANGUAGE": "de",
    "HTTP_USER_AGENT": "a browser",
    "HTTP_X_FORWARDED_FOR": "192.0.2.1",
    "HTTP_X_REMOTE_USER": "as the outer request says",
    "REMOTE_ADDR": "192.0.2.1",
    "REMOTE_USER": "caller",
    "SCRIPT_NAME": "/mounted here",
    "beaker.session": object(),
    "repoze.who.identity": {"user": "caller"},
    "wsgi.multithread": False,
    "wsgi.url_scheme": "https",
}


def member_environ(**more: object) -> dict:
    """Give what the application sees of a member of a POST with everything in it."""
    seen: list[dict] = []

    def app(environ, start_response):
        seen.append(dict(environ))
        return Page(b"x", ())(environ, start_response)

    body = b"bundle=sub/%C3%BC%20100%25.txt&token=secret"
    outer = Request.blank("/dir/", {"QUERY_STRING": "bundle", "REQUEST_METHOD": "POST"}).environ
    outer |= {"wsgi.input": BytesIO(body), "CONTENT_LENGTH": str(len(body))}
    outer |= OUTER | OWN | more
    before = dict(outer)
    with wrapped(app) as client:
        stat = Subrequests(app, Spool(0)).stat("dir/sub/%C3%BC%20100%25.txt", Caller((), outer))
        assert isinstance(stat, UnknownSize)
        stat.content.close()
        assert outer == before
        with closing(client.bare(outer, lambda *_: None)) as answer:
            b"".join(answer)
    assert seen[0]["PATH_INFO"] == seen[1]["PATH_INFO"]
    return seen[1]


def test_a_member_is_a_get_of_its_path_under_the_same_mount_point():
    environ = member_environ(RAW_URI="/raw?bundle", REQUEST_URI="/raw?bundle")
    path = "/dir/sub/ü 100%.txt".encode().decode("latin-1")
    raw = "/mounted%20here/dir/sub/%C3%BC%20100%25.txt"
    asked = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "QUERY_STRING": ""}
    asked |= {"RAW_URI": raw, "REQUEST_URI": raw, "SCRIPT_NAME": "/mounted here"}
    assert {name: environ[name] for name in asked} == asked


def test_a_member_is_asked_for_by_the_same_caller():
    environ = member_environ()
    assert {name: environ[name] for name in OWN} == OWN
    assert environ["beaker.session"] is OWN["beaker.session"]


def test_a_member_is_asked_for_without_what_belongs_to_the_outer_request():
    environ = member_environ()
    kept = {name: environ[name] for name in OUTER if name in environ}
    assert kept == {"HTTP_ACCEPT_ENCODING": "identity"}
    assert environ["wsgi.input"].read() == b""
    assert "CONTENT_LENGTH" not in environ


@pytest.mark.parametrize("query", ["bundle=a&token=1", "token=1&bundle=a&filename=x"])
def test_the_outer_query_is_not_the_members(query):
    app = Probes({"/a": Page()})
    with wrapped(app) as client:
        client.get(f"/?{query}")
    assert set(app.asked) == {"/a"}


@pytest.mark.parametrize(
    ("answer", "status", "reason"),
    [
        (Page(status="401 No"), 401, "it needs credentials"),
        (Page(status="403 No"), 403, "access to it is denied"),
        (Page(status="404 No"), 404, "it does not exist"),
        (Page(status="410 No"), 404, "it does not exist"),
        (Page(b"log in", (("Location", "/login"),), "302 Found"), 403, "a login is asked for"),
        (Page(b"log in", (("Location", "/login"),), "303 See"), 403, "a login is asked for"),
        (Page(b"log in", (("Location", "/login"),), "307 Go"), 403, "a login is asked for"),
        (Page(b"", (("Location", "/bad/"),), "301 Moved"), 404, "it is a directory"),
        (Page(b"", (("Location", "bad/"),), "301 Moved"), 404, "it is a directory"),
        (
            Page(b"", (("Location", "https://s3.test/b/bad?X-Amz-Signature=secret"),), "302 Found"),
            502,
            "an object store, whose host is not in REDIRECT_HOSTS",
        ),
        (
            Page(b"", (("Location", "https://b.s3.eu-west-1.amazonaws.com/secret"),), "302 Found"),
            502,
            "an object store, whose host is not in REDIRECT_HOSTS",
        ),
        (Page(b"part", status="206 Partial"), 502, "206 Partial Content"),
        (Page(b"oh", status="500 Oh"), 502, "500 Internal Server Error"),
        (Page(b"oh", status="503 Oh"), 502, "503 Service Unavailable"),
        (Page(b"oh", status="599 Oh"), 502, "599"),
        (Page(b"x", (("Content-Encoding", "gzip"),)), 502, "encoded"),
        (Page(headers=(("X-Accel-Redirect", "/secret/a"),)), 502, "a server in front"),
        (Page(headers=(("x-sendfile", "/secret/a"),)), 502, "a server in front"),
        (Page(b"- 1 /secret x\n", (("X-Archive-Files", "tar"),)), 502, "a server in front"),
        (Page(b"- 1 /secret x\n", (("X-Archive-Files", "zip"),)), 502, "a server in front"),
    ],
)
def test_a_member_that_can_not_be_had_is_named_alone(answer, status, reason):
    app = Probes({"/good": Page(b"good"), "/bad": answer})
    with wrapped(app) as client:
        response = client.get("/?bundle=good&bundle=bad", status=status)
    (fault,) = response.json["members"]
    assert (fault["path"], fault["status"]) == ("bad", status)
    assert reason in fault["reason"]
    assert "secret" not in response.text
    assert app.closes == {1}


def test_a_member_that_needs_credentials_passes_the_applications_challenge_on():
    challenge = ("WWW-Authenticate", 'Basic realm="files"')
    app = Probes({"/a": Page(b"who?", (challenge,), "401 Unauthorized")})
    with wrapped(app) as client:
        response = client.get("/?bundle=a", status=401)
    assert challenge in response.headerlist


def allows(user: str, content: bytes):
    def app(environ, start_response):
        page = Page(content) if environ["HTTP_COOKIE"] == f"user={user}" else Page(status="403 No")
        return page(environ, start_response)

    return app


def test_each_member_is_the_applications_to_allow():
    app = Probes({"/hers": allows("eve", b"1"), "/his": allows("bob", b"2"), "/x": Page(b"3")})
    with wrapped(app) as client:
        cookie = {"Cookie": "user=eve"}
        refused = client.get("/?bundle=hers&bundle=his&bundle=x", headers=cookie, status=403)
        granted = client.get("/?bundle=hers&bundle=x", headers=cookie)
    assert [fault["path"] for fault in refused.json["members"]] == ["his"]
    assert unpacked(granted.body) == {"hers": b"1", "x": b"3"}


@pytest.mark.parametrize(
    ("page", "calls"),
    [
        (Page(b"abc", ()), 1),
        (Page(b"abc", (), sized=False), 1),
        (Page(b"abc", (TAGGED,), sized=False), 1),
        (Page(b"abc", (MADE_ANEW,)), 1),
        (Page(b"abc", (OLD, ("Date", OLD[1]))), 1),
        (Page(b"abc", (TAGGED,)), 2),
        (Page(b"abc", (WEAK,)), 2),
        (Page(b"abc", (OLD,)), 2),
    ],
)
def test_an_answer_without_a_validator_is_made_once_and_others_are_asked_for_again(page, calls):
    app = Probes({"/a": page})
    with wrapped(app) as client:
        response = client.get("/?bundle=a")
    assert unpacked(response.body) == {"a": b"abc"}
    assert len(app.environs) == calls
    assert app.closes == {1}


@pytest.mark.parametrize(
    ("header", "condition"),
    [(TAGGED, ("HTTP_IF_MATCH", '"1"')), (OLD, ("HTTP_IF_UNMODIFIED_SINCE", OLD[1]))],
)
def test_an_answer_that_is_asked_for_again_must_be_the_same(header, condition):
    app = Probes({"/a": Page(b"abc", (header,))})
    with wrapped(app) as client:
        client.get("/?bundle=a")
    first, second = app.environs
    assert condition[0] not in first
    assert second[condition[0]] == condition[1]


def in_turn(*pages: Page):
    """An application that gives another response to each call; the last one stays."""
    left = list(pages)

    def app(environ, start_response):
        page = left.pop(0) if len(left) > 1 else left[0]
        return page(environ, start_response)

    return app


def tagged(content: bytes, tag: str) -> Page:
    return Page(content, (("ETag", tag),))


@pytest.mark.parametrize(
    "second",
    [
        tagged(b"new", '"2"'),
        tagged(b"newer", '"2"'),
        Page(b"oh", status="412 No"),
        Page(b"new", ()),
    ],
)
def test_a_member_that_changes_in_between_is_asked_about_once_more(second):
    app = Probes({"/a": in_turn(tagged(b"old", '"1"'), second, tagged(b"newest", '"3"'))})
    with wrapped(app) as client:
        response = client.get("/?bundle=a")
    assert unpacked(response.body) == {"a": b"newest"}
    assert app.closes == {1}


def test_a_member_that_changes_all_the_time_is_an_error_that_names_it():
    pages = [tagged(b"x" * count, f'"{count}"') for count in range(1, 6)]
    app = Probes({"/a": in_turn(*pages)})
    with wrapped(app) as client:
        response = client.get("/?bundle=a", status=502)
    assert [fault["path"] for fault in response.json["members"]] == ["a"]
    assert app.closes == {1}


FILES = {f"/{index}": Page(bytes([65 + index]) * 3000) for index in range(8)}
ALL = "/?bundle=0,1,2,3,4,5,6,7"


def test_a_range_asks_only_for_what_it_touches():
    app = Probes(FILES)
    with wrapped(app) as client:
        whole = client.get(ALL).body
        app.environs.clear()
        response = client.get(ALL, headers={"Range": "bytes=5000-9999"}, status=206)
    assert response.body == whole[5000:10000]
    read = [environ for environ in app.environs if "HTTP_IF_MATCH" in environ]
    assert [(environ["PATH_INFO"], environ.get("HTTP_RANGE")) for environ in read] == [
        ("/1", "bytes=904-2999"),
        ("/2", "bytes=0-2319"),
    ]
    assert app.closes == {1}


def test_an_application_that_is_not_thread_safe_is_called_by_the_callers_thread_alone():
    app = Probes(FILES | {"/7": Page(b"unsized", (), sized=False)})
    with wrapped(app, environ={"wsgi.multithread": False}) as client:
        client.get(ALL)
    assert app.threads == {threading.get_ident()}


def test_such_an_application_is_never_called_before_its_last_answer_is_closed():
    lock = threading.Lock()

    class Holding(Counted):
        def close(self) -> None:
            super().close()
            lock.release()

    def app(environ, start_response):
        assert lock.acquire(blocking=False), "called while it answers"
        return Holding(FILES[environ["PATH_INFO"]](environ, start_response))

    with wrapped(app) as client:
        response = client.get(ALL)
    assert len(unpacked(response.body)) == len(FILES)
    assert not lock.locked()


def test_an_application_that_is_thread_safe_is_asked_about_several_members_at_once():
    together = threading.Barrier(4)

    def app(environ, start_response):
        if "HTTP_IF_MATCH" not in environ:
            together.wait(30)
        return FILES[environ["PATH_INFO"]](environ, start_response)

    with wrapped(app, environ={"wsgi.multithread": True}) as client:
        response = client.get(ALL)
    assert len(unpacked(response.body)) == len(FILES)
    assert not together.broken


@pytest.mark.parametrize("headers", [(TAGGED,), ()], ids=["asked twice", "spooled"])
def test_a_manifest_is_an_answer_of_the_application_too(headers):
    manifest = Page(b'{"members": ["a", {"path": "b", "name": "c"}]}', headers)
    app = Probes({"/dir/list": manifest, "/dir/a": Page(b"1"), "/dir/b": Page(b"2")})
    with wrapped(app) as client:
        response = client.get("/dir/?bundle&manifest=list")
    assert unpacked(response.body) == {"a": b"1", "c": b"2"}
    assert app.closes == {1}


def writing(count: int, block: bytes):
    def app(environ, start_response):
        write = start_response("200 OK", [TEXT])
        for _ in range(count):
            write(block)
        return []

    return app


def test_what_an_application_writes_is_not_held_in_memory():
    block = bytes(64 * 1024)
    tracemalloc.start()
    try:
        stat = Subrequests(writing(256, block), Spool(1024**3)).stat(
            "a", Caller((), Request.blank("/").environ)
        )
        assert isinstance(stat, UnknownSize)
        with closing(stat.content):
            length = sum(map(len, iter(lambda: stat.content.read(65536), b"")))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert length == 256 * len(block)
    assert peak < length / 8


def test_the_limit_is_one_for_all_that_applications_write():
    spool = Spool(10_000)
    source = Subrequests(writing(6, b"x" * 1000), spool)
    caller = Caller((), Request.blank("/").environ)
    first = source.stat("a", caller)
    assert isinstance(first, UnknownSize)
    assert spool.used == 6_000
    with pytest.raises(SourceError, match="10000 bytes"):
        source.stat("b", caller)
    first.content.close()
    assert spool.used == 0


def test_what_applications_write_shares_the_limit_with_members_of_unknown_size():
    def sized(environ, start_response):
        write = start_response("200 OK", [TEXT, TAGGED, ("Content-Length", "5000")])
        write(b"x" * 5_000)
        return []

    pages = {"/a": Page(b"x" * 6_000, (), sized=False), "/b": sized}
    with wrapped(Probes(pages), spool_limit=10_000) as client:
        client.get("/?bundle=a", status=200)
        client.get("/?bundle=b", status=200)
        refused = client.get("/?bundle=a,b", expect_errors=True)
    assert refused.status_int == 502
    assert [member["path"] for member in refused.json["members"]] == ["b"]
    assert "10000 bytes" in refused.json["members"][0]["reason"]


def test_an_application_may_not_write_more_than_is_set_aside():
    app = Probes({"/a": writing(11, b"x" * 1000)})
    with wrapped(app, spool_limit=10_000) as client:
        response = client.get("/?bundle=a", status=502)
    assert "10000 bytes" in response.json["members"][0]["reason"]
    assert app.closes == set()  # it never gave one to close

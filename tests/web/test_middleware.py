"""The middleware takes bundles, and for everything else it is as if it were not there."""

from collections.abc import Iterator
from contextlib import closing
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from prometheus_client import CollectorRegistry
from webob import Request

from tar_gateway import BundleMiddleware, Metrics, Settings, Upstream
from tests.support.files_upstream import FilesUpstream
from tests.support.wrapped import TAGGED, TEXT, Counted, Page, Probes, unpacked, wrapped

PLAIN = [
    ("GET", ""),
    ("GET", "x=1&bundles=a&y=bundle"),
    ("HEAD", ""),
    ("POST", "x=%ff&&;"),
    ("PUT", "bundle=a"),
    ("DELETE", "bundle=a"),
    ("OPTIONS", "bundle"),
    ("PATCH", "bundle"),
    ("bundle", "bundle=a"),
]
CONDITIONS = {
    "HTTP_RANGE": "bytes=0-1",
    "HTTP_IF_RANGE": '"mine"',
    "HTTP_IF_NONE_MATCH": '"tar-1", W/"guitar-2", "tar-0123456789abcdef"',
    "HTTP_IF_MATCH": '"start-here"',
}


def environ_of(method: str = "GET", query: str = "", **more: object) -> dict:
    return (
        Request.blank("/some/where", {"REQUEST_METHOD": method, "QUERY_STRING": query}).environ
        | more
    )


class Server:
    """A server's side of one response: what it was told, by the very calls that it got."""

    def __init__(self) -> None:
        self.told: list[tuple] = []
        self.written: list[bytes] = []

    def start_response(self, *said: object, **named: object):
        self.told.append((*said, *named.items()))
        return self.written.append


def starting(blocks, *, late: bool):
    """An application that starts its response when called, or not before it is iterated."""

    def start(start_response):
        start_response("200 OK", [TEXT])

    def app(environ, start_response):
        if not late:
            start(start_response)
            return Counted(blocks)

        def generate():
            start(start_response)
            yield from blocks

        return Counted(generate())

    return app


@pytest.fixture(params=[False, True], ids=["at once", "late"])
def late(request) -> bool:
    return request.param


@pytest.mark.parametrize("conditions", [{}, CONDITIONS], ids=["whole", "conditional"])
@pytest.mark.parametrize(("method", "query"), PLAIN)
def test_a_plain_request_reaches_the_application_as_it_came(method, query, conditions):
    seen, answer = [], Counted([b"plain"])

    def app(environ, start_response):
        seen.append((environ, dict(environ)))
        start_response("299 Fine", [TEXT])
        return answer

    environ = environ_of(method, query, **conditions)
    before = dict(environ)
    given = BundleMiddleware(app)(environ, Server().start_response)
    assert [(it is environ, contents) for it, contents in seen] == [(True, before)]
    assert environ == before
    assert given is answer


def test_the_application_talks_to_the_servers_own_start_response_and_write():
    server, headers = Server(), [TEXT, ("X-Own", "1")]

    def app(environ, start_response):
        write = start_response("200 OK", headers)
        write(b"written")
        return []

    BundleMiddleware(app)(environ_of(), server.start_response)
    assert server.told == [("200 OK", headers)]
    assert server.told[0][1] is headers
    assert server.written == [b"written"]


@pytest.mark.parametrize("named", [False, True])
def test_an_error_that_comes_up_late_is_told_to_the_server(named):
    server, error = Server(), (ValueError, ValueError("late"), None)

    def app(environ, start_response):
        start_response("200 OK", [TEXT])
        if named:
            start_response("500 Oh", [], exc_info=error)
        else:
            start_response("500 Oh", [], error)
        return []

    BundleMiddleware(app)(environ_of(), server.start_response)
    expected = ("exc_info", error) if named else error
    assert server.told[1:] == [("500 Oh", [], expected)]


def test_nothing_is_kept_back(late):
    made = []

    def blocks() -> Iterator[bytes]:
        for block in (b"one", b"", b"two"):
            made.append(block)
            yield block

    with closing(BundleMiddleware(starting(blocks(), late=late))(environ_of(), print)) as answer:
        received = [(block, list(made)) for block in answer]
    assert received == [
        (b"one", [b"one"]),
        (b"", [b"one", b""]),
        (b"two", [b"one", b"", b"two"]),
    ]


def test_an_answer_is_closed_once_however_far_it_was_read(late):
    closes = []
    for blocks_read in range(4):
        app = Probes({"/some/where": starting([b"1", b"2"], late=late)})
        answer = BundleMiddleware(app)(environ_of(), lambda *_: None)
        for _ in zip(range(blocks_read), answer, strict=False):
            pass
        answer.close()
        closes.append(app.closes)
    assert closes == [{1}] * 4


ERRORS = [ValueError("own"), OSError("own"), SystemExit(3)]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_what_an_application_raises_when_called_is_its_own(error):
    def app(environ, start_response):
        raise error

    with pytest.raises(type(error)) as raised:
        BundleMiddleware(app)(environ_of(), lambda *_: None)
    assert raised.value is error


@pytest.mark.parametrize("given", [0, 1])
@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_what_an_application_raises_while_it_answers_is_its_own(error, given, late):
    def blocks() -> Iterator[bytes]:
        yield from [b"block"] * given
        raise error

    answer = BundleMiddleware(starting(blocks(), late=late))(environ_of(), lambda *_: None)
    received: list[bytes] = []
    with pytest.raises(type(error)) as raised:
        received.extend(answer)
    assert raised.value is error
    assert received == [b"block"] * given
    answer.close()


def test_an_error_before_a_late_answer_starts_is_the_applications_own():
    error = OSError("own")

    def app(environ, start_response):
        raise error
        yield b""

    answer = BundleMiddleware(app)(environ_of(), lambda *_: None)
    with closing(answer), pytest.raises(OSError, match="own") as raised:
        next(iter(answer))
    assert raised.value is error


def test_what_closing_a_late_answer_raises_is_the_applications_own():
    class Sticks(Counted):
        def close(self) -> None:
            super().close()
            raise OSError("it sticks")

    sticking = Sticks(starting([b"1"], late=True)({}, lambda *_: None))
    answer = BundleMiddleware(lambda *_: sticking)(environ_of(), print)
    with pytest.raises(OSError, match="it sticks"):
        answer.close()
    answer.close()
    assert sticking.closes == 1


def test_an_application_that_is_a_class_starts_when_it_is_iterated():
    class Application:
        def __init__(self, environ, start_response) -> None:
            self._start_response = start_response

        def __iter__(self) -> Iterator[bytes]:
            self._start_response("200 OK", [TEXT])
            return iter([b"of a class"])

    with wrapped(Application) as client:
        assert client.get("/").body == b"of a class"


def test_a_late_application_that_gives_no_bytes_is_the_servers_to_judge():
    def app(environ, start_response):
        start_response("200 OK", [TEXT])
        yield None

    with closing(BundleMiddleware(app)(environ_of(), lambda *_: None)) as answer:
        assert list(answer) == [None]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_a_bundle_is_answered_by_the_middleware(method):
    app = Probes({"/a.txt": Page(b"alpha"), "/": Page(b"the application's own")})
    form = {"params": {"bundle": "a.txt"}} if method == "POST" else {}
    url = "/?bundle" if method == "POST" else "/?bundle=a.txt"
    with wrapped(app) as client:
        response = getattr(client, method.lower())(url, **form)
    assert response.content_type == "application/x-tar"
    assert int(response.headers["Content-Length"]) == 10240
    assert response.body == b"" if method == "HEAD" else unpacked(response.body)
    assert set(app.asked) == {"/a.txt"}


def test_an_application_with_a_bundle_of_its_own_keeps_it_when_the_parameter_has_another_name():
    app = Probes({"/a": Page(b"alpha"), "/": Page(b"the application's own")})
    with wrapped(app, parameter="files") as client:
        own = client.get("/?bundle=1")
        bundle = client.get("/?files=a")
    assert own.body == b"the application's own"
    assert unpacked(bundle.body) == {"a": b"alpha"}


def test_with_a_source_members_come_from_there_and_all_else_from_the_application():
    app = Probes({"/a.txt": Page(b"the application's")})
    with FilesUpstream({"a.txt": b"the upstream's"}) as upstream:
        source = Upstream(upstream.url)
        with wrapped(app, source) as client:
            plain, bundle = client.get("/a.txt"), client.get("/?bundle=a.txt")
        source.close()
    assert plain.body == b"the application's"
    assert unpacked(bundle.body) == {"a.txt": b"the upstream's"}
    assert app.asked == ["/a.txt"]


def test_the_applications_own_registry_shows_its_downloads():
    registry = CollectorRegistry()
    middleware = BundleMiddleware(Page(b"whole"), listener=Metrics(registry))
    with closing(middleware):
        for query in ("bundle=a", "bundle=../a"):
            request = Request.blank("/?" + query)
            request.send(middleware).body  # noqa: B018
    ended = {
        outcome: registry.get_sample_value(
            "tar_gateway_downloads_total", {"kind": "bundle", "outcome": outcome, "status": status}
        )
        for outcome, status in (("complete", "200"), ("refused", "400"))
    }
    assert ended == {"complete": 1, "refused": 1}
    asked = {"location": "/", "server": "application", "status": "200"}
    assert registry.get_sample_value("tar_gateway_upstream_requests_total", asked) > 0


def test_a_middleware_that_is_closed_leaves_its_source_to_its_owner():
    app = Probes({})
    with FilesUpstream({"a.txt": b"alpha"}) as upstream:
        source = Upstream(upstream.url)
        first = BundleMiddleware(app, source, Settings(retries=0))
        first.close()
        with wrapped(app, source) as client:
            assert unpacked(client.get("/?bundle=a.txt").body) == {"a.txt": b"alpha"}
        source.close()


@pytest.mark.parametrize(
    ("query", "status"),
    [("bundle", 400), ("bundle=", 400), ("bundle=../a", 400), ("bundle=none", 404)],
)
def test_a_bundle_that_can_not_be_had_is_a_problem_of_the_middleware(query, status):
    with wrapped(Probes({})) as client:
        response = client.get(f"/?{query}", status=status)
    assert response.content_type == "application/problem+json"
    assert response.json["status"] == status


@pytest.mark.parametrize("query", ["bundle=../a", "bundle=a%00", "bundle=/a", "bundle=a&bundle=a"])
def test_the_application_hears_nothing_of_names_that_are_refused(query):
    app = Probes({"/a": Page()})
    with wrapped(app) as client:
        client.get(f"/dir/?{query}", status=400)
    assert app.asked == []


def test_a_middleware_around_a_middleware_is_transparent():
    app = Probes({"/a": Page(b"alpha", (TAGGED,))})
    with wrapped(BundleMiddleware(app, settings=Settings(parameter="inner"))) as client:
        outer, inner = client.get("/?bundle=a"), client.get("/?inner=a")
    assert outer.body == inner.body
    assert app.closes == {1}


def test_a_defect_in_the_middleware_is_an_internal_error_and_says_nothing_of_itself(caplog):
    class Defective:
        def cache_key(self, caller) -> None:
            raise OSError("a secret place")

    with wrapped(Probes({}), Defective()) as client:
        response = client.get("/?bundle=a", status=500)
    assert "secret" not in response.text
    assert "a secret place" in caplog.text


def test_a_browser_whose_session_is_over_is_sent_to_the_applications_login():
    def members(environ, start_response):
        member = environ["PATH_INFO"]
        if "session" not in environ.get("HTTP_COOKIE", ""):
            place = f"http://app.test/login/?next={quote(member)}"
            return Page(b"", (("Location", place),), "302 Found")(environ, start_response)
        return Page(b"alpha")(environ, start_response)

    browser = {"Accept": "text/html,*/*;q=0.8"}
    with wrapped(members) as client:
        sent = client.get("/reports/?bundle=a.txt", headers=browser, status=303)
        told = client.get("/reports/?bundle=a.txt", status=403)
        back = parse_qs(urlsplit(sent.headers["Location"]).query)["next"][0]
        whole = client.get(back, headers={**browser, "Cookie": "session=1"})
    assert sent.headers["Location"].startswith("http://app.test/login/?next=")
    assert sent.headers["Cache-Control"] == "no-store"
    assert "Accept" in sent.headers["Vary"]
    assert "a login is asked for" in told.json["members"][0]["reason"]
    assert unpacked(whole.body) == {"a.txt": b"alpha"}

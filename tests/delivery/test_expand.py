"""Directories become members: what is listed, in which limits, and what is an error instead."""

import io
import json
import tarfile
import time
from collections.abc import Iterator
from email.utils import formatdate

import pytest
from webtest import TestApp

from tar_gateway import BundleMiddleware, Settings
from tests.support.files_upstream import MTIME, Canned, File, FilesUpstream, gateway_to

JSON = ("Content-Type", "application/json")
HTML = ("Content-Type", "text/html")


def listing(*names: str, size: int = 5, mtime: int = MTIME, **more: object) -> Canned:
    """Return the response of nginx for a directory; a name with a slash is a directory's."""
    date = formatdate(mtime, usegmt=True)
    rows = [
        {"name": name[:-1], "type": "directory", "mtime": date}
        if name.endswith("/")
        else {"name": name, "type": "file", "mtime": date, "size": size}
        for name in names
    ]
    return Canned(200, (JSON,), json.dumps(rows).encode(), **more)


def page(path: str, *names: str) -> Canned:
    """Return the same as a page, which tells no sizes."""
    links = "".join(f'<a href="{name}">{name}</a>\n' for name in names)
    title = f"<title>Index of /{path}</title>"
    return Canned(200, (HTML,), f"<html>{title}<body>{links}</body></html>".encode())


TREE = {
    "d/": listing("b.txt", "a.txt", "sub/", "empty/"),
    "d/sub/": listing("c.txt"),
    "d/empty/": listing(),
    "d/a.txt": b"alpha",
    "d/b.txt": b"beta!",
    "d/sub/c.txt": b"gamma",
}


@pytest.fixture
def upstream() -> Iterator[FilesUpstream]:
    with FilesUpstream(dict(TREE)) as running:
        yield running


@pytest.fixture
def app(upstream: FilesUpstream) -> Iterator[TestApp]:
    with gateway_to(upstream) as running:
        yield running


def names(response) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(response.body)) as archive:
        return [each.name + ("/" if each.isdir() else "") for each in archive]


def reason(response) -> str:
    (member,) = response.json["members"]
    return f"{member['path']}: {member['reason']}"


def test_a_directory_is_all_files_below_it_in_order_and_its_empty_directories(app):
    assert names(app.get("/?bundle=d/")) == ["d/a.txt", "d/b.txt", "d/empty/", "d/sub/c.txt"]


def test_the_directory_of_the_request_is_named_by_a_dot(app):
    response = app.get("/d/?bundle=./")
    assert names(response) == ["a.txt", "b.txt", "empty/", "sub/c.txt"]
    assert 'filename="d.tar"' in response.headers["Content-Disposition"]


def test_a_form_and_a_json_list_have_directories_too(app):
    posted = app.post("/?bundle", {"bundle": "d/", "exclude": "sub/", "folder": "x"})
    assert names(posted) == ["x/d/a.txt", "x/d/b.txt", "x/d/empty/"]
    members = ["d/a.txt", {"path": "d/sub/", "name": "other/"}]
    posted = app.post_json("/?bundle", {"members": members, "include": ["*.txt"]})
    assert names(posted) == ["d/a.txt", "other/c.txt"]


def test_what_a_directory_brings_a_second_time_counts_once(app):
    assert names(app.get("/?bundle=d/b.txt,d/,d/sub/"))[0] == "d/b.txt"
    assert len(names(app.get("/?bundle=d/b.txt,d/,d/sub/"))) == 4


def test_names_that_meet_are_an_error_or_are_renamed(app):
    members = ["d/sub/c.txt", "d/", {"path": "d/b.txt", "name": "d/a.txt"}]
    assert "twice" in app.post_json("/?bundle", {"members": members}, status=400).json["detail"]
    posted = app.post_json("/?bundle", {"members": members, "duplicates": "rename"})
    assert names(posted) == ["d/sub/c.txt", "d/a.txt", "d/b.txt", "d/empty/", "d/a (2).txt"]


def test_exact_listings_cost_one_request_each_and_one_for_each_member(app, upstream):
    app.get("/?bundle=d/")
    assert len(upstream.requests) == 3 + 3
    assert not upstream.asked("HEAD")


def test_a_directory_that_globs_rule_out_is_not_listed(app, upstream):
    assert names(app.get("/?bundle=d/&include=*.txt&exclude=b*")) == ["d/a.txt"]
    assert {request.target for request in upstream.requests} == {"/d/", "/d/a.txt"}
    assert app.get("/?bundle=d/&include=*.pdf", status=404)


@pytest.mark.parametrize("glob", ["a//b", "a**", "x" * 1025])
def test_a_glob_that_makes_no_sense_is_refused(app, upstream, glob):
    assert "the include" in app.get(f"/?bundle=d/&include={glob}", status=400).json["detail"]
    assert not upstream.requests


def test_a_glob_without_a_directory_is_refused(app):
    assert "directories" in app.get("/?bundle=d/a.txt&include=*", status=400).json["detail"]


def test_a_bare_parameter_names_no_directory(app):
    assert "no member is named" in app.get("/d/?bundle", status=400).json["detail"]


def test_a_file_that_is_added_makes_another_version(app, upstream):
    etag = app.get("/?bundle=d/").headers["ETag"].strip('"')
    upstream.files |= {"d/sub/": listing("c.txt", "d.txt"), "d/sub/d.txt": b"delta"}
    app.get(f"/?bundle=d/&v={etag}", status=412)


@pytest.mark.parametrize("is_old", [True, False])
@pytest.mark.parametrize("etag", ["", None, 'W/"weak"', '"strong"'])
def test_the_tag_is_the_same_however_a_member_was_learned(is_old, etag):
    mtime = MTIME if is_old else int(time.time()) + 1000
    file = File(b"alpha", mtime, etag)
    tags = set()
    for listed in (
        listing("a.txt", mtime=mtime),
        page("d/", "a.txt"),
        listing("a.txt", mtime=mtime, size=6),  # which the GET contradicts
    ):
        upstream = FilesUpstream({"d/": listed, "d/a.txt": file})
        with upstream, gateway_to(upstream) as app:
            tags.add(app.get("/?bundle=d/").headers["ETag"])
            tags.add(app.get("/?bundle=d/").headers["ETag"])
    assert len(tags) == 1
    assert tags.pop().startswith('W/"') is not is_old


@pytest.mark.parametrize(
    ("response", "status", "text"),
    [
        (Canned(401), 401, "it needs credentials"),
        (Canned(403), 403, "access to it is denied"),
        (Canned(404), 404, "it does not exist"),
        (Canned(500), 502, "the upstream answered 500"),
        (Canned(302, (("Location", "/login"),)), 502, "redirects to a place"),
        (Canned(200, (HTML,), b"<html><title>Log in</title></html>"), 502, "cannot be listed"),
        (Canned(200, (HTML,), b"<html><title>Index of /d/sub/</title>"), 502, "too early"),
        (Canned(200, (JSON,), b'{"error": "no"}'), 502, "not a listing of a known kind"),
        (
            Canned(200, (("Content-Type", "text/plain"),), b"a.txt"),
            502,
            "neither JSON, XML nor HTML",
        ),
        (Canned(200, (JSON,), b'[{"name": "a'), 502, "broken, or ended too early"),
        (listing("c.txt", length=1000), 502, "broke the connection"),
        (listing("../c.txt"), 502, "'../c.txt'"),
    ],
)
def test_a_directory_that_cannot_be_listed_is_an_error_that_names_it(
    app, upstream, response, status, text
):
    upstream.files["d/sub/"] = response
    refused = app.get("/?bundle=d/", status=status)
    assert refused.json["detail"] == "the directory could not be retrieved"
    told = reason(refused)
    assert told.startswith("d/sub/: ")
    assert text in told


def test_a_loop_is_an_error_after_few_listings(app, upstream):
    def serve(request):
        if request.target.endswith("/"):
            upstream.files[request.target[1:]] = listing("a.txt", "one/", "two/")

    upstream.before = serve
    told = reason(app.get("/?bundle=d/", status=502))  # of whichever is listed first
    assert told.startswith(("d/one/: it is a loop", "d/two/: it is a loop"))
    assert len(upstream.requests) <= 3


@pytest.mark.parametrize(
    ("setting", "status"),
    [
        ({"max_depth": 1}, 502),
        ({"max_listing": 50}, 502),
        ({"max_listings": 3}, 413),
        ({"max_members": 4}, 413),
        ({"max_name": 9}, 413),
    ],
)
def test_each_limit_ends_the_listing(upstream, setting, status):
    upstream.files["d/sub/"] = listing("c.txt", "deep/")
    upstream.files["d/sub/deep/"] = listing("e.txt")
    with gateway_to(upstream, **setting) as app:
        app.get("/?bundle=d/", status=status)


def test_a_listing_that_never_comes_ends_with_the_time_of_a_plan(upstream):
    upstream.before = lambda request: time.sleep(1.5) if request.target == "/d/sub/" else None
    with gateway_to(upstream, plan_timeout=0.5) as app:
        app.get("/?bundle=d/", status=504)


def test_the_authority_is_asked_about_a_directory_before_it_is_listed(upstream):
    asked: list[str] = []
    upstream.before = lambda request: asked.append(request.target)
    with FilesUpstream({"": Canned(200)}) as authority:
        authority.before = lambda request: asked.append("? " + request.headers["x-original-uri"])
        with gateway_to(upstream, auth_request=authority.url) as app:
            app.get("/?bundle=d/")
    for directory in ("/d/", "/d/sub/", "/d/empty/"):
        assert asked.index("? " + directory) < asked.index(directory)


def test_a_directory_that_the_authority_denies_is_not_listed(upstream):
    with (
        FilesUpstream({"": Canned(403)}) as authority,
        gateway_to(upstream, auth_request=authority.url) as app,
    ):
        assert reason(app.get("/?bundle=d/", status=403)).startswith("d/: ")
    assert not upstream.requests


def test_a_file_with_a_slash_says_that_it_is_a_file(app, upstream):
    assert "it is a file" in reason(app.get("/?bundle=d/a.txt/", status=404))


@pytest.mark.parametrize("setting", [{"listings": "no"}, {"pass_through": False}])
def test_nothing_is_listed_where_that_is_not_allowed(upstream, setting):
    with gateway_to(upstream, **setting) as app:
        assert "not listed here" in reason(app.get("/?bundle=d/", status=404))
    assert "/d/" not in {request.target for request in upstream.requests}


def wrapped(pages: dict[str, tuple[str, str, bytes]], **settings: object) -> TestApp:
    """Return the middleware around an application of these pages, by method and path."""

    def application(environ, start_response):
        asked = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}"
        status, kind, body = pages.get(asked, ("404 Not Found", "text/plain", b""))
        place = [("Location", "/login")] if status.startswith("302") else []
        length = ("Content-Length", str(len(body)))
        start_response(status, [("Content-Type", kind), length, *place])
        return [body]

    return TestApp(BundleMiddleware(application, settings=Settings(**settings)))


LISTED = ("200 OK", "application/json", listing("a.txt").body)
ALPHA = ("200 OK", "text/plain", b"alpha")


def test_a_wrapped_application_lists_its_own_directories():
    app = wrapped({"GET /d/": LISTED, "GET /d/a.txt": ALPHA})
    assert names(app.get("/?bundle=d/")) == ["d/a.txt"]


def test_a_wrapped_application_is_asked_by_webdav_where_that_is_set():
    multistatus = (
        b'<multistatus xmlns="DAV:"><response><href>/d/</href></response>'
        b"<response><href>/d/a.txt</href></response></multistatus>"
    )
    pages = {"PROPFIND /d/": ("207 Multi-Status", "text/xml", multistatus), "GET /d/a.txt": ALPHA}
    assert names(wrapped(pages, listings="webdav").get("/?bundle=d/")) == ["d/a.txt"]
    wrapped(pages).get("/?bundle=d/", status=404)


def test_a_wrapped_application_that_lists_nothing_says_so():
    app = wrapped({"GET /d/a.txt": ALPHA})
    assert "this application lists no directories" in reason(app.get("/?bundle=d/", status=404))
    assert "it is a file" in reason(app.get("/?bundle=d/a.txt/", status=404))


def test_a_directory_behind_a_login_asks_for_it_as_a_file_does():
    app = wrapped({"GET /d/": ("302 Found", "text/plain", b"")})
    assert "a login is asked for" in reason(app.get("/?bundle=d/", status=403))

"""The walk below directories: what it does without, where it ends, and how often it asks."""

import io
import json
import tarfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate

import pytest
from webtest import TestApp

from tar_gateway import Gateway, Settings, Upstream, sign_url
from tar_gateway.sources.replicas import Replicas
from tests.support.files_upstream import MTIME, Canned, File, FilesUpstream, gateway_to

JSON = ("Content-Type", "application/json")
LATER = 2**31


def listing(*names: str | bytes, mtime: int = MTIME, size: int = 5) -> Canned:
    """Return the response of nginx for a directory; a name with a slash is a directory's."""
    rows = []
    for name in names:
        text = name if isinstance(name, str) else name.decode("utf-8", "surrogateescape")
        row = {"name": text.removesuffix("/"), "mtime": formatdate(mtime, usegmt=True)}
        kind = {"type": "directory"} if text.endswith("/") else {"type": "file", "size": size}
        rows.append(row | kind)
    body = json.dumps(rows, ensure_ascii=False).encode("utf-8", "surrogateescape")
    return Canned(200, (JSON,), body)


TREE = {
    "d/": listing("a.txt", "denied/", "gone/", "sub/"),
    "d/a.txt": b"alpha",
    "d/denied/": Canned(403),
    "d/gone/": Canned(404),
    "d/sub/": listing("c.txt"),
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


def contents(response) -> dict[str, str]:
    with tarfile.open(fileobj=io.BytesIO(response.body)) as archive:
        return {each.name: archive.extractfile(each).read().decode() for each in archive}


# --- what is missing ----------------------------------------------------------------------------


def test_a_directory_that_is_missing_or_denied_is_done_without_where_that_is_asked_for(app):
    app.get("/?bundle=d/", status=403)
    response = app.get("/?bundle=d/&missing=skip")
    assert list(contents(response)) == ["d/a.txt", "d/sub/c.txt"]
    assert response.headers["Bundle-Missing"] == "2"
    assert app.head("/?bundle=d/&missing=skip").headers["Bundle-Missing"] == "2"


def test_the_report_names_a_directory_once_with_its_slash(app):
    assert contents(app.get("/?bundle=d/&missing=report"))["MISSING.txt"] == (
        "d/denied/: access to it is denied\nd/gone/: it does not exist\n"
    )


def test_the_plan_names_directories_that_are_missing_too(app):
    missing = app.get("/?bundle=d/&missing=skip&plan=json").json["missing"]
    assert [(each["path"], each["status"]) for each in missing] == [
        ("d/denied/", 403),
        ("d/gone/", 404),
    ]


def test_a_bundle_of_which_nothing_is_left_is_not_found(app):
    app.get("/?bundle=d/gone/,d/denied/&missing=skip", status=404)
    app.get("/d/denied/?bundle=./&missing=skip", status=404)


def test_the_directory_of_the_request_is_named_where_it_is_missing(app, upstream):
    upstream.files |= {"d/": Canned(403)}
    list_ = {"members": ["./", "a.txt"], "missing": "report"}
    assert contents(app.post_json("/d/?bundle", list_))["MISSING.txt"].startswith("./: ")


def test_a_directory_that_comes_back_is_another_version(app, upstream):
    before = app.get("/?bundle=d/&missing=skip").headers["ETag"]
    upstream.files |= {"d/gone/": listing("g.txt"), "d/gone/g.txt": b"gamma"}
    assert app.get("/?bundle=d/&missing=skip").headers["ETag"] != before


@pytest.mark.parametrize("response", [Canned(401), Canned(500), Canned(200, (JSON,), b"[")])
def test_what_says_nothing_of_a_directory_fails_the_bundle_all_the_same(app, upstream, response):
    upstream.files["d/sub/"] = response
    app.get("/?bundle=d/&missing=skip", status="4*" if response.status == 401 else "5*")


def test_a_refusal_of_the_services_own_credentials_is_never_hidden(upstream, tmp_path):
    headers = tmp_path / "headers"
    headers.write_text("Authorization: Bearer of-the-service\n")
    headers.chmod(0o600)
    with gateway_to(upstream, upstream_headers_file=headers) as app:
        app.get("/?bundle=d/&missing=skip", status=403)


BAD = [b"caf\xe9.txt", "back\\slash", "new\nline", "%2e%2e"]


@pytest.mark.parametrize("name", BAD)
def test_a_name_that_no_member_may_have_is_told_and_the_rest_can_be_had(app, upstream, name):
    upstream.files["d/sub/"] = listing("c.txt", name)
    upstream.files["d/"] = listing("a.txt", "sub/")
    (fault,) = app.get("/?bundle=d/", status=502).json["members"]
    assert fault["path"] == "d/sub/"
    assert "it lists the name" in fault["reason"]
    response = app.get("/?bundle=d/&missing=report")
    told = contents(response)
    assert list(told) == ["d/a.txt", "d/sub/c.txt", "MISSING.txt"]
    assert told["MISSING.txt"].startswith("d/sub/")
    assert told["MISSING.txt"].count("\n") == 1
    assert response.headers["Bundle-Missing"] == "1"


def test_a_name_that_is_excluded_is_no_error(app, upstream):
    upstream.files["d/sub/"] = listing("c.txt", "back\\slash", "b\\d/")
    assert "d/sub/c.txt" in contents(app.get("/?bundle=d/&include=sub/*.txt"))


# --- where it ends ------------------------------------------------------------------------------


def test_a_directory_that_lists_what_one_above_it_lists_is_a_loop(app, upstream):
    upstream.files |= {"e/": listing("x/", "a.txt"), "e/x/": listing("x/", "a.txt", size=9)}
    (fault,) = app.get("/?bundle=e/", status=502).json["members"]
    assert fault["path"] == "e/x/"
    assert "it is a loop: it lists the same as a directory above it" in fault["reason"]
    assert "d/a.txt" in contents(app.get("/?bundle=d/sub/,d/a.txt"))


def test_directories_of_one_name_with_other_dates_are_no_loop(app, upstream):
    upstream.files |= {
        "org/": listing("org/", mtime=MTIME),
        "org/org/": listing("org/", mtime=MTIME - 1),
        "org/org/org/": listing("a.txt"),
        "org/org/org/a.txt": b"alpha",
    }
    assert list(contents(app.get("/?bundle=org/"))) == ["org/org/org/a.txt"]


def test_what_is_excluded_is_no_loop(app, upstream):
    upstream.files |= {
        **{"e/": listing("x/", "a.txt"), "e/x/": listing("x/", "a.txt")},
        **{"e/a.txt": b"alpha", "e/x/a.txt": b"alpha"},
    }
    assert list(contents(app.get("/?bundle=e/&exclude=x/x"))) == ["e/a.txt", "e/x/a.txt"]


def test_no_more_listings_are_under_way_than_one_download_may_ask_at_once(upstream):
    names = [f"{number}/" for number in range(40)]
    upstream.files = {"w/": listing(*names), **{f"w/{name}": listing("a") for name in names}}
    upstream.files |= {f"w/{name}a": b"alpha" for name in names}
    lock, now, most = threading.Lock(), [0], [0]
    arrived = threading.Semaphore(0)

    def count(request):
        if request.target.count("/") == 3 and request.target.endswith("/"):
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            arrived.acquire(timeout=0.01)
            with lock:
                now[0] -= 1

    upstream.before = count
    with gateway_to(upstream, fetch_parallel=8) as app:
        app.head("/?bundle=w/")
    assert 1 < most[0] <= 8


# --- how often it asks --------------------------------------------------------------------------


def test_equal_walks_under_way_are_one(upstream):
    here, go = threading.Event(), threading.Event()
    upstream.files["d/"] = listing("a.txt", "sub/")

    def wait(request):
        if request.target == "/d/sub/":
            here.set()
            go.wait(10)

    upstream.before = wait
    with gateway_to(upstream) as app, ThreadPoolExecutor(4) as clients:
        first = clients.submit(app.head, "/?bundle=d/")
        assert here.wait(10)
        others = [clients.submit(app.head, "/?bundle=d/") for _ in range(3)]
        go.set()
        tags = {each.result().headers["ETag"] for each in (first, *others)}
    assert len(tags) == 1
    assert len([each for each in upstream.requests if each.target == "/d/sub/"]) == 1


def test_a_walk_counts_as_a_download(upstream):
    here, go = threading.Event(), threading.Event()

    def wait(request):
        here.set()
        go.wait(10)

    upstream.before = wait
    with gateway_to(upstream, max_downloads=1) as app, ThreadPoolExecutor(1) as clients:
        walk = clients.submit(app.get, "/?bundle=d/&missing=skip")
        assert here.wait(10)
        app.get("/?bundle=d/sub/", status=503)
        go.set()
        assert walk.result().status_int == 200


def test_a_signed_link_to_a_directory_covers_what_is_below_it_and_nothing_else(upstream, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("k1:a secret for the tests\n")
    keys.chmod(0o600)

    def signed(url: str) -> str:
        return sign_url(url, "a secret for the tests", expires=LATER, key_id="k1")

    with gateway_to(upstream, signing_keys_file=keys) as app:
        link = signed("/d/?bundle=sub/")
        assert contents(app.get(link)) == {"sub/c.txt": "gamma"}
        upstream.files |= {"d/sub/": listing("c.txt", "n.txt"), "d/sub/n.txt": b"newly"}
        assert "sub/n.txt" in contents(app.get(link))
        app.get(link.replace("sub/", "./"), status=403)
        app.get(link.replace("bundle=sub/", "bundle=sub/&bundle=a.txt"), status=403)
        app.get(link + "&missing=skip", status=403)
        app.get("/d/sub/c.txt", status=403)


# --- several servers ----------------------------------------------------------------------------


def test_a_member_is_opened_first_at_the_server_that_has_listed_it():
    files = {"d/": listing(*"abcdefgh"), **{f"d/{name}": b"alpha" for name in "abcdefgh"}}
    with FilesUpstream(dict(files)) as one, FilesUpstream(dict(files)) as two:
        settings = Settings(retries=0)
        source = Replicas([Upstream(one.url, settings), Upstream(two.url, settings)])
        gateway = Gateway(source, settings)
        try:
            assert len(contents(TestApp(gateway).get("/?bundle=d/"))) == 8
        finally:
            gateway.close()
    assert sorted([len(one.requests), len(two.requests)]) == [0, 9]


def test_a_listing_that_was_wrong_makes_names_only_of_its_own_server(caplog):
    files = {"d/": listing("a.txt", size=6), "d/a.txt": File(b"alpha")}
    with (
        FilesUpstream(files) as wrong,
        FilesUpstream(dict(TREE)) as right,
        gateway_to(wrong) as app,
        gateway_to(right) as other,
    ):
        assert contents(app.get("/?bundle=d/")) == {"d/a.txt": "alpha"}
        assert f"the listing of {wrong.url} says of 'd/a.txt': 6 bytes" in caplog.text
        assert "content-length 5" in caplog.text
        files |= {"e/": listing("b.txt"), "e/b.txt": File(b"beta!")}
        assert contents(app.get("/?bundle=e/")) == {"e/b.txt": "beta!"}
        assert wrong.asked("HEAD")[-1].target == "/e/b.txt"
        other.get("/?bundle=d/sub/")
        assert not right.asked("HEAD")


@pytest.mark.parametrize("announced", [True, False])
def test_a_listing_that_is_cut_off_at_any_byte_is_an_error_that_names_it(app, upstream, announced):
    body = listing("c.txt").body
    upstream.files["d/"] = listing("a.txt", "sub/")
    for end in range(len(body)):
        length = len(body) if announced else None
        upstream.files["d/sub/"] = Canned(200, (JSON,), body[:end], length=length)
        (fault,) = app.get("/?bundle=d/", status=502).json["members"]
        assert fault["path"] == "d/sub/"

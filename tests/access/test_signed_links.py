"""With a file of signing keys nothing is answered but what was asked by a signed link."""

import io
import json
import os
import re
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from webtest import TestApp

from tar_gateway import sign_url
from tar_gateway.access.links import SignedLinks
from tar_gateway.errors import Forbidden
from tar_gateway.settings.line_files import SigningKey
from tar_gateway.web.observe.download import LOGGER
from tests.support.answers import lasting
from tests.support.files_upstream import TEXT, Canned, FilesUpstream, gateway_to
from tests.support.papers import block
from tests.support.proxies import deployed_site, nginx_front
from tests.support.servers import gateway, wait_until
from tests.support.wrapped import Page, Probes, unpacked, wrapped

SECRET = "a secret for the tests"
LATER = int(time.time()) + 3600
URL = "/reports/?bundle=a.txt&bundle=b.txt"
FILES = {
    "reports/a.txt": b"alpha",
    "reports/b.txt": b"beta",
    "reports/january.pdf": b"january",
    "reports/c d,e.txt": b"gamma",
    "reports/übung 100%.txt": "grün".encode(),
    "~home/a.txt": b"at home",
    "lists/all.json": b'{"members": ["a.txt"]}',
    "lists/a.txt": b"listed",
    "listing": Canned(200, (TEXT, ("X-Archive-Files", "tar")), b"- 5 /reports/a.txt x.txt\n"),
}


def signed(url: str = URL, *, expires: int = LATER, key_id: str = "k1") -> str:
    return sign_url(url, SECRET, expires=expires, key_id=key_id)


@pytest.fixture(scope="module")
def keys(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("keys") / "signing-keys"
    file.write_text(f"k0:an older secret of the tests\nk1:{SECRET}\n")
    return file


@pytest.fixture(scope="module")
def shared_upstream() -> Iterator[FilesUpstream]:
    with FilesUpstream(dict(FILES)) as running:
        yield running


@pytest.fixture
def upstream(shared_upstream: FilesUpstream) -> FilesUpstream:
    shared_upstream.requests.clear()
    shared_upstream.files = dict(FILES)
    return shared_upstream


@pytest.fixture
def app(upstream: FilesUpstream, keys: Path) -> Iterator[TestApp]:
    with gateway_to(upstream, signing_keys_file=keys) as running:
        yield running


def contents(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return {member.name: opened.extractfile(member).read() for member in opened}


# --- what a signed link gives -------------------------------------------------------------------


def test_a_signed_bundle_is_the_same_archive(app, upstream):
    with gateway_to(upstream) as open_to_all:
        assert app.get(signed()).body == open_to_all.get(URL).body


def test_a_signed_link_serves_head_and_get_and_ranges(app):
    whole = app.get(signed())
    assert lasting(app.head(signed())) == lasting(whole)
    part = app.get(signed(), headers={"Range": "bytes=100-1099"}, status=206)
    assert part.body == whole.body[100:1100]


def test_a_signed_manifest_gives_its_list(app):
    response = app.get(signed("/lists/?bundle&manifest=all.json"))
    assert contents(response.body) == {"a.txt": b"listed"}


def test_a_signed_plain_file_is_passed_on(app):
    assert app.get(signed("/reports/a.txt")).body == b"alpha"


def test_a_signed_link_to_a_list_of_files_gives_their_archive(app):
    assert contents(app.get(signed("/listing?x=1")).body) == {"x.txt": b"alpha"}


def test_any_key_of_the_file_signs(app):
    app.get(sign_url(URL, "an older secret of the tests", expires=LATER, key_id="k0"), status=200)


def test_a_pinned_link_holds_as_long_as_the_bundle_is_the_same(app):
    link = app.head(signed()).headers["Link"]
    pinned = "/reports/" + re.fullmatch(r'<(.+)>; rel="bookmark"', link)[1]
    assert pinned.startswith(signed() + "&v=tar-")
    assert contents(app.get(pinned).body) == {"a.txt": b"alpha", "b.txt": b"beta"}
    app.get(pinned + "0", status=412)


def test_a_version_that_was_signed_is_enforced(app, upstream):
    version = app.head(signed()).headers["ETag"].strip('"')
    link = signed(f"{URL}&v={version}")
    response = app.get(link)
    assert response.headers["Link"] == f'<?{link.partition("?")[2]}>; rel="bookmark"'
    upstream.files["reports/b.txt"] = b"other"
    app.get(link, status=412)
    app.get(link.replace(f"&v={version}", ""), status=403)


def test_a_format_is_part_of_what_was_signed(app):
    link = signed(f"{URL}&format=zip")
    assert app.get(link).content_type == "application/zip"
    for other in (link.replace("=zip", "=tar"), signed() + "&format=zip"):
        app.get(other, status=403)
    seen_of_tar = app.head(signed()).headers["ETag"].strip('"')
    app.get(f"{link}&v={seen_of_tar}", status=200)
    app.get(f"{link}&v={seen_of_tar}0", status=412)


@pytest.mark.parametrize(
    ("query", "passed"),
    [
        ("", ""),
        ("?x=1&y=a+b,%2C", "?x=1&y=a+b,%2C"),
        ("?v=2&x=1", "?v=2&x=1"),
    ],
)
def test_the_signature_and_what_is_not_signed_do_not_reach_the_upstream(
    app, upstream, query, passed
):
    app.get(signed("/reports/a.txt" + query) + "&v=3")
    assert [request.target for request in upstream.requests] == ["/reports/a.txt" + passed]


def test_a_page_had_by_a_signed_link_does_not_tell_the_upstream_its_signature(app, upstream):
    page = "https://files.example.com" + signed("/reports/")
    app.get(signed("/reports/a.txt"), headers={"Referer": page})
    (request,) = upstream.requests
    assert request.headers["referer"] == page[:-43] + "..."


def test_members_are_asked_for_without_the_signature(app, upstream):
    app.get(signed())
    assert {request.target for request in upstream.requests} == {"/reports/a.txt", "/reports/b.txt"}


def test_without_keys_a_signature_is_a_parameter_like_any_other(upstream):
    query = "?x=1&expires=2&key_id=3&signature=4&v=5"
    with gateway_to(upstream) as app:
        app.get("/reports/a.txt" + query)
        app.get("/reports/?bundle=a.txt&expires=2&key_id=3&signature=4", status=200)
    assert upstream.requests[0].target == "/reports/a.txt" + query


# --- what is refused, before the upstream hears of it -------------------------------------------

REFUSED = {
    "no signature": (URL, "not signed"),
    "a plain file without one": ("/reports/a.txt", "not signed"),
    "a path that is none": ("/a/../b", "not signed"),
    "nothing": ("/", "not signed"),
    "another key": (signed().replace("key_id=k1", "key_id=k2"), "not known"),
    "the secret of another": (signed(key_id="k0"), "changed"),
    "a member more": (signed().replace("b.txt", "b.txt,c.txt"), "changed"),
    "a parameter more": (signed() + "&x=1", "changed"),
    "a bundle of what was a file": (signed("/reports/") + "&bundle=a.txt", "changed"),
    "a file of another directory": (signed("/a/b.txt").replace("/a/", "/c/"), "changed"),
    "a signature twice": (signed() + "&signature=x", "more than once"),
    "a link of yesterday": (signed(expires=LATER - 90_000), "has expired"),
}


@pytest.mark.parametrize(("url", "why"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "OPTIONS"])
def test_a_refusal_says_why_and_the_upstream_hears_nothing(app, upstream, method, url, why):
    response = app.request(url, method=method, status=403)
    assert upstream.requests == []
    assert response.headers["Cache-Control"] == "no-store"
    if method == "GET":
        assert response.content_type == "application/problem+json"
        assert response.json["title"] == "Forbidden"
        assert why in response.json["detail"]


def test_a_refusal_shows_no_secret_and_no_signature(app):
    for url, _ in REFUSED.values():
        answer = app.get(url, status=403)
        assert SECRET.encode() not in answer.body
        assert signed()[-43:].encode() not in answer.body


def test_the_gateways_own_pages_need_no_signature(app, upstream):
    app.get("/-/healthy", status=200)
    app.get("/-/other", status=403)


@pytest.mark.parametrize("url", [URL, "/reports/?bundle", "/reports/a.txt"])
@pytest.mark.parametrize("signs", [True, False])
def test_what_is_posted_is_not_signed_so_it_is_refused(app, upstream, url, signs):
    sent = signed(url) if signs else url
    response = app.post(sent, {"bundle": "a.txt"}, status=403)
    assert "manifest=" in response.json["detail"]
    assert upstream.requests == []


def test_a_signed_request_that_has_no_meaning_is_refused_as_ever(app):
    app.get(signed("/reports/?bundle=../a.txt"), status=400)
    app.request(signed("/reports/a.txt"), method="PUT", status=405)
    app.get(signed("/reports/none.txt"), status=404)


def test_where_plain_files_are_not_served_that_is_told_to_signed_links_only(upstream, keys):
    with gateway_to(upstream, signing_keys_file=keys, pass_through=False) as app:
        app.get("/reports/a.txt", status=403)
        app.get(signed("/reports/a.txt"), status=404)


@pytest.mark.parametrize("path", ["/reports/a.txt", URL])
def test_a_signed_path_says_nothing_of_the_same_with_an_encoded_slash(app, upstream, path):
    link = signed(path)
    raw = {"RAW_URI": link.replace("/reports/", "/reports%2F", 1)}
    response = app.get(link, extra_environ=raw, status=400)
    assert "write '/' and not '%2F'" in response.json["detail"]
    assert upstream.requests == []


def test_a_key_that_was_taken_out_of_the_file_no_longer_signs(upstream, tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"k2:{SECRET}")
    with gateway_to(upstream, signing_keys_file=file) as app:
        assert "not known" in app.get(signed(), status=403).json["detail"]


def test_a_link_is_to_the_whole_path_wherever_the_gateway_is_mounted(upstream, keys):
    below = {"SCRIPT_NAME": "/shop"}
    with gateway_to(upstream, environ=below, signing_keys_file=keys) as app:
        at_shop, at_root = signed("/shop" + URL), signed(URL)
        whole = app.get(at_shop.removeprefix("/shop"))
        assert contents(whole.body) == {"a.txt": b"alpha", "b.txt": b"beta"}
        assert "changed" in app.get(at_root, status=403).json["detail"]
        app.get(signed("/shop/reports/a.txt").removeprefix("/shop"), status=200)


def test_a_download_that_has_begun_goes_on_when_its_link_expires(app):
    now = [LATER - 1.0]
    app.gateway._door.links = SignedLinks([SigningKey("k1", SECRET.encode())], lambda: now[0])
    environ = {
        **TestApp.RequestClass.blank(signed()).environ,
        "REQUEST_METHOD": "GET",
    }
    told = []
    with closing(app.gateway(environ, lambda status, _: told.append(status))) as body:
        blocks = iter(body)
        first = next(blocks)
        now[0] = LATER + 1.0
        rest = b"".join(blocks)
    assert told == ["200 OK"]
    assert contents(first + rest) == {"a.txt": b"alpha", "b.txt": b"beta"}
    response = app.get(signed(), headers={"Range": "bytes=512-"}, status=403)
    assert response.json["detail"] == "the link has expired"


def test_a_request_that_says_nothing_of_its_path_is_one_to_the_root():
    links = SignedLinks([SigningKey("k1", SECRET.encode())])
    query = signed("/?bundle=a.txt").partition("?")[2]
    links.check({"REQUEST_METHOD": "GET", "QUERY_STRING": query})
    with pytest.raises(Forbidden):
        links.check({"REQUEST_METHOD": "GET"})


def test_the_log_tells_of_a_plain_file_as_it_was_asked_for(keys, caplog):
    caplog.set_level("INFO", logger=LOGGER)
    with FilesUpstream() as gone:
        pass
    with gateway_to(gone, signing_keys_file=keys) as app:
        app.get(signed("/reports/a.txt?x=1"), status=502)
    (line,) = (json.loads(each.message) for each in caplog.records if each.name == LOGGER)
    assert line["query"] == f"x=1&expires={LATER}&key_id=k1&signature=..."


# --- the middleware -----------------------------------------------------------------------------


@pytest.fixture
def pages() -> Probes:
    listing = Page(b"- 5 /reports/a.txt x.txt\n", (("X-Archive-Files", "tar"),))
    known = {"/reports/a.txt": Page(b"alpha"), "/plain": Page(b"plain"), "/listing": listing}
    return Probes(known)


@pytest.fixture
def middle(pages: Probes, keys: Path) -> Iterator[TestApp]:
    with wrapped(pages, signing_keys_file=keys) as running:
        yield running


def test_bundles_of_an_application_must_be_signed(middle):
    url = "/reports/?bundle=a.txt"
    assert unpacked(middle.get(signed(url)).body) == {"a.txt": b"alpha"}
    assert "not signed" in middle.get(url, status=403).json["detail"]
    assert "changed" in middle.get(signed(url) + ",b.txt", status=403).json["detail"]
    assert "manifest=" in middle.post("/?bundle", {"bundle": "a"}, status=403).json["detail"]


def test_a_list_that_an_application_gives_is_its_own_to_allow(middle):
    assert unpacked(middle.get("/listing?x=" + "x" * 70_000).body) == {"x.txt": b"alpha"}


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
def test_everything_else_reaches_the_application_untouched(middle, pages, method):
    url = "/plain?x=1&expires=2&key_id=3&signature=4&v=5"
    middle.request(url, method=method, status=200)
    assert pages.asked == [url]


# --- real servers -------------------------------------------------------------------------------

# What is signed, and how a client may spell it.
SPELLINGS = [
    (URL, URL),
    ("/reports/?bundle=c%20d%2Ce.txt,a.txt", "/reports/?bundle=c+d%2ce.txt,a.txt"),
    ("/reports/?bundle=%C3%BCbung%20100%25.txt", "/%72eports/?bundle=%c3%bcbung+100%25.txt"),
    ("/reports/c%20d%2Ce.txt", "/reports/c%20d,e.txt"),
    ("/reports/%C3%BCbung%20100%25.txt", "/reports/%c3%bcbung%20100%25.txt"),
    ("/~home/a.txt", "/%7Ehome/a.txt"),
    ("/%7Ehome/?bundle=a.txt", "/~home/?bundle=%61.txt"),
]

# nginx that decodes the path, resolves it and encodes it again in its own way.
NORMALISING_SITE = """
upstream tar_gateway { server 127.0.0.1:8000; }
server {
    listen 8080;
    location / { proxy_pass http://tar_gateway/; }
}
"""


def status_of(url: str, target: str, **headers: str) -> int:
    with closing(HTTPConnection(urlsplit(url).netloc, timeout=20)) as connection:
        connection.request("GET", target, headers=headers)
        with connection.getresponse() as answer:
            answer.read()
            return answer.status


@pytest.fixture(scope="module")
def running(shared_upstream: FilesUpstream, keys: Path, tmp_path_factory) -> Iterator[str]:
    place = tmp_path_factory.mktemp("gunicorn")
    with gateway(shared_upstream.url, place, signing_keys_file=str(keys)) as at:
        yield at.url


def test_a_log_shows_no_secret_and_no_signature(shared_upstream, keys, tmp_path):
    links = [signed(), signed("/reports/a.txt"), signed(expires=LATER - 90_000)]
    spelled = "".join(f"%{ord(letter):02x}" for letter in links[0][-43:])
    links.append(links[0].replace("signature=" + links[0][-43:], "%73ignature=" + spelled))
    with gateway(shared_upstream.url, tmp_path, signing_keys_file=str(keys)) as at:
        told = [status_of(at.url, link, Referer=at.url + link) for link in links]
        hidden = 2 * len(links)
        wait_until(lambda: at.log.read_text().count("signature=...") >= hidden, "all lines")
    assert told == [200, 200, 403, 200]
    log = at.log.read_text()
    assert SECRET not in log
    assert not any(link[-43:] in log for link in links)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(None, id="gunicorn"),
        pytest.param(deployed_site(), id="nginx", marks=pytest.mark.needs("nginx")),
        pytest.param(
            NORMALISING_SITE, id="nginx that normalises", marks=pytest.mark.needs("nginx")
        ),
    ],
)
def site(request, running: str, tmp_path_factory) -> Iterator[str]:
    if request.param is None:
        yield running
    else:
        place = tmp_path_factory.mktemp("front")
        with nginx_front(running, place, request.param) as url:
            yield url


@pytest.mark.parametrize(("written", "sent"), SPELLINGS)
def test_a_link_holds_through_real_servers_as_it_was_written_and_as_it_may_be_sent(
    site, written, sent
):
    link = signed(written)
    own = link.partition("expires=")[2]
    mark = "&" if "?" in sent else "?"
    assert status_of(site, link) == 200
    assert status_of(site, f"{sent}{mark}expires={own}") == 200
    assert status_of(site, sent) == 403
    assert status_of(site, link + "&x=1") == 403
    assert status_of(site, link.replace(".txt", ".doc", 1)) == 403


def test_a_link_to_another_path_is_refused_through_real_servers(site):
    link = signed("/reports/?bundle=c%20d%2Ce.txt")
    assert status_of(site, link) == 200
    assert status_of(site, link.replace("%2C", ",")) == 403
    assert status_of(site, link.replace("/reports/", "/~home/")) == 403
    assert status_of(site, link.replace("/reports/", "/~home/../lists/")) in {400, 403}


def test_a_link_holds_below_a_real_servers_mount_point(shared_upstream, keys, tmp_path):
    option = ("--env", "SCRIPT_NAME=/files/here")
    with gateway(shared_upstream.url, tmp_path, *option, signing_keys_file=str(keys)) as at:
        assert status_of(at.url, signed("/files/here" + URL)) == 200
        assert status_of(at.url, "/files/here" + signed(URL)) == 403
        assert status_of(at.url, signed("/files/here/reports/a.txt")) == 200


def test_the_recipes_make_a_key_and_links_that_the_gateway_answers(
    shared_upstream, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    lines = block("recipe: sign a link in a shell")
    done = subprocess.run(["bash", "-euc", lines], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert Path("signing-keys").stat().st_mode & 0o077 == 0
    made: dict[str, object] = {}
    exec(block("recipe: sign a link in a program"), made)
    with gateway(shared_upstream.url, tmp_path, signing_keys_file="signing-keys") as at:
        for link in (done.stdout.removesuffix("\n"), made["url"]):
            target = link.removeprefix("https://files.example.com")
            assert target.startswith("/")
            assert status_of(at.url, target) == 200
            assert status_of(at.url, target.partition("&expires")[0]) == 403


def test_spellings_are_of_the_same_request():
    for written, sent in SPELLINGS:
        assert unquote(written.replace("+", " ")) == unquote(sent.replace("+", " "))

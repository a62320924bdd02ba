"""Directories as pages: who is shown one, what its form is answered by, and what a right opens."""

import io
import json
import re
import tarfile
import time
from collections.abc import Iterator
from email.utils import formatdate
from html import unescape
from pathlib import Path
from urllib.parse import urljoin

import pytest
from webtest import TestApp

from tar_gateway import SettingsError, sign_url
from tests.support.files_upstream import MTIME, Canned, FilesUpstream, gateway_to
from tests.support.wrapped import Page, Probes, wrapped

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"
HTML = ("Content-Type", "text/html; charset=utf-8")
INDEX = Canned(200, (HTML,), b"<html><title>Welcome</title></html>")
SECRET, LATER = "a secret for the tests", int(time.time()) + 3600


def listing(*names: str, size: int = 5, mtime: int = MTIME) -> Canned:
    date = formatdate(mtime, usegmt=True)
    rows = [
        {"name": name[:-1], "type": "directory", "mtime": date}
        if name.endswith("/")
        else {"name": name, "type": "file", "mtime": date, "size": size}
        for name in names
    ]
    return Canned(200, (("Content-Type", "application/json"),), json.dumps(rows).encode())


TREE = {
    "": listing("d/", "index/", "denied/", "locked/"),
    "d/": listing("a.txt", "b.txt", "sub/"),
    "d/sub/": listing("c.txt"),
    "d/a.txt": b"alpha",
    "d/b.txt": b"beta!",
    "d/sub/c.txt": b"gamma",
    "index/": INDEX,
    "denied/": Canned(403),
    "locked/": Canned(
        401,
        (
            HTML,
            ("WWW-Authenticate", 'Basic realm="r"'),
        ),
    ),
}


@pytest.fixture
def upstream() -> Iterator[FilesUpstream]:
    with FilesUpstream(dict(TREE)) as running:
        yield running


@pytest.fixture
def app(upstream: FilesUpstream) -> Iterator[TestApp]:
    with gateway_to(upstream, browse=True) as running:
        yield running


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    file = tmp_path / "keys"
    file.write_text(f"k1:{SECRET}\n")
    return file


@pytest.fixture
def guarded(upstream: FilesUpstream, keys: Path) -> Iterator[TestApp]:
    with gateway_to(upstream, browse=True, signing_keys_file=keys) as running:
        yield running


def page(app: TestApp, url: str, **more):
    return app.get(url, headers={"Accept": BROWSER}, **more)


def of(response) -> str:
    return re.search(r"name=of value=(\S+)>", response.text)[1]


def send(app: TestApp, url: str, *fields: tuple[str, str], accept: str = BROWSER, **more):
    return app.post(url, list(fields), headers={"Accept": accept, **more.pop("said", {})}, **more)


def members(response) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(response.body)) as archive:
        return {each.name: archive.extractfile(each).read() for each in archive}


# --- who is shown a page ------------------------------------------------------------------------


def test_a_browser_is_shown_a_directory_that_is_listed(app):
    shown = page(app, "/d/")
    assert shown.content_type == "text/html"
    assert re.findall(r"<bdi>([a-z.]+)</bdi></a>", shown.text) == ["sub", "a.txt", "b.txt"]
    assert shown.headers["Cache-Control"] == "private, no-store"
    assert shown.headers["X-Robots-Tag"] == "noindex, nofollow"
    assert "Accept" in shown.headers["Vary"]


@pytest.mark.parametrize("accept", [None, "*/*", "application/json", "text/plain"])
def test_programs_see_what_they_saw(app, upstream, accept):
    headers = {} if accept is None else {"Accept": accept}
    response = app.get("/d/", headers=headers)
    assert response.body == TREE["d/"].body
    assert "Accept" in response.headers["Vary"]
    assert [request.target for request in upstream.requests] == ["/d/"]


def test_an_index_page_that_is_no_listing_is_passed_on(app):
    shown = page(app, "/index/")
    assert shown.body == INDEX.body
    assert shown.headers["Vary"] == "Accept"


@pytest.mark.parametrize("url", ["/d/a.txt", "/d/?search=a", "/d/?browse&x=1"])
def test_files_and_queries_of_the_upstreams_are_passed_on(app, upstream, url):
    page(app, url, status="*")
    assert [request.target for request in upstream.requests] == [url]


def test_the_upstream_asks_for_credentials_itself(app):
    response = page(app, "/locked/", status=401)
    assert response.headers["WWW-Authenticate"] == 'Basic realm="r"'


def test_a_directory_that_is_denied_has_its_sentence(app):
    assert "This folder is not shown to you." in page(app, "/denied/", status=403).text


def test_head_has_the_headers_of_the_page(app):
    head = app.head("/d/", headers={"Accept": BROWSER})
    assert (head.content_type, head.body) == ("text/html", b"")


def test_without_the_setting_nothing_is_shown_and_no_form_is_taken(upstream):
    with gateway_to(upstream) as app:
        assert page(app, "/d/").body == TREE["d/"].body
        assert "A POST says everything" in send(app, "/?bundle&pick", ("row", "0"), status=400).text


def test_a_column_is_chosen_by_the_query(app):
    assert "class=size aria-sort=descending" in page(app, "/d/?browse&sort=-size").text


# --- what a form is answered by -----------------------------------------------------------------


def test_a_form_leads_to_the_archive_of_what_was_ticked(app):
    response = send(
        app, "/d/?bundle&pick", ("of", of(page(app, "/d/"))), ("row", "0"), ("row", "2")
    )
    assert response.status_int == 303
    assert response.headers["Location"] == "?bundle=a.txt&bundle=sub/"
    assert members(response.follow()) == {"a.txt": b"alpha", "sub/c.txt": b"gamma"}


def test_a_script_is_given_the_link(app):
    fields = ("of", of(page(app, "/d/"))), ("row", "1"), ("format", "zip")
    response = send(app, "/d/?bundle&pick", *fields, accept="application/json")
    assert response.json == {"link": "?bundle=b.txt&format=zip"}


def test_a_form_lists_and_asks_about_no_file(app, upstream):
    version = of(page(app, "/d/"))
    upstream.requests.clear()
    send(app, "/d/?bundle&pick", ("of", version), ("row", "0"))
    assert [request.target for request in upstream.requests] == ["/d/"]


def test_ticks_of_several_directories_make_one_archive(app):
    d, sub = of(page(app, "/d/")), of(page(app, "/d/sub/"))
    ticked = ("ticked", f"d/:{d}:1"), ("ticked", f"d/sub/:{sub}:0")
    response = send(app, "/?bundle&pick", *ticked)
    assert members(response.follow()) == {"d/b.txt": b"beta!", "d/sub/c.txt": b"gamma"}


def test_everything_here_is_the_directory(app):
    response = send(app, "/d/?bundle&pick", ("all", "yes"))
    assert set(members(response.follow())) == {"a.txt", "b.txt", "sub/c.txt"}


def test_a_directory_that_has_changed_is_a_page_that_leads_back(app, upstream):
    version = of(page(app, "/d/"))
    upstream.files["d/"] = listing("b.txt", "sub/")
    response = send(app, "/d/?bundle&pick", ("of", version), ("row", "0"), status=412)
    assert "has changed since it was shown" in response.text
    assert 'href="/d/">Open the folder again' in response.text


def test_files_that_have_come_since_do_not_matter(app, upstream):
    version = of(page(app, "/d/"))
    rows = json.loads(TREE["d/"].body)
    new = json.loads(listing("aa.txt", mtime=int(time.time()) + 60).body)
    upstream.files["d/"] = Canned(200, TREE["d/"].headers, json.dumps(rows + new).encode())
    response = send(app, "/d/?bundle&pick", ("of", version), ("row", "1"))
    assert response.headers["Location"] == "?bundle=b.txt"


def test_a_get_of_the_forms_address_is_an_error_and_never_an_archive(app):
    response = page(app, "/d/?bundle&pick", status=400)
    assert "asked for by a form" in response.text


def test_a_form_of_another_site_is_refused(app, upstream):
    said = {"Sec-Fetch-Site": "cross-site"}
    send(app, "/d/?bundle&pick", ("all", "yes"), said=said, status=403)
    assert upstream.requests == []


def test_nothing_ticked_says_what_to_do(app):
    assert "nothing is selected" in send(app, "/d/?bundle&pick", status=400).text.lower()


# --- errors keep the work -----------------------------------------------------------------------


def test_a_bundle_with_files_that_are_gone_offers_the_others(app):
    response = page(app, "/d/?bundle=a.txt&bundle=gone.txt", status=404)
    assert "d/gone.txt" in response.text
    assert response.headers["X-Request-ID"] in response.text
    (link,) = re.findall(r'href="([^"]+)">Download the others', response.text)
    others = app.get(urljoin("/d/", unescape(link)))
    assert set(members(others)) == {"a.txt", "MISSING.txt"}


@pytest.mark.parametrize("query", ["bundle=gone.txt", "bundle=a.txt,gone.txt&missing=fail"])
def test_where_there_are_no_others_or_it_was_said_none_are_offered(app, query):
    assert "Download the others" not in page(app, f"/d/?{query}", status=404).text


def test_a_fault_of_the_upstream_is_not_left_out(app, upstream):
    upstream.files["d/b.txt"] = Canned(500)
    response = page(app, "/d/?bundle=a.txt,b.txt", status=502)
    assert "Download the others" not in response.text


# --- where links must be signed -----------------------------------------------------------------


def signed(url: str, **more) -> str:
    return sign_url(url, SECRET, **{"expires": LATER, "key_id": "k1", **more})


def links(response) -> list[str]:
    found = re.findall(r'(?:href|action)="([^"]+)"', response.text)
    return [urljoin(response.request.path_qs, unescape(each)) for each in found]


def test_a_link_with_browse_opens_the_directory_and_all_below_it(guarded):
    shown = page(guarded, signed("/d/?browse"))
    opened = [page(guarded, link, status="*") for link in links(shown) if "pick" not in link]
    assert len(opened) == 6
    assert {each.status_int for each in opened} == {200}
    below = page(guarded, next(link for link in links(shown) if link.startswith("/d/sub/?browse")))
    assert "c.txt" in below.text


def test_the_form_of_a_signed_page_leads_to_a_signed_archive(guarded):
    shown = page(guarded, signed("/d/?browse"))
    (action,) = [link for link in links(shown) if "pick" in link]
    response = send(guarded, action, ("of", of(shown)), ("row", "0"))
    assert members(response.follow()) == {"a.txt": b"alpha"}
    assert f"expires={LATER}" in response.headers["Location"]
    assert "asked for by a form" in page(guarded, action, status=400).text


@pytest.mark.parametrize(
    "url",
    [
        "/d/?browse",
        signed("/d/"),
        signed("/d/?browse", expires=int(time.time()) - 1),
        signed("/d/?browse").replace("/d/", "/"),
        signed("/d/sub/?browse").replace("/d/sub/", "/d/"),
    ],
)
def test_no_other_link_opens_a_page(guarded, url):
    response = page(guarded, url, status="*")
    assert "<form" not in response.text


@pytest.mark.parametrize(
    "url", ["/d/?bundle", "/d/?bundle&pick", "/d/?browse", "/d/?bundle&pick&browse&manifest=a"]
)
def test_no_post_but_the_pages_own_is_taken(guarded, upstream, url):
    send(guarded, url, ("bundle", "a.txt"), status=403)
    if url != "/d/?bundle&pick&browse":
        send(guarded, signed(url), ("bundle", "a.txt"), status=403)
    assert upstream.requests == []


def test_what_a_signed_page_signs_holds_nowhere_else(guarded):
    shown = page(guarded, signed("/d/?browse"))
    for link in links(shown):
        moved = link.replace("/d/", "/", 1)
        assert guarded.get(moved, status="*").status_int == 403


def test_a_form_signs_nothing_outside_its_directory(guarded):
    shown = page(guarded, signed("/d/sub/?browse"))
    (action,) = [link for link in links(shown) if "pick" in link]
    ticked = ("ticked", f"../:{of(shown)}:0")
    assert "contains the segment" in send(guarded, action, ticked, status=400).text


# --- around an application ----------------------------------------------------------------------


def test_a_wrapped_application_that_lists_is_shown_as_a_page():
    body = TREE["d/"].body

    def listed(_, start_response):
        start_response("200 OK", [*TREE["d/"].headers, ("Content-Length", str(len(body)))])
        return [body]

    with wrapped(Probes({"/files/": listed}), browse=True) as app:
        assert "<form" in page(app, "/files/").text
        assert app.get("/files/").body == body


def test_the_applications_own_pages_stay_as_they_are():
    home = Page(b"<html><title>Home</title></html>")
    with wrapped(Probes({"/": home, "/x": Page(b"x")}), browse=True) as app:
        response = page(app, "/")
        assert response.body == home.content
        assert "X-Request-ID" not in response.headers
        assert "Vary" not in page(app, "/x").headers


# --- looks --------------------------------------------------------------------------------------


def test_title_and_style_are_the_operators(upstream, tmp_path):
    style = tmp_path / "style.css"
    style.write_text(":root { --blue: red }")
    with gateway_to(upstream, browse=True, browse_style=style, browse_title="R & D") as app:
        assert "<title>d - R &amp; D</title>" in page(app, "/d/").text
        assert ":root { --blue: red }</style>" in page(app, "/d/").text
        assert ":root { --blue: red }</style>" in page(app, "/d/?bundle", status=400).text


def test_a_style_that_would_end_itself_is_refused(upstream, tmp_path):
    style = tmp_path / "style.css"
    style.write_text("</style><script>")
    with pytest.raises(SettingsError, match="would end"), gateway_to(upstream, browse_style=style):
        pass

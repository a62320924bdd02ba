"""Bundles that do without members that are missing: which these are, and how that is told."""

import io
import tarfile
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
from webtest import TestApp

from tests.support.files_upstream import Canned, FilesUpstream, gateway_to
from tests.support.wrapped import Page, Probes, wrapped

GONE, DENIED, LOGIN, BROKEN = Canned(410), Canned(403), Canned(401), Canned(500)
FILES = {"a.txt": b"alpha", "b.txt": b"beta", "secret.txt": DENIED, "gone.txt": GONE}
SOME = "/?bundle=a.txt,none.txt,secret.txt,gone.txt,b.txt"


@pytest.fixture
def upstream() -> Iterator[FilesUpstream]:
    with FilesUpstream(dict(FILES)) as running:
        yield running


@pytest.fixture
def app(upstream: FilesUpstream) -> Iterator[TestApp]:
    with gateway_to(upstream) as running:
        yield running


def contents(response) -> dict[str, str]:
    with tarfile.open(fileobj=io.BytesIO(response.body)) as archive:
        return {each.name: archive.extractfile(each).read().decode() for each in archive}


def test_a_missing_member_fails_the_bundle_unless_it_is_allowed_to(app):
    assert app.get(SOME, status=403).json["count"] == 3
    assert app.get(f"{SOME}&missing=fail", status=403).json["count"] == 3
    assert "Bundle-Missing" not in app.get("/?bundle=a.txt").headers


def test_members_that_are_not_found_or_denied_are_left_out(app):
    response = app.get(f"{SOME}&missing=skip")
    assert contents(response) == {"a.txt": "alpha", "b.txt": "beta"}
    assert response.headers["Bundle-Missing"] == "3"
    assert len(response.body) == int(response.headers["Content-Length"])


def test_a_report_names_each_with_its_reason_and_comes_last(app):
    response = app.get(f"{SOME}&missing=report")
    report = (
        "none.txt: it does not exist\nsecret.txt: access to it is denied\n"
        "gone.txt: it does not exist\n"
    )
    assert list(contents(response).items()) == [
        ("a.txt", "alpha"),
        ("b.txt", "beta"),
        ("MISSING.txt", report),
    ]


def test_a_form_and_json_may_do_without_members_too(app):
    named = ["a.txt", "none.txt"]
    form = app.post("/?bundle", [("bundle", name) for name in named] + [("missing", "skip")])
    json = app.post_json("/?bundle", {"members": named, "missing": "skip"})
    assert contents(form) == contents(json) == {"a.txt": "alpha"}


@pytest.mark.parametrize("option", ["skip", "report"])
def test_a_head_says_the_same(app, option):
    head, got = (ask(f"{SOME}&missing={option}") for ask in (app.head, app.get))
    for name in ("Bundle-Missing", "Content-Length", "ETag"):
        assert head.headers[name] == got.headers[name]


def test_where_nothing_is_missing_there_is_no_report(app):
    response = app.get("/?bundle=a.txt&missing=report")
    assert contents(response) == {"a.txt": "alpha"}
    assert response.headers["Bundle-Missing"] == "0"


def test_the_report_is_in_the_folder_and_a_member_of_its_name_moves_it(app, upstream):
    upstream.files["missing.TXT"] = b"mine"
    response = app.get("/?bundle=missing.TXT,none.txt&missing=report&folder=x")
    assert list(contents(response)) == ["x/missing.TXT", "x/MISSING (2).txt"]


def test_the_archives_tag_covers_the_report(app, upstream):
    before = app.get("/?bundle=a.txt,x&missing=report")
    upstream.files["x"] = DENIED
    after = app.get("/?bundle=a.txt,x&missing=report")
    assert before.headers["ETag"] != after.headers["ETag"]
    app.get("/?bundle=a.txt,x&missing=report&v=" + before.headers["ETag"].strip('"'), status=412)


def test_any_part_of_an_archive_with_a_report_can_be_had(app):
    url = f"{SOME}&missing=report"
    whole = app.get(url)
    for start in range(0, len(whole.body), 511):
        part = app.get(url, headers={"Range": f"bytes={start}-{start + 510}"}, status=206)
        assert part.body == whole.body[start : start + 511]


@pytest.mark.parametrize("option", ["skip", "report"])
def test_a_date_says_nothing_where_members_may_come_and_go(app, option):
    assert "Last-Modified" not in app.get(f"/?bundle=a.txt&missing={option}").headers


@pytest.mark.parametrize(("fault", "status"), [(LOGIN, 401), (BROKEN, 502), (Canned(302), 502)])
def test_what_a_bundle_may_not_do_without_fails_it(app, upstream, fault, status):
    upstream.files["bad.txt"] = fault
    response = app.get(f"{SOME},bad.txt&missing=skip", status=status)
    assert [each["path"] for each in response.json["members"]] == ["bad.txt"]


@pytest.mark.parametrize("names", ["none.txt", "secret.txt", "none.txt,secret.txt"])
def test_where_nothing_is_left_it_is_a_404(app, names):
    response = app.get(f"/?bundle={names}&missing=report", status=404)
    assert response.json["count"] == len(names.split(","))


def test_a_refusal_of_the_services_own_credentials_is_not_the_callers(upstream, tmp_path):
    own = tmp_path / "headers"
    own.write_text("Authorization: Bearer of-the-service\n")
    own.chmod(0o600)
    with gateway_to(upstream, upstream_headers_file=own) as app:
        assert app.get("/?bundle=a.txt,secret.txt&missing=skip", status=403).json["count"] == 1
        assert contents(app.get("/?bundle=a.txt,none.txt&missing=skip")) == {"a.txt": "alpha"}


def test_what_the_authority_denies_is_denied_to_the_caller(upstream, tmp_path):
    with FilesUpstream(before=lambda asked: judge(authority, asked)) as authority:
        own = tmp_path / "headers"
        own.write_text("Authorization: Bearer of-the-service\n")
        own.chmod(0o600)
        settings = {"auth_request": authority.url + "auth", "upstream_headers_file": own}
        with gateway_to(upstream, **settings) as app:
            response = app.get("/?bundle=a.txt,b.txt&missing=report")
    assert contents(response)["MISSING.txt"] == "b.txt: access to it is denied\n"


def judge(authority, asked) -> None:
    denied = asked.headers["x-original-uri"].endswith("b.txt")
    authority.files["auth"] = Canned(403) if denied else Canned(204)


def test_any_number_of_members_may_be_missing_and_all_are_asked_about(app):
    names = [f"none-{number}" for number in range(150)]
    response = app.get("/?" + urlencode({"bundle": [*names, "a.txt"], "missing": "skip"}, True))
    assert contents(response) == {"a.txt": "alpha"}
    assert response.headers["Bundle-Missing"] == "150"


def test_members_of_unknown_size_are_right_when_others_before_them_are_missing():
    pages = Probes({"/a": Page(b"alpha"), "/long": Page(b"of no length", sized=False)})
    with wrapped(pages) as app:
        app.get("/?bundle=a,long")
        once = pages.asked.count("/long")
        response = app.get("/?bundle=none,a,long&missing=report")
    assert contents(response) == {
        "a": "alpha",
        "long": "of no length",
        "MISSING.txt": "none: it does not exist\n",
    }
    assert pages.asked.count("/long") == 2 * once  # what was set aside is what is sent


def test_a_member_that_vanishes_before_its_bytes_come_is_left_out(app, upstream):
    def vanish(asked):
        if asked.method == "GET":
            upstream.files["b.txt"] = GONE

    upstream.before = vanish
    response = app.get("/?bundle=b.txt,a.txt&missing=skip")
    assert contents(response) == {"a.txt": "alpha"}


def test_equal_bundles_that_treat_what_is_missing_otherwise_are_not_mistaken_for_each_other(app):
    app.get(f"{SOME}&missing=skip")
    assert app.head(f"{SOME}&missing=report").headers["Content-Length"] == "10240"
    app.head(SOME, status=403)


def test_an_unknown_word_is_refused_with_those_that_are_known(app, upstream):
    detail = app.get("/?bundle=a.txt&missing=maybe", status=400).json["detail"]
    assert detail == "missing=maybe is not one of fail, skip, report"
    assert not upstream.requests

"""Errors as answers (RFC 9457): JSON for programs, a page for browsers, nothing to inject."""

import json
import re
from base64 import b64encode
from hashlib import sha256
from html import unescape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tar_gateway.errors import (
    BadRequest,
    MemberFault,
    MembersFailed,
    MethodNotAllowed,
    NotFound,
    RangeNotSatisfiable,
)
from tar_gateway.web.problem import problem, refuse

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"

HOSTILE = "<script>alert('x')</script>&\"{title}"


def answer(refusal, accept=None, **keywords):
    """Give the status, the headers as a mapping, and the body."""
    status, headers, body = problem(refusal, accept, **keywords)
    mapping = dict(headers)
    assert len(mapping) == len(headers)
    return status, mapping, body


MEMBER, BUNDLE = "%2Fapp%2Freports%2Fa%20b.pdf", "%2Fapp%2Freports%2F%3Fbundle%3Da%2520b.pdf"


def sent_to(login, **more):
    """Give the status and Location of a bundle whose member is only there behind a login."""
    fault = MemberFault("reports/a b.pdf", 403, "a login is asked for", login=login)
    environ = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "/app",
        "PATH_INFO": "/reports/",
        "QUERY_STRING": "bundle=a%20b.pdf",
        "HTTP_ACCEPT": BROWSER,
        **more,
    }
    told = []
    refuse(MembersFailed([fault]), environ, lambda *said: told.extend(said))
    return told[0][:3], dict(told[1]).get("Location")


@pytest.mark.parametrize(
    ("login", "place"),
    [
        ("/app/login", "/app/login"),
        ("/app/login?lang=de", "/app/login?lang=de"),
        (f"/app/login?next={MEMBER}", f"/app/login?next={BUNDLE}"),
        ("/app/login?next=/app/reports/a+b.pdf&x=1", f"/app/login?next={BUNDLE}&x=1"),
        (f"/in?x=1&ReturnUrl={MEMBER}%3Fv%3D1#top", f"/in?x=1&ReturnUrl={BUNDLE}#top"),
        ("../in?next=" + MEMBER, "/app/in?next=" + BUNDLE),
        (
            f"https://sso.test/cas?service=https%3A%2F%2Ffiles.test{MEMBER}",
            f"https://sso.test/cas?service=https%3A%2F%2Ffiles.test{BUNDLE}",
        ),
        # A login that is told of another one, which is told where to go on.
        (
            "https://sso.test/?to=%2Fin%3Fnext%3D" + MEMBER.replace("%", "%25"),
            "https://sso.test/?to=%2Fin%3Fnext%3D" + BUNDLE.replace("%", "%25"),
        ),
        # What is not the member's own URL is the application's.
        ("/in?next=%2Fapp%2Freports%2Fother.pdf", "/in?next=%2Fapp%2Freports%2Fother.pdf"),
        ("/in?next=%2Freports%2Fa%20b.pdf", "/in?next=%2Freports%2Fa%20b.pdf"),
        ("/in?n=\xe9\r\nX: y", "/in?n=%E9%0D%0AX:%20y"),
        ("http://[/", "http://[/"),
    ],
)
def test_a_browser_is_sent_to_the_login_with_the_way_back_to_the_bundle(login, place):
    assert sent_to(login) == ("303", place)
    assert sent_to(login, REQUEST_METHOD="HEAD") == ("303", place)


def test_a_posted_bundle_comes_back_to_its_path_alone():
    assert sent_to(f"/in?next={MEMBER}", REQUEST_METHOD="POST") == (
        "303",
        "/in?next=%2Fapp%2Freports%2F",
    )


@pytest.mark.parametrize("accept", [None, "*/*", "application/json", "application/problem+json"])
def test_a_program_is_told_that_a_login_is_asked_for(accept):
    more = {} if accept is None else {"HTTP_ACCEPT": accept}
    asked = {"HTTP_ACCEPT": "", **more}
    assert sent_to("/in", **asked) == ("403", None)


@pytest.mark.parametrize(
    ("others", "status"),
    [([], "303"), ([404], "303"), ([502], "303"), ([403], "303"), ([401], "401")],
)
def test_what_comes_before_a_login_is_told_first(others, status):
    faults = [MemberFault(str(number), number, "x") for number in others]
    refusal = MembersFailed([*faults, MemberFault("a", 403, "a login", login="/in")])
    told = []
    environ = {"REQUEST_METHOD": "GET", "HTTP_ACCEPT": BROWSER}
    refuse(refusal, environ, lambda *said: told.extend(said))
    assert told[0][:3] == status


def document(refusal):
    return json.loads(answer(refusal)[2])


@pytest.mark.parametrize(
    "accept",
    [
        None,
        "",
        "*/*",
        "application/json",
        "application/problem+json",
        "application/*",
        "application/problem+json, text/html",
        "application/json, text/html;q=0.9",
        "text/html;q=0",
        "text/html;q=0.5, */*",
        "image/png",
        "nonsense",
        ";;;",
        "\xff",
    ],
)
def test_a_client_gets_json_unless_it_prefers_a_page(accept):
    _, headers, body = answer(BadRequest("no"), accept)
    assert headers["Content-Type"] == "application/problem+json"
    assert json.loads(body)["detail"] == "no"


@pytest.mark.parametrize(
    "accept", [BROWSER, "text/html", "TEXT/HTML", "text/*", "text/html, application/json;q=0.9"]
)
def test_a_browser_gets_a_page(accept):
    _, headers, body = answer(BadRequest("no such thing"), accept)
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert body.startswith(b"<!DOCTYPE html>")
    assert b"<h1>400 Bad Request</h1>" in body
    assert b"<p>No such thing.</p>" in body


@given(
    st.text(st.characters(max_codepoint=0xFF), max_size=40)
    | st.lists(
        st.sampled_from(["text/html", "*/*", "a/b", ";q=", "0", "0.5", "2", ",", ";", '"', "\\"]),
        max_size=8,
    ).map("".join)
)
def test_no_accept_header_makes_an_error_fail(accept):
    status, headers, body = answer(BadRequest("no"), accept)
    assert status == 400
    assert headers["Content-Length"] == str(len(body))


@pytest.mark.parametrize("accept", [None, BROWSER])
def test_every_answer_is_exact_kept_nowhere_and_taken_for_nothing_else(accept):
    status, headers, body = answer(NotFound("nothing: é"), accept)
    assert status == 404
    assert headers["Content-Length"] == str(len(body))
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Vary"] == "Accept"


def test_an_answer_varies_with_what_the_caller_sends():
    headers = answer(NotFound("nothing"), vary=("Authorization", "Cookie"))[1]
    assert headers["Vary"] == "Accept, Authorization, Cookie"


@pytest.mark.parametrize(
    ("refusal", "name", "value"),
    [
        (MethodNotAllowed(("GET", "HEAD")), "Allow", "GET, HEAD"),
        (RangeNotSatisfiable(10240), "Content-Range", "bytes */10240"),
        (MembersFailed([MemberFault("a", 401, "x", "Basic")]), "WWW-Authenticate", "Basic"),
    ],
)
def test_the_headers_of_a_refusal_are_in_the_answer(refusal, name, value):
    assert answer(refusal)[1][name] == value


def test_json_tells_type_title_status_and_detail():
    assert document(NotFound("nothing: é")) == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "nothing: é",
    }


def test_json_names_the_members_at_fault_in_order():
    faults = [
        MemberFault("d/b.txt", 404, "it does not exist"),
        MemberFault("d/é.txt", 403, "it is not for you", "never shown"),
    ]
    assert document(MembersFailed(faults, total=3)) == {
        "type": "about:blank",
        "title": "Forbidden",
        "status": 403,
        "detail": "2 of 3 files could not be retrieved",
        "count": 2,
        "members": [
            {"path": "d/b.txt", "status": 404, "reason": "it does not exist"},
            {"path": "d/é.txt", "status": 403, "reason": "it is not for you"},
        ],
    }


def test_json_without_members_at_fault_has_no_list():
    assert "members" not in document(BadRequest("no"))


def test_a_page_names_the_members_at_fault():
    refusal = MembersFailed([MemberFault("d/é.txt", 404, "it does not exist")])
    body = answer(refusal, BROWSER)[2].decode()
    assert "<li><code><bdi>d/é.txt</bdi></code>: it does not exist</li>" in body
    assert "<p>The file could not be retrieved.</p>" in body


@pytest.mark.parametrize("accept", [None, BROWSER])
def test_an_error_is_small_whatever_it_names_and_counts_what_it_does_not_list(accept):
    faults = [MemberFault(f"{n:04}" + "'" * 4000, 404, "é" * 4000) for n in range(1000)]
    body = answer(MembersFailed(faults), accept)[2].decode()
    assert len(body) < 256 * 1024
    assert "0099'" in unescape(body)
    assert "0100'" not in unescape(body)
    assert ('"count": 1000' if accept is None else "And 900 more.") in body
    assert len(answer(BadRequest("'" * 100_000), accept)[2]) < 8 * 1024


def test_a_page_without_members_at_fault_has_no_list():
    assert b"<ul>" not in answer(BadRequest("no"), BROWSER)[2]


@pytest.mark.parametrize(
    "refusal",
    [
        BadRequest(HOSTILE),
        MembersFailed([MemberFault(HOSTILE, 404, "gone")]),
        MembersFailed([MemberFault("a", 404, HOSTILE)]),
    ],
    ids=["detail", "path", "reason"],
)
def test_nothing_of_a_request_becomes_part_of_a_page(refusal):
    body = answer(refusal, BROWSER)[2].decode()
    assert "<script" not in body
    assert HOSTILE in unescape(body)


@pytest.mark.parametrize("accept", [None, BROWSER])
def test_a_browser_loads_nothing_for_an_error_frames_it_nowhere_and_tells_no_one_its_url(accept):
    _, headers, _ = answer(NotFound("nothing"), accept)
    rules = headers["Content-Security-Policy"].split("; ")
    assert {"default-src 'none'", "frame-ancestors 'none'", "form-action 'none'"} <= set(rules)
    assert headers["Referrer-Policy"] == "no-referrer"


def test_the_style_of_a_page_is_the_one_that_its_policy_allows():
    _, headers, body = answer(NotFound(HOSTILE), BROWSER)
    (style,) = re.findall(rb"<style>(.*?)</style>", body, re.DOTALL)
    digest = b64encode(sha256(style).digest()).decode()
    assert f"; style-src 'sha256-{digest}';" in headers["Content-Security-Policy"]

"""The plan of an archive as JSON: what it says, of which version, and to whom."""

import json
import socket
import tracemalloc
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from webtest import TestApp

from tar_gateway import sign_url
from tar_gateway.archive.bundle import Bundle, Entry
from tar_gateway.delivery.plan import Plan
from tar_gateway.http.validators import Validator
from tar_gateway.sources import Caller, Stat
from tar_gateway.sources.data import DataMembers
from tar_gateway.web.plan_json import PlanDocument
from tests.support.files_upstream import MTIME, File, FilesUpstream, gateway_to
from tests.support.servers import gateway

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/plan.schema.json").read_text("utf-8"))
FILES = {
    "r/a.txt": File(b"alpha", etag='"one"'),
    "r/übung.txt": File(b"beta " * 300, MTIME + 60, etag='"two"'),
    "r/weak.txt": File(b"weak", mtime=None, etag=None),
}
ALL = "/r/?bundle=a.txt&bundle=%C3%BCbung.txt"
KEY = "s" * 43


@pytest.fixture
def upstream() -> Iterator[FilesUpstream]:
    with FilesUpstream(dict(FILES)) as running:
        yield running


@pytest.fixture
def app(upstream: FilesUpstream) -> Iterator[TestApp]:
    with gateway_to(upstream) as running:
        yield running


@pytest.fixture
def signing(upstream: FilesUpstream, tmp_path) -> Iterator[TestApp]:
    keys = tmp_path / "keys"
    keys.write_text(f"k1:{KEY}\n")
    keys.chmod(0o600)
    with gateway_to(upstream, signing_keys_file=keys) as running:
        yield running


def signed(url: str) -> str:
    return sign_url(url, KEY, expires=2**32, key_id="k1")


def plan_of(response) -> dict:
    Draft202012Validator(SCHEMA).validate(response.json)
    return response.json


def test_a_plan_is_what_the_archive_would_be(app):
    archive = app.get(f"{ALL}&filename=mine")
    plan = plan_of(app.get(f"{ALL}&filename=mine&plan=json"))
    assert plan["filename"] == "mine.tar"
    assert plan["format"] == "tar"
    assert plan["size"] == len(archive.body)
    assert plan["etag"] == archive.headers["ETag"]
    assert plan["missing"] == []
    assert plan["members"][0] == {
        "name": "a.txt",
        "path": "r/a.txt",
        "size": 5,
        "mtime": MTIME,
        "offset": 0,
        "data_offset": 512,
        "validator": '"one"',
    }


def test_the_offsets_are_those_of_the_bytes(app):
    archive = app.get(ALL).body
    for member in plan_of(app.get(f"{ALL}&plan=json"))["members"]:
        content = FILES["r/" + member["name"]].content
        start = member["data_offset"]
        assert archive[start : start + member["size"]] == content
        # A pax record comes first where the name is not ASCII.
        assert archive[member["offset"] + 257 :].startswith(b"ustar")


def test_the_link_is_to_this_version_of_the_archive(app, upstream):
    link = plan_of(app.get(f"{ALL}&plan=json"))["link"]
    assert "plan=" not in link
    assert app.get("/r/" + link).body == app.get(ALL).body
    upstream.files["r/a.txt"] = File(b"other", etag='"three"')
    app.get("/r/" + link, status=412)


def test_what_is_missing_is_told_with_its_reason(app):
    response = app.get("/r/?bundle=a.txt,none.txt&missing=report&plan=json")
    plan = plan_of(response)
    assert response.headers["Bundle-Missing"] == "1"
    assert plan["missing"] == [
        {"name": "none.txt", "path": "r/none.txt", "status": 404, "reason": "it does not exist"}
    ]
    assert [(each["name"], each["path"]) for each in plan["members"]] == [
        ("a.txt", "r/a.txt"),
        ("MISSING.txt", None),
    ]


def test_a_member_without_a_validator_has_none(app):
    plan = plan_of(app.get("/r/?bundle=weak.txt&plan=json"))
    assert plan["members"][0]["validator"] is None
    assert plan["etag"].startswith("W/")


def test_a_plan_of_a_posted_list_has_no_link(app):
    response = app.post_json("/r/?bundle&plan=json", {"members": ["a.txt"]})
    assert plan_of(response)["link"] is None


def test_no_byte_of_a_member_is_fetched(app, upstream):
    app.get(f"{ALL}&plan=json")
    assert {asked.method for asked in upstream.requests} == {"HEAD"}


def test_a_plan_has_a_tag_of_its_own_and_no_ranges(app):
    response = app.get(f"{ALL}&plan=json", headers={"Range": "bytes=0-1"}, status=200)
    assert response.headers["ETag"].startswith('"plan-')
    assert response.headers["Accept-Ranges"] == "none"
    assert app.head(f"{ALL}&plan=json").headers["ETag"] == response.headers["ETag"]


def test_a_head_after_a_plan_plans_nothing_anew(app, upstream):
    app.get(f"{ALL}&plan=json")
    asked = len(upstream.requests)
    head = app.head(f"{ALL}&plan=json")
    assert (head.status_code, len(upstream.requests)) == (200, asked)


def test_a_plan_that_is_known_is_not_sent_again(app, upstream):
    tag = app.get(f"{ALL}&plan=json").headers["ETag"]
    app.get(f"{ALL}&plan=json", headers={"If-None-Match": tag}, status=304)
    app.get(f"{ALL}&plan=json", headers={"If-Match": '"other"'}, status=412)
    upstream.files["r/a.txt"] = File(b"other", etag='"three"')
    app.get(f"{ALL}&plan=json", headers={"If-None-Match": tag}, status=200)


def test_plans_of_equal_archives_from_other_paths_are_other_plans(app, upstream):
    upstream.files["r/b.txt"] = FILES["r/a.txt"]
    paths = ("a.txt", "b.txt")
    lists = ({"members": [{"path": path, "name": "same"}]} for path in paths)
    tags = {app.post_json("/r/?bundle&plan=json", each).headers["ETag"] for each in lists}
    assert len(tags) == 2


def test_a_version_holds_for_the_plan_as_well(app):
    opaque = app.head(ALL).headers["ETag"].strip('"')
    app.get(f"{ALL}&plan=json&v={opaque}", status=200)
    app.get(f"{ALL}&plan=json&v=tar-0", status=412)


def test_an_error_comes_before_the_first_piece(app):
    response = app.get("/r/?bundle=none.txt&plan=json", status=404)
    assert response.content_type == "application/problem+json"


def test_another_kind_of_plan_is_refused(app):
    detail = app.get(f"{ALL}&plan=xml", status=400).json["detail"]
    assert detail == "plan=xml is not known: a plan is plan=json"


def test_plan_means_something_else_without_the_parameter(app, upstream):
    assert app.get("/r/a.txt?plan=json").body == b"alpha"
    assert upstream.requests[-1].target == "/r/a.txt?plan=json"


def test_a_plan_may_be_added_to_a_signed_link_and_shows_no_places(signing):
    plan = plan_of(signing.get(signed(ALL) + "&plan=json"))
    assert set(plan["members"][0]) == {"name", "size", "mtime", "offset", "data_offset"}
    assert signing.get("/r/" + plan["link"]).content_type == "application/x-tar"
    missing = signing.get(signed("/r/?bundle=a.txt,x&missing=skip") + "&plan=json")
    assert set(plan_of(missing)["missing"][0]) == {"name", "status", "reason"}


def test_a_link_that_was_signed_for_the_plan_opens_nothing_else(signing):
    url = signed(f"{ALL}&plan=json")
    assert plan_of(signing.get(url))["link"] is None
    signing.get(url.replace("&plan=json", ""), status=403)


@pytest.mark.parametrize("added", ["plan=xml", "plan", "plan=json&folder=x", "plan%3Djson"])
def test_nothing_else_may_be_added_to_a_signed_link(signing, added):
    signing.get(f"{signed(ALL)}&{added}", status=403)


def large_plan(count: int) -> PlanDocument:
    entries = tuple(Entry(f"reports/{n:07}.pdf", f"{n:07}.pdf") for n in range(count))
    stats = [Stat(n, MTIME, Validator.etag(f"{n}", strong=True)) for n in range(count)]
    plan = Plan(DataMembers({}), Caller(), Bundle(entries, "all.tar"), stats, {})
    return PlanDocument(plan, "all.tar", "?bundle", hides_places=False)


def test_a_plan_of_100_000_members_takes_no_memory_to_speak_of():
    document = large_plan(100_000)
    tracemalloc.start()
    try:
        length = sum(len(piece) for piece in document)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert length > 10_000_000
    assert peak < 256 * 1024


@pytest.mark.parametrize("count", [1, 99, 100, 101, 250])
def test_a_plan_in_pieces_is_whole_and_one_that_is_cut_off_is_no_json(count):
    pieces = list(large_plan(count))
    Draft202012Validator(SCHEMA).validate(json.loads(b"".join(pieces)))
    assert len(json.loads(b"".join(pieces))["members"]) == count
    for end in range(len(pieces)):
        with pytest.raises(ValueError, match=r"."):
            json.loads(b"".join(pieces[:end]))


# --- for real -------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_under_gunicorn_a_plan_is_whole_in_every_version_of_http(upstream, tmp_path, version):
    with (
        gateway(upstream.url, tmp_path) as running,
        socket.create_connection((running.host, running.port), timeout=10) as client,
    ):
        lines = (f"GET {ALL}&plan=json HTTP/{version}", "Host: x", "Connection: close", "", "")
        client.sendall("\r\n".join(lines).encode())
        response = HTTPResponse(client)
        response.begin()
        plan = json.loads(response.read())
    Draft202012Validator(SCHEMA).validate(plan)
    assert response.getheader("Content-Length") is None
    assert [each["name"] for each in plan["members"]] == ["a.txt", "übung.txt"]

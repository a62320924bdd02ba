"""The service's own headers: what their file may hold, where they go, and where they never do."""

import logging
import traceback
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from webob import Request

from tar_gateway import Settings, SettingsError, Upstream
from tar_gateway.sources import Caller
from tests.support.fakes import forwarded
from tests.support.files_upstream import TEXT, Canned, FilesUpstream, gateway_to
from tests.support.scripted import Scripted, answer

SECRET = "hunter" + "2"  # a traceback quotes the line that raised


@pytest.fixture
def upstream() -> Iterator[FilesUpstream]:
    with FilesUpstream({"a": b"alpha", "b": b"beta", "list": b'{"members": ["a"]}'}) as running:
        yield running


def written(place: Path, text: str) -> Path:
    file = place / "headers"
    file.write_bytes(text.encode())
    return file


# --- the file ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (SECRET, "line 3 is not 'Name: value'"),
        (f"{SECRET} : x", "line 3 does not begin with the name of a header"),
        (f": {SECRET}", "line 3 does not begin with the name of a header"),
        (f"X-Schlüssel: {SECRET}", "line 3 does not begin with the name of a header"),
        ("X-New:", "the value on line 3 is empty or holds a control character"),
        (f"X-New: a\rX-B: {SECRET}", "the value on line 3 is empty or holds a control character"),
        (f"X-New: {SECRET}\0", "the value on line 3 is empty or holds a control character"),
        (f"x-key: {SECRET}", "the header on line 3 was given before"),
        *(
            (f"{name}: {SECRET}", "the header on line 3 belongs to one connection")
            for name in ("Connection", "TE", "Transfer-Encoding", "Proxy-Authorization", "host")
        ),
        *(
            (f"{name}: {SECRET}", "the header on line 3 belongs to one connection")
            for name in ("Range", "If-Match", "Content-Length", "Accept-Encoding", "Expect")
        ),
    ],
)
def test_a_wrong_line_is_told_by_its_number_and_never_shown(tmp_path, line, reason):
    file = written(tmp_path, f"# ours\nX-Key: {SECRET}\n{line}\n")
    environment = {
        "TAR_GATEWAY_UPSTREAM": "http://files.internal/",
        "TAR_GATEWAY_UPSTREAM_HEADERS_FILE": str(file),
    }
    with pytest.raises(SettingsError) as refused:
        Settings.from_environment(environment)
    (said,) = str(refused.value).splitlines()
    assert said.startswith(f"TAR_GATEWAY_UPSTREAM_HEADERS_FILE is '{file}': {reason}")
    assert SECRET not in "".join(traceback.format_exception(refused.value))


# --- where they go -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["/a", "/?bundle=a&bundle=b", "/?bundle&manifest=list", "/gone", "/?bundle=gone"]
)
def test_every_request_to_the_upstream_has_them_in_place_of_the_callers(upstream, tmp_path, url):
    file = written(tmp_path, f"authorization: Bearer {SECRET}\nX-Key: {SECRET}")
    mine = {"Authorization": "Bearer mine", "X-Key": "mine", "X_Key": "mine", "Cookie": "id=1"}
    with gateway_to(upstream, upstream_headers_file=file) as app:
        app.get(url, headers=mine, expect_errors=True)
    assert upstream.requests
    for request in upstream.requests:
        assert request.headers["authorization"] == f"Bearer {SECRET}"
        assert request.headers["x-key"] == SECRET
        assert request.headers["cookie"] == "id=1"


def test_no_header_comes_twice_however_it_is_written(tmp_path):
    file = written(tmp_path, "authorization: ours\nx-KEY: ours\nuser-agent: ours")
    caller = Caller((("Authorization", "mine"),))
    with (
        Scripted({"/a": answer(b"alpha")}) as server,
        closing(Upstream(server.url, Settings(upstream_headers_file=file))) as made,
    ):
        made.stat("a", caller)
        sent = [("X-Key", "mine"), ("X_Key", "mine"), ("User-Agent", "mine")]
        forwarded(made, "GET", "a", sent, caller).content.close()
    asked, passed = server.requests
    assert asked.all("Authorization") == ["ours"]
    assert (passed.all("X-Key"), passed.all("X_Key")) == (["ours"], [])
    assert asked.all("User-Agent") == passed.all("User-Agent") == ["ours"]


def test_a_caller_cannot_take_them_out(upstream, tmp_path):
    file = written(tmp_path, f"X-Key: {SECRET}")
    with gateway_to(upstream, upstream_headers_file=file) as app:
        for url in ("/a", "/?bundle=a"):
            app.get(url, headers={"Connection": "X-Key"}, status=400)
            app.get(url, headers={"X-Key": "", "X_Key": "mine"})
    assert {request.headers["x-key"] for request in upstream.requests} == {SECRET}


def test_bytes_above_ascii_are_sent_as_the_file_has_them(upstream, tmp_path):
    with gateway_to(upstream, upstream_headers_file=written(tmp_path, "X-Key: grün")) as app:
        app.get("/a")
    assert upstream.requests[0].headers["x-key"].encode("latin-1").decode() == "grün"


# --- where they don't --------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["/NAME", "/?bundle=NAME", "/?bundle&manifest=NAME"])
@pytest.mark.parametrize(
    "answer",
    [
        Canned(200, (TEXT,), b"alpha"),
        Canned(200, (TEXT,), b"half", length=9),
        Canned(200, (TEXT,), b"x", length=-5),
        Canned(401, (TEXT, ("WWW-Authenticate", "Basic"))),
        Canned(403, (TEXT,)),
        Canned(302, (TEXT, ("Location", "http://127.0.0.1:9/"))),
        Canned(500, (TEXT,)),
    ],
    ids=lambda answer: f"{answer.status} of {answer.length} bytes",
)
def test_they_are_in_no_answer_and_no_log(upstream, tmp_path, caplog, url, answer):
    caplog.set_level(logging.DEBUG)
    upstream.files["member"] = answer
    file = written(tmp_path, f"Authorization: Bearer {SECRET}\nX-Key: {SECRET}")
    with gateway_to(upstream, upstream_headers_file=file) as app:
        _, headers, body = _whatever_comes(app, url.replace("NAME", "member"))
    assert {request.headers["x-key"] for request in upstream.requests} == {SECRET}
    assert SECRET not in repr(headers)
    assert SECRET.encode() not in body
    assert SECRET not in caplog.text


def test_they_are_in_no_repr(upstream, tmp_path):
    settings = Settings(upstream_headers_file=written(tmp_path, f"X-Key: {SECRET}"))
    made = Upstream(upstream.url, settings)
    assert SECRET not in repr((settings, made))
    made.close()


def _whatever_comes(app, url: str) -> tuple[str, list[tuple[str, str]], bytes]:
    """Ask, and take what comes of the response, be it broken off."""
    status, headers, blocks = Request.blank(url).call_application(app.app)
    body = b""
    try:
        for block in blocks:
            body += block
    except Exception as error:
        body += repr(error).encode()
    finally:
        blocks.close()
    return status, headers, body

"""A request that asks for far too much is refused at once, and costs next to nothing."""

import json
import os
import socket
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from webob import Request
from webtest import TestApp

from tar_gateway.errors import BadRequest, ContentTooLarge
from tar_gateway.http.paths import BadName, decode_form_value
from tar_gateway.settings import Settings
from tar_gateway.web.json_list import json_bundle
from tar_gateway.web.query import is_bundle, list_bundle, read_form, read_query
from tests.support.files_upstream import FilesUpstream, gateway_to
from tests.support.hostile import in_parts
from tests.support.scripted import Scripted, answer
from tests.support.servers import Running, gateway

MIB = 1024 * 1024
MILLION = 1_000_000
TICKS = os.sysconf("SC_CLK_TCK")  # a second, in which the kernel counts processor time

JSON, FORM = b"application/json", b"application/x-www-form-urlencoded"
PARTS = b"multipart/form-data; boundary=b"
MEDIA_TYPES = {
    **{"json": JSON, "objects": JSON, "form": FORM, "other parameters": FORM, "parts": PARTS}
}


@pytest.fixture(scope="module")
def lists() -> dict[str, bytes]:
    """Give the lists of a million members, made only in the process that sends them."""
    names = [b"%07d" % number for number in range(MILLION)]
    return {
        "json": b'{"members":["' + b'","'.join(names) + b'"]}',
        "objects": b'{"members":[' + b",".join(b'{"path":"%s"}' % name for name in names) + b"]}",
        "form": b"bundle=" + b"&bundle=".join(names),
        "other parameters": b"bundle=a&" + b"x=&" * MILLION,
        "parts": in_parts(*names),
        "file list": b"".join(b"- 1 /%s %s\n" % (name, name) for name in names),
    }


# --- a million members, at a real server ----------------------------------------------------------


@pytest.fixture(scope="module", params=["2MiB", "64MiB"])
def running(request, lists, tmp_path_factory) -> Iterator[tuple[Running, Scripted, bool]]:
    """Give a gateway whose limit of a body is the default one, or far above what is sent.

    Whatever it allocates at once and frees goes back to the system at once. glibc would keep some
    of it, more or less by what came before, and then resident memory tells nothing of one request.
    """
    with pytest.MonkeyPatch.context() as environment, ExitStack() as stack:
        environment.setenv("MALLOC_MMAP_THRESHOLD_", str(128 * 1024))
        file_list = answer(lists["file list"], "X-Archive-Files: tar")
        upstream = stack.enter_context(Scripted({"/list": file_list}))
        upstream.on("/all.json", answer(lists["json"]))
        place = tmp_path_factory.mktemp("gateway")
        it = stack.enter_context(gateway(upstream.url, place, max_body=request.param))
        ask(it, b"GET /?bundle=none HTTP/1.1\r\n", b"")  # so that all is imported
        yield it, upstream, request.param == "64MiB"


def ask(running: Running, line: bytes, body: bytes, *, chunked: bool = False) -> int:
    """Send one request, and return the response's status."""
    with socket.create_connection(("127.0.0.1", running.port), 30) as connection:
        head = line + b"Host: a\r\nConnection: close\r\n"
        sender = threading.Thread(target=_send, args=(connection, head, body, chunked))
        sender.start()
        answered = b""
        with suppress(ConnectionError):  # a body that was not wanted is not read either
            while block := connection.recv(65536):
                answered += block
        sender.join()
    return int(answered.split(b" ")[1])


def _send(connection: socket.socket, head: bytes, body: bytes, chunked: bool) -> None:
    with suppress(OSError):
        if not chunked:
            connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            return
        connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
        for start in range(0, len(body), 65536):
            block = body[start : start + 65536]
            connection.sendall(b"%x\r\n%s\r\n" % (len(block), block))
        connection.sendall(b"0\r\n\r\n")


def measured(running: Running, *request, **how) -> tuple[int, float, float]:
    """Return a request's status, the worker's seconds for it, and MiB that it held at the peak.

    The seconds are those of a processor: others that use the machine add none.
    """
    (worker,) = running.workers()
    Path(f"/proc/{worker}/clear_refs").write_text("5")  # the peak begins anew
    before, began = running.memory("VmRSS"), processor_seconds(worker)
    status = ask(running, *request, **how)
    seconds, grown = processor_seconds(worker) - began, (running.memory() - before) / MIB
    print(f"{status} after {seconds * 1000:.0f} ms, {grown:.1f} MiB more at the peak")
    return status, seconds, grown


def processor_seconds(pid: int) -> float:
    """Return the processor time of a process, its own and the system's for it (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


@pytest.mark.parametrize("chunked", [False, True], ids=["sized", "chunked"])
@pytest.mark.parametrize("kind", MEDIA_TYPES)
def test_a_million_members_in_a_body_are_413_at_once_and_hold_no_memory(
    running, lists, kind, chunked
):
    gateway, upstream, is_raised = running
    line = b"POST /?bundle HTTP/1.1\r\nContent-Type: " + MEDIA_TYPES[kind] + b"\r\n"
    upstream.requests.clear()
    status, seconds, grown = measured(gateway, line, lists[kind], chunked=chunked)
    assert status == 413
    assert seconds < 1
    # The body itself while it is read, joined or decoded, where it is allowed; else a part of it.
    assert grown < 8 + (2.1 * len(lists[kind]) / MIB if is_raised else 0)
    assert upstream.requests == []


# Two MiB on the wire and a few bytes more, of which the framing is most.
FRAMED = {
    "chunks of one byte": b"1\r\na\r\n" * (MIB // 3),
    "extensions": b"1;%b\r\na\r\n" % (b"a" * 8000) * 262,
    "trailers": b"0\r\n" + b"A: b\r\n" * (MIB // 3),
}


@pytest.mark.parametrize("running", ["2MiB"], indirect=True)  # the other allows all of it
@pytest.mark.parametrize("kind", FRAMED)
def test_the_framing_of_a_body_counts_against_its_limit(running, kind):
    gateway, _, _ = running
    line = b"POST /?bundle HTTP/1.1\r\nContent-Type: application/json\r\n"
    (worker,) = gateway.workers()
    began = processor_seconds(worker)
    with socket.create_connection(("127.0.0.1", gateway.port), 30) as client:
        with suppress(ConnectionError):  # it was refused before it was sent
            client.sendall(line + b"Host: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            client.sendall(FRAMED[kind] + b"1\r\na\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 413 ")
    assert processor_seconds(worker) - began < 0.8


@pytest.mark.parametrize("target", [b"/?bundle&manifest=all.json", b"/list"])
def test_a_million_members_in_a_list_of_the_upstreams_are_413_at_once(running, lists, target):
    gateway, upstream, is_raised = running
    upstream.requests.clear()
    status, seconds, grown = measured(gateway, b"GET " + target + b" HTTP/1.1\r\n", b"")
    assert status == 413
    assert seconds < 1
    assert grown < 8 + (2.1 * len(lists["file list"]) / MIB if is_raised else 0)
    assert {request.path for request in upstream.requests} <= {"/all.json", "/list"}


NESTED = [
    b"[" * 100_000,
    b'{"members":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"members":[' * 100_000,
    b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    b'{"members":["a",' + b'{"path":' * 100_000,
]


@pytest.mark.parametrize("body", NESTED, ids=lambda body: body[:20].decode())
def test_a_hundred_thousand_brackets_are_400_in_milliseconds_and_hold_no_memory(running, body):
    gateway, upstream, _ = running
    line = b"POST /?bundle HTTP/1.1\r\nContent-Type: application/json\r\n"
    upstream.requests.clear()
    status, seconds, grown = measured(gateway, line, body)
    assert status == 400
    assert seconds < 0.5
    assert grown < 4
    assert upstream.requests == []


# --- other servers let longer queries through -----------------------------------------------------


@pytest.fixture(scope="module")
def upstream() -> Iterator[FilesUpstream]:
    with FilesUpstream({"a": b"alpha"}) as it:
        yield it


@pytest.fixture(scope="module")
def app(upstream: FilesUpstream) -> Iterator[TestApp]:
    with gateway_to(upstream) as it:
        yield it


def asked_in_vain(upstream: FilesUpstream, app: TestApp, query: str) -> tuple[int, float, float]:
    """Return the status of a query, processor seconds for it, and MiB at the peak."""
    upstream.requests.clear()
    environ = Request.blank("/").environ | {"QUERY_STRING": query}
    told: list[str] = []
    tracemalloc.start()
    try:
        began = time.process_time()
        b"".join(app.gateway(environ, lambda status, _: told.append(status)))
        seconds = time.process_time() - began
        peak = tracemalloc.get_traced_memory()[1] / MIB
    finally:
        tracemalloc.stop()
    assert upstream.requests == []
    return int(told[0][:3]), seconds, peak


@pytest.mark.parametrize(
    ("start", "repeated", "end"),
    [("", "bundle=a&", ""), ("", "x&", "bundle=a"), ("bundle=", "a,", "")],
)
def test_a_query_of_a_million_members_is_414_at_once(upstream, app, start, repeated, end):
    query = start + repeated * MILLION + end
    status, seconds, peak = asked_in_vain(upstream, app, query)
    assert status == 414
    assert seconds < 1
    assert peak < 1


@pytest.mark.parametrize("repeated", ["bundle=a&", "x&"])
def test_a_query_of_a_million_members_is_413_where_so_long_a_one_is_allowed(upstream, repeated):
    query = "bundle=a&" + repeated * MILLION
    with gateway_to(upstream, max_query=64 * MIB) as app:
        status, seconds, peak = asked_in_vain(upstream, app, query)
    assert status == 413
    assert seconds < 3  # while memory is traced
    assert peak < 6 * len(query) / MIB


@pytest.mark.parametrize("query", ["bundle=a&x=", "x="])
def test_a_query_may_be_as_long_as_the_limit_and_no_longer(upstream, query):
    with gateway_to(upstream, max_query=20) as app:
        app.get("/a?" + query.ljust(20, "x"), expect_errors=True)
        assert upstream.requests
        upstream.requests.clear()
        response = app.get("/a?" + query.ljust(21, "x"), status=414)
    assert response.json["detail"] == "the query is longer than the 20 bytes that are allowed"
    assert upstream.requests == []


def test_a_name_may_be_as_long_as_the_setting_says(upstream):
    with gateway_to(upstream, max_name=2) as app:
        upstream.files["ab"] = b"beta"
        app.get("/?bundle=ab", status=200)
        upstream.requests.clear()
        for response in (
            app.get("/?bundle=abc", status=400),
            app.get("/?bundle&manifest=abc", status=400),
            app.get("/?bundle=ab&filename=abc", status=400),
            app.post("/?bundle", {"bundle": "abc"}, status=400),
            app.post_json("/?bundle", {"members": [{"path": "abc", "name": "a"}]}, status=400),
            app.post_json("/?bundle", {"members": [{"path": "a", "name": "abc"}]}, status=400),
        ):
            assert "is longer than 2 bytes" in response.json["detail"]
    assert upstream.requests == []


def test_names_that_differ_only_in_case_are_refused_where_that_is_set(upstream):
    names = ["a", "A"]
    upstream.files["A"] = b"ALPHA"
    with gateway_to(upstream) as app:
        app.get("/?bundle=a,A", status=200)
    upstream.requests.clear()
    with gateway_to(upstream, strict_names=True) as app:
        answers = [
            app.get("/?bundle=a,A", status=400),
            app.post("/?bundle", [("bundle", name) for name in names], status=400),
            app.post_json("/?bundle", {"members": names}, status=400),
        ]
    for response in answers:
        assert "differ only in case" in response.json["detail"]
    assert upstream.requests == []


# --- how it is counted ----------------------------------------------------------------------------


@given(st.text("bundle%6&=;+Bé", max_size=30), st.sampled_from(["b", "bundle", "d-l"]))
def test_a_query_has_the_parameter_exactly_when_a_key_decodes_to_it(query, parameter):
    def decoded(key):
        try:
            return decode_form_value(key)
        except BadName:
            return None

    keys = {decoded(part.partition("=")[0]) for part in query.split("&") if part}
    assert is_bundle(query, parameter) is (parameter in keys)


names = st.text('a,"\\{}[]:é', min_size=1, max_size=8)


@given(st.lists(names | st.fixed_dictionaries({"path": names}, optional={"name": names})), names)
def test_a_list_of_no_more_members_than_allowed_is_never_too_large(members, filename):
    body = json.dumps({"members": members, "filename": filename}).encode()
    settings = Settings(max_members=max(1, len(members)))
    with suppress(BadRequest):
        json_bundle(body, "", settings)
    for extra in (1, 2):
        if len(members) > extra:
            with pytest.raises(ContentTooLarge):
                json_bundle(body, "", Settings(max_members=len(members) - extra))


@pytest.mark.parametrize(
    ("start", "repeated", "end"),
    [
        (b'{"members":[', b"0,", b""),
        (b"", b'"', b""),
        (b'"', b'\\"', b""),
        (b'{"members":["', b"a,", b'"]}'),
        (b'{"members":[', b"[],", b""),
        (b"", b",", b""),
    ],
    ids=["values", "quotes", "escapes", "commas in a name", "arrays", "commas"],
)
def test_no_json_of_64_mebibytes_takes_long_or_memory(start, repeated, end):
    body = start + repeated * (64 * MIB // len(repeated) - len(start + end)) + end
    tracemalloc.start()
    began = time.process_time()
    try:
        with pytest.raises((BadRequest, ContentTooLarge)):
            json_bundle(body, "", Settings(max_body=64 * MIB))
        peak = tracemalloc.get_traced_memory()[1] / MIB
    finally:
        tracemalloc.stop()
    assert time.process_time() - began < 4
    assert peak < 1 or end  # whose only name is read


@pytest.mark.parametrize("separator", ["&", "&&", "&" * 100])
def test_other_parameters_count_too_and_empty_ones_do_not(separator):
    settings = Settings(max_members=1)
    few = separator.join(["bundle=a", *["x=1"] * 100])
    assert list_bundle(read_form(few.encode(), settings), "", settings).members
    assert read_query(few, settings).members == ("a",)
    many = few + separator + "x=1"
    for read in (lambda: read_form(many.encode(), settings), lambda: read_query(many, settings)):
        with pytest.raises(ContentTooLarge, match="more than 1 members are named"):
            read()

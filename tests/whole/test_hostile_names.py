"""No name reaches outside the upstream's base: it is refused unheard, or asked for as it is."""

import io
import re
import tarfile
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from webob import Request

from tar_gateway import Gateway, Settings, Upstream
from tar_gateway.archive.format import written_name
from tests.support.hostile import (
    AS_DIRECTORY,
    AS_NAME,
    AS_PATH,
    DIRECTORIES,
    KEPT,
    REFUSED,
    Call,
    can_say,
    escaped,
    expected_path,
    expected_target,
    is_directory,
)
from tests.support.scripted import File, Scripted, answer
from tests.support.servers import gateway

WAYS = AS_PATH | AS_NAME
FILE = File(b"x")


class Recorder:
    """A gateway to ``/base/`` of an upstream that has every file, and remembers every request."""

    def __init__(self, upstream: Scripted) -> None:
        self.upstream = upstream
        settings = Settings(retries=0)
        self.gateway = Gateway(Upstream(upstream.url + "base/", settings), settings)

    def answer(self, call: Call) -> tuple[int, bytes, list[str]]:
        """Give the status, the body, and what was asked of the upstream beside lists, once each."""
        headers = ["X-Archive-Files: tar"] if call.is_list else []
        for path, text in call.lists.items():
            self.upstream.on(path, answer(text, *headers))
        self.upstream.requests.clear()
        request = Request.blank("/")
        if call.body is not None:
            request.method = "POST"
            request.body = call.body
            request.content_type = call.media_type
        environ = request.environ | {"PATH_INFO": call.path, "QUERY_STRING": call.query}
        told: list[str] = []
        blocks = self.gateway(environ, lambda status, _: told.append(status))
        try:
            body = b"".join(blocks)
        finally:
            getattr(blocks, "close", tuple)()
        asked = dict.fromkeys(seen.target for seen in self.upstream.requests)
        return int(told[0][:3]), body, [target for target in asked if target not in call.lists]


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    with Scripted(default=FILE) as upstream:
        made = Recorder(upstream)
        yield made
        made.gateway.close()


def short(name: bytes) -> str:
    return ascii(name)[2:42]


CASES = [(way, name) for name in REFUSED for way in WAYS if can_say(way, name)]


@pytest.mark.parametrize("name", REFUSED, ids=short)
def test_a_refused_name_is_refused_by_every_way_before_the_upstream_hears_of_it(recorder, name):
    for way, make in WAYS.items():
        if not can_say(way, name):
            continue
        call = make(name)
        status, body, asked = recorder.answer(call)
        # What an application lists is the application's fault and not the client's.
        assert (way, status) == (way, 502 if call.is_list else 400)
        assert (way, asked) == (way, [])
        assert not set(body) & {0, 13, 27, 127}, way


@pytest.mark.parametrize("name", KEPT, ids=short)
def test_a_kept_name_arrives_at_the_upstream_as_exactly_those_bytes(recorder, name):
    for way, make in AS_PATH.items():
        status, _, asked = recorder.answer(make(name))
        wanted = expected_target(way, name)
        if way == "manifest itself":
            # It is asked for, and found to be no list.
            assert (way, status, asked) == (way, 400, [wanted])
            continue
        assert (way, status) == (way, 200)
        assert set(asked) - {"/base/d/p"} <= {wanted}, way
        assert wanted in asked, way


@pytest.mark.parametrize("name", KEPT, ids=short)
def test_a_kept_name_is_in_the_archive_as_exactly_those_bytes(recorder, name):
    for way, make in {**AS_NAME, "query": AS_PATH["query"]}.items():
        _, body, _ = recorder.answer(make(name))
        with tarfile.open(fileobj=io.BytesIO(body)) as tar:
            (member,) = tar.getmembers()
        assert (way, member.name.encode()) == (way, written_name(name.decode()).encode())
        assert member.isdir() if "directory" in way else member.isreg()


@pytest.mark.parametrize("name", DIRECTORIES, ids=short)
def test_a_directory_is_listed_under_exactly_its_name_and_named_as_such_only(recorder, name):
    for way, make in WAYS.items():
        if not can_say(way, name):
            continue
        call = make(name)
        status, _, asked = recorder.answer(call)
        if way in AS_DIRECTORY:  # what it gets is a file, which is no listing
            assert (way, status, asked) == (way, 502, ["/base/d/" + DIRECTORIES[name]])
        else:
            assert (way, status, asked) == (way, 502 if call.is_list else 400, [])


def test_the_corpus_has_thousands_of_cases_and_no_case_twice():
    assert len(set(REFUSED)) == len(REFUSED)
    assert not set(REFUSED) & set(KEPT)
    assert len(CASES) + len(AS_PATH) * len(KEPT) > 5000


def test_kept_names_arrive_so_through_a_real_server_too(tmp_path: Path):
    names = [name for name in KEPT if len(name) < 1000]
    # As they were spelled, but where a servlet would take a segment for none or for a climbing one.
    climbing = re.compile(rb"(?:\A|/)\.{0,2};")
    asked = [escaped(name, b"/") for name in names]
    wanted = [
        expected_path(name) if climbing.search(name) else path
        for name, path in zip(names, asked, strict=True)
    ]
    with (
        Scripted(default=FILE) as upstream,
        gateway(upstream.url + "base/", tmp_path) as running,
        closing(HTTPConnection("127.0.0.1", running.port)) as client,
    ):
        for path, target in zip(asked, wanted, strict=True):
            upstream.requests.clear()
            assert status_of(client, f"/d/{path}") == 200
            assert {seen.target for seen in upstream.requests} == {f"/base/d/{target}"}
        upstream.requests.clear()
        for name in (name for name in REFUSED if len(name) < 1000):
            url = (
                f"/{escaped(name)}" if can_say("plain path", name) else f"/?bundle={escaped(name)}"
            )
            assert status_of(client, url) == 400
        assert upstream.requests == []


def status_of(client: HTTPConnection, url: str) -> int:
    client.request("GET", url)
    response = client.getresponse()
    response.read()
    return response.status


# --- any name whatever ----------------------------------------------------------------------------

pieces = st.lists(
    st.sampled_from([*REFUSED[:60], *KEPT[:80]]) | st.sampled_from([b"/", b".", b"%", b"%2", b"e"]),
    max_size=6,
).map(b"".join)
anything = st.binary(max_size=40) | st.text(max_size=20).map(
    lambda text: text.encode("utf-8", "surrogatepass")
)


@given(anything | pieces, st.sampled_from(list(AS_PATH)))
@example(b"%25%32%65", "query")
def test_any_name_is_400_or_asked_for_as_exactly_that_below_the_base(recorder, name, way):
    if not can_say(way, name):
        return
    call = AS_PATH[way](name)
    status, _, asked = recorder.answer(call)
    wanted = expected_target(way, name)
    if way == "manifest itself":
        assert (status, asked) in [(400, []), (400, [wanted])]
    elif status == 200:
        assert set(asked) - {"/base/d/p"} == {wanted}
    elif way in AS_DIRECTORY and is_directory(name) and asked:
        assert (status, asked) == (502, [wanted])
    else:
        assert (status, asked) == (502 if call.is_list else 400, [])


@given(st.text(st.characters(exclude_characters="&,", max_codepoint=0xFF), max_size=30))
@example("%252e%252e%252fa")
@example("..%00/%2e%2e")
def test_any_text_in_a_query_is_400_or_asked_for_as_what_it_says_once_decoded(recorder, raw):
    status, _, asked = recorder.answer(Call(query="bundle=" + raw))
    if status == 200:
        assert asked == ["/base/d/" + expected_path(decoded(raw.encode("latin-1")))]
    elif is_directory(name := decoded(raw.encode("latin-1"))) and asked:
        assert (status, asked) == (502, [expected_target("query", name)])
    else:
        assert (status, asked) == (400, [])


def decoded(raw: bytes) -> bytes:
    """Undo a form's encoding as its standard has it: in one pass, byte by byte."""
    out, rest = b"", raw
    while rest:
        if rest[:1] == b"%" and re.fullmatch(b"[0-9A-Fa-f]{2}", rest[1:3]):
            out, rest = out + bytes([int(rest[1:3], 16)]), rest[3:]
        else:
            out, rest = out + (b" " if rest[:1] == b"+" else rest[:1]), rest[1:]
    return out

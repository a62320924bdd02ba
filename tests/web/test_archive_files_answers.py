"""A response that lists files becomes their archive: of a wrapped application, or an upstream."""

import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from webob import Request
from webtest import TestApp

from tar_gateway import BrokenOff, BundleMiddleware
from tests.support.answers import lasting
from tests.support.files_upstream import TEXT, Canned, FilesUpstream, gateway_to
from tests.support.wrapped import Page, Probes, unpacked, wrapped

LIST = ("X-Archive-Files", "tar")
NAMED = ("Content-Disposition", 'attachment; filename="mine.tar"')
FILES = {"a.txt": b"alpha", "sub/b.txt": b"beta" * 500, "ü 1.txt": b"gamma"}
SIZED = b"""- 5 /a.txt first.txt
- 0 @directory empty
1034ab38 2000 /sub/b.txt dir/b.txt\r
- 0 @directory dir/
- 5 /%C3%BC%201.txt \xc3\xbc.txt
"""
UNSIZED = b"- - /a.txt first.txt\n- - /sub/b.txt dir/b.txt\n"
CONTENTS = {
    "first.txt": b"alpha",
    "empty": None,
    "dir/b.txt": b"beta" * 500,
    "dir": None,
    "ü.txt": b"gamma",
}
URL = "/lists/today"


@dataclass
class Asked:
    """What the list's giver was asked, in words that fit an application and an upstream."""

    method: str
    path: str
    headers: dict[str, str]


@dataclass
class Served:
    """A client of one of the two faces, and what is behind that."""

    client: TestApp
    behind: Probes | FilesUpstream
    bare: Any = field(repr=False)

    @property
    def asked(self) -> list[Asked]:
        if isinstance(self.behind, FilesUpstream):
            return [Asked(r.method, r.target, dict(r.headers)) for r in self.behind.requests]
        return [
            Asked(
                environ["REQUEST_METHOD"],
                path,
                {
                    key[5:].replace("_", "-").lower(): value
                    for key, value in environ.items()
                    if key.startswith("HTTP_")
                },
            )
            for environ, path in zip(self.behind.environs, self.behind.asked, strict=True)
        ]


@contextmanager
def served(
    face: str, body: bytes, *headers: tuple[str, str], files: dict[str, bytes] = FILES, **more: Any
) -> Iterator[Served]:
    """Serve a list at ``URL``, and files."""
    if face == "upstream":
        listed = Canned(200, (TEXT, LIST, *headers), body)
        upstream = FilesUpstream({URL[1:]: listed, **files})
        with upstream, gateway_to(upstream, **more) as client:
            yield Served(client, upstream, client.gateway)
        return
    pages = {f"/{name}".encode().decode("latin-1"): Page(data) for name, data in files.items()}
    app = Probes({URL: Page(body, (LIST, *headers)), **pages})
    with wrapped(app, **more) as client:
        yield Served(client, app, client.bare)
    assert app.closes <= {1}


@pytest.fixture(params=["application", "upstream"])
def face(request) -> str:
    return request.param


def test_a_list_becomes_the_archive_of_its_files_and_directories(face):
    with served(face, SIZED) as behind:
        response = behind.client.get(URL)
    assert list(unpacked(response.body).items()) == list(CONTENTS.items())
    assert int(response.headers["Content-Length"]) == len(response.body)
    assert response.content_type == "application/x-tar"


def test_the_archive_is_called_as_the_list_says_and_keeps_its_public_headers_alone(face):
    own = [NAMED, ("Set-Cookie", "a=1"), ("X-Own", "yes")]
    private = [("X-Archive-Pass-Headers", "X-Token"), ("X-Accel-Redirect", "/x"), ("ETag", '"l"')]
    with served(face, SIZED, *own, *private) as behind:
        response = behind.client.get(URL)
    names = {name.lower() for name in response.headers}
    assert [pair for pair in response.headerlist if pair in own] == own
    assert len(response.headers.getall("Content-Disposition")) == 1
    assert not {name for name in names if name.startswith(("x-archive", "x-accel-redirect"))}
    assert response.headers["ETag"] != '"l"'


def test_an_archive_that_the_list_does_not_name_is_called_after_its_path(face):
    with served(face, SIZED) as behind:
        response = behind.client.get(URL)
    assert response.headers["Content-Disposition"] == 'attachment; filename="today.tar"'


@pytest.mark.parametrize("own", ["no-store", "private, No-Store", "max-age=600", None])
def test_a_lists_no_store_is_kept_and_nothing_else_of_its_cache_control(face, own):
    with served(face, SIZED, *([("Cache-Control", own)] if own else [])) as behind:
        told = behind.client.get(URL).headers.getall("Cache-Control")
    kept = ", no-store" if "no-store" in (own or "").lower() else ""
    assert told == [f"private, no-cache{kept}, no-transform"]


def test_sizes_that_are_given_save_asking_for_them(face):
    with served(face, SIZED) as behind:
        behind.client.get(URL)
        asked = [(each.method, each.path) for each in behind.asked]
    assert asked[0] == ("GET", URL)
    assert len(asked) == 4
    assert {method for method, _ in asked} == {"GET"}


def test_a_size_that_is_not_given_is_asked_for(face):
    with served(face, UNSIZED) as behind:
        response = behind.client.get(URL)
    assert unpacked(response.body) == {"first.txt": b"alpha", "dir/b.txt": b"beta" * 500}


def test_head_is_answered_with_the_archives_headers_and_the_list_is_asked_for_by_get(face):
    with served(face, SIZED, NAMED) as behind:
        whole = behind.client.get(URL)
        before = len(behind.asked)
        head = behind.client.head(URL)
        asked = behind.asked[before:]
    assert head.body == b""
    assert lasting(head) == lasting(whole)
    assert (asked[-1].method, asked[-1].path) == ("GET", URL)
    assert {each.path for each in asked} == {URL}


def test_a_range_is_one_of_the_archive_where_its_files_have_validators(face):
    with served(face, UNSIZED) as behind:
        whole = behind.client.get(URL)
        part = behind.client.get(URL, headers={"Range": "bytes=1000-2999"}, status=206)
    assert whole.headers["Accept-Ranges"] == "bytes"
    assert part.body == whole.body[1000:3000]
    assert part.headers["Content-Range"] == f"bytes 1000-2999/{len(whole.body)}"


def test_a_range_of_files_that_nothing_proves_the_same_is_the_whole(face):
    with served(face, SIZED) as behind:
        response = behind.client.get(URL, headers={"Range": "bytes=1000-2999"})
    assert response.headers["Accept-Ranges"] == "none"
    assert unpacked(response.body) == CONTENTS


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If-None-Match": "TAG"}, 304),
        ({"If-None-Match": '"other", TAG'}, 304),
        ({"If-Match": "TAG"}, 200),
        ({"Range": "bytes=0-99", "If-Range": "TAG"}, 206),
        ({"Range": "bytes=0-99", "If-Match": "TAG"}, 206),
        ({"Range": "bytes=99999999-", "If-Range": "TAG"}, 416),
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_condition_with_the_archives_tag_is_the_archives_and_kept_from_the_list(
    face, headers, status, method
):
    with served(face, UNSIZED) as behind:
        tag = behind.client.get(URL).headers["ETag"]
        before = len(behind.asked)
        headers = {name: value.replace("TAG", tag) for name, value in headers.items()}
        expected = 200 if method == "HEAD" and "Range" in headers else status
        response = behind.client.request(URL, method=method, headers=headers, status=expected)
        asked = behind.asked[before]
    assert asked.path == URL
    assert asked.method == "GET"
    assert not {name for name in asked.headers if name.startswith(("if-", "range"))}
    if method == "HEAD" or status == 304:
        assert response.body == b""


def test_a_changed_file_is_another_version_of_the_archive(face):
    files = dict(FILES)
    with served(face, UNSIZED, files=files) as behind:
        before = behind.client.get(URL).headers["ETag"]
        if isinstance(behind.behind, FilesUpstream):
            behind.behind.files["a.txt"] = b"ALPHA"
        else:
            behind.behind.pages["/a.txt"] = Page(b"ALPHA", (("ETag", '"2"'),))
        headers = {"Range": "bytes=0-599", "If-Range": before}
        response = behind.client.get(URL, headers=headers, status=200)
    assert unpacked(response.body)["first.txt"] == b"ALPHA"


@pytest.mark.parametrize(
    ("line", "reason"),
    [(b"- x /a a", "line 2 of the list of files: the size 'x'"), (b"- 5 /../a a", "line 2")],
)
def test_a_bad_line_is_a_bad_gateway_that_quotes_its_number(face, line, reason):
    with served(face, b"- 5 /a.txt a\n" + line) as behind:
        response = behind.client.get(URL, status=502)
        assert [asked.path for asked in behind.asked] == [URL]
    assert reason in response.json["detail"]


@pytest.mark.parametrize(
    ("settings", "status", "reason"),
    [
        ({"max_body": len(SIZED) - 1}, 413, "the list of files is larger than"),
        ({"max_members": 4}, 413, "the list names more than the 4 members"),
        ({"max_bytes": 10239}, 413, "the archive would be larger"),
    ],
    ids=str,
)
def test_a_list_keeps_to_the_settings(face, settings, status, reason):
    with served(face, SIZED, **settings) as behind:
        response = behind.client.get(URL, status=status)
    assert reason in response.json["detail"]


def test_a_listed_file_that_can_not_be_had_is_named(face):
    with served(face, b"- - /a.txt a\n- - /none b\n") as behind:
        response = behind.client.get(URL, status=404)
    assert [fault["path"] for fault in response.json["members"]] == ["none"]


LIES = [-1, 1, 1000]


@pytest.mark.parametrize("lie", LIES)
def test_a_size_that_lies_about_the_first_file_is_an_error_that_names_it(face, lie):
    with served(face, b"- %d /sub/b.txt b\n- 5 /a.txt a\n" % (2000 + lie)) as behind:
        response = behind.client.get(URL, status=502)
    (fault,) = response.json["members"]
    assert fault["path"] == "sub/b.txt"
    assert f"2000 bytes by now, not {2000 + lie}" in fault["reason"]


@pytest.mark.parametrize("lie", LIES)
def test_a_size_that_lies_about_a_later_file_breaks_the_download_off(face, lie):
    received: list[bytes] = []
    with served(face, b"- 5 /a.txt a\n- %d /sub/b.txt b\n" % (2000 + lie)) as behind:
        _, fields, blocks = Request.blank(URL).call_application(behind.bare)
        with closing(blocks), pytest.raises(BrokenOff):
            received.extend(blocks)
    assert len(b"".join(received)) < int(dict(fields)["Content-Length"])


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("lie", LIES)
def test_a_size_that_lies_is_found_by_counting_where_the_file_tells_none(lie, told):
    page = Page(b"x" * 2000, (), sized=told)
    app = Probes({URL: Page(b"- 5 /a a\n- %d /b b\n" % (2000 + lie), (LIST,)), "/b": page})
    app.pages["/a"] = Page(b"alpha", (), sized=told)
    received: list[bytes] = []
    with closing(BundleMiddleware(app)) as middleware:
        _, _, blocks = Request.blank(URL).call_application(middleware)
        with closing(blocks), pytest.raises(BrokenOff):
            received.extend(blocks)
    assert len(b"".join(received)) <= 512 * 3 + 2000
    assert app.closes == {1}


CREDENTIALS = {"Authorization": "Bearer caller", "Cookie": "a=1"}
OTHERS = {"X-Token": "t", "X-Other": "o"}


def test_the_callers_credentials_and_the_headers_that_the_list_names_go_along(face):
    names = ("X-Archive-Pass-Headers", "X-Token:Range:Accept-Encoding")
    spoiling = {"Range": "bytes=1-2", "Accept-Encoding": "gzip"}
    with served(face, UNSIZED, names) as behind:
        behind.client.get(URL, headers={**CREDENTIALS, **OTHERS, **spoiling}, status="*")
        members = [asked.headers for asked in behind.asked if asked.path != URL]
    assert members
    for name, value in {**CREDENTIALS, "X-Token": "t"}.items():
        assert {headers[name.lower()] for headers in members} == {value}
    assert {headers["accept-encoding"] for headers in members} == {"identity"}
    assert "bytes=1-2" not in {headers.get("range") for headers in members}


def test_an_upstream_hears_no_header_that_the_list_does_not_name():
    with served("upstream", UNSIZED) as behind:
        behind.client.get(URL, headers={**CREDENTIALS, **OTHERS})
        members = [asked.headers for asked in behind.asked if asked.path != URL]
    named = {name for headers in members for name in headers if name.startswith("x-")}
    assert named == {"x-request-id"}


def test_a_location_may_have_arguments(face):
    with served(face, b"- 5 /a.txt?x=1&y=%20z a\n") as behind:
        response = behind.client.get(URL)
        assert [asked.path for asked in behind.asked] == [URL, "/a.txt?x=1&y=%20z"]
    assert unpacked(response.body) == {"a": b"alpha"}


@pytest.mark.parametrize("location", [b"/mounted%20here/a.txt", b"/a.txt"])
def test_a_location_is_one_below_the_mount_point(face, location):
    mount = {"SCRIPT_NAME": "/mounted here"}
    with served(face, b"- 5 %s a\n" % location, environ=mount) as behind:
        response = behind.client.get("/mounted here" + URL)
    assert unpacked(response.body) == {"a": b"alpha"}


def test_an_archive_of_directories_alone_needs_no_file(face):
    with served(face, b"- 0 @directory a\n- 0 @directory b/c\n") as behind:
        response = behind.client.get(URL)
        again = behind.client.get(URL, headers={"If-None-Match": response.headers["ETag"]})
    assert unpacked(response.body) == {"a": None, "b/c": None}
    assert again.status_int == 304


@pytest.mark.needs("tar", "bsdtar")
@pytest.mark.parametrize("program", ["tarfile", "tar", "bsdtar"])
def test_directories_are_unpacked_beside_the_files(program, tmp_path: Path):
    with served("application", SIZED) as behind:
        archive = behind.client.get(URL).body
    if program == "tarfile":
        with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
            opened.extractall(tmp_path, filter="data")
    else:
        subprocess.run(
            [program, "-xf", "-"],
            input=archive,
            cwd=tmp_path,
            check=True,
            timeout=30,
            env=os.environ | {"LC_ALL": "C.UTF-8"},
        )
    found = {str(path.relative_to(tmp_path)): path for path in tmp_path.rglob("*")}
    assert {
        name: path.read_bytes() if path.is_file() else None for name, path in found.items()
    } == (CONTENTS)
    assert {path.stat().st_mode & 0o700 for path in found.values() if path.is_dir()} == {0o700}


def test_directories_are_marked_as_such():
    with served("application", SIZED) as behind:
        archive = behind.client.get(URL).body
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        kinds = {(m.type, m.mode, m.size) for m in opened if not m.isfile()}
    assert kinds == {(tarfile.DIRTYPE, 0o755, 0)}

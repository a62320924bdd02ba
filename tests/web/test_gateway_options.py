"""What a request says of its archive beside its members: how these are called in it."""

import io
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from hashlib import sha256
from urllib.parse import urlencode

import pytest
from webtest import TestApp

from tar_gateway import BrokenOff, BundleMiddleware, sign_url
from tests.support.files_upstream import FilesUpstream, gateway_to

FILES = {"a.txt": b"alpha", "sub/b.txt": b"beta", "list.json": b'{"members": ["a.txt"]}'}


@pytest.fixture
def app() -> Iterator[TestApp]:
    with FilesUpstream(dict(FILES)) as upstream, gateway_to(upstream) as running:
        yield running


def names(response) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(response.body)) as archive:
        return archive.getnames()


@pytest.mark.parametrize("folder", ["mine", "mine/", "mine/of 2026"])
def test_every_member_is_below_the_folder(app, folder):
    response = app.get("/?" + urlencode({"bundle": "a.txt", "folder": folder}))
    assert names(response) == [folder.rstrip("/") + "/a.txt"]


def test_a_form_and_json_have_a_folder_too(app):
    form = app.post("/?bundle", {"bundle": "a.txt", "folder": "mine"})
    json = app.post_json("/?bundle", {"members": ["a.txt"], "folder": "mine"})
    assert names(form) == names(json) == ["mine/a.txt"]


def test_a_folder_that_is_left_empty_is_none(app):
    assert names(app.get("/?bundle=a.txt&folder=")) == ["a.txt"]


def test_a_folder_beside_a_manifest_comes_before_the_lists_own(app):
    assert names(app.get("/?bundle&manifest=list.json&folder=mine")) == ["mine/a.txt"]


def test_archives_in_other_folders_are_other_archives(app):
    tags = {app.get(f"/?bundle=a.txt&folder={each}").headers["ETag"] for each in ("", "a", "b")}
    assert len(tags) == 3


@pytest.mark.parametrize(
    ("folder", "text"),
    [
        ("../x", "contains the segment '..'"),
        ("/x", "starts with a slash"),
        ("a//b", "contains an empty segment"),
        ("a\\b", "contains a backslash"),
        ("x" * 5000, "is longer than"),
    ],
)
def test_a_folder_that_no_member_may_be_in_is_refused(app, folder, text):
    response = app.get("/?" + urlencode({"bundle": "a.txt", "folder": folder}), status=400)
    assert text in response.json["detail"]
    assert response.json["detail"].startswith("the folder ")


def listed(*names: str, **options: str) -> dict:
    return {"members": [{"path": "a.txt", "name": name} for name in names], **options}


def test_a_name_twice_is_an_error_unless_the_second_may_be_renamed(app):
    for duplicates in ({}, {"duplicates": "fail"}):
        error = app.post_json("/?bundle", listed("x", "x", **duplicates), status=400)
        assert error.json["detail"] == "the member 'x' is named twice"
    assert names(app.post_json("/?bundle", listed("x", "x", duplicates="rename"))) == ["x", "x (2)"]


def test_renamed_members_are_the_files_that_were_asked_for(app):
    response = app.get("/?bundle=a.txt,sub/b.txt,a.txt&duplicates=rename&folder=f")
    assert names(response) == ["f/a.txt", "f/sub/b.txt", "f/a (2).txt"]
    form = {"bundle": "a.txt", "duplicates": "rename"}
    assert names(app.post("/?bundle", [*form.items(), ("bundle", "a.txt")])) == [
        "a.txt",
        "a (2).txt",
    ]


def test_a_name_that_becomes_too_long_by_its_number_is_refused():
    with FilesUpstream(dict(FILES)) as upstream, gateway_to(upstream, max_name=8) as app:
        assert len(names(app.get("/?bundle=a.txt&folder=b"))) == 1
        detail = app.get("/?bundle=a.txt,a.txt&duplicates=rename", status=400).json["detail"]
    assert detail == "the member 'a (2).txt' is longer than 8 bytes"


def test_an_unknown_word_for_duplicates_is_refused(app):
    detail = app.get("/?bundle=a.txt&duplicates=drop", status=400).json["detail"]
    assert detail == "duplicates=drop is not one of fail, rename"


@pytest.mark.parametrize(
    "option",
    ["folder=mine", "duplicates=rename", "missing=skip", "format=zip", "checksums=sha256"],
)
def test_a_signature_covers_the_options(tmp_path, option):
    keys = tmp_path / "keys"
    keys.write_text("k1:" + "s" * 43 + "\n")
    keys.chmod(0o600)
    with (
        FilesUpstream(dict(FILES)) as upstream,
        gateway_to(upstream, signing_keys_file=keys) as app,
    ):
        signed = sign_url("/?bundle=a.txt", "s" * 43, expires=2**32, key_id="k1")
        app.get(signed)
        app.get(f"{signed}&{option}", status=403)
        app.get(
            sign_url(f"/?bundle=a.txt&{option}", "s" * 43, expires=2**32, key_id="k1"), status=200
        )


def zipped(response) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(response.body)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_zip_is_asked_for_in_a_query_a_form_and_json(app):
    query = app.get("/?bundle=a.txt&format=zip&filename=mine.tar")
    form = app.post("/?bundle", {"bundle": "a.txt", "format": "zip"})
    json = app.post_json("/?bundle", {"members": ["a.txt"], "format": "zip"})
    assert zipped(query) == zipped(form) == zipped(json) == {"a.txt": b"alpha"}
    assert query.content_type == "application/zip"
    assert query.headers["Content-Disposition"] == 'attachment; filename="mine.zip"'


ZIP = "/?bundle=a.txt&bundle=sub/b.txt&format=zip"


@pytest.mark.parametrize(("limit", "ranges"), [(9, "bytes"), (8, "none")])
def test_whether_a_zip_takes_ranges_is_the_same_in_every_response(limit, ranges):
    with FilesUpstream(dict(FILES)) as upstream, gateway_to(upstream, reread_limit=limit) as app:
        asked = [
            app.get(ZIP),
            app.head(ZIP),
            app.get(ZIP, headers={"Range": "bytes=5-"}),
            app.get(ZIP, headers={"If-None-Match": app.head(ZIP).headers["ETag"]}),
        ]
        assert [each.status_code for each in asked] == [200, 200, 200, 304]
        assert {each.headers["Accept-Ranges"] for each in asked} == {ranges}
        assert {"Link" in each.headers for each in asked} == {ranges == "bytes"}


def naming(app, how: str) -> tuple[str, dict[str, str]]:
    """Return what asks for the rest of a zip of one version."""
    tag = app.get(ZIP).headers["ETag"]
    pinned = f"{ZIP}&v={tag.strip(chr(34))}" if how == "v" else ZIP
    return pinned, {"Range": "bytes=5-", **({how: tag} if how != "v" else {})}


@pytest.mark.parametrize("how", ["If-Range", "If-Match", "v"])
def test_a_request_that_names_the_version_gets_a_range_of_a_zip(app, how):
    whole = app.get(ZIP)
    target, headers = naming(app, how)
    part = app.get(target, headers=headers)
    assert (part.status_code, part.body) == (206, whole.body[5:])


@pytest.mark.parametrize("condition", [{}, {"If-Match": "*"}, {"If-Range": '"other"'}])
def test_any_other_range_gets_the_whole_zip(app, condition):
    response = app.get(ZIP, headers={"Range": "bytes=5-", **condition})
    assert (response.status_code, response.body) == (200, app.get(ZIP).body)


def test_a_version_that_one_format_has_shown_is_one_of_another(app):
    tar, zip_ = (
        app.head(f"/?bundle=a.txt&format={each}").headers["ETag"] for each in ("tar", "zip")
    )
    for tag in (tar, zip_):
        for format in ("tar", "zip"):
            app.get(f"/?bundle=a.txt&format={format}&v={tag.strip(chr(34))}", status=200)
    for text in (f"zip-{'0' * 40}", f"rar{tar[4:-1]}", f"tar{tar[4:-2]}"):
        app.get(f"/?bundle=a.txt&v={text}", status=412)


def sums_of(response) -> dict[str, bytes]:
    """Unpack a tar or a zip."""
    if response.content_type == "application/zip":
        return zipped(response)
    with tarfile.open(fileobj=io.BytesIO(response.body)) as archive:
        return {each.name: archive.extractfile(each).read() for each in archive if each.isfile()}


@pytest.mark.parametrize("format", ["tar", "zip"])
def test_digests_are_asked_for_in_a_query_a_form_and_json(app, format):
    options = {"format": format, "checksums": "sha256"}
    members = ["a.txt", "sub/b.txt"]
    responses = [
        app.get("/?" + urlencode([*(("bundle", each) for each in members), *options.items()])),
        app.post("/?bundle", [*(("bundle", each) for each in members), *options.items()]),
        app.post_json("/?bundle", {"members": members, **options}),
    ]
    lines = "".join(f"{sha256(FILES[each]).hexdigest()}  {each}\n" for each in members)
    for response in responses:
        held = sums_of(response)
        assert list(held) == [*members, "SHA256SUMS"]
        assert held["SHA256SUMS"] == lines.encode()


@pytest.mark.needs("sha256sum")
@pytest.mark.parametrize("format", ["tar", "zip"])
def test_the_digests_are_right_after_extraction(tmp_path, format):
    files = {
        **FILES,
        "SHA256SUMS": b"mine",
        "C x/\u00fc *.txt": b"",
        "-n": b"dash",
        "big": bytes(200_000),
    }
    with FilesUpstream(files) as upstream, gateway_to(upstream) as app:
        asked = [("bundle", each) for each in [*files, "gone.txt"]]
        options = {"checksums": "sha256", "folder": "f", "missing": "report", "format": format}
        response = app.get("/?" + urlencode([*asked, *options.items()]))
    held = sums_of(response)
    assert list(held)[-2:] == ["f/MISSING.txt", "f/SHA256SUMS (2)"]
    for name, data in held.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    command = ["sha256sum", "--strict", "-c", "SHA256SUMS (2)"]
    ran = subprocess.run(command, cwd=tmp_path / "f", capture_output=True, text=True)
    assert (ran.returncode, ran.stderr, ran.stdout.count(": OK")) == (0, "", len(held) - 1)


def test_an_archive_with_digests_has_its_date_and_resumes(app):
    target = "/?bundle=a.txt&bundle=sub/b.txt&checksums=sha256"
    whole, plain = app.get(target), app.get("/?bundle=a.txt&bundle=sub/b.txt")
    assert whole.headers["Last-Modified"] == plain.headers["Last-Modified"]
    assert whole.headers["ETag"] != plain.headers["ETag"]
    for start in (3, 600, 1700, 2600):
        asked = {"Range": f"bytes={start}-", "If-Range": whole.headers["ETag"]}
        part = app.get(target, headers=asked, status=206)
        assert part.body == whole.body[start:]


def test_digests_that_are_not_made_are_refused(app):
    detail = app.get("/?bundle=a.txt&checksums=md5", status=400).json["detail"]
    assert detail == "checksums=md5 is not one of sha256"


def test_a_format_that_is_not_made_is_refused(app):
    response = app.get("/?bundle=a.txt&format=rar", status=400)
    assert response.json["detail"] == (
        "the format 'rar' is not known: use tar or zip or tar.gz or tar.zst"
    )


def listing(checksum):
    """Wrap an application that lists its file for a zip, with this checksum of it."""

    def application(environ, start_response):
        if environ["PATH_INFO"] == "/a.txt":
            headers = [("Content-Length", "5"), ("ETag", '"1"')]
            start_response("200 OK", headers)
            return [b"alpha"] if environ["REQUEST_METHOD"] == "GET" else []
        start_response("200 OK", [("X-Archive-Files", "zip")])
        return [b"%s - /a.txt a.txt\n" % checksum]

    return TestApp(BundleMiddleware(application))


def test_a_list_whose_checksums_are_told_makes_a_zip_that_takes_ranges():
    app = listing(b"%08x" % zlib.crc32(b"alpha"))
    whole = app.get("/list")
    assert zipped(whole) == {"a.txt": b"alpha"}
    assert whole.headers["Accept-Ranges"] == "bytes"
    asked = {"Range": "bytes=7-", "If-Range": whole.headers["ETag"]}
    part = app.get("/list", headers=asked, status=206)
    assert part.body == whole.body[7:]


def test_a_list_without_checksums_makes_a_zip_whose_members_are_read_again():
    app = listing(b"-")
    whole = app.get("/list")
    assert zipped(whole) == {"a.txt": b"alpha"}
    asked = {"Range": "bytes=7-", "If-Range": whole.headers["ETag"]}
    assert app.get("/list", headers=asked, status=206).body == whole.body[7:]


def test_a_checksum_of_a_list_that_the_bytes_contradict_breaks_the_zip():
    with pytest.raises(BrokenOff, match="CRC-32"):
        listing(b"12345678").get("/list")

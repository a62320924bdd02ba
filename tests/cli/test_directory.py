"""What of a directory `serve DIRECTORY` serves, and to whom."""

import os
import socket
from pathlib import Path

import pytest
from webtest import TestApp

from tar_gateway.cli.directory import Directory
from tar_gateway.cli.directory_server import files_app

AUTHORIZATION = "Bearer right"


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """Make a directory with links of every kind, and a secret beside it."""
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "shared-too").mkdir()
    (tmp_path / "shared-too" / "a").write_bytes(b"of a directory whose name begins alike")
    shared = tmp_path / "shared"
    for name in ("a.txt", "below/b.txt", ".env", ".git/config", "below/.htaccess"):
        (shared / name).parent.mkdir(parents=True, exist_ok=True)
        (shared / name).write_bytes(name.encode())
    for link, target in {
        "inside": "below/b.txt",
        "inside-directory": "below",
        "to-hidden": ".env",
        "to-hidden-directory": ".git",
        "out": "../secret",
        "out-absolutely": str(tmp_path / "secret"),
        "out-directory": "..",
        "out-alike": "../shared-too",
        "out-by-steps": "below/../../secret",
        "out-and-in": "../shared/a.txt",
        "loop": "loop",
        "dangling": "nothing",
    }.items():
        (shared / link).symlink_to(target)
    os.mkfifo(shared / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(shared / "socket"))
    return shared


def content(directory: Directory, path: str) -> bytes:
    with directory.open(path) as file:
        return file.read()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.txt", b"a.txt"),
        ("below/b.txt", b"below/b.txt"),
        ("inside", b"below/b.txt"),
        ("inside-directory/b.txt", b"below/b.txt"),
        ("out-and-in", b"a.txt"),
    ],
)
def test_files_and_links_to_them_are_opened(shared: Path, path: str, expected: bytes):
    assert content(Directory(shared), path) == expected


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize(
    "path",
    [
        *("out", "out-absolutely", "out-directory/secret", "out-alike/a", "out-by-steps"),
        *("../secret", "below/../../secret", "out-directory/shared/a.txt/../../../secret"),
        *("/etc/passwd", "//etc/passwd", "below//b.txt", "./a.txt", "below/../a.txt"),
        *("", ".", "..", "below", "below/", "nothing", "a.txt/", "a.txt/b", "dangling", "loop"),
        *("fifo", "socket", "a\0.txt", "n" * 300, "n/" * 3000 + "n"),
    ],
)
def test_what_is_outside_or_no_file_is_not_found(shared: Path, path: str, hidden: bool):
    with pytest.raises(FileNotFoundError):
        Directory(shared, hidden=hidden).open(path)


@pytest.mark.parametrize(
    "path", [".env", ".git/config", "below/.htaccess", "to-hidden", "to-hidden-directory/config"]
)
def test_hidden_names_are_found_only_on_demand_and_through_links_neither(shared: Path, path: str):
    with pytest.raises(FileNotFoundError):
        Directory(shared).open(path)
    assert content(Directory(shared, hidden=True), path)


def test_a_directory_that_is_itself_below_a_hidden_one_or_a_link_is_served(shared: Path):
    (shared.parent / "link").symlink_to(".hidden")
    shared.rename(shared.parent / ".hidden")
    assert content(Directory(shared.parent / "link"), "a.txt") == b"a.txt"


@pytest.mark.parametrize(
    ("replaced", "target"), [("below/secret", "../../secret"), ("below", "..")]
)
def test_what_becomes_a_link_while_it_is_opened_is_not_found(
    shared: Path, monkeypatch: pytest.MonkeyPatch, replaced: str, target: str
):
    (shared / "below" / "secret").write_bytes(b"no secret")
    resolve = os.path.realpath

    def resolve_and_replace(asked: str) -> str:
        real = resolve(asked)
        (shared / replaced).rename(shared.parent / "replaced")
        (shared / replaced).symlink_to(target)
        return real

    directory = Directory(shared)
    monkeypatch.setattr(os.path, "realpath", resolve_and_replace)
    with pytest.raises(FileNotFoundError):
        directory.open("below/secret")


def test_no_descriptor_is_left_open(shared: Path):
    directory = Directory(shared)
    before = os.listdir("/proc/self/fd")
    content(directory, "inside-directory/b.txt")
    for path in ("fifo", "below", "below/nothing", "nothing/a", "out", "a.txt/b"):
        with pytest.raises(FileNotFoundError):
            directory.open(path)
    assert os.listdir("/proc/self/fd") == before


def listed(directory: Directory, path: str) -> list[str]:
    return [each.name + ("/" if each.is_directory else "") for each in directory.shown_in(path)]


def test_what_may_be_opened_is_listed_and_nothing_else(shared: Path):
    assert listed(Directory(shared), "") == [
        *("a.txt", "below/", "inside", "inside-directory/", "out-and-in")
    ]
    assert listed(Directory(shared), "below/") == ["b.txt"]
    assert listed(Directory(shared), "inside-directory/") == ["b.txt"]
    for each in Directory(shared).shown_in(""):
        if not each.is_directory:
            assert each.status.st_size == len(content(Directory(shared), each.name))


def test_hidden_names_are_listed_only_on_demand(shared: Path):
    assert {".env", ".git/", "to-hidden"} <= set(listed(Directory(shared, hidden=True), ""))
    assert listed(Directory(shared, hidden=True), ".git/") == ["config"]


@pytest.mark.parametrize(
    "path",
    [
        *("out-directory/", "../", "below/../", "/", "//", "/etc/", "./", ".git/", "nothing/"),
        *("a.txt/", "loop/", "dangling/", "fifo/", "to-hidden-directory/", "a\0/", "n/" * 3000),
    ],
)
def test_what_is_outside_hidden_or_no_directory_is_not_listed(shared: Path, path: str):
    with pytest.raises(FileNotFoundError):
        Directory(shared).shown_in(path)


def test_no_descriptor_is_left_open_by_listings(shared: Path):
    directory = Directory(shared)
    before = os.listdir("/proc/self/fd")
    directory.shown_in("inside-directory/")
    for path in ("fifo/", "nothing/a/", "out-directory/", "a.txt/b/"):
        with pytest.raises(FileNotFoundError):
            directory.shown_in(path)
    assert os.listdir("/proc/self/fd") == before


# --- as a server --------------------------------------------------------------------------------


@pytest.fixture
def app(shared: Path) -> TestApp:
    made = TestApp(files_app(Directory(shared), AUTHORIZATION))
    made.authorization = ("Bearer", "right")
    return made


@pytest.mark.parametrize("sent", [None, "", "Bearer wrong", "Bearer right ", "bearer right", "ü"])
def test_only_the_right_credential_is_answered(app: TestApp, sent: str | None):
    app.authorization = None
    headers = {} if sent is None else {"Authorization": sent}
    for path in ("/a.txt", "/nothing", "/out"):
        answer = app.get(path, headers=headers, status=401)
        assert answer.headers["WWW-Authenticate"] == 'Basic realm="protected files"'
        assert answer.body == b""


def test_a_file_is_sent_whole_in_part_and_not_at_all(app: TestApp):
    whole = app.get("/below/b.txt")
    assert (whole.body, whole.content_length) == (b"below/b.txt", 11)
    assert app.get("/below/b.txt", headers={"Range": "bytes=6-"}, status=206).body == b"b.txt"
    assert app.get("/below/b.txt", headers={"Range": "bytes=99-"}, status=416)
    asked = app.head("/below/b.txt")
    assert (asked.content_length, asked.headers["Accept-Ranges"]) == (11, "bytes")
    since = {"If-Modified-Since": whole.headers["Last-Modified"]}
    assert app.get("/below/b.txt", headers=since, status=304).body == b""


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.html", "text/html"),
        ("a.csv.gz", "application/octet-stream"),
        ("no-suffix", "application/octet-stream"),
    ],
)
def test_a_file_is_its_own_bytes_and_unknown_kinds_are_no_pages(
    app: TestApp, shared: Path, name: str, kind: str
):
    (shared / name).write_bytes(b"<script>")
    answer = app.get("/" + name)
    assert (answer.content_type, answer.body) == (kind, b"<script>")
    assert "Content-Encoding" not in answer.headers


def test_a_name_is_any_bytes(app: TestApp, shared: Path):
    (shared / os.fsdecode(b"\xff")).write_bytes(b"1")
    (shared / "ü").write_bytes(b"2")
    assert (app.get("/%FF").body, app.get("/%C3%BC").body) == (b"1", b"2")


def test_a_directory_is_its_index(app: TestApp, shared: Path):
    app.get("/below/", status=404)
    (shared / "below" / "index.html").write_bytes(b"index")
    assert app.get("/below/").body == b"index"


def test_a_file_that_may_not_be_read_is_refused(app: TestApp, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Directory, "open", refuse)
    app.get("/a.txt", status=403)


def test_nothing_but_reading_is_allowed(app: TestApp):
    assert app.post("/a.txt", status=405).headers["Allow"] == "GET, HEAD"


def test_a_directory_is_listed_to_whom_asks_for_json_beside_an_index_as_well(
    app: TestApp, shared: Path
):
    (shared / "below" / "index.html").write_bytes(b"index")
    os.utime(shared / "below" / "b.txt", (1_700_000_000, 1_700_000_000))
    listing = app.get("/below/", headers={"Accept": "application/json, text/html;q=0.5"})
    assert listing.json[0] == {
        "name": "b.txt",
        "type": "file",
        "mtime": "Tue, 14 Nov 2023 22:13:20 GMT",
        "size": 11,
    }
    assert [each["name"] for each in listing.json] == ["b.txt", "index.html"]
    app.get("/out-directory/", headers={"Accept": "application/json"}, status=404)


def test_a_name_that_is_not_utf_8_stands_in_a_listing_as_it_is(app: TestApp, shared: Path):
    (shared / "below" / os.fsdecode(b"caf\xe9")).touch()
    assert b'"caf\xe9"' in app.get("/below/", headers={"Accept": "application/json"}).body


def test_a_directory_without_its_slash_is_redirected(app: TestApp):
    assert app.get("/below", status=301).location == "http://localhost/below/"
    for path in ("/out-directory", "/.git", "/nothing", "/a.txt/"):
        app.get(path, status=404)

"""What a download makes of a good server, and of one that fails now and then."""

import hashlib
import json
import os
import random
import tarfile
import threading
from io import BytesIO
from pathlib import Path

import pytest

from tar_gateway.client import Access, Download, Options, Patience
from tar_gateway.client.events import MemberDone, Notice, Planned, Received, Waiting
from tar_gateway.client.failures import (
    BrokenArchive,
    Busy,
    Changed,
    Denied,
    DownloadError,
    NetworkError,
    ServerError,
    WrongUse,
)
from tests.support.bundles import MTIME, BundleServer, Seen, cut_after, says, stall, whole

FILES = {
    "a.txt": b"a" * 5,
    "empty.txt": b"",
    "sub/b.bin": random.Random(1).randbytes(700_000),
    "sub/ü/" + "x" * 120: b"long",
    "last.bin": random.Random(2).randbytes(1537),
}
QUICK = Patience(attempts=4, first_pause=0.001, longest_pause=0.002)


def files_of(directory: Path) -> dict[str, bytes]:
    """Return what is below a directory, our own state too."""
    return {
        str(file.relative_to(directory)): file.read_bytes()
        for file in directory.rglob("*")
        if not file.is_dir()
    }


def spans_of(server: BundleServer) -> list[str | None]:
    return [seen.headers.get("range") for seen in server.archive_requests]


@pytest.fixture
def server():
    with BundleServer(FILES) as server:
        yield server


@pytest.fixture
def to(tmp_path: Path):
    """Return a function that downloads into ``out`` of a directory, and its events."""

    def download(server: BundleServer, events: list | None = None, **options) -> Path:
        options.setdefault("patience", QUICK)
        if not {"file", "pipe"} & set(options):
            options.setdefault("directory", tmp_path / "out")
        listener = (lambda _: None) if events is None else events.append
        Download(server.url, Options(**options), listener=listener).run()
        return tmp_path / "out"

    return download


# --- what is made ---------------------------------------------------------------------------------


def test_a_directory_holds_the_files_and_nothing_else(server, to):
    assert files_of(to(server)) == FILES


def test_files_have_their_dates(server, to):
    assert {int(f.stat().st_mtime) for f in to(server).rglob("*") if f.is_file()} == {MTIME}


def test_files_have_the_modes_of_the_archive_as_far_as_the_umask_allows(server, to):
    before = os.umask(0o027)
    try:
        out = to(server)
    finally:
        os.umask(before)
    assert {f.stat().st_mode & 0o777 for f in out.rglob("*") if f.is_file()} == {0o640}
    assert (out / "sub").stat().st_mode & 0o777 == 0o750


def test_a_file_is_the_archive(server, to, tmp_path):
    to(server, file=tmp_path / "a.tar")
    assert files_of(tmp_path) == {"a.tar": server.bundle.archive}


def test_a_pipe_gets_the_archive(server, to, tmp_path):
    with (tmp_path / "piped").open("wb") as file:
        to(server, pipe=file.fileno())
    assert (tmp_path / "piped").read_bytes() == server.bundle.archive


def test_without_a_target_a_new_directory_is_called_as_the_archive(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Download(server.url, Options()).run()
    assert files_of(tmp_path / "reports") == FILES


def test_a_directory_that_nobody_named_must_be_new(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "mine.txt").write_bytes(b"mine")
    with pytest.raises(DownloadError, match="reports exists already: name a directory by -d"):
        Download(server.url, Options()).run()
    assert files_of(tmp_path) == {"reports/mine.txt": b"mine"}


def test_empty_directories_are_made(to):
    with BundleServer({"a/": b"", "b/c/": b""}) as server:
        out = to(server)
    assert sorted(str(d.relative_to(out)) for d in out.rglob("*")) == ["a", "b", "b/c"]


# --- what is chosen -------------------------------------------------------------------------------


def test_only_ranges_of_chosen_members_are_fetched(server, to):
    out = to(server, include=["sub/**"])
    assert set(files_of(out)) == {"sub/b.bin", "sub/ü/" + "x" * 120}
    start, stop = (server.bundle.plan["members"][i]["offset"] for i in (2, 4))
    assert spans_of(server) == [f"bytes={start}-{stop - 1}"]


def test_a_choice_of_members_is_a_tar_of_its_own(server, to, tmp_path):
    to(server, file=tmp_path / "a.tar", exclude=["sub"])
    with tarfile.open(tmp_path / "a.tar") as tar:
        assert {m.name: tar.extractfile(m).read() for m in tar} == {
            name: FILES[name] for name in ("a.txt", "empty.txt", "last.bin")
        }
    assert (tmp_path / "a.tar").stat().st_size % 10240 == 0


def test_a_choice_of_nothing_is_an_error(server, to):
    with pytest.raises(WrongUse, match="none of the 5 members is chosen"):
        to(server, include=["*.pdf"])


def test_existing_files_of_the_same_size_and_date_are_skipped(server, to):
    out = to(server)
    (out / "a.txt").write_bytes(b"other")
    os.utime(out / "last.bin", (MTIME, MTIME + 5))
    server.seen.clear()
    events: list = []
    to(server, events, skip_existing=True)
    assert files_of(out) == FILES
    assert [e.name for e in events if isinstance(e, MemberDone)] == ["a.txt", "last.bin"]


def test_the_events_tell_what_there_is_to_do(server, to):
    events: list = []
    to(server, events, include=["a.txt"])
    assert Planned("reports.tar", 1, 1024, 0, 0) in events
    assert sum(e.count for e in events if isinstance(e, Received)) == 1024


# --- what breaks ----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 511, 512, 513, 1023, 1024, 200_000])
@pytest.mark.parametrize("kind", ["directory", "file", "pipe"])
def test_a_line_that_breaks_is_gone_on_with_at_the_next_byte(server, to, tmp_path, kind, count):
    server.answers.extend([cut_after(count), cut_after(count), cut_after(count)])
    if kind == "directory":
        assert files_of(to(server)) == FILES
    elif kind == "file":
        to(server, file=tmp_path / "a.tar")
        assert (tmp_path / "a.tar").read_bytes() == server.bundle.archive
    else:
        with (tmp_path / "piped").open("wb") as file:
            to(server, pipe=file.fileno())
        assert (tmp_path / "piped").read_bytes() == server.bundle.archive
    size = len(server.bundle.archive)
    places = (0, count, 2 * count, 3 * count)
    assert spans_of(server) == [f"bytes={place}-{size - 1}" for place in places]


def test_attempts_are_counted_from_the_last_byte_that_arrived(server, to):
    server.answers.extend([cut_after(10_000)] * 30)
    assert files_of(to(server)) == FILES


def test_after_too_many_attempts_without_a_byte_it_ends_and_says_why(server, to):
    server.answers.extend([cut_after(0)] * 9)
    with pytest.raises(NetworkError, match="the response broke off"):
        to(server)
    assert len(server.archive_requests) == 4


def test_silence_is_a_line_that_broke(server, to):
    server.answers.append(stall(3))
    assert files_of(to(server, timeout=0.2)) == FILES


def test_a_later_run_goes_on_in_the_middle_of_a_member(server, to):
    server.answers.extend([cut_after(300_000), *[cut_after(0)] * 3])
    with pytest.raises(NetworkError):
        to(server)
    server.seen.clear()
    assert files_of(to(server)) == FILES
    (span,) = spans_of(server)
    assert span == f"bytes=300000-{len(server.bundle.archive) - 1}"


def test_a_later_run_goes_on_with_a_file(server, to, tmp_path):
    server.answers.extend([cut_after(300_000), *[cut_after(0)] * 3])
    with pytest.raises(NetworkError):
        to(server, file=tmp_path / "a.tar")
    assert not (tmp_path / "a.tar").exists()
    to(server, file=tmp_path / "a.tar")
    assert files_of(tmp_path) == {"a.tar": server.bundle.archive}
    assert spans_of(server)[-1] == f"bytes=300000-{len(server.bundle.archive) - 1}"


def test_a_later_run_may_choose_other_members(server, to):
    server.answers.extend([cut_after(300_000), *[cut_after(0)] * 3])
    with pytest.raises(NetworkError):
        to(server)
    assert set(files_of(to(server, include=["sub/b.bin"], skip_existing=True))) >= {"sub/b.bin"}


def test_a_complete_member_that_someone_removed_is_fetched_again(server, to, tmp_path):
    server.answers.extend([cut_after(300_000), *[cut_after(0)] * 3])
    with pytest.raises(NetworkError):
        to(server)
    (tmp_path / "out" / "a.txt").unlink()
    assert files_of(to(server)) == FILES


def test_a_server_that_is_busy_is_asked_again_when_it_says(server, to):
    events: list = []
    server.answers.append(says(503, Retry_After="1"))
    assert files_of(to(server, events)) == FILES
    assert [e.pause for e in events if isinstance(e, Waiting)] == [1.0]


def test_a_server_that_wants_a_client_to_wait_for_days_is_not_waited_for(server, to):
    server.answers.append(says(503, Retry_After="100000"))
    with pytest.raises(Busy, match="503"):
        to(server)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, Denied), (403, Denied), (400, ServerError), (404, ServerError), (412, Changed)],
)
def test_an_error_of_the_server_ends_it_with_its_reason(server, to, status, kind):
    problem = b'{"detail": "it is gone", "members": [{"path": "a.txt", "reason": "not there"}]}'
    server.answers.append(says(status, problem))
    with pytest.raises(kind, match=f"{status}.*it is gone; a.txt: not there"):
        to(server)
    assert len(server.archive_requests) == 1


def test_a_changed_bundle_names_the_members_that_changed(server, to):
    def change(handler, start, stop):
        other = {**FILES, "a.txt": b"other, and longer", "new.txt": b"new"}
        handler.server.home.bundle = type(server.bundle)(other)
        cut_after(100_000)(handler, start, stop)

    server.answers.append(change)
    with pytest.raises(Changed, match=r"2 members have changed meanwhile: 'a.txt', 'new.txt'") as e:
        to(server)
    assert e.value.names == ("a.txt", "new.txt")


@pytest.mark.parametrize("kind", ["directory", "file"])
def test_a_later_run_says_what_has_changed_since(server, to, tmp_path, kind):
    server.answers.extend([cut_after(300_000), *[cut_after(0)] * 3])
    with pytest.raises(NetworkError):
        to(server, **{kind: tmp_path / "out"})
    server.bundle = type(server.bundle)({**FILES, "a.txt": b"longer", "new": b""})
    server.seen.clear()
    with pytest.raises(Changed, match=r"has changed since .*; changed or new: 'a.txt', 'new'"):
        to(server, **{kind: tmp_path / "out"})
    assert server.archive_requests == []


def test_existing_files_may_be_kept_when_something_has_changed(server, to):
    server.answers.extend([cut_after(300_000), *[cut_after(0)] * 3])
    with pytest.raises(NetworkError):
        to(server)
    server.bundle = type(server.bundle)({**FILES, "new": b"new"})
    assert files_of(to(server, skip_existing=True)) == {**FILES, "new": b"new"}


def test_a_member_that_was_put_into_its_place_after_its_end_was_noted_is_fetched_again(
    server, to, tmp_path
):
    """As with several connections: its last bytes had arrived before its first ones."""
    server.answers.extend([cut_after(300_000), *[cut_after(0)] * 3])
    with pytest.raises(NetworkError):
        to(server)
    (directory,) = (tmp_path / "out").glob(".tar-gateway-*")
    (directory / "2").unlink()
    told = json.loads((directory / "state").read_text())
    member, behind = server.bundle.plan["members"][2], server.bundle.plan["members"][3]
    told["spans"] = [[member["data_offset"] + 100_000, behind["offset"]]]
    told["check"] = hashlib.sha256(json.dumps(told["spans"]).encode()).hexdigest()
    told["tails"] = [None]
    (directory / "state").write_text(json.dumps(told))
    assert files_of(to(server)) == FILES


def test_a_plan_that_was_cut_off_is_asked_for_again(server, to):
    def cut(handler, start, stop):
        handler.give(200, b'{"filename": "a.tar", "format"', "application/json")

    server.plans.append(cut)
    assert files_of(to(server)) == FILES


# --- several connections --------------------------------------------------------------------------


def test_jobs_fetch_different_ranges_that_make_the_whole(to, tmp_path):
    files = {f"{i}.bin": random.Random(i).randbytes(i * 40_000) for i in range(12)}
    files["big.bin"] = random.Random(99).randbytes(9_000_000)
    with BundleServer(files, [cut_after(100_000)] * 5) as server:
        assert files_of(to(server, jobs=4)) == files
        to(server, jobs=4, file=tmp_path / "a.tar")
        assert (tmp_path / "a.tar").read_bytes() == server.bundle.archive
        assert len([span for span in spans_of(server) if span]) > 8


def test_an_error_in_one_job_ends_all(to):
    files = {"big.bin": random.Random(99).randbytes(9_000_000)}
    answers = [whole, says(403), stall(20), stall(20)]
    with BundleServer(files, answers) as server, pytest.raises(Denied):
        to(server, jobs=4)


# --- whose credentials ----------------------------------------------------------------------------


def test_credentials_go_to_the_origin_that_was_named_and_to_no_other(tmp_path):
    access = Access(headers=(("X-Key", "secret"), ("Cookie", "c=1")), user="me", password="pw")
    with BundleServer(FILES) as there, BundleServer(FILES) as here:
        here.elsewhere = f"{there.base}reports/"
        url = f"{here.base}elsewhere?bundle=a"
        Download(url, Options(directory=tmp_path / "out"), access=access).run()
        secret = {"authorization", "x-key", "cookie"}
        assert all(secret <= set(seen.headers) for seen in here.seen)
        assert there.seen
        assert not any(secret & set(seen.headers) for seen in there.seen)


def test_the_target_is_sent_as_it_was_typed(server, tmp_path):
    url = f"{server.base}a%2fb/%7e/?bundle=%c3%bc&signature=%2B%3d"
    Download(url, Options(directory=tmp_path / "out")).run()
    assert server.seen[0].target == f"{url.removeprefix(server.base[:-1])}&plan=json"


def test_nothing_is_added_to_a_signed_link_but_the_plan(server, tmp_path):
    url = f"{server.url}&expires=9&key_id=k&signature=s"
    Download(url, Options(file=tmp_path / "a.tar")).run()
    added = "/reports/?bundle=a&expires=9&key_id=k&signature=s&plan=json"
    assert server.seen[0].target == added


# --- other servers --------------------------------------------------------------------------------


def plain(server: BundleServer, path: Path, **options) -> list[Seen]:
    url = f"{server.base}file.bin"
    Download(url, Options(file=path, patience=QUICK, **options)).run()
    return server.seen


def test_one_file_of_any_server_is_resumed_by_its_validator(server, tmp_path):
    server.answers.extend([whole, cut_after(1000)])
    seen = plain(server, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == server.bundle.archive
    assert seen[-1].headers["if-range"] == server.bundle.plan["etag"]
    assert seen[-1].headers["range"].startswith("bytes=1000-")


def test_another_version_in_the_middle_is_never_put_behind_the_first(server, tmp_path):
    def other(handler, start, stop):
        handler.head(0, len(server.bundle.archive), ETag='"other"')

    server.answers.extend([whole, cut_after(1000), other])
    with pytest.raises(Changed, match="another version"):
        plain(server, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_server_that_sends_the_whole_instead_of_a_range_is_read_on_from_there(server, tmp_path):
    def ignores(handler, start, stop):
        whole(handler, 0, len(server.bundle.archive))

    server.answers.extend([whole, cut_after(1000), ignores])
    plain(server, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == server.bundle.archive


def test_what_a_server_can_not_prove_is_said_and_not_resumed(server, tmp_path):
    def weak(handler, start, stop):
        handler.head(start, stop, ETag='W/"a"')
        handler.body(start, start + 1000)
        handler.end()

    server.answers.extend([weak, weak])
    events: list = []
    download = Download(
        f"{server.base}file.bin", Options(file=tmp_path / "x"), listener=events.append
    )
    with pytest.raises(NetworkError, match="can't be resumed"):
        download.run()
    assert any(isinstance(e, Notice) and "can't be resumed" in e.text for e in events)


def test_a_directory_is_not_made_of_a_server_without_plans(server, tmp_path):
    with pytest.raises(WrongUse, match="gives no plan"):
        Download(f"{server.base}file.bin", Options(directory=tmp_path / "out")).run()


def test_an_error_page_in_place_of_the_archive_is_no_archive(server, to):
    def page(handler, start, stop):
        handler.give(200, b"<h1>Please log in</h1>", "text/html", ETag=server.bundle.plan["etag"])

    server.answers.append(page)
    with pytest.raises(BrokenArchive, match=r"22 bytes .* instead of"):
        to(server)


def test_the_tar_that_a_pipe_gets_is_right_after_three_cuts(server, to):
    server.answers.extend([cut_after(700), cut_after(512), cut_after(200_000)])
    read, write = os.pipe()
    got = BytesIO()

    def drain() -> None:
        with os.fdopen(read, "rb") as file:
            got.write(file.read())

    thread = threading.Thread(target=drain)
    thread.start()
    to(server, pipe=write)
    os.close(write)
    thread.join()
    got.seek(0)
    with tarfile.open(fileobj=got, mode="r|") as tar:
        assert {m.name: tar.extractfile(m).read() for m in tar} == FILES

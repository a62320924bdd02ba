"""``tar-gateway get`` as a user types it: what it prints, and its exit status."""

import hashlib
import json
import os
import signal
import ssl
import subprocess
import sys
import tarfile
from io import BytesIO
from pathlib import Path

import pytest
import trustme

from tests.support.bundles import BundleServer, cut_after, says, stall
from tests.support.servers import wait_until

FILES = {"a.txt": b"a" * 5, "sub/b.bin": bytes(70_000)}
COMMAND = [sys.executable, "-m", "tar_gateway.cli", "get"]


@pytest.fixture(autouse=True)
def in_an_own_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def server():
    with BundleServer(FILES) as server:
        yield server


def typed(*arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*COMMAND, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | environment,
    )


def test_it_says_where_the_files_are(server):
    done = typed(server.url)
    assert done.returncode == 0
    assert done.stderr.startswith("reports: 80.0 KiB in ")
    assert done.stderr.endswith("2 members\n")
    assert Path("reports/a.txt").read_bytes() == FILES["a.txt"]


def test_quiet_says_nothing(server):
    done = typed("-q", server.url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_json_is_an_object_for_each_member_and_one_at_the_end(server):
    done = typed("--json", server.url)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each.get("member") for each in told] == ["a.txt", "sub/b.bin", None]
    assert told[-1].items() >= {"status": 0, "where": "reports", "members": 2}.items()
    assert done.stderr == ""


def test_json_tells_an_error_as_well(server):
    server.answers.append(says(403))
    done = typed("--json", server.url)
    assert done.returncode == 6
    assert json.loads(done.stdout)["status"] == 6


def test_a_list_is_the_plan_as_a_table(server):
    done = typed("--list", server.url)
    assert done.stdout.splitlines()[1].split() == ["70,000", "2020-09-13", "12:26:40", "sub/b.bin"]
    assert server.archive_requests == []


def test_a_dry_run_says_what_would_be_done_and_does_nothing(server):
    done = typed("--dry-run", "--include", "a*", server.url)
    assert done.stdout == "1 members, 5 B, into reports/\n"
    assert server.archive_requests == []
    assert os.listdir() == []


def test_a_pipe_gets_the_archive_alone(server):
    done = subprocess.run([*COMMAND, "-o", "-", server.url], capture_output=True)
    with tarfile.open(fileobj=BytesIO(done.stdout)) as tar:
        assert tar.getnames() == list(FILES)


def test_tar_reads_from_the_pipe_across_three_cuts(server):
    server.answers.extend([cut_after(700), cut_after(9000), cut_after(20_000)])
    command = f"{' '.join(COMMAND)} -o - '{server.url}' | tar x"
    subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], check=True)
    assert Path("sub/b.bin").read_bytes() == FILES["sub/b.bin"]


def test_a_directorys_url_gets_a_bundle_when_asked_for(server):
    typed("-r", f"{server.base}reports")
    assert server.seen[0].target == "/reports/?bundle=./&plan=json"


def test_missing_members_are_named_and_have_a_status_of_their_own(server):
    server.bundle.plan["missing"] = [{"name": "x.pdf", "status": 404, "reason": "gone"}]
    done = typed(server.url)
    assert done.returncode == 10
    assert "missing: x.pdf\n" in done.stderr
    assert Path("reports/a.txt").exists()


@pytest.mark.parametrize(
    ("status", "answer"), [(6, 401), (6, 403), (8, 404), (8, 500), (9, 412), (8, 400)]
)
def test_each_answer_has_its_exit_status(server, status, answer):
    server.answers.extend([says(answer)] * 2)
    assert typed("--retries", "0", server.url).returncode == status


@pytest.mark.parametrize(
    "arguments",
    [
        ["ftp://host/x"],
        ["-o", "x", "-d", "y", "http://127.0.0.1:9/?bundle=a"],
        ["-o", "-", "--jobs", "2", "http://127.0.0.1:9/?bundle=a"],
        ["-o", "-", "--verify", "http://127.0.0.1:9/?bundle=a"],
        ["-H", "no colon", "http://127.0.0.1:9/?bundle=a"],
        ["--user", "me:secret", "http://127.0.0.1:9/?bundle=a"],
        ["--jobs", "0", "http://127.0.0.1:9/?bundle=a"],
        ["http://127.0.0.1:9/a/"],
        [],
    ],
    ids=str,
)
def test_what_makes_no_sense_is_an_error_of_usage(arguments):
    done = typed(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_network_without_an_answer_is_named():
    done = typed("--retries", "0", "http://127.0.0.1:9/?bundle=a")
    told = "Error: no response from 127.0.0.1: connection refused\n"
    assert (done.returncode, done.stderr) == (4, told)


def test_a_certificate_that_is_not_trusted_is_an_error_of_tls(tls_server):
    url, authority = tls_server
    done = typed("--retries", "0", url)
    assert done.returncode == 5
    assert "has no valid certificate" in done.stderr
    assert typed("--ca-file", authority, "--retries", "0", url).returncode == 8


@pytest.fixture
def tls_server(tmp_path):
    """Serve errors by TLS, with a certificate of an authority of its own."""

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with BundleServer(FILES) as server:
        server.plans.extend([says(404)] * 3)
        server._server.socket = context.wrap_socket(server._server.socket, server_side=True)
        yield server.url.replace("http:", "https:"), str(tmp_path / "ca.pem")


def test_the_password_is_asked_for_and_sent(server):
    assert typed("--user", "me", server.url, stdin="secret\n").returncode == 0
    assert {seen.headers["authorization"] for seen in server.seen} == {"Basic bWU6c2VjcmV0"}


def test_netrc_is_read_only_on_demand(server, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    (home / ".netrc").chmod(0o600)
    assert typed(server.url, HOME=str(home)).returncode == 0
    assert "authorization" not in server.seen[0].headers
    server.seen.clear()
    assert typed("--netrc", "-d", "again", server.url, HOME=str(home)).returncode == 0
    assert server.seen[0].headers["authorization"] == "Basic bWU6c2VjcmV0"


def test_what_a_server_says_can_not_command_the_terminal(server):
    def answer(handler, start, stop):
        handler.give(200, b"x", "text/\x1b[2Jhtml", ETag=server.bundle.plan["etag"])

    server.answers.append(answer)
    done = typed(server.url)
    assert done.returncode == 7
    assert "text/?[2Jhtml" in done.stderr
    assert "\x1b" not in done.stderr


def test_a_directory_that_may_not_be_written_is_an_error_of_the_disk(server):
    Path("file").write_bytes(b"")
    done = typed("-d", "file/out", server.url)
    assert done.returncode == 3
    assert "Traceback" not in done.stderr


def sums(files: dict[str, bytes]) -> bytes:
    lines = (f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files.items())
    return "".join(lines).encode()


@pytest.mark.parametrize("where", ["-d", "-o"])
def test_verified_files_are_counted(where):
    with BundleServer({**FILES, "SHA256SUMS": sums(FILES)}) as server:
        done = typed("--verify", where, "out", server.url)
        assert "checksums=sha256" in server.seen[0].target
    assert done.returncode == 0
    assert "2 have their checksum" in done.stderr


@pytest.mark.parametrize("where", ["-d", "-o"])
def test_a_file_that_does_not_have_its_checksum_is_named(where):
    wrong = sums({**FILES, "a.txt": b"other"})
    with BundleServer({**FILES, "SHA256SUMS": wrong}) as server:
        done = typed("--verify", where, "out", server.url)
    assert done.returncode == 7
    assert "1 of 2 files do not have their checksum: 'a.txt'" in done.stderr


def test_an_archive_without_checksums_is_not_fetched_to_be_verified(server):
    assert typed("--verify", server.url).returncode == 2
    assert server.archive_requests == []


def test_headers_may_stand_in_a_file(server):
    Path("headers").write_text("X-Api-Key: secret\n")
    typed("-H", "@headers", "-d", "out", server.url)
    assert server.seen[0].headers["x-api-key"] == "secret"


def test_proxies_are_named_by_the_usual_variables(server):
    done = typed("http://files.invalid/?bundle=a", http_proxy=server.base, no_proxy="")
    assert done.returncode == 0
    assert server.seen[0].target == "http://files.invalid/?bundle=a&plan=json"


def _kept() -> int:
    """Count the bytes of members that are not whole yet, as they stand on the disk."""
    return sum(part.stat().st_blocks * 512 for part in Path("out").glob(".tar-gateway-*/*"))


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("jobs", ["1", "4"])
def test_an_interrupted_download_keeps_what_it_has_and_says_so(server, sent, jobs):
    server.answers.append(stall(60))
    process = subprocess.Popen(
        [*COMMAND, "-d", "out", "--jobs", jobs, server.url], stderr=subprocess.PIPE, text=True
    )
    server.wait_for(1)
    wait_until(lambda: Path("out/a.txt").exists(), "the first member")
    wait_until(lambda: _kept() > 36_000, "what was sent of the second")
    process.send_signal(sent)
    said = process.communicate(timeout=20)[1]
    assert process.returncode == 130
    assert said.endswith("Interrupted: the same command goes on from here.\n")
    assert typed("-d", "out", server.url).returncode == 0
    assert server.archive_requests[-1].headers["range"].startswith("bytes=4")
    assert sorted(os.listdir("out")) == ["a.txt", "sub"]


def test_the_state_holds_no_url_and_no_credential(server):
    server.answers.extend([cut_after(30_000), says(403)])
    url = f"{server.url}&secret=in-the-url"
    assert typed("-d", "out", "-H", "Cookie: in-the-header", url).returncode == 6
    (state,) = Path("out").glob(".tar-gateway-*")
    assert state.stat().st_mode & 0o777 == 0o700
    assert (state / "state").stat().st_mode & 0o777 == 0o600
    held = b"".join(file.read_bytes() for file in state.iterdir())
    assert b"in-the" not in held
    assert b"127.0.0.1" not in held


def test_a_second_download_of_the_same_into_the_same_is_refused(server):
    server.answers.append(stall(60))
    process = subprocess.Popen([*COMMAND, "-q", "-d", "out", server.url])
    server.wait_for(1)
    done = typed("-d", "out", server.url)
    process.send_signal(signal.SIGINT)
    process.wait()
    assert done.returncode == 3
    assert "another download of the same uses out/.tar-gateway-" in done.stderr

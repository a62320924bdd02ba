"""The command as a user types it: what it prints, what it serves, and what it leaves behind."""

import io
import os
import re
import signal
import socket
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import IO

import pytest

from tar_gateway import sign_url
from tar_gateway.cli import commands
from tar_gateway.cli.directory_server import DirectoryServer
from tests.support.papers import block
from tests.support.servers import PATIENCE, free_port, listens, wait_until

COMMAND = [sys.executable, "-m", "tar_gateway.cli"]
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("TAR_GATEWAY_")}


def typed(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=ENVIRONMENT | environment,
    )


def processes_of(marker: str) -> list[str]:
    """List the processes whose command line holds a text."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:  # it has ended meanwhile
            continue
        if any(marker.encode() in word for word in words):
            found.append(path.parent.name)
    return found


def answers(url: str) -> bool:
    """Tell whether somebody answers, whatever it is: a port listens before a worker is there."""
    try:
        urllib.request.urlopen(url).close()
    except urllib.error.HTTPError as error:
        error.close()
    except OSError:
        return False
    return True


@contextmanager
def serving(
    *arguments: str, stderr: IO[bytes] | int = subprocess.DEVNULL, **environment: str
) -> Iterator[tuple[str, subprocess.Popen]]:
    port = free_port()
    process = subprocess.Popen(
        [*COMMAND, "serve", *arguments, "--bind", f"127.0.0.1:{port}"],
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        env=ENVIRONMENT | {"WEB_CONCURRENCY": "1"} | environment,
    )
    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/"), "the gateway's worker")
        yield f"http://127.0.0.1:{port}/", process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "shown").mkdir()
    (tmp_path / "shown" / "a.txt").write_text("abc")
    (tmp_path / "shown" / "empty").touch()
    return tmp_path / "shown"


def names_in(url: str) -> dict[str, int]:
    with (
        urllib.request.urlopen(url) as answer,
        tarfile.open(fileobj=io.BytesIO(answer.read())) as tar,
    ):
        return {member.name: member.size for member in tar}


@pytest.fixture(scope="module")
def shown() -> subprocess.CompletedProcess:
    # A setting of the user's own, with which no bundle of the demonstration's would be answered.
    program, *arguments = block("command: demo").rpartition(" && ")[2].split()
    assert program == ".venv/bin/tar-gateway"
    return typed(*arguments, "--once", TAR_GATEWAY_MAX_MEMBERS="1")


def test_the_demo_checks_every_byte_and_says_so_whatever_the_users_settings(shown):
    assert shown.returncode == 0, shown.stderr
    assert "7 members" in shown.stdout
    assert "every byte is right" in shown.stdout


def test_a_demo_that_ends_prints_no_lines_to_try(shown):
    assert "Try" not in shown.stdout
    assert "curl" not in shown.stdout


def test_the_demo_leaves_no_process_behind(shown):
    upstream = re.search(r"^protected upstream +(http://\S+)", shown.stdout, re.MULTILINE)[1]
    port = int(upstream.rstrip("/").rpartition(":")[2])
    assert not listens(port)


def test_the_demo_says_when_its_port_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = typed("demo", "--once", "--port", str(port))
    assert done.returncode == 1
    assert done.stderr == f"Error: port {port} can't be used: Address already in use\n"


def test_the_demo_serves_on_and_the_lines_it_prints_work():
    port = free_port()
    process = subprocess.Popen(
        [*COMMAND, "demo", "--port", str(port)],
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT | {"PYTHONUNBUFFERED": "1"},
    )
    try:
        lines = []
        while not lines or not lines[-1].startswith("Serving"):
            line = process.stdout.readline()
            assert line, "".join(lines)
            lines.append(line)
        gateway = next(line.split()[1] for line in lines if line.startswith("gateway "))
        tries = [line for line in lines if line.startswith("  curl -su")]
        listed = [
            subprocess.run(["bash", "-c", line], capture_output=True, text=True).stdout
            for line in tries
        ]
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)
    assert sum(line.startswith("  curl ") and gateway in line for line in lines) == 4
    assert ["summary.txt" in text for text in listed] == [True, True]
    assert not listens(port)


def test_a_directory_is_served_as_an_upstream_of_its_own(files: Path):
    with serving(str(files)) as (url, _):
        assert names_in(url + "?bundle=a.txt&bundle=empty") == {"a.txt": 3, "empty": 0}


def test_a_url_is_served_as_the_upstream(files: Path):
    with serving(str(files)) as (upstream, _), serving(upstream) as (url, _):
        assert names_in(url + "?bundle=a.txt") == {"a.txt": 3}


def test_without_an_argument_the_upstream_of_the_environment_is_served(files: Path):
    with (
        serving(str(files)) as (upstream, _),
        serving(TAR_GATEWAY_UPSTREAM=upstream) as (url, _),
    ):
        assert names_in(url + "?bundle=a.txt") == {"a.txt": 3}


def test_at_a_terminal_the_log_is_for_a_reader(files: Path):
    ours, theirs = os.openpty()
    with (
        open(ours, "rb", buffering=0) as terminal,
        open(theirs, "wb") as stderr,
        serving(str(files), stderr=stderr),
    ):
        said = terminal.read(4096).decode()
    assert "[INFO] Starting gunicorn" in said
    assert "{" not in said


def test_nothing_outside_the_directory_is_served(files: Path):
    (files.parent / "secret.txt").write_text("secret")
    with serving(str(files)) as (url, _), pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(url + "?bundle=../secret.txt")
    with refused.value as answer:
        assert answer.status == 400


def asked_of(embedded: DirectoryServer, target: str, **headers: str) -> tuple[int, bytes, str]:
    port = int(embedded.url.rstrip("/").rpartition(":")[2])
    with closing(HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as client:
        client.request("GET", target, headers=headers)
        answer = client.getresponse()
        return answer.status, answer.read(), str(answer.headers)


@pytest.mark.parametrize("target", ["/none", "/", "/below/", "/../secret.txt"])
def test_no_answer_says_where_the_directory_is(files: Path, target: str):
    (files / "below").mkdir()
    (files.parent / "secret.txt").write_text("secret")
    with closing(DirectoryServer.start(files, "Bearer right")) as embedded:
        status, body, headers = asked_of(embedded, target, Authorization="Bearer right")
    assert (status, body) == (404, b"")
    assert str(files.parent) not in headers


def test_the_embedded_upstream_answers_nobody_but_its_gateway(files: Path):
    with serving(str(files)) as (url, _):
        embedded = f"http://127.0.0.1:{listening(processes_of(str(files))[0])}/a.txt"
        for headers in ({}, {"Authorization": "Bearer guessed"}):
            asked = urllib.request.Request(embedded, headers=headers)
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(asked)
            with refused.value as answer:
                assert (answer.status, answer.read()) == (401, b"")
        # The caller's own credentials neither pass for the gateway's nor disturb them.
        asked = urllib.request.Request(url + "a.txt", headers={"Authorization": "Bearer mine"})
        with urllib.request.urlopen(asked) as answer:
            assert answer.read() == b"abc"


def listening(process: str) -> int:
    """Return the TCP port that a process listens on."""
    descriptors = Path(f"/proc/{process}/fd")
    held = {os.readlink(each) for each in descriptors.iterdir() if each.is_symlink()}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    (port,) = {row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in held}
    return int(port.partition(":")[2], 16)


def test_no_credential_is_in_a_command_line(files: Path):
    with closing(DirectoryServer.start(files, "Bearer not-for-all-to-read")):
        wait_until(lambda: processes_of(str(files)) != [], "the server")
        assert processes_of("not-for-all-to-read") == []


def test_the_gateways_credential_outlives_a_reload(files: Path):
    with serving(str(files)) as (url, process):
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        before = set(children.read_text().split())
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(set(children.read_text().split()) - before) > 0, "a new worker")
        old = before - set(processes_of(str(files)))
        wait_until(lambda: not old & set(children.read_text().split()), "the old one's end")
        assert names_in(url + "?bundle=a.txt") == {"a.txt": 3}


def test_links_out_of_the_directory_and_hidden_names_are_not_found(files: Path):
    (files / "link").symlink_to("/etc/passwd")
    (files / "etc").symlink_to("/etc")
    (files / ".env").write_text("SECRET=1")
    with serving(str(files)) as (url, _):
        for path in ("link", "etc/passwd", ".env"):
            for target in (path, "?bundle=" + path):
                with pytest.raises(urllib.error.HTTPError) as refused:
                    urllib.request.urlopen(url + target)
                with refused.value as answer:
                    assert answer.status == 404


def test_hidden_names_are_served_on_demand(files: Path):
    (files / ".env").write_text("SECRET=1")
    with serving(str(files), "--hidden") as (url, _):
        assert names_in(url + "?bundle=.env") == {".env": 8}


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_the_embedded_upstream_ends_with_the_gateway_however_that_ends(files: Path, how):
    with serving(str(files)) as (_, process):
        assert processes_of(str(files))
        process.send_signal(how)
        process.wait(PATIENCE)
        wait_until(lambda: not processes_of(str(files)), "the embedded upstream's end")
    assert not processes_of(str(files))


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (("serve", "nowhere"), {}, "'nowhere' is neither a directory nor a URL"),
        (("serve", "ftp://files/"), {}, "'ftp://files/' is neither a directory nor a URL"),
        (("serve", ""), {}, "'' is neither a directory nor a URL"),
        (("serve", ""), {"TAR_GATEWAY_UPSTREAM": "http://files/"}, "'' is neither"),
        (("serve",), {}, "Missing argument 'UPSTREAM_URL_OR_DIRECTORY'"),
        (("serve",), {}, "or set TAR_GATEWAY_UPSTREAM or TAR_GATEWAY_LOCATIONS_FILE"),
        (("serve",), {"TAR_GATEWAY_UPSTREAM": "files"}, "TAR_GATEWAY_UPSTREAM is 'files'"),
        *(
            (
                ("serve", "/", "--bind", bind),
                {},
                f"'{bind}' is not HOST:PORT such as 127.0.0.1:8000",
            )
            for bind in ("8000", "host", "host:", "host:65536", "::1", "[::1]", "a b:1", "fd://a")
        ),
        (("serve", "/", "--bind", "unix:"), {}, "'unix:' is not HOST:PORT"),
        (("serve", "http://files:0/"), {}, "TAR_GATEWAY_UPSTREAM is 'http://files:0/'"),
        (("serve", "/"), {"TAR_GATEWAY_RETRIES": "few"}, "TAR_GATEWAY_RETRIES is 'few'"),
        (("serve", "http://files/", "--hidden"), {}, "--hidden is for a directory"),
        (("demo", "--port", "70000"), {}, "70000 is not in the range"),
    ],
)
def test_a_mistake_is_answered_with_what_was_wrong(arguments, environment, said):
    done = typed(*arguments, **environment)
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("bind", ["[::1]:0", "localhost:0", ":0", "unix:{}/socket", "fd://3"])
def test_an_address_that_gunicorn_takes_is_left_to_it(tmp_path: Path, bind: str):
    wrong = {"TAR_GATEWAY_RETRIES": "few"}  # looked at next
    done = typed("serve", "/", "--bind", bind.format(tmp_path), **wrong)
    assert done.stderr.startswith("Error: TAR_GATEWAY_RETRIES is 'few'")


def test_the_check_ends_as_a_start_would():
    for command in (("check",), ("serve", "http://127.0.0.1:9/")):
        for setting in ("UPSTREAM_KEY_FILE", "UPSTREAM_CA_FILE"):
            wrong = {"TAR_GATEWAY_UPSTREAM": "http://127.0.0.1:9/"}
            done = typed(*command, **wrong, **{f"TAR_GATEWAY_{setting}": __file__})
            told = "Error: the certificates for the upstream can't be used"
            assert (done.returncode, done.stderr[: len(told)]) == (1, told)


# --- signing ------------------------------------------------------------------------------------


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    file = tmp_path / "signing-keys"
    file.write_text("# two keys\nk1:the first secret\nk2:the second secret\n")
    return file


def expiry_of(link: str) -> int:
    return int(re.search(r"&expires=(\d+)&", link)[1])


def test_a_url_is_signed_with_the_files_first_key_and_nothing_else_is_printed(keys: Path):
    url = "https://files.example/reports/?bundle=a"
    done = typed("sign", url, "--keys-file", str(keys), "--expires", "1800000000")
    link = sign_url(url, "the first secret", expires=1_800_000_000, key_id="k1")
    assert (done.returncode, done.stdout, done.stderr) == (0, link + "\n", "")


def test_a_link_that_opens_a_directory_is_signed_with_a_warning(keys: Path):
    options = ("--keys-file", str(keys), "--expires", "1800000000", "--browse")
    done = typed("sign", "/reports/2026/", *options)
    link = sign_url("/reports/2026/?browse", "the first secret", expires=1_800_000_000, key_id="k1")
    assert (done.returncode, done.stdout) == (0, link + "\n")
    assert "everything below that directory" in done.stderr
    assert "until 2027-01-15 08:00 UTC" in done.stderr


@pytest.mark.parametrize("url", ["/reports", "/reports/?bundle=a"])
def test_a_link_that_opens_no_directory_is_not_signed_with_browse(keys: Path, url: str):
    done = typed("sign", url, "--keys-file", str(keys), "--browse")
    assert (done.returncode, done.stdout) == (2, "")
    assert "ends with a slash" in done.stderr


def test_the_keys_may_come_from_the_environment_and_one_of_them_by_its_id(keys: Path):
    done = typed(
        *("sign", "/a", "--key-id", "k2", "--expires", "1800000000"),
        TAR_GATEWAY_SIGNING_KEYS_FILE=str(keys),
    )
    link = sign_url("/a", "the second secret", expires=1_800_000_000, key_id="k2")
    assert done.stdout == link + "\n"


@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        ((), 3600),
        (("--expires-in", "90s"), 90),
        (("--expires-in", "15m"), 900),
        (("--expires-in", "3h"), 10_800),
        (("--expires-in", "2d"), 172_800),
    ],
)
def test_a_link_holds_for_an_hour_unless_told_otherwise(keys: Path, options, seconds):
    before = int(time.time())
    done = typed("sign", "/a?bundle=b", "--keys-file", str(keys), *options)
    assert before + seconds <= expiry_of(done.stdout) <= int(time.time()) + seconds


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Missing argument 'URL'"),
        (("reports/",), "the URL must begin with a slash, http:// or https://"),
        (("/a b",), "the URL must be percent-encoded: write %20 for ' '"),
        (("/a?expires=1",), "the URL is signed already"),
        (("/a", "--key-id", "k3"), "'--key-id': the file has no key 'k3'"),
        (("/a", "--expires", "soon"), "'soon' is not a valid integer"),
        (("/a", "--expires", "-1"), "expires=-1 is not a Unix time"),
        (("/a", "--expires-in", "1"), "'1' is not a time span such as 90s, 15m, 1h or 2d"),
        (("/a", "--expires-in", "0d"), "'0d' is not a time span"),
        (("/a", "--expires-in", "9999999d"), "is not a Unix time"),
        (("/a", "--expires-in", "1h", "--expires", "9"), "--expires and --expires-in exclude"),
        (("/a", "--keys-file", "/dev/null"), "'--keys-file': it holds no key"),
        (("/a", "--keys-file", "/none"), "File '/none' does not exist"),
    ],
)
def test_what_cannot_be_signed_is_said_without_a_secret(keys: Path, arguments, said):
    done = typed("sign", *arguments, TAR_GATEWAY_SIGNING_KEYS_FILE=str(keys))
    assert done.returncode != 0
    assert done.stdout == ""
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "first secret" not in done.stderr


def test_signing_needs_a_file_of_keys():
    assert "Missing option '--keys-file'" in typed("sign", "/a").stderr


def test_a_wrong_file_of_keys_stops_serving_before_it_starts(keys: Path):
    keys.write_text("k1:short")
    done = typed("serve", "/", TAR_GATEWAY_SIGNING_KEYS_FILE=str(keys))
    told = (
        f"TAR_GATEWAY_SIGNING_KEYS_FILE is '{keys}': line 1: a key's secret has at least 16 bytes"
    )
    assert (done.returncode, done.stderr) == (1, f"Error: {told}\n")


def test_help_lists_the_commands_each_with_a_whole_sentence():
    listed = typed("--help").stdout.partition("Commands:\n")[2]
    assert "..." not in listed
    assert re.findall(r"^  (\w+) ", listed, re.MULTILINE) == [
        *("check", "demo", "drain", "get", "serve", "sign")
    ]


# --- what serve says ----------------------------------------------------------------------------


def test_an_address_that_is_taken_is_one_line_at_once(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        done = typed("serve", str(tmp_path), "--bind", bind)
    told = f"Error: {bind} can't be opened, address already in use: choose another with --bind"
    assert (done.returncode, done.stdout, done.stderr.splitlines()) == (
        1,
        "",
        [f"{told} HOST:PORT"],
    )


@pytest.mark.parametrize(
    ("bind", "url"),
    [
        ("127.0.0.1:{}", "http://127.0.0.1:{}/"),
        (":{}", "http://localhost:{}/"),
        ("0.0.0.0:{}", "http://localhost:{}/"),
        ("[::1]:{}", "http://[::1]:{}/"),
        ("localhost:{}", "http://localhost:{}/"),
        ("unix:{}", None),
        ("fd://3", None),
        ("127.0.0.1:0", None),
    ],
)
def test_serve_knows_the_url_of_an_address_that_can_be_had(bind, url):
    port = free_port()
    assert commands._open(bind.format(port)) == (url and url.format(port))

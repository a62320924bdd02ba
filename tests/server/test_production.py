"""A gateway as it is run: pages under several workers, the logs, the drain, the check."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from datetime import UTC, datetime, timedelta
from http.client import IncompleteRead
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest

from tar_gateway import Settings
from tar_gateway.cli.footprint import footprint
from tar_gateway.server.logger import JsonFormatter
from tar_gateway.server.startup import gunicorn_command
from tests.support.scripted import File, Scripted, Wire, answer, stall
from tests.support.servers import free_port, gateway, wait_until

SIZE = 10240
never = threading.Event()


@pytest.fixture(scope="module")
def upstream():
    with Scripted() as server:
        server.on("/", File(b"root"))
        server.on("/a", File(b"content of a"))
        yield server


@pytest.fixture(scope="module")
def running(upstream, tmp_path_factory):
    """Run two workers, whose pages are at an address of their own."""
    place = tmp_path_factory.mktemp("gateway")
    bound = f"127.0.0.1:{free_port()}"
    with gateway(upstream.url, place, "--workers", "2", pages_bind=bound) as gunicorn:
        wait_until(lambda: len(gunicorn.workers()) == 2, "two workers")
        yield gunicorn, f"http://{bound}/-/"


def cut(wire: Wire) -> None:
    """Break off in the middle of the content, once it was asked for."""
    then = Wire.close if wire.request.method == "GET" else None
    answer(b"cut", 'ETag: "1"', length=9, then=then)(wire)


def fetch(url: str, **headers: str) -> tuple[int, bytes]:
    try:
        with urlopen(Request(url, headers=headers), timeout=30) as response:
            return response.status, response.read()
    except HTTPError as error:
        with error:
            return error.code, error.read()


def tar_gateway(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("TAR_GATEWAY_")}
    return subprocess.run(
        [sys.executable, "-m", "tar_gateway.cli", *arguments],
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=30,
    )


# --- pages under several workers ----------------------------------------------------------------


def test_the_pages_are_on_their_address_and_on_no_other(running):
    gunicorn, pages = running
    assert fetch(pages + "healthy") == (200, b"healthy\n")
    assert fetch(pages + "ready") == (200, b"ready\n")
    assert fetch(gunicorn.url + "-/metrics")[0] == 404
    assert fetch(pages.removesuffix("/-/") + "/a")[0] == 404


def test_the_metrics_add_up_what_all_workers_did(running):
    gunicorn, pages = running

    def count() -> float:
        text = fetch(pages + "metrics")[1].decode()
        values = [line.split()[-1] for line in text.splitlines() if line.startswith(COUNTED)]
        return float(values[0]) if values else 0.0

    before = count()
    for _ in range(20):
        fetch(gunicorn.url + "?bundle=a")
    # Every worker shows the same, whichever answers.
    wait_until(lambda: {count() for _ in range(6)} == {before + 20}, "twenty bundles")


COUNTED = 'tar_gateway_downloads_total{kind="bundle",outcome="complete",status="200"}'


def test_what_a_killed_worker_had_under_way_is_forgotten(upstream, tmp_path):
    port = free_port()
    with gateway(upstream.url, tmp_path, pages_bind=f"127.0.0.1:{port}") as gunicorn:
        metrics = f"http://127.0.0.1:{port}/-/metrics"
        in_flight = b"\ntar_gateway_downloads_in_flight "
        assert in_flight + b"0.0" in fetch(metrics)[1]
        connection = socket.create_connection(("127.0.0.1", gunicorn.port))
        with connection:
            upstream.on("/silent", stall(never))
            connection.sendall(b"GET /silent HTTP/1.1\r\nHost: h\r\n\r\n")
            wait_until(lambda: in_flight + b"1.0" in fetch(metrics)[1], "a download")
            (worker,) = gunicorn.workers()
            os.kill(worker, signal.SIGKILL)
            wait_until(lambda: gunicorn.workers() not in ([worker], []), "another worker")
            wait_until(lambda: in_flight + b"0.0" in fetch(metrics)[1], "its end")


def test_what_a_killed_gateway_had_under_way_is_forgotten_by_the_next_in_its_place(
    upstream, tmp_path, monkeypatch
):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "counts"))
    bound = f"127.0.0.1:{free_port()}"
    upstream.on("/silent", stall(never))

    def told() -> dict[str, str]:
        lines = fetch(f"http://{bound}/-/metrics")[1].decode().splitlines()
        return dict(line.rpartition(" ")[::2] for line in lines)

    with gateway(upstream.url, tmp_path, pages_bind=bound) as gunicorn:
        fetch(gunicorn.url + "?bundle=a")
        with socket.create_connection(("127.0.0.1", gunicorn.port)) as connection:
            connection.sendall(b"GET /silent HTTP/1.1\r\nHost: h\r\n\r\n")
            wait_until(lambda: told()["tar_gateway_downloads_in_flight"] == "1.0", "a download")
            gunicorn.kill()
    with gateway(upstream.url, tmp_path, pages_bind=bound):
        wait_until(lambda: "tar_gateway_downloads_in_flight" in told(), "the pages")
        assert told()["tar_gateway_downloads_in_flight"] == "0.0"
        assert told()[COUNTED] == "1.0"


def test_the_counts_leave_nothing_on_the_disk(upstream, tmp_path):
    before = set(Path(tempfile.gettempdir()).glob("tar-gateway-metrics-*"))
    with gateway(upstream.url, tmp_path) as gunicorn:
        fetch(gunicorn.url + "?bundle=a")
        during = set(Path(tempfile.gettempdir()).glob("tar-gateway-metrics-*"))
        assert len(during - before) >= 1
        (made,) = [path for path in during - before if _is_used_by(gunicorn, path)]
        gunicorn.process.terminate()
        gunicorn.process.wait(30)
        assert not made.exists()


def _is_used_by(gunicorn, path: Path) -> bool:
    environ = Path(f"/proc/{gunicorn.workers()[0]}/maps").read_text()
    return str(path) in environ


def test_the_counts_have_their_place_on_the_disk_before_it_may_be_full(tmp_path):
    subprocess.run(
        [sys.executable, "-c", "from tar_gateway.web.observe.metrics import Metrics; Metrics()"],
        env=os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
        check=True,
        timeout=30,
    )
    files = [path.stat() for path in tmp_path.iterdir()]
    assert files
    assert all(file.st_blocks * 512 >= file.st_size for file in files)


def test_an_address_for_the_pages_that_is_taken_is_one_line(upstream, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bound = f"127.0.0.1:{taken.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, *gunicorn_command("127.0.0.1:0")],
            env=os.environ
            | {"TAR_GATEWAY_UPSTREAM": upstream.url, "TAR_GATEWAY_PAGES_BIND": bound},
            capture_output=True,
            text=True,
            timeout=30,
        )
    assert done.returncode != 0
    assert f"tar_gateway: the pages can't use {bound}: Address already in use" in done.stderr


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"])
def test_the_pages_do_not_share_the_public_port(upstream, host):
    port = free_port()
    done = subprocess.run(
        [sys.executable, *gunicorn_command(f"127.0.0.1:{port}")],
        env=os.environ
        | {"TAR_GATEWAY_UPSTREAM": upstream.url, "TAR_GATEWAY_PAGES_BIND": f"{host}:{port}"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode != 0
    assert f"the pages at {host}:{port} need a port that --bind has not" in done.stderr


# --- logs ---------------------------------------------------------------------------------------


def logged(gunicorn, id_: str) -> dict[str, dict]:
    """Wait for both lines of a bundle, and give them by their events."""

    def found() -> dict[str, dict]:
        lines = [line for line in gunicorn.log.read_text().splitlines() if line.startswith("{")]
        read = [line for line in map(json.loads, lines) if line.get("id") == id_]
        return {line["event"]: line for line in read}

    wait_until(lambda: len(found()) == 2, "two lines")
    return found()


def test_a_bundle_leaves_a_line_of_the_server_and_one_of_its_own_joined_by_the_id(running):
    gunicorn, _ = running
    fetch(gunicorn.url + "?bundle=a", **{"X-Request-ID": "joined", "User-Agent": 'te"st\\'})
    lines = logged(gunicorn, "joined")
    assert lines["bundle"]["outcome"] == "complete"
    assert lines["bundle"]["bytes_sent"] == SIZE
    assert (lines["request"]["status"], lines["request"]["bytes"]) == (200, SIZE)
    assert lines["request"]["agent"] == 'te"st\\'


def test_no_client_writes_to_a_terminal_or_a_second_line_by_the_logs(running):
    gunicorn, _ = running
    hostile = dict.fromkeys(("User-Agent", "Referer", "X-Forwarded-For"), "\x9b2J\x85")
    target = quote("\u2028{}\u202e/") + "?bundle=" + quote("a\u2029")
    status, _ = fetch(gunicorn.url + target, **hostile, **{"X-Request-ID": "hostile"})
    assert status == 404
    lines = logged(gunicorn, "hostile")
    assert lines["request"]["agent"] == "\x9b2J\x85"
    assert lines["request"]["path"] == lines["bundle"]["path"] == "/\u2028{}\u202e/"
    assert lines["bundle"]["member"] == "\u2028{}\u202e/a\u2029"
    assert gunicorn.log.read_bytes().isascii()


def test_no_log_holds_a_signature(running):
    gunicorn, _ = running
    fetch(gunicorn.url + "?bundle=a&signature=hunter2", **{"X-Request-ID": "signed"})
    assert logged(gunicorn, "signed")["request"]["query"] == "bundle=a&signature=..."
    assert "hunter2" not in gunicorn.log.read_text()


def test_what_a_gateway_warns_of_is_in_gunicorns_log(running, upstream):
    gunicorn, _ = running
    upstream.on("/cut", cut)
    with pytest.raises(IncompleteRead):
        fetch(gunicorn.url + "?bundle=cut")
    wait_until(lambda: "broken off at the member 'cut'" in gunicorn.log.read_text(), "the warning")
    (line,) = [
        line
        for line in map(json.loads, gunicorn.log.read_text().splitlines())
        if line["event"] == "log" and line["message"].startswith("broken off at the member 'cut'")
    ]
    assert line["level"] == "WARNING"
    assert line["pid"] in gunicorn.workers()
    assert datetime.now(UTC) - datetime.fromisoformat(line["time"]) < timedelta(minutes=5)


def test_every_line_of_both_logs_is_json_and_holds_a_whole_traceback(upstream, tmp_path):
    with gateway(upstream.url, tmp_path, application="tests.server.worker_app") as gunicorn:
        with pytest.raises(HTTPError, match="500"):
            urlopen(gunicorn.url + "fails")
        told = "Error handling request GET /fails"
        wait_until(lambda: told in gunicorn.log.read_text(), "the defect")
    lines = [json.loads(line) for line in gunicorn.log.read_text().splitlines()]
    assert {line["event"] for line in lines} == {"log", "request"}
    (line,) = [line for line in lines if line.get("message") == told]
    assert line["level"] == "ERROR"
    assert line["traceback"].startswith("Traceback (most recent call last):\n")
    assert "No such file or directory: '/nonexistent'\n" in line["traceback"]


def test_any_text_is_one_line_that_every_file_takes():
    text = 'two\nlines, "quotes", é and \udcff'
    record = logging.makeLogRecord({"msg": "%s", "args": (text,), "levelname": "INFO"})
    line = JsonFormatter().format(record)
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["message"] == text


# --- drain and check ----------------------------------------------------------------------------


def test_a_drained_gateway_is_not_ready_in_any_worker_and_still_serves(upstream, tmp_path):
    with gateway(upstream.url, tmp_path, "--workers", "3") as gunicorn:
        wait_until(lambda: len(gunicorn.workers()) == 3, "three workers")
        assert fetch(gunicorn.url + "-/ready")[0] == 200
        done = tar_gateway("drain", "--pid", str(gunicorn.process.pid))
        assert done.returncode == 0, done.stderr
        wait_until(lambda: fetch(gunicorn.url + "-/ready")[0] == 503, "the drain")
        assert {fetch(gunicorn.url + "-/ready")[0] for _ in range(9)} == {503}
        assert fetch(gunicorn.url + "?bundle=a")[0] == 200
        # A worker that comes later knows it as well.
        for worker in gunicorn.workers():
            os.kill(worker, signal.SIGKILL)
        wait_until(lambda: "".join(map(str, gunicorn.workers())) != "", "other workers")
        assert fetch(gunicorn.url + "-/ready")[0] == 503


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "Give either --pid or --pid-file"),
        (["--pid", "1", "--pid-file", __file__], "Give either --pid or --pid-file"),
        (["--pid", str(os.getpid())], "is not a gateway run by gunicorn"),
        (["--pid", "99999999"], "there is no process 99999999"),
        (["--pid", "0"], "0 is not in the range"),
        (["--pid-file", __file__], "holds no process id"),
        (["--pid-file", "/nowhere"], "does not exist"),
    ],
)
def test_what_can_not_be_drained_is_left_alone(arguments, line):
    done = tar_gateway("drain", *arguments)
    assert done.returncode != 0
    assert line in done.stderr.replace("\n", " ")


def test_the_check_prints_the_settings_and_reaches_the_upstream(upstream):
    upstream.requests.clear()
    done = tar_gateway("check", TAR_GATEWAY_UPSTREAM=upstream.url, TAR_GATEWAY_MAX_BODY="1KiB")
    assert done.returncode == 0, done.stdout
    assert "TAR_GATEWAY_MAX_BODY=1024\n" in done.stdout
    assert f"ok     upstream: {upstream.url} answers 200\n" in done.stdout
    assert len(upstream.requests) == 1


def test_the_check_prints_what_gunicorn_is_sized_by(upstream):
    told = {"WEB_CONCURRENCY": "3", "GUNICORN_CMD_ARGS": "--graceful-timeout 9 --bind :1"}
    settings = {"TAR_GATEWAY_UPSTREAM": upstream.url, "TAR_GATEWAY_MAX_DOWNLOADS": "10"}
    done = tar_gateway("check", **told, **settings)
    assert (
        "\ngunicorn --workers 3 --worker-class tar_gateway.server.worker.GatewayWorker "
        "--threads 42 --worker-connections 554 --graceful-timeout 9\n"
    ) in done.stdout


def test_the_check_reaches_each_upstream_of_each_location(upstream, tmp_path):
    upstream.requests.clear()
    file = tmp_path / "locations.toml"
    urls = [upstream.url, f"{upstream.url}base/", f"{upstream.url}other/"]
    file.write_text(
        f'[[location]]\nprefix = "/a/"\nupstream = ["{urls[0]}", "{urls[1]}"]\n'
        f'[[location]]\nprefix = "/b/"\nupstream = "{urls[2]}"\n'
    )
    done = tar_gateway("check", TAR_GATEWAY_LOCATIONS_FILE=str(file))
    for prefix, url in zip(["/a/", "/a/", "/b/"], urls, strict=True):
        assert f"  location {prefix}: {url} answers " in done.stdout
    assert sorted(seen.path for seen in upstream.requests) == ["/", "/base/", "/other/"]


def test_an_address_of_the_pages_that_is_in_use_is_told_and_fails_nothing(upstream):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        bound = f"127.0.0.1:{listener.getsockname()[1]}"
        given = {"TAR_GATEWAY_UPSTREAM": upstream.url, "TAR_GATEWAY_PAGES_BIND": bound}
        taken = tar_gateway("check", **given)
    free = tar_gateway("check", **given)
    assert (taken.returncode, free.returncode) == (0, 0)
    assert f"ok     pages: {bound} is in use, " in taken.stdout
    assert f"ok     pages: {bound} can be opened\n" in free.stdout


@pytest.mark.parametrize(
    ("trusted", "line"),
    [
        ("", "behind a proxy not at all: MAX_DOWNLOADS_PER_CLIENT does not apply"),
        ("10.0.0.0/8,unix", "ok     clients: told by X-Forwarded-For of 10.0.0.0/8,unix\n"),
    ],
)
def test_the_check_says_by_what_clients_are_told_apart(upstream, trusted, line):
    given = {"TAR_GATEWAY_UPSTREAM": upstream.url, "TAR_GATEWAY_TRUSTED_PROXIES": trusted}
    said = tar_gateway("check", **given).stdout
    assert line in said
    assert ("set TAR_GATEWAY_TRUSTED_PROXIES to" in said) == (not trusted)


def test_the_check_says_what_limits_have_to_leave_a_process(upstream):
    given = {"TAR_GATEWAY_UPSTREAM": upstream.url, "TAR_GATEWAY_SPOOL_LIMIT": "3MiB"}
    most = footprint(Settings(spool_limit=3 * 1024 * 1024))
    assert (
        f"ok     limits: a process takes up to {-(-most.memory // 1024**2)} MiB of memory, "
        f"3 MiB of temporary disk and {most.tasks} tasks\n"
    ) in tar_gateway("check", **given).stdout


@pytest.mark.parametrize(
    ("environment", "line"),
    [
        ({"UPSTREAM": "http://127.0.0.1:9/"}, "FAILS  upstream: http://127.0.0.1:9/: the upstream"),
        ({"UPSTREAM": "http://127.0.0.1:9/", "MAX_DOWNLOADS": "9999999"}, "FAILS  descriptors: "),
        (
            {"UPSTREAM": "http://127.0.0.1:9/", "AUTH_REQUEST": "http://127.0.0.1:9/?token=x"},
            "FAILS  authority: http://127.0.0.1:9/?...: the authority cannot be reached: "
            "connection refused (127.0.0.1:9)",
        ),
        (
            # Of no machine (RFC 5737).
            {"UPSTREAM": "http://127.0.0.1:9/", "PAGES_BIND": "192.0.2.1:9000"},
            "FAILS  pages: 192.0.2.1:9000: Cannot assign requested address",
        ),
        ({"UPSTREAM": "x"}, "Error: TAR_GATEWAY_UPSTREAM is 'x'"),
        ({}, "Error: TAR_GATEWAY_UPSTREAM is not set"),
    ],
)
def test_the_check_says_what_would_fail(environment, line):
    done = tar_gateway("check", **{f"TAR_GATEWAY_{key}": text for key, text in environment.items()})
    assert done.returncode == 1
    assert line in done.stdout + done.stderr


WARNINGS = {
    "threads": ({"GUNICORN_CMD_ARGS": "--threads 5"}, 3, "WARNS  server: 5 threads are fewer"),
    "sync": ({"GUNICORN_CMD_ARGS": "--worker-class sync"}, 1, "FAILS  server: --worker-class sync"),
    "a secret for all": (
        {"TAR_GATEWAY_UPSTREAM_HEADERS_FILE": "secret"},
        3,
        "(UPSTREAM_HEADERS_FILE) can be read by every user: chmod o= ",
    ),
    "an authority that is none": (
        {"TAR_GATEWAY_AUTH_REQUEST": "UPSTREAMnone"},
        1,
        "answers 404: with any other status than 2xx, 401 and 403 every request fails",
    ),
}


@pytest.mark.parametrize("case", WARNINGS)
def test_the_check_finds_what_works_otherwise_than_is_meant(case, upstream, tmp_path):
    environment, status, line = WARNINGS[case]
    secret = tmp_path / "secret"
    secret.write_text("Authorization: Bearer x\n")
    secret.chmod(0o644)
    named = {"secret": str(secret), "UPSTREAMnone": upstream.url + "none"}
    given = {name: named.get(text, text) for name, text in environment.items()}
    done = tar_gateway("check", TAR_GATEWAY_UPSTREAM=upstream.url, **given)
    assert line in done.stdout
    assert done.returncode == status


def test_the_check_tells_all_settings_that_are_wrong_at_once(upstream):
    wrong = {"TAR_GATEWAY_RETRIES": "few", "TAR_GATEWAY_MAX_BODY": "x", "TAR_GATEWAY_NONE": "1"}
    done = tar_gateway("check", TAR_GATEWAY_UPSTREAM=upstream.url, **wrong)
    assert done.returncode == 1
    told = done.stderr.splitlines()
    assert all(any(f"Error: {name} is" in line for line in told) for name in wrong)


def test_the_check_can_be_read_by_a_program(upstream):
    done = tar_gateway("check", "--json", TAR_GATEWAY_UPSTREAM=upstream.url)
    told = json.loads(done.stdout)
    assert told["settings"]["TAR_GATEWAY_UPSTREAM"] == upstream.url
    assert {"text": f"upstream: {upstream.url} answers 200", "severity": "ok"} in told["findings"]


def test_a_wrong_certificate_is_found_by_the_check(upstream):
    done = tar_gateway(
        "check", TAR_GATEWAY_UPSTREAM="https://127.0.0.1:9/", TAR_GATEWAY_UPSTREAM_CA_FILE=__file__
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Error: the certificates for the upstream can't be used")


@pytest.mark.parametrize("path", ["a", "?bundle=a"])
def test_a_gateway_that_is_its_own_upstream_says_so_at_once(tmp_path: Path, path: str):
    at = f"127.0.0.1:{free_port()}"
    with gateway(f"http://{at}/", tmp_path, at=at, retries="0") as looping:
        status, body = fetch(f"{looping.url}{path}")
    assert status == (508 if path == "a" else 502)
    assert path != "a" or b"passed through this gateway before" in body


def test_browsers_are_told_what_pages_may_do_and_frames_get_no_bundle(running, upstream):
    gunicorn, pages = running
    for url in (f"{pages}healthy", f"{pages}ready"):
        with urlopen(url, timeout=30) as response:
            assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]
            assert response.headers["Referrer-Policy"] == "no-referrer"
    bundle = f"{gunicorn.url}?bundle=a"
    with urlopen(bundle, timeout=30) as response:
        assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    page = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate"}
    with pytest.raises(HTTPError, match="403") as refused:
        urlopen(Request(bundle, headers={**page, "Sec-Fetch-Dest": "iframe"}), timeout=30)
    assert refused.value.headers["Content-Security-Policy"].startswith("default-src 'none'; style-")
    assert b"use a link" in refused.value.read()
    assert fetch(bundle, **page, **{"Sec-Fetch-Site": "none", "Sec-Fetch-Dest": "empty"})[0] == 200

"""Starting under gunicorn: plain `gunicorn` runs the gateway, and a wrong setting is one line."""

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.support.servers import PATIENCE, free_port, gateway, wait_until

ROOT = Path(__file__).parents[2]
UPSTREAM = "http://127.0.0.1:9/"
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith("TAR_GATEWAY_")}


def gunicorn(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "gunicorn", *arguments],
        cwd=ROOT,
        env=CLEAN | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def effective(*arguments: str) -> dict[str, str]:
    """Read gunicorn's own account of its settings."""
    done = gunicorn("--print-config", *arguments, TAR_GATEWAY_UPSTREAM=UPSTREAM)
    assert done.returncode == 0, done.stderr
    pairs = (line.partition("=") for line in done.stdout.splitlines() if "=" in line)
    return {name.strip(): value.strip() for name, _, value in pairs}


def test_plain_gunicorn_at_the_root_takes_the_packages_settings():
    plain = effective()
    packaged = effective("--config", "python:tar_gateway.gunicorn_conf")
    differing = {name for name in packaged if plain[name] != packaged[name]}
    assert plain["wsgi_app"] == "tar_gateway.wsgi:application"
    assert differing <= {"config"}


def test_a_unix_socket_is_for_its_owner_and_group(tmp_path: Path):
    path = tmp_path / "socket"
    with gateway(UPSTREAM, tmp_path, at=f"unix:{path}"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("worker_class", "tar_gateway.server.worker.GatewayWorker"),
        ("limit_request_line", "8190"),
        ("forwarder_headers", ""),
        ("control_socket_disable", "True"),
        ("max_requests", "0"),
        ("umask", str(0o117)),
    ],
)
def test_a_default_of_gunicorn_that_hurts_is_changed(name: str, value: str):
    assert effective()[name].strip("[]'") == value


OWN = """
import time

def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    yield b"a"
    time.sleep(1.5)
    yield b"b"
"""


def test_an_application_of_ones_own_needs_no_upstream_and_is_not_cut_off(tmp_path: Path):
    (tmp_path / "mysite.py").write_text(OWN)
    options = ("--chdir", str(tmp_path), "--timeout", "1")
    with gateway("", tmp_path, *options, application="mysite:application") as running:
        assert urlopen(running.url).read() == b"ab"


@pytest.mark.parametrize(
    ("environment", "line"),
    [
        (
            {},
            "tar_gateway: TAR_GATEWAY_UPSTREAM is not set: give the base URL of the files, "
            "such as http://files.internal:8080/base/\n",
        ),
        (
            {"TAR_GATEWAY_UPSTREAM": "files.internal"},
            "tar_gateway: TAR_GATEWAY_UPSTREAM is 'files.internal': "
            "it must be a URL such as http://files.internal:8080/base/\n",
        ),
        (
            {"TAR_GATEWAY_UPSTREAM": "http://files/", "TAR_GATEWAY_READ_TIMEUOT": "3"},
            "tar_gateway: TAR_GATEWAY_READ_TIMEUOT is not a setting; "
            "did you mean TAR_GATEWAY_READ_TIMEOUT?\n",
        ),
    ],
)
def test_a_missing_or_wrong_setting_stops_the_start_with_one_line(environment, line):
    done = gunicorn("--bind", "127.0.0.1:0", **environment)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", line)


def test_preloading_is_refused_with_one_line():
    done = gunicorn("--bind", "127.0.0.1:0", "--preload", TAR_GATEWAY_UPSTREAM=UPSTREAM)
    line = "tar_gateway: --preload is refused: workers would not share their counts"
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, line)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["file", "file/below", "/proc/no"])
def test_a_place_for_counts_that_can_not_be_is_one_line(name: str, tmp_path: Path):
    (tmp_path / "file").touch()
    named = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / name), "TAR_GATEWAY_UPSTREAM": UPSTREAM}
    done = gunicorn("--bind", "127.0.0.1:0", **named)
    line = f"PROMETHEUS_MULTIPROC_DIR: the workers' counts can't be kept in {tmp_path / name}: "
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"tar_gateway: {line}")
    assert "Traceback" not in done.stderr


@pytest.fixture
def taken() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(
    ("bind", "pages", "options"),
    [
        pytest.param("127.0.0.1:0", "{taken}", [], id="the pages' address is taken"),
        pytest.param("{free}", "{free}", [], id="the pages' port is that of --bind"),
        pytest.param("{taken}", "", [], id="the address is taken"),
        pytest.param("127.0.0.1:0", "", ["--certfile", "/none"], id="an error of gunicorn's"),
        pytest.param("127.0.0.1:0", "", ["--preload"], id="an option that is refused"),
    ],
)
def test_a_start_that_fails_leaves_nothing(bind, pages, options, taken: str, tmp_path: Path):
    addresses = {"taken": taken, "free": f"127.0.0.1:{free_port()}"}
    place = tmp_path / "temporary"
    place.mkdir()
    done = gunicorn(
        *("--bind", bind.format_map(addresses), "--pid", str(tmp_path / "pid"), *options),
        TAR_GATEWAY_UPSTREAM=UPSTREAM,
        TAR_GATEWAY_PAGES_BIND=pages.format_map(addresses),
        TMPDIR=str(place),
    )
    assert done.returncode == 1, done.stderr
    assert list(place.iterdir()) == []
    assert list(tmp_path.iterdir()) == [place]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_stop_while_a_worker_is_being_started_is_not_lost(how, tmp_path: Path):
    forked = tmp_path / "forked"
    config = tmp_path / "slow.py"
    config.write_text(
        "import time\n"
        "from pathlib import Path\n"
        "from tar_gateway.gunicorn_conf import *\n"
        "def post_fork(server, worker):\n"
        f"    Path({str(forked)!r}).touch()\n"
        f"    time.sleep({PATIENCE})\n"
    )
    environment = CLEAN | {"TAR_GATEWAY_UPSTREAM": "http://127.0.0.1:9/", "WEB_CONCURRENCY": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "--config", str(config), "--bind", "127.0.0.1:0"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until(forked.exists, "the worker's fork")
    process.send_signal(how)
    assert process.wait(PATIENCE / 2) is not None

"""A reload takes new files over, cuts nothing, and leaves a master that looks after its workers."""

import hashlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from tar_gateway import sign_url
from tests.support.scripted import File, Scripted
from tests.support.servers import PATIENCE, WORKERS, Running, gateway, wait_until

LARGE = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(512 * 1024))  # 16 MiB
AT_ONCE = 3  # seconds; gunicorn's own reload waits for the download


@pytest.fixture(scope="module")
def upstream() -> Iterator[Scripted]:
    with Scripted({"/large": File(LARGE), "/small": File(b"small")}) as running:
        yield running


class Download:
    """A client that has begun with an archive, and waits with most of it."""

    def __init__(self, running: Running) -> None:
        self.connection = HTTPConnection(running.host, running.port)
        self.connection.sock = socket.socket()
        self.connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        self.connection.sock.settimeout(PATIENCE)
        self.connection.sock.connect((running.host, running.port))
        self.connection.request("GET", "/?bundle=large")
        self.answer: HTTPResponse = self.connection.getresponse()
        self.begin = self.answer.read(1000)

    def is_right(self) -> bool:
        """Take the rest of it, and tell whether all of it is there."""
        with self.answer:
            return (self.begin + self.answer.read())[512:].startswith(LARGE)

    def close(self) -> None:
        self.answer.close()
        self.connection.close()


def serves(running: Running) -> bool:
    with urlopen(running.url + "?bundle=small", timeout=AT_ONCE) as answer:
        return len(answer.read()) == 10_240


def reload(running: Running) -> None:
    """Reload, and wait until the worker that takes over is there."""
    before = set(running.workers())
    running.process.send_signal(signal.SIGHUP)
    wait_until(lambda: not before.issuperset(running.workers()), "a new worker")


@pytest.mark.parametrize("worker", WORKERS)
def test_what_has_begun_is_served_to_its_end_and_the_old_worker_ends_with_it(
    worker: str, upstream: Scripted, tmp_path: Path
):
    with gateway(upstream.url, tmp_path, *WORKERS[worker]) as running:
        (old,) = running.workers()
        with closing(Download(running)) as download:
            reload(running)
            reload(running)
            assert serves(running)
            assert old in running.workers()
            assert download.is_right()
        wait_until(lambda: len(running.workers()) == 1, "the old workers' end")
        assert old not in running.workers()
        assert serves(running)


def test_a_worker_that_dies_is_replaced_while_an_old_one_is_still_at_work(
    upstream: Scripted, tmp_path: Path
):
    with gateway(upstream.url, tmp_path) as running:
        (old,) = running.workers()
        with closing(Download(running)) as download:
            reload(running)
            for _ in range(2):
                (new,) = set(running.workers()) - {old}
                os.kill(new, signal.SIGKILL)
                wait_until(
                    lambda gone=new: len(running.workers()) == 2 and gone not in running.workers(),
                    "another worker",
                )
                assert serves(running)
            assert download.is_right()
        wait_until(lambda: len(running.workers()) == 1, "the old worker's end")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT])
def test_a_quick_stop_is_heard_while_an_old_worker_is_still_at_work(
    how: signal.Signals, upstream: Scripted, tmp_path: Path
):
    with gateway(upstream.url, tmp_path) as running, closing(Download(running)):
        reload(running)
        began = time.monotonic()
        running.process.send_signal(how)
        running.process.wait(PATIENCE)
        assert time.monotonic() - began < AT_ONCE


def test_a_stop_waits_for_an_old_worker_and_for_a_new_one(upstream: Scripted, tmp_path: Path):
    with gateway(upstream.url, tmp_path) as running, closing(Download(running)) as first:
        reload(running)
        with closing(Download(running)) as second:
            running.process.terminate()
            wait_until(lambda: "Handling signal: term" in running.log.read_text(), "the stop")
            assert first.is_right()
            assert second.is_right()
        assert running.process.wait(PATIENCE) == 0


def test_new_files_are_taken_over_and_a_wrong_one_is_one_line(upstream: Scripted, tmp_path: Path):
    keys = tmp_path / "keys"
    expires = int(time.time()) + 3600

    def status(number: int) -> int:
        secret = str(number) * 16
        link = sign_url("/?bundle=small", secret, expires=expires, key_id=f"k{number}")
        try:
            with urlopen(running.url + link.removeprefix("/"), timeout=PATIENCE) as answer:
                return answer.status
        except HTTPError as error:
            with error:
                return error.code

    keys.write_text("k1:" + "1" * 16)
    with gateway(upstream.url, tmp_path / "gateway", signing_keys_file=str(keys)) as running:
        assert status(1) == 200
        keys.write_text("k2")
        running.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "Not reloaded: " in running.log.read_text(), "the line")
        assert "TAR_GATEWAY_SIGNING_KEYS_FILE is" in running.log.read_text()
        assert status(1) == 200
        keys.write_text("k2:" + "2" * 16)
        reload(running)
        wait_until(lambda: len(running.workers()) == 1, "the old worker's end")
        assert (status(1), status(2)) == (403, 200)

"""Upstreams that are away for a moment, or limit their rate: clients only wait."""

import io
import tarfile
import threading
import time
from contextlib import closing

import pytest
from webtest import TestApp

from tar_gateway import BrokenOff, Gateway, Settings, Upstream
from tests.support.scripted import Fault, File, Scripted, Wire, answer, close

DATA = bytes(range(256)) * 4096
FILE = File(DATA)


def names_in(tar: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        return archive.getnames()


class Restarting:
    """A server that ends in the middle of a member, and is back after so many seconds."""

    def __init__(self, away: float) -> None:
        self._away = away
        self._first = Scripted({"/a": FILE})
        self._first.break_at("/a", Fault(100_000, self._leave))
        self._gone = threading.Event()

    def __enter__(self) -> str:
        self._first.__enter__()
        self._thread = threading.Thread(target=self._restart)
        self._ended = threading.Event()
        self._thread.start()
        return self._first.url

    def __exit__(self, *_: object) -> None:
        self._gone.set()
        self._ended.set()
        self._thread.join()

    def _leave(self, wire: Wire) -> None:
        self._gone.set()
        close(wire)

    def _restart(self) -> None:
        self._gone.wait()
        self._first.__exit__(None, None, None)
        if not self._ended.wait(self._away):
            with Scripted({"/a": FILE}, port=self._first.port):
                self._ended.wait()


def download(url: str, **settings: float) -> bytes:
    chosen = Settings(**settings)  # type: ignore[arg-type]
    with closing(Gateway(Upstream(url, chosen), chosen)) as gateway:
        return TestApp(gateway).get("/?bundle=a").body


def test_a_member_goes_on_when_its_server_has_restarted():
    with Restarting(away=1.0) as url:
        tar = download(url)
    assert names_in(tar) == ["a"]
    assert tar[512 : 512 + len(DATA)] == DATA


@pytest.mark.parametrize(
    "settings", [{"retry_for": 0}, {"retries": 0}], ids=["RETRY_FOR", "RETRIES"]
)
def test_patience_can_be_turned_off(settings: dict[str, float]):
    with Restarting(away=30) as url, pytest.raises(BrokenOff):
        download(url, **settings)


def test_patience_ends():
    with Restarting(away=30) as url:
        began = time.monotonic()
        with pytest.raises(BrokenOff):
            download(url, retry_for=1)
        assert 1 <= time.monotonic() - began < 15


class Limited:
    """A server that takes ``rate`` requests a second, and ``burst`` at once."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate, self._burst = rate, burst
        self._tokens = float(burst)
        self._at = time.monotonic()
        self._lock = threading.Lock()
        self.refused = 0

    def __call__(self, wire: Wire) -> None:
        with self._lock:
            now = time.monotonic()
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
            self._at = now
            allowed = self._tokens >= 1
            self._tokens -= allowed
            self.refused += not allowed
        if allowed:
            File(b"x" * 100)(wire)
        else:
            answer(b"", "Retry-After: 1", status="429 Too Many Requests")(wire)


def test_members_of_an_upstream_that_limits_its_rate_are_bundled():
    names = [f"{number}" for number in range(60)]
    limited = Limited(rate=200, burst=20)
    with Scripted(default=limited) as server, closing(Gateway(Upstream(server.url))) as gateway:
        response = TestApp(gateway).get("/?" + "&".join(f"bundle={name}" for name in names))
    assert names_in(response.body) == names
    assert limited.refused > 0

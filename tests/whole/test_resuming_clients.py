"""Partial files are completed by the clients that people have, with the papers' own lines."""

import os
import random
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from tar_gateway import tar_size
from tests.support.papers import block
from tests.support.servers import PATIENCE, gateway, nginx, wait_until

# More than a client that is told to be slow takes at once.
SIZES = {"a.bin": 3_000_000, "b.bin": 2_000_000}
SIZE = tar_size(list(SIZES.items()))
STRONG, UNPROVED = "strong", "unproved"
NO_VALIDATOR = "location /unproved { etag off; add_header Last-Modified ''; }"

# What the clients do, whatever the settings of whoever runs the tests.
CONFIGURATION = {
    ".curlrc": "silent\nconnect-timeout = 10\nmax-time = 60\n",
    ".wgetrc": "quiet = on\ntries = 2\ntimeout = 30\n",
    ".aria2/aria2.conf": "quiet=true\ndisable-ipv6=true\nmax-tries=2\ntimeout=30\n"
    "allow-overwrite=false\ndisk-cache=0\n",
}
SLOWLY = {  # 10 KB a second; curl takes the bytes of a hundred seconds at once where they are there
    ".curlrc": "limit-rate = 10K\n",
    ".wgetrc": "limit_rate = 10k\n",
    ".aria2/aria2.conf": "max-download-limit=10K\n",
}

number = count()


def client(marker: str, program: str):
    return pytest.param(marker, id=program, marks=pytest.mark.needs(program))


pytestmark = pytest.mark.needs("nginx", "curl")
clients = pytest.mark.parametrize(
    "command",
    [
        client("command: resume with curl", "curl"),
        client("command: resume with wget", "wget"),
        client("command: resume with aria2", "aria2c"),
    ],
)


@dataclass(frozen=True)
class Download:
    """A bundle of an upstream's files, and the user's directory it is downloaded to."""

    files: Path
    url: str
    place: Path
    home: Path

    @property
    def target(self) -> Path:
        return self.place / "bundle.tar"

    def write(self, version: int) -> None:
        """Make the upstream's files those of a version, dated differently."""
        for name, size in SIZES.items():
            path = self.files / name
            path.write_bytes(random.Random(f"{name} {version}").randbytes(size))
            os.utime(path, (1_600_000_000 + version, 1_600_000_000 + version))

    def configure(self, more: dict[str, str] | None = None) -> None:
        for name, text in CONFIGURATION.items():
            path = self.home / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + (more or {}).get(name, ""))

    def start(self, lines: str) -> subprocess.Popen:
        return subprocess.Popen(
            ["sh", "-c", lines],
            cwd=self.place,
            env={"PATH": os.environ["PATH"], "HOME": str(self.home), "url": self.url},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def run(self, lines: str) -> int:
        """Run shell lines to their end, and give their exit status."""
        return self.start(lines).wait(2 * PATIENCE)

    def break_off(self, lines: str) -> None:
        """Run lines that download slowly, and kill them once some bytes are there."""
        self.configure(SLOWLY)
        process = self.start(lines)
        try:
            wait_until(lambda: self.target.exists() and self.target.stat().st_size > 0, "a byte")
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(PATIENCE)
        self.configure()

    def pin(self) -> None:
        assert self.run(block("command: pin a download")) == 0

    def get(self, **headers: str) -> tuple[int, str, bytes]:
        """Give the status, the ETag and the body that the bundle's own URL has now."""
        with self.asked(headers) as answer:
            return answer.status, answer.headers["ETag"], answer.read()

    def asked(self, headers: dict[str, str]):
        request = urllib.request.Request(self.url, headers=headers)
        return urllib.request.urlopen(request, timeout=PATIENCE)


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[tuple[Path, str]]:
    root, place = tmp_path_factory.mktemp("files"), tmp_path_factory.mktemp("servers")
    with nginx(root, place / "nginx", NO_VALIDATOR) as upstream, gateway(upstream, place) as front:
        yield root, front.url


@pytest.fixture
def download(served, tmp_path: Path, request) -> Download:
    """A download of files that no other test changes."""
    root, url = served
    directory = f"{getattr(request, 'param', STRONG)}{next(number)}"
    bundle = "&".join(f"bundle={name}" for name in SIZES)
    made = Download(
        root / directory, f"{url}{directory}/?{bundle}", tmp_path / "here", tmp_path / "home"
    )
    made.files.mkdir()
    made.place.mkdir()
    made.write(version=1)
    made.configure()
    return made


def test_the_pinned_url_gives_the_same_archive(download: Download):
    _, etag, whole = download.get()
    download.pin()
    pinned = (download.place / "bundle.url").read_text().strip()
    assert pinned == f"{download.url}&v={etag.strip(chr(34))}"
    with urllib.request.urlopen(pinned, timeout=PATIENCE) as answer:
        assert answer.read() == whole


@pytest.mark.parametrize("download", [UNPROVED], indirect=True)
def test_a_bundle_that_proves_nothing_cannot_be_pinned(download: Download):
    assert download.run(block("command: pin a download")) != 0
    assert not (download.place / "bundle.url").exists()


@clients
def test_a_file_that_is_not_there_is_downloaded_whole(download: Download, command: str):
    download.pin()
    assert download.run(block(command)) == 0
    assert download.target.read_bytes() == download.get()[2]


@clients
@pytest.mark.parametrize("there", [0, 1, 511, 512, SIZE // 2, SIZE - 1])
def test_a_partial_file_is_completed(download: Download, command: str, there: int):
    _, _, whole = download.get()
    assert len(whole) == SIZE
    download.pin()
    download.target.write_bytes(whole[:there])
    assert download.run(block(command)) == 0
    assert download.target.read_bytes() == whole


@clients
def test_a_whole_file_stays_as_it_is(download: Download, command: str):
    _, _, whole = download.get()
    download.pin()
    download.target.write_bytes(whole)
    download.run(block(command))  # its status is not asked: curl -f calls a 416 a failure
    assert download.target.read_bytes() == whole


@clients
def test_a_client_that_was_killed_goes_on_when_it_is_run_again(download: Download, command: str):
    _, _, whole = download.get()
    download.pin()
    download.break_off(block(command))
    assert download.target.read_bytes() != whole
    assert download.run(block(command)) == 0
    assert download.target.read_bytes() == whole


@clients
def test_a_client_that_was_killed_does_not_go_on_with_another_version(
    download: Download, command: str
):
    download.pin()
    download.break_off(block(command))
    there = download.target.read_bytes()
    download.write(version=2)
    assert download.run(block(command)) != 0
    assert download.target.read_bytes() == there


@clients
@pytest.mark.parametrize("there", [0, 1, 511, SIZE // 2])
def test_parts_of_two_versions_are_never_put_together(download: Download, command: str, there: int):
    _, _, old = download.get()
    download.pin()
    download.target.write_bytes(old[:there])
    download.write(version=2)
    assert download.run(block(command)) != 0
    assert download.target.read_bytes() == old[:there]


@pytest.mark.parametrize(
    "command",
    [
        # Not aria2, which asks for more than it lacks.
        client("command: resume with curl", "curl"),
        client("command: resume with wget", "wget"),
    ],
)
def test_a_version_that_lacks_no_byte_of_a_member_is_completed(download: Download, command: str):
    _, _, old = download.get()
    download.pin()
    download.target.write_bytes(old[: SIZE - 1])
    download.write(version=2)
    assert download.run(block(command)) == 0  # by what is remembered of it
    assert download.target.read_bytes() == old


@pytest.mark.parametrize("there", [1, SIZE // 2])
def test_curl_that_would_keep_error_pages_does_not_append_one(download: Download, there: int):
    _, _, old = download.get()
    download.pin()
    download.target.write_bytes(old[:there])
    download.write(version=2)
    assert download.run('curl -C - -o bundle.tar "$(cat bundle.url)"') != 0
    assert download.target.read_bytes() == old[:there]


@pytest.mark.parametrize("there", [1, 511, SIZE // 2, SIZE - 1])
def test_if_range_gets_the_rest_of_the_same_version(download: Download, there: int):
    _, etag, whole = download.get()
    part = download.get(Range=f"bytes={there}-", **{"If-Range": etag})
    assert part == (206, etag, whole[there:])


@pytest.mark.parametrize("there", [1, 511, SIZE // 2])
def test_if_range_gets_all_of_another_version(download: Download, there: int):
    _, old_etag, old = download.get()
    download.write(version=2)
    status, etag, body = download.get(Range=f"bytes={there}-", **{"If-Range": old_etag})
    assert (status, etag, body) == download.get()
    assert etag != old_etag
    assert body != old


def chromium(there: int, etag: str, modified: str) -> dict[str, str]:
    """Return the headers of Chromium's download manager when it resumes."""
    return {
        "Range": f"bytes={there}-",
        "If-Range": etag,
        "Accept-Encoding": "identity",
        "Sec-Fetch-Site": "none",
        "Sec-Fetch-Mode": "no-cors",
        "Sec-Fetch-Dest": "empty",
    }


def firefox(there: int, etag: str, modified: str) -> dict[str, str]:
    """Return the headers of Firefox's download manager when it resumes."""
    return {
        "Range": f"bytes={there}-",
        "If-Match": etag,
        "If-Unmodified-Since": modified,
        "Accept": "*/*",
        "Accept-Encoding": "gzip, deflate, br, zstd",
    }


@pytest.mark.parametrize("browser", [chromium, firefox])
@pytest.mark.parametrize("there", [1, 511, SIZE // 2, SIZE - 1])
def test_a_browser_gets_the_rest_of_the_same_version(download: Download, browser, there: int):
    with download.asked({}) as whole:
        told, body = whole.headers, whole.read()
    with download.asked(browser(there, told["ETag"], told["Last-Modified"])) as part:
        assert (part.status, part.read()) == (206, body[there:])
        assert part.headers["Content-Range"] == f"bytes {there}-{SIZE - 1}/{SIZE}"
        assert (part.headers["ETag"], part.headers["Accept-Ranges"]) == (told["ETag"], "bytes")


def test_chromium_gets_all_of_another_version(download: Download):
    with download.asked({}) as whole:
        told = whole.headers
    download.write(version=2)
    with download.asked(chromium(1000, told["ETag"], told["Last-Modified"])) as answer:
        assert (answer.status, len(answer.read())) == (200, SIZE)


def test_firefox_is_told_that_there_is_another_version(download: Download):
    with download.asked({}) as whole:
        told = whole.headers
    download.write(version=2)
    with pytest.raises(urllib.error.HTTPError) as refused:
        download.asked(firefox(1000, told["ETag"], told["Last-Modified"]))
    assert refused.value.code == 412
    refused.value.close()

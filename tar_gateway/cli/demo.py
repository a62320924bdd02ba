"""The demonstration: sample files, a protected upstream, the gateway, and one download."""

import os
import random
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import urlencode

import click

from tar_gateway.cli.directory_server import DirectoryServer, address, listen
from tar_gateway.cli.progress import Progress
from tar_gateway.client import Access, Download, DownloadError, Options
from tar_gateway.errors import TarGatewayError
from tar_gateway.server.startup import gunicorn_command
from tar_gateway.settings import PREFIX

USER, PASSWORD = "demo", "demo"
_MIB = 1024 * 1024

# Name and size in bytes: what people have, and what archives get wrong.
SAMPLES = (
    ("reports/2026/january.csv", 48_213),
    ("reports/2026/february.csv", 51_002),
    ("reports/summary.txt", 5_120),
    ("reports/nothing yet.txt", 0),
    ("reports/Größe & Gewicht, 100%.txt", 777),
    ("reports/" + "a-very-long-name-" * 7 + "end.txt", 4_321),
    ("reports/scans.bin", 96 * _MIB),
)


class DemoFailed(TarGatewayError):
    """The demonstration did not come to its good end."""


def run(port: int, *, serve_on: bool) -> None:
    """Run the demonstration; ``serve_on`` keeps the servers up until Ctrl-C.

    Raise `DemoFailed` when anything is not as it should be.
    """
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tar-gateway-")))
        files, archive = directory / "files", directory / "reports.tar"
        make_samples(files)
        upstream = stack.enter_context(closing(DirectoryServer.start(files, f"Basic {_token()}")))
        gateway = stack.enter_context(_gateway(upstream.url, port))
        names = [name.removeprefix("reports/") for name, _ in SAMPLES]
        url = gateway + "reports/?" + urlencode([("bundle", name) for name in names])
        click.echo(f"protected upstream  {upstream.url}  (user {USER}, password {PASSWORD})")
        click.echo(f"gateway             {gateway}\n")
        download(url, archive)
        check(archive, files / "reports", names)
        size = archive.stat().st_size
        click.echo(f"\n{len(names)} members, {size} bytes as announced, every byte is right.\n")
        if serve_on:
            _suggest(gateway, url)
            click.echo("Serving until Ctrl-C.")
            _wait()


def _token() -> str:
    return b64encode(f"{USER}:{PASSWORD}".encode()).decode()


def make_samples(files: Path) -> None:
    """Write the sample files, the same bytes every time."""
    for name, size in SAMPLES:
        path = files / name
        path.parent.mkdir(parents=True, exist_ok=True)
        generator = random.Random(name)  # noqa: S311 - test data
        with path.open("wb") as file:
            for start in range(0, size, _MIB):
                file.write(generator.randbytes(min(_MIB, size - start)))
        os.utime(path, (1_780_000_000, 1_780_000_000))


def download(url: str, archive: Path) -> None:
    """Download to a file by the client, whose progress knows the length from the first byte on."""
    progress = Progress(quiet=False, objects=None)
    access = Access(user=USER, password=PASSWORD)
    started = time.monotonic()
    try:
        Download(url, Options(file=archive), access=access, listener=progress).run()
    except DownloadError as error:
        raise DemoFailed(f"the download failed: {error}") from error
    progress.end({})
    size, seconds = archive.stat().st_size, time.monotonic() - started
    click.echo(f"{size / _MIB:.1f} MiB in {seconds:.2f} s, {size / _MIB / seconds:.0f} MiB/s")


def check(archive: Path, files: Path, names: list[str]) -> None:
    """Compare an archive with the files it was made of, byte by byte."""
    with tarfile.open(archive) as tar:
        if tar.getnames() != names:
            raise DemoFailed(f"the archive holds {tar.getnames()}")
        for name in names:
            member = tar.extractfile(name)
            with (files / name).open("rb") as original:
                if member is None or not _same(member, original):
                    raise DemoFailed(f"the member {name} is not the file")


def _same(one: IO[bytes], other: IO[bytes]) -> bool:
    while block := one.read(_MIB):
        if block != other.read(len(block)):
            return False
    return not other.read(1)


@contextmanager
def _gateway(upstream: str, port: int) -> Iterator[str]:
    """Run a gateway, and end it."""
    try:
        listener = listen(port=port)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise DemoFailed(f"port {port} can't be used: {reason}") from error
    with listener:
        url = address(listener)
        process = subprocess.Popen(
            [sys.executable, *gunicorn_command(f"fd://{listener.fileno()}")],
            env={k: v for k, v in os.environ.items() if not k.startswith(PREFIX)}
            | {
                f"{PREFIX}UPSTREAM": upstream,
                f"{PREFIX}BROWSE": "yes",
                f"{PREFIX}TRUSTED_PROXIES": "127.0.0.1",  # so that the log warns of no proxy
                "WEB_CONCURRENCY": "1",
                "GUNICORN_CMD_ARGS": "--log-level warning --access-logfile /dev/null",
            },
            pass_fds=[listener.fileno()],
        )
    try:
        yield url
    finally:
        process.terminate()
        process.wait()


def _suggest(gateway: str, url: str) -> None:
    click.echo("Try:")
    click.echo(f"  tar-gateway get --user {USER} '{url}'")
    click.echo(f"  curl -u {USER}:{PASSWORD} -OJ '{url}'")
    click.echo(
        f"  curl -su {USER}:{PASSWORD} "
        f"'{gateway}reports/?bundle=summary.txt,2026/january.csv' | tar tv"
    )
    click.echo(f"  curl -u {USER}:{PASSWORD} '{gateway}reports/?bundle=summary.txt&bundle=missing'")
    click.echo(
        f"  curl -su {USER}:{PASSWORD} -H 'Content-Type: application/json' "
        '-d \'{"members": ["summary.txt", {"path": "2026/january.csv", "name": "jan.csv"}]}\' '
        f"'{gateway}reports/?bundle' | tar tv"
    )
    click.echo(f"  a browser at {gateway}  (user {USER}, password {PASSWORD})\n")


def _wait() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        signal.pause()
    except KeyboardInterrupt:
        click.echo("\nEnding.")

"""The commands of those who run a gateway: ``serve``, ``demo``, ``check``, ``drain``, ``sign``."""

import json
import os
import re
import socket
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from secrets import token_urlsafe

import click

from tar_gateway.access.links import sign_url
from tar_gateway.cli import demo as demonstration
from tar_gateway.cli.check import command, effective, findings, server, wrong_settings
from tar_gateway.cli.directory_server import DirectoryServer, secret_file
from tar_gateway.errors import SettingsError, TarGatewayError
from tar_gateway.server.startup import checked_settings, gunicorn_command
from tar_gateway.settings import PREFIX
from tar_gateway.settings.buckets import SCHEME
from tar_gateway.settings.line_files import read_keys
from tar_gateway.web.observe import draining

_UPSTREAMS = ("UPSTREAM", "LOCATIONS_FILE")


def _address(_: click.Context, __: click.Parameter, text: str) -> str:
    # gunicorn takes less for an address too, and fails at it later.
    tcp = re.fullmatch(r"([\w.-]*|\[[^]\s]+\]):([0-9]{1,5})", text, re.ASCII)
    if not (re.fullmatch(r"unix:.+|fd://[0-9]+", text) or (tcp and int(tcp[2]) < 65536)):
        raise click.BadParameter(f"'{text}' is not HOST:PORT such as 127.0.0.1:8000, or unix:PATH.")
    return text


@click.command()
@click.argument("upstream", metavar="[UPSTREAM_URL_OR_DIRECTORY]", required=False)
@click.option(
    "--bind",
    default="127.0.0.1:8000",
    show_default=True,
    metavar="HOST:PORT",
    callback=_address,
    help="Where clients connect.",
)
@click.option(
    "--hidden", is_flag=True, help="Of a directory, serve also names that begin with a dot."
)
def serve(upstream: str | None, bind: str, *, hidden: bool) -> None:
    """Run the gateway in front of a file server, or for a directory.

    Neither is given where TAR_GATEWAY_UPSTREAM is set, or TAR_GATEWAY_LOCATIONS_FILE, a file of
    several upstreams. Other settings come from the environment (TAR_GATEWAY_...) as well,
    those of gunicorn, which it runs under, from GUNICORN_CMD_ARGS.

    Of a directory, links that lead out of it are not served, nor are names that begin with a dot
    unless --hidden is given.
    """
    if upstream is None and not any(os.environ.get(PREFIX + name) for name in _UPSTREAMS):
        raise click.MissingParameter(
            f"Give it, or set {' or '.join(PREFIX + name for name in _UPSTREAMS)}",
            param_hint="'UPSTREAM_URL_OR_DIRECTORY'",
            param_type="argument",
        )
    directory = None
    if upstream is not None and not upstream.startswith(("http://", "https://", SCHEME)):
        directory = Path(upstream)
    # An empty path is the current directory's: nobody means that by an unset variable.
    if directory is not None and not (upstream and directory.is_dir()):
        raise click.BadParameter(
            f"'{upstream}' is neither a directory nor a URL that begins with http://, https:// or "
            f"{SCHEME}",
            param_hint="UPSTREAM_URL_OR_DIRECTORY",
        )
    if hidden and directory is None:
        raise click.UsageError(
            "--hidden is for a directory: an upstream says itself what it serves."
        )
    if upstream is not None:
        os.environ[f"{PREFIX}UPSTREAM"] = upstream if directory is None else "http://127.0.0.1/"
    try:
        checked_settings(os.environ)
    except SettingsError as error:
        raise click.ClickException(str(error)) from error
    url = _open(bind)
    if directory is not None:
        authorization = f"Bearer {token_urlsafe()}"
        upstream_process = DirectoryServer.start(directory.resolve(), authorization, hidden=hidden)
        os.environ[f"{PREFIX}UPSTREAM"] = upstream_process.url
        headers = secret_file(f"Authorization: {authorization}\n")
        os.environ[f"{PREFIX}UPSTREAM_HEADERS_FILE"] = headers
        os.environ.setdefault(f"{PREFIX}BROWSE", "yes")
        # gunicorn, which this process becomes, holds the pipe from now on.
        os.set_inheritable(upstream_process.pipe, True)
    if url is not None:
        served = upstream or os.environ.get(f"{PREFIX}UPSTREAM") or "the locations"
        what = "./" if directory is not None else "FILE&bundle=DIRECTORY/"
        click.echo(f"Serving {served} at {url}", err=True)
        click.echo(f"Try {url}?bundle={what} (several files as one download)", err=True)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *gunicorn_command(bind)])


def _open(bind: str) -> str | None:
    """Return the URL of an address that can be had, `None` where only gunicorn knows it.

    gunicorn would try again and again for seconds. Raise `click.ClickException`.
    """
    host, colon, port = bind.rpartition(":")
    if not colon or bind.startswith(("unix:", "fd:")) or port == "0":
        return None
    name = host.strip("[]")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    try:
        with socket.socket(family) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((name, int(port)))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise click.ClickException(
            f"{bind} can't be opened, {reason}: choose another with --bind HOST:PORT"
        ) from error
    every = not name or (re.fullmatch(r"[0-9.:]+", name) and ip_address(name).is_unspecified)
    return f"http://{'localhost' if every else host}:{port}/"


@click.command()
@click.option("--once", is_flag=True, help="End after the download instead of serving on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    help="The gateway's port on 127.0.0.1; a free one unless given.",
)
def demo(*, once: bool, port: int) -> None:
    """Download a bundle of sample files, and check every byte of it.

    Starts a protected upstream with the samples and a gateway in front of it, both on
    loopback ports; nothing else is needed on the machine, and nothing is left on it.
    """
    try:
        demonstration.run(port, serve_on=not once)
    except TarGatewayError as error:
        raise click.ClickException(str(error)) from error


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
def check(*, as_json: bool) -> None:
    """Print the settings in effect, and what would fail with them.

    Reads them from the environment (TAR_GATEWAY_..., GUNICORN_CMD_ARGS), as the gateway does, and
    reaches each upstream once. Exits with 1 if anything would fail, and with 3 if there are only
    warnings.
    """
    if wrong := list(wrong_settings(os.environ)):
        raise click.ClickException("\nError: ".join(map(str, wrong)))
    try:
        settings = checked_settings(os.environ)
        sizes = server()
        found = list(findings(settings, sizes))
    except SettingsError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        told = {
            "settings": dict(line.split("=", 1) for line in effective(settings)),
            "gunicorn": sizes,
            "findings": [asdict(finding) for finding in found],
        }
        click.echo(json.dumps(told, indent=2))
    else:
        for line in effective(settings):
            click.echo(line)
        click.echo(command(sizes) + "\n")
        for finding in found:
            word = {"ok": "ok", "warns": "WARNS", "fails": "FAILS"}[finding.severity]
            click.echo(f"{word:5}  {finding.text}")
    worst = {finding.severity for finding in found}
    sys.exit(1 if "fails" in worst else 3 if "warns" in worst else 0)


@click.command()
@click.option("--pid", type=click.IntRange(1), help="The process id of gunicorn's master.")
@click.option(
    "--pid-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file that holds it, as gunicorn's --pid writes one.",
)
@click.option(
    "--wait",
    type=click.FloatRange(0, 3600),
    default=0,
    metavar="SECONDS",
    help="Time for those in front to notice, before this command ends.",
)
def drain(pid: int | None, pid_file: Path | None, wait: float) -> None:
    """Take a gateway out of use: /-/ready answers 503.

    Requests are still taken. The first of two steps; SIGTERM is the second, and lets running
    downloads finish.
    """
    if (pid is None) == (pid_file is None):
        raise click.UsageError("Give either --pid or --pid-file.")
    if pid_file is not None:
        text = pid_file.read_text("ascii", "replace").strip()
        if not text.isdigit():
            raise click.BadParameter(f"'{pid_file}' holds no process id", param_hint="--pid-file")
        pid = int(text)
    assert pid is not None
    try:
        draining.drain(pid)
    except draining.NotDrained as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"process {pid} is drained: /-/ready answers 503; stop it with SIGTERM")
    time.sleep(wait)


_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def _time_span(_: click.Context, __: click.Parameter, text: str | None) -> timedelta | None:
    if text is None:
        return None
    read = re.fullmatch(r"([1-9][0-9]{0,6})([smhd])", text)
    if read is None:
        raise click.BadParameter(f"'{text}' is not a time span such as 90s, 15m, 1h or 2d.")
    return timedelta(**{_UNITS[read[2]]: int(read[1])})


@click.command()
@click.argument("url")
@click.option(
    "--keys-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    envvar=f"{PREFIX}SIGNING_KEYS_FILE",
    show_envvar=True,
    required=True,
    help="Lines id:secret, the gateway's own.",
)
@click.option("--key-id", metavar="ID", help="The key to sign with; the file's first otherwise.")
@click.option(
    "--expires-in",
    callback=_time_span,
    metavar="SPAN",
    help="How long the link holds, such as 90s, 15m or 2d; 1h otherwise.",
)
@click.option("--expires", type=int, metavar="UNIX", help="The Unix time at which it ends instead.")
@click.option(
    "--browse",
    is_flag=True,
    help="For a directory: the page to pick files from, and everything below it.",
)
def sign(
    *,
    url: str,
    keys_file: Path,
    key_id: str | None,
    expires_in: timedelta | None,
    expires: int | None,
    browse: bool,
) -> None:
    """Print a signed URL or path for a gateway with the same keys.

    With --browse it opens a directory for everyone who has it, until it expires.
    """
    if expires is not None and expires_in is not None:
        raise click.UsageError("--expires and --expires-in exclude each other.")
    try:
        keys = {key.id: key for key in read_keys(keys_file)}
    except SettingsError as error:
        raise click.BadParameter(str(error), param_hint="'--keys-file'") from error
    key = keys.get(key_id) if key_id is not None else next(iter(keys.values()))
    if key is None:
        raise click.BadParameter(f"the file has no key '{key_id}'.", param_hint="'--key-id'")
    if expires is None:
        expires = int(time.time() + (expires_in or timedelta(hours=1)).total_seconds())
    if browse:
        if "?" in url or not url.endswith("/"):
            raise click.BadParameter("with --browse it ends with a slash.", param_hint="URL")
        url += "?browse"
    try:
        click.echo(sign_url(url, key.secret, expires=expires, key_id=key.id))
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    if browse:
        until = datetime.fromtimestamp(expires, UTC)
        click.echo(
            "Everyone who has this link can see and download everything below that directory, "
            f"files that are added later as well, until {until:%Y-%m-%d %H:%M} UTC.",
            err=True,
        )

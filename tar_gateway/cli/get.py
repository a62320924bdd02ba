"""``tar-gateway get``: options into a download, and what came of it into words and a status."""

import json
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from getpass import getpass
from pathlib import Path
from types import FrameType
from typing import Any

import click

from tar_gateway.cli.progress import Progress, in_bytes, printable
from tar_gateway.client import Access, Download, DownloadError, Options, Patience, Result
from tar_gateway.client.failures import WrongUse
from tar_gateway.http.paths import shown

_MOST_NAMED = 20
_MISSING, _INTERRUPTED = 10, 130

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("url")
@click.option(
    "-o", "--output", metavar="FILE", help="Keep the archive in a file; - writes it into a pipe."
)
@click.option(
    "-d",
    "--directory",
    type=click.Path(path_type=Path),
    help="Extract into this directory; a new one called as the archive otherwise.",
)
@click.option("-r", "--recursive", is_flag=True, help="All below the directory that the URL is of.")
@click.option(
    "--jobs",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Connections at the same time.",
)
@click.option("--include", metavar="GLOB", multiple=True, help="Only members that a glob matches.")
@click.option("--exclude", metavar="GLOB", multiple=True, help="No member that a glob matches.")
@click.option("--list", "lists", is_flag=True, help="Print the plan, and download nothing.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and download nothing.")
@click.option("--skip-existing", is_flag=True, help="Keep files of the same size and date.")
@click.option("--verify", is_flag=True, help="Compare the files with the archive's checksums.")
@click.option("--quiet", "-q", is_flag=True, help="Say nothing but errors.")
@click.option("--json", "as_json", is_flag=True, help="Print an object for each member, and one.")
@click.option("-H", "--header", metavar="'NAME: VALUE'", multiple=True, help="Send it; or @FILE.")
@click.option("--user", metavar="NAME", help="Ask for this user's password, and send both.")
@click.option("--netrc", is_flag=True, help="Take user and password from ~/.netrc.")
@click.option("--ca-file", type=_FILE, help="Trust these authorities, and not the system's.")
@click.option("--cert", type=_FILE, help="Show this certificate; the file holds its key too.")
@click.option(
    "--retries",
    type=click.IntRange(0, 1000),
    default=8,
    show_default=True,
    help="Attempts in a row that bring no byte.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, 3600),
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="Silence after which a connection is given up.",
)
def get(url: str, **typed: Any) -> None:  # noqa: ANN401 - the options above
    """Download a bundle, and go on where it stopped.

    Extracts while it downloads, unless -o is given. After an error, Ctrl-C or a kill, the same
    command goes on at the last byte. Of other servers it downloads one file, and says what it can't
    promise.

    Exit status: 0 all; 1 other; 2 usage; 3 disk; 4 network; 5 TLS; 6 status 401 or 403; 7 broken or
    hostile archive; 8 another error of the server; 9 changed meanwhile; 10 members are missing;
    130 interrupted.
    """
    is_pipe = typed["output"] == "-"
    objects = (sys.stderr if is_pipe else sys.stdout) if typed["as_json"] else None
    quiet = typed["quiet"] or typed["as_json"]
    progress = Progress(quiet=quiet, objects=objects)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        download = Download(url, _options(typed), access=_access(typed), listener=progress)
        if typed["lists"] or typed["dry_run"]:
            _show(download, lists=typed["lists"], as_json=typed["as_json"])
            return
        result = download.run()
        status, told = _MISSING if result.missing else 0, _told(result)
        text = "" if quiet else _text(result)
    except DownloadError as error:
        status, told, text = error.status, {"error": str(error)}, f"Error: {printable(str(error))}"
    except KeyboardInterrupt:
        status, told = _INTERRUPTED, {"error": "interrupted"}
        text = "Interrupted." if is_pipe else "Interrupted: the same command goes on from here."
    progress.end({"status": status, **told})
    if text:
        click.echo(text, err=True)
    sys.exit(status)


def _interrupt(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


def _options(typed: dict[str, Any]) -> Options:
    output = typed["output"]
    if output == "-" and sys.stdout.isatty():
        raise WrongUse("an archive is nothing for a terminal: write it to a pipe, or to a file")
    return Options(
        directory=typed["directory"],
        file=None if output in {None, "-"} else Path(output),
        pipe=sys.stdout.fileno() if output == "-" else None,
        recursive=typed["recursive"],
        jobs=typed["jobs"],
        include=typed["include"],
        exclude=typed["exclude"],
        skip_existing=typed["skip_existing"],
        verify=typed["verify"],
        timeout=typed["timeout"],
        patience=Patience(attempts=typed["retries"] + 1),
    )


def _access(typed: dict[str, Any]) -> Access:
    user, password = typed["user"], ""
    if user is not None:
        if ":" in user:
            raise WrongUse("--user takes a name only: the password is asked for")
        # A program gives it as a line; it is no argument, for others can read those.
        is_asked = sys.stdin.isatty()
        password = (
            getpass(f"Password of {user}: ") if is_asked else sys.stdin.readline().strip("\n")
        )
    return Access(
        headers=tuple(_headers(typed["header"])),
        user=user,
        password=password,
        netrc=typed["netrc"],
        ca_file=typed["ca_file"],
        cert=typed["cert"],
    )


def _headers(given: Iterable[str]) -> Iterator[tuple[str, str]]:
    for text in given:
        lines = [text]
        if text.startswith("@"):
            try:
                lines = Path(text[1:]).read_text("latin-1").splitlines()
            except OSError as error:
                raise WrongUse(f"{text[1:]} can't be read: {error.strerror}") from error
        for line in filter(None, lines):
            name, colon, value = line.partition(":")
            if not colon:
                raise WrongUse("a header is written as 'Name: value'")
            yield name.strip(), value.strip()


def _show(download: Download, *, lists: bool, as_json: bool) -> None:
    plan = download.plan()
    if plan is None:
        raise WrongUse("this server gives no plan")
    members = [plan.members[index] for index in download.chosen(plan)]
    size = sum(member.size for member in members)
    if as_json:
        for member in members if lists else ():
            click.echo(json.dumps({"member": member.name, "size": member.size}))
        click.echo(json.dumps({"members": len(members), "bytes": size, "missing": plan.missing}))
        return
    for member in members if lists else ():
        date = (
            time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(member.mtime)) if member.mtime else "-"
        )
        click.echo(f"{member.size:15,}  {date:19}  {shown(member.name)[1:-1]}")
    where = "" if lists else f", into {download.directory(plan)}/"
    click.echo(f"{len(members)} members, {in_bytes(size)}{where}", err=lists)
    _say_missing(plan.missing)


def _told(result: Result) -> dict[str, object]:
    return {**asdict(result), "missing": list(result.missing)}


def _text(result: Result) -> str:
    rate = in_bytes(int(result.received / max(result.seconds, 0.001)))
    parts = [f"{in_bytes(result.received)} in {result.seconds:.1f} s ({rate}/s)"]
    if result.members:
        parts.append(f"{result.members} members")
    if result.skipped:
        parts.append(f"{result.skipped} were there")
    if result.verified:
        parts.append(f"{result.verified} have their checksum")
    _say_missing(result.missing)
    return f"{result.where}: {', '.join(parts)}"


def _say_missing(names: Sequence[str]) -> None:
    for name in names[:_MOST_NAMED]:
        click.echo(f"missing: {shown(name)[1:-1]}", err=True)
    if len(names) > _MOST_NAMED:
        click.echo(f"missing: {len(names) - _MOST_NAMED} more", err=True)

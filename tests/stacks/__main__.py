"""Prints the table of `docs/middleware.md`: what the middleware can promise under each server."""

import tempfile
from collections.abc import Iterator
from math import ceil
from pathlib import Path

from tests.stacks.checks import (
    BROKEN,
    FRAMEWORKS,
    LEFT,
    is_bundled,
    is_compressed,
    is_seen_as_broken,
    is_seen_without_length,
    is_sliced,
    seconds_until_cut_off,
    seconds_until_noticed,
    seconds_until_noticed_in_silence,
    stack,
)
from tests.stacks.servers import SERVERS, Server

PATIENCE = 5  # seconds
LONG = 65  # seconds: some servers let a client read nothing for a minute
HEADINGS = (
    "server",
    "a bundle, and a part of it",
    "a broken member is seen as a failure",
    "`tar.gz`, `tar.zst`",
    "a client that leaves is noticed",
    "also while an upstream is silent",
    "a client that reads nothing is cut off",
)


def row(server: Server, place: Path) -> Iterator[str]:
    """Run the checks under a server."""
    yield server.name
    with stack(FRAMEWORKS["bare"], server, place / "bare") as running:
        yield said(is_bundled(running) and is_sliced(running))
        yield said(all(is_seen_as_broken(running, target) for target in BROKEN.values()))
        yield said(is_compressed(running) and is_seen_without_length(running))
        seconds = max(seconds_until_noticed(running, name) for name in LEFT.values())
        yield f"within {ceil(seconds)} s"
        cut = seconds_until_cut_off(running, LONG)
    silent = seconds_until_noticed_in_silence(server, place / "silent", PATIENCE)
    yield "no" if silent is None else f"within {ceil(silent)} s"
    if server.name.startswith("gunicorn"):
        yield "no" if cut is None else "after `WRITE_TIMEOUT`"
    else:
        yield "no" if cut is None else f"after {round(cut)} s"


def said(promised: bool) -> str:
    return "yes" if promised else "no"


def main() -> None:
    print(f"| {' | '.join(HEADINGS)} |")
    print("|---" * len(HEADINGS) + "|")
    for server in SERVERS.values():
        missing = server.missing()
        if missing:
            print(f"| {server.name} | not installed: {', '.join(missing)} |")
            continue
        with tempfile.TemporaryDirectory() as place:
            print(f"| {' | '.join(row(server, Path(place)))} |", flush=True)


if __name__ == "__main__":
    main()

"""The command: ``python -m tests.bench``."""

import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click

from tests.bench import bulk, growth, latency, memory, small
from tests.bench.chart import as_svg
from tests.bench.parts import Part, Result, measurements, run
from tests.bench.report import as_json, as_text, load, machine
from tests.bench.site import Site, open_site

PARTS: dict[str, Callable[[Site], Part]] = {
    "bulk": bulk.part,
    "small": small.part,
    "latency": latency.part,
    "memory": memory.part,
    "growth": growth.part,
}
RUNS, QUICK_RUNS = 5, 2


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(list(PARTS)))
@click.option("--quick", is_flag=True, help="Less of everything: under a minute in all.")
@click.option(
    "--runs",
    type=click.IntRange(min=1),
    help=f"Rounds to take medians of: {RUNS}, or {QUICK_RUNS} with --quick, unless given. "
    "What takes long and is no matter of speed is measured once.",
)
@click.option("--json", "wants_json", is_flag=True, help="Print JSON instead of tables.")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Draw what part growth measures, as an SVG, into this file.",
)
def main(
    parts: tuple[str, ...], *, quick: bool, runs: int | None, wants_json: bool, plot: Path | None
) -> None:
    """Measure the gateway beside a kernel relay, a urllib3 loop, zipstream-ng and a recipe.

    PARTS are any of bulk, small, latency, memory, growth; all of them unless named. The goals
    are for the full sizes and a machine with nothing else to do.
    """
    if shutil.which("nginx") is None:
        raise click.ClickException("nginx is not installed")
    if plot is not None and parts and "growth" not in parts:
        raise click.UsageError("--plot draws what part growth measures, and that is not named")
    _allow_descriptors()
    runs = runs or (QUICK_RUNS if quick else RUNS)
    surroundings = machine() | {"quick": quick, "runs": runs}
    results = {}
    began = time.monotonic()
    for name in dict.fromkeys(parts or PARTS):
        results[name] = _measure(name, runs, quick=quick)
        if not wants_json:
            click.echo(as_text({name: results[name]}) + "\n")
    if plot is not None:
        plot.write_text(as_svg(results["growth"]))
    surroundings |= {"seconds": round(time.monotonic() - began), "load_after": load()}
    if wants_json:
        click.echo(as_json(results, surroundings))
    else:
        click.echo(", ".join(f"{key} {value}" for key, value in surroundings.items()))


def _measure(name: str, runs: int, *, quick: bool) -> Result:
    with (
        tempfile.TemporaryDirectory(prefix="tar-gateway-bench-") as place,
        open_site(Path(place), quick=quick) as site,
    ):
        part = PARTS[name](site)
        length = measurements(part, runs)
        with click.progressbar(length=length, label=name, file=sys.stderr) as bar:
            return run(part, runs, bar.update)


def _allow_descriptors() -> None:
    """A thousand readers need more files than a process may open by itself."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    main()

"""Many small files, answered at once: what each of them costs."""

from functools import partial

from tests.bench.client import asking
from tests.bench.parts import Goal, Part, Ratio, Subject, Values
from tests.bench.site import Server, Site
from tests.bench.upstream import make_file

SIZE = 10 * 1024
MIB = 1024**2
SPEED = "files/s"


def part(site: Site) -> Part:
    """Small files, all by one request."""
    count = 500 if site.quick else 2000
    members = [f"small/{index:04}.bin" for index in range(count)]
    for member in members:
        make_file(site.files / member, SIZE)
    servers, left_out = site.servers()
    loop = site.loop(members, count * SIZE)
    request = asking(members)
    return Part(
        title=f"{count} members of {SIZE // 1024} KiB, answered without delay",
        subjects=(
            Subject("urllib3 loop", lambda: {SPEED: count / loop()}),
            *(
                Subject(server.name, partial(_download, server, request, count))
                for server in servers
            ),
        ),
        ratios=(Ratio(SPEED, "urllib3 loop", "x the loop's"),),
        goals=(Goal("gateway", "x the loop's", 1, at_least=True),),
        notes=tuple(left_out),
    )


def _download(server: Server, request: bytes, count: int) -> Values:
    cost = server.cost(request, count * SIZE)
    return {
        SPEED: count / cost.seconds,
        "CPU ms/file": cost.cpu * 1000 / count,
        "peak MiB": cost.peak / MIB,
    }

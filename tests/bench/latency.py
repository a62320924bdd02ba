"""Files whose server thinks before each response: how much of the waiting is hidden."""

import statistics
from functools import partial

from tests.bench.client import asking, download, download_at_once
from tests.bench.parts import Goal, Part, Ratio, Subject, Values
from tests.bench.site import ONE, Server, Site
from tests.bench.upstream import DELAY, has_lua

CLIENTS = 16
SECONDS, FIRST = "seconds", "first byte s"
MEDIAN, SLOWEST, UNFAIR = "median s", "slowest s", "slowest : median"


def part(site: Site) -> Part:
    """Members behind a delay each: for one client, and for many at once."""
    count, each = (30, 15) if site.quick else (500, 100)
    title = f"{count} members behind {DELAY * 1000:.0f} ms each; {CLIENTS} clients for {each} each"
    if not has_lua():
        return Part(title, notes=("left out: nginx's Lua module is not installed",))
    members = [f"slow/{index:04}.bin" for index in range(count)]
    servers, left_out = site.servers()
    loop = site.loop(members, count * ONE)
    request = asking(members)
    requests = [
        asking(f"slow/{client}-{index}.bin" for index in range(each)) for client in range(CLIENTS)
    ]
    crowd = f"gateway, {CLIENTS} clients"
    return Part(
        title=title,
        subjects=(
            Subject("urllib3 loop", lambda: {SECONDS: loop()}),
            *(
                Subject(server.name, partial(_download, server, request, count))
                for server in servers
            ),
            Subject(crowd, partial(_download_at_once, servers[0], requests, each)),
        ),
        ratios=(Ratio(SECONDS, "urllib3 loop", "x the loop's"),),
        goals=(
            Goal("gateway", SECONDS, 1),
            Goal("gateway", FIRST, 0.4),
            Goal(crowd, UNFAIR, 3),
        ),
        notes=tuple(left_out),
    )


def _download(server: Server, request: bytes, count: int) -> Values:
    got = download(server.port, request, count * ONE)
    return {SECONDS: got.seconds, FIRST: got.first_byte}


def _download_at_once(server: Server, requests: list[bytes], each: int) -> Values:
    downloads = download_at_once(server.port, requests, each * ONE)
    median = statistics.median(download.seconds for download in downloads)
    slowest = max(download.seconds for download in downloads)
    return {
        FIRST: statistics.median(download.first_byte for download in downloads),
        MEDIAN: median,
        SLOWEST: slowest,
        UNFAIR: slowest / median,
    }

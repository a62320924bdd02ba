"""How time, memory and speed go with the number of members and of clients."""

from functools import partial

from tests.bench.client import asking, asking_list, download, download_at_once
from tests.bench.idle import LONG, idle_gateway
from tests.bench.parts import Chart, Goal, Part, Ratio, Subject, Values
from tests.bench.site import ONE, Server, Site
from tests.bench.upstream import make_file, make_list

MIB = 1024**2
ONCE = 10_000  # members, from which on a download is not repeated
REFERENCE = 1000  # members, that more of them are compared with
CLIENTS = (1, 4, 16, 64)
PLAN, FIRST, ALL = "plan s", "first byte s", "all s"
EACH = "ms a member"
MEMORY, SPEED = "MiB over idle", "GB/s"


def part(site: Site) -> Part:
    """Ten members and ten times as many, one client and four times as many."""
    counts = (10, 100, 1000) if site.quick else (10, 100, 1000, 10_000, 100_000)
    total = (256 if site.quick else 2048) * MIB
    gateway = site.gateway_server()
    for clients in CLIENTS:
        make_file(site.files / f"shared/{clients}.bin", total // clients)
    for count in counts:
        make_list(site.files / f"lists/{count}.json", [f"many/{n:06}.bin" for n in range(count)])
    members = {f"{count:,} members": count for count in counts}
    crowds = {_crowd(clients): clients for clients in CLIENTS}
    return Part(
        title=f"the gateway; members of {ONE // 1024} KiB, {total // MIB} MiB for all clients",
        subjects=(
            *(
                Subject(name, partial(_members, site, count), once=site.quick or count >= ONCE)
                for name, count in members.items()
            ),
            *(
                Subject(name, partial(_clients, gateway, clients, total))
                for name, clients in crowds.items()
            ),
        ),
        ratios=(
            Ratio(EACH, f"{REFERENCE:,} members", "x a thousand's"),
            Ratio(SPEED, _crowd(1), "x one client's"),
        ),
        goals=(
            # In proportion or better, but for a tenth that chance may make of it.
            Goal(f"{counts[-1]:,} members", "x a thousand's", 1.1),
            Goal(_crowd(CLIENTS[-1]), "x one client's", 0.9, at_least=True),
        ),
        charts=(
            Chart("seconds", "members", members, (PLAN, FIRST, ALL), in_proportion=True),
            Chart("memory of a worker, MiB", "members", members, (MEMORY,), 1, in_proportion=True),
            Chart("of all clients together, GB/s", "clients", crowds, (SPEED,)),
        ),
    )


def _members(site: Site, count: int) -> Values:
    with idle_gateway(site, **LONG) as idle:
        port, manifest = idle.running.port, f"lists/{count}.json"
        plan = download(port, asking_list(manifest, "HEAD"), 0)
        got = download(port, asking_list(manifest), count * ONE)
        return {
            PLAN: plan.answered,
            FIRST: got.first_byte,
            ALL: got.seconds,
            EACH: got.seconds / count * 1000,
            MEMORY: idle.peak_over_idle() / MIB,
        }


def _clients(server: Server, clients: int, total: int) -> Values:
    request = asking([f"shared/{clients}.bin"])
    downloads = download_at_once(server.port, [request] * clients, total // clients)
    return {SPEED: total / max(each.seconds for each in downloads) / 1e9}


def _crowd(clients: int) -> str:
    return f"{clients} client{'s' if clients > 1 else ''}"

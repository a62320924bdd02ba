"""No request hides in another: what reaches the upstream is what everybody on the way has seen."""

import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from urllib.parse import unquote, urlsplit

import pytest

from tests.support.proxies import PLAIN_SITE, deployed_site, haproxy_front, nginx_front
from tests.support.scripted import Scripted, Seen, Wire, answer
from tests.support.servers import gateway
from tests.support.smuggling import PIPELINED, SECOND, SHAPES

# Seconds: for a response to begin, where there is one, and after which nothing more will come.
PATIENCE, SILENCE = 3.0, 0.7


def marked(site: str) -> str:
    """Let nginx tell the gateway, and so the upstream, which target it takes a request to have."""
    return site.replace("proxy_pass ", "proxy_set_header X-Front $request_uri; proxy_pass ")


FRONTS = {
    "nginx as it comes": ("nginx", lambda *where: nginx_front(*where, marked(PLAIN_SITE))),
    "nginx as deployed": ("nginx", lambda *where: nginx_front(*where, marked(deployed_site()))),
    "HAProxy": (
        "haproxy",
        lambda *where: haproxy_front(*where, "http-request set-header X-Front %[pathq]"),
    ),
}
PLACES = [
    "gunicorn",
    *(pytest.param(name, marks=pytest.mark.needs(FRONTS[name][0])) for name in FRONTS),
]


@dataclass(frozen=True)
class Outcome:
    """What a client got for a shape, and what the upstream heard of its second request."""

    statuses: list[int]
    closed: bool
    seconds: list[Seen]


def echo(wire: Wire) -> None:
    answer(wire.request.target.encode("latin-1"))(wire)


@contextmanager
def served(name: str, upstream: Scripted, place: Path) -> Iterator[tuple[str, int]]:
    """Run a gateway to ``/base/`` of an upstream, and a front where one is meant."""
    with ExitStack() as stack:
        url = stack.enter_context(gateway(upstream.url + "base/", place)).url
        if name in FRONTS:
            url = stack.enter_context(FRONTS[name][1](url, place / "front"))
        yield "127.0.0.1", urlsplit(url).port or 0


def send(address: tuple[str, int], data: bytes) -> tuple[bytes, bool]:
    """Send raw bytes; give all that comes back, and whether the other side ended it."""
    received = b""
    with socket.create_connection(address) as connection, suppress(ConnectionError):
        connection.settimeout(PATIENCE)
        with suppress(TimeoutError):
            connection.sendall(data)
            while block := connection.recv(65536):
                received += block
                connection.settimeout(SILENCE)
            return received, True
        return received, False
    return received, True


@pytest.fixture(scope="module")
def everywhere(tmp_path_factory) -> dict[str, dict[str, Outcome]]:
    """Tell what came of every shape at every place, all at the same time: most of it is waiting."""
    places = ["gunicorn", *(name for name, (program, _) in FRONTS.items() if which(program))]
    with ThreadPoolExecutor() as threads:
        homes = [tmp_path_factory.mktemp("place") for _ in places]
        found = threads.map(outcomes_at, places, homes)
        return dict(zip(places, found, strict=True))


@pytest.fixture(scope="module", params=PLACES)
def outcomes(request, everywhere) -> tuple[str, dict[str, Outcome]]:
    return request.param, everywhere[request.param]


def outcomes_at(name: str, place: Path) -> dict[str, Outcome]:
    """Send every shape, each on a connection of its own, and tell what came of each."""
    # Of the same length, so that what the shapes say of their lengths stays right.
    paths = {shape: b"/s%05d" % number for number, shape in enumerate(SHAPES)}
    assert {len(path) for path in paths.values()} == {len(SECOND)}
    with (
        Scripted(default=echo) as upstream,
        served(name, upstream, place) as address,
        ThreadPoolExecutor(64) as pool,
    ):
        sent = [data.replace(SECOND, paths[shape]) for shape, data in SHAPES.items()]
        answers = list(pool.map(lambda data: send(address, data), sent))
        # Whatever a connection between front and gateway still holds would come to light here.
        for number in range(40):
            target = b"/marker-%d" % number
            received, closed = send(
                address, b"GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % target
            )
            assert received.endswith(b"\r\n\r\n/base" + target)
            assert closed
        heard = [seen for seen in upstream.requests if not seen.target.startswith("/base/marker-")]
    # Whatever was made of the shapes, it stayed below the base.
    assert all(seen.target.startswith("/base/") for seen in heard)
    assert not any(".." in unquote(seen.target).split("/") for seen in heard)
    assert {seen.method for seen in heard} <= {"GET", "HEAD"}
    assert {seen.get("Host") for seen in heard} <= {f"127.0.0.1:{upstream.port}"}
    return {
        shape: Outcome(
            [int(code) for code in re.findall(rb"HTTP/1\.[0-9] ([0-9]{3})", received)],
            closed,
            [seen for seen in heard if paths[shape].decode() in str(seen)],
        )
        for (shape, (received, closed)) in zip(SHAPES, answers, strict=True)
    }


@pytest.mark.parametrize("shape", SHAPES)
def test_no_request_within_another_reaches_the_upstream(outcomes, shape):
    place, told = outcomes
    if place in FRONTS:
        # A front may see two requests; then there are two for everybody behind it as well.
        for seen in told[shape].seconds:
            assert seen.target == "/base" + (seen.get("X-Front") or "")
    elif shape not in PIPELINED:
        assert told[shape].seconds == []


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_is_answered_once_or_not_at_all_and_never_by_a_defect(outcomes, shape):
    place, told = outcomes
    final = [status for status in told[shape].statuses if status != 100]
    assert 500 not in final
    if place not in FRONTS and shape not in PIPELINED:
        assert len(final) <= 1
    assert len(final) <= 2
    if place not in FRONTS and shape.startswith("both"):
        assert final[0] in {400, 501}
        assert told[shape].closed


def test_two_requests_in_a_row_are_seen_by_everybody(outcomes):
    _, told = outcomes
    for shape in PIPELINED:
        assert len(told[shape].seconds) == 1

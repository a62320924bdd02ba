"""A request has one name in the log of the front as deployed and in the gateway's."""

import json
import ssl
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.proxies import deployed_haproxy, deployed_site, nginx_front, nginx_tls_front
from tests.support.scripted import File, Scripted
from tests.support.servers import Running, gateway, wait_until


@pytest.fixture(scope="module")
def running(tmp_path_factory) -> Iterator[Running]:
    with (
        Scripted({"/": File(b"root"), "/a": File(b"content of a")}) as upstream,
        gateway(upstream.url, tmp_path_factory.mktemp("gateway")) as gunicorn,
    ):
        yield gunicorn


@pytest.fixture(
    params=[
        pytest.param("nginx.conf", marks=pytest.mark.needs("nginx")),
        pytest.param("nginx-tls.conf", marks=pytest.mark.needs("nginx")),
        pytest.param("haproxy.cfg", marks=pytest.mark.needs("haproxy")),
    ]
)
def front(
    request, running: Running, tmp_path: Path
) -> Iterator[tuple[str, ssl.SSLContext | None, Path]]:
    """Give a front's URL, what trusts it, and the log that it writes."""
    with ExitStack() as stack:
        if request.param == "nginx.conf":
            url = stack.enter_context(nginx_front(running.url, tmp_path, deployed_site()))
            yield url, None, tmp_path / "access.log"
        elif request.param == "nginx-tls.conf":
            url, _, authority = stack.enter_context(nginx_tls_front(running.url, tmp_path))
            trusted = ssl.create_default_context(cafile=str(authority))
            yield url, trusted, tmp_path / "access.log"
        else:
            address = running.url.removeprefix("http://").rstrip("/")
            front = deployed_haproxy([address] * 2, tmp_path, own_pages=False)
            yield stack.enter_context(front).url, None, tmp_path / "front.log"


@pytest.mark.parametrize("tells", [False, True], ids=["none is told", "the client's"])
def test_a_download_has_one_name_in_both_logs(front, running: Running, tells: bool):
    url, trusted, log = front
    told = f"{log.parent.name}:".ljust(128, "m") if tells else None  # the longest that is taken
    request = urllib.request.Request(
        url + "?bundle=a", headers={} if told is None else {"X-Request-ID": told}
    )
    with urllib.request.urlopen(request, timeout=30, context=trusted) as answer:
        name = answer.headers["X-Request-ID"]
        answer.read()
    assert told in {None, name}
    wait_until(lambda: name in log.read_text(), "the front's line")
    (line,) = [line for line in log.read_text().splitlines() if name in line]
    assert "/?bundle=a" in line
    wait_until(lambda: len(lines_of(running, name)) == 2, "the gateway's lines")
    assert {line["event"] for line in lines_of(running, name)} == {"request", "bundle"}


def lines_of(running: Running, name: str) -> list[dict]:
    lines = [line for line in running.log.read_text().splitlines() if f'"id": "{name}"' in line]
    return [json.loads(line) for line in lines]

"""What `deploy/haproxy.cfg` does with replicas that fail, drain or are full, and with clients."""

import re
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, IncompleteRead
from pathlib import Path
from subprocess import DEVNULL
from urllib.parse import urlsplit

import pytest

from tests.support.papers import PAPERS
from tests.support.proxies import (
    DEPLOY,
    IDENTITY,
    Balancer,
    deployed_haproxy,
    haproxy_front,
)
from tests.support.scripted import Fault, Script, Scripted, Seen, answer, close, raw, reset, stall
from tests.support.servers import free_port, gateway, wait_until

pytestmark = pytest.mark.needs("haproxy")

READY, DRAINING = answer(b"ready\n"), answer(b"draining\n", status="503 Service Unavailable")
FULL = answer(b"full", "Retry-After: 1", status="503 Service Unavailable")
ARCHIVE = b"a" * 200_000
TARGET = "/reports/?bundle=a"


@dataclass(frozen=True)
class Site:
    """HAProxy, and two replicas that do as they are told."""

    balancer: Balancer
    first: Scripted
    second: Scripted

    def asked(self) -> list[int]:
        """Tell how often each replica was asked for the target."""
        return [
            sum(request.path == "/reports/" for request in replica.requests)
            for replica in (self.first, self.second)
        ]

    def are(self, *states: str) -> None:
        """Wait until HAProxy takes the replicas for up or down."""
        wait_until(
            lambda: list(self.balancer.states().values()) == list(states),
            f"replicas to be {states}",
        )


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        replicas = [
            stack.enter_context(Scripted({"/-/ready": READY, "/reports/": answer(ARCHIVE)}))
            for _ in range(2)
        ]
        addresses = [f"127.0.0.1:{replica.port}" for replica in replicas]
        balancer = stack.enter_context(deployed_haproxy(addresses, tmp_path, own_pages=False))
        made = Site(balancer, *replicas)
        made.are("UP", "UP")
        yield made


def ask(site: Site, target: str = TARGET, **request) -> tuple[int, bytes]:
    asked = urllib.request.Request(site.balancer.url.rstrip("/") + target, **request)
    try:
        with urllib.request.urlopen(asked, timeout=30) as given:
            return given.status, given.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.status, error.read()


def asked_for(site: Site) -> list[Seen]:
    """Give the requests for the target, whichever replica got them."""
    requests = [*site.first.requests, *site.second.requests]
    return [request for request in requests if request.path == "/reports/"]


def ask_both(site: Site, **request) -> list[tuple[int, bytes]]:
    """Ask so often that each replica has had its turn."""
    return [ask(site, **request) for _ in range(2)]


@pytest.mark.parametrize(
    ("script", "data"),
    [
        pytest.param(close, None, id="closes without a response"),
        pytest.param(reset, b"bundle=a", id="resets after a POST"),
        pytest.param(raw(b"HTTP/1.1 200 OK\r\nContent-", close), None, id="closes in its head"),
        pytest.param(FULL, None, id="is full"),
        pytest.param(FULL, b"bundle=a", id="is full for a POST"),
    ],
)
def test_another_replica_answers_where_one_has_not_begun(site: Site, script: Script, data):
    site.first.on("/reports/", script)
    assert ask_both(site, data=data) == [(200, ARCHIVE)] * 2
    assert site.asked()[0] > 0


def test_another_replica_answers_where_one_is_gone(tmp_path: Path):
    with (
        Scripted({"/-/ready": READY, "/reports/": answer(ARCHIVE)}) as there,
        deployed_haproxy(
            [f"127.0.0.1:{free_port()}", f"127.0.0.1:{there.port}"], tmp_path, own_pages=False
        ) as balancer,
    ):
        # At once: HAProxy takes a replica for up until it knows better.
        site = Site(balancer, there, there)
        assert ask_both(site) == [(200, ARCHIVE)] * 2


def test_a_client_is_told_when_all_are_full(site: Site):
    for replica in (site.first, site.second):
        replica.on("/reports/", FULL)
    assert ask(site) == (503, b"full")


def test_an_answer_that_breaks_off_is_broken_and_asked_for_once(site: Site):
    for replica in (site.first, site.second):
        replica.break_at("/reports/", Fault(len(ARCHIVE) // 2, close))
    with pytest.raises(IncompleteRead):
        ask(site)
    assert sum(site.asked()) == 1


def test_an_answer_that_is_nonsense_is_asked_for_once(site: Site):
    for replica in (site.first, site.second):
        replica.on("/reports/", raw(b"nonsense\r\n\r\n", close))
    assert ask(site)[0] == 502
    assert sum(site.asked()) == 1


def test_a_replica_that_drains_gets_nothing_new_and_ends_what_it_has_begun(site: Site):
    go_on = threading.Event()
    site.first.break_at("/reports/", Fault(len(ARCHIVE) // 2, stall(go_on)))
    site.second.on("/-/ready", DRAINING)
    site.are("UP", "DOWN")
    with closing(HTTPConnection("127.0.0.1", site.balancer.port, timeout=30)) as client:
        client.request("GET", TARGET)
        begun = client.getresponse()
        site.second.on("/-/ready", READY)
        site.first.on("/-/ready", DRAINING)
        site.are("DOWN", "UP")
        # The other was not ready either for a while, and gets requests again.
        assert [ask(site) for _ in range(3)] == [(200, ARCHIVE)] * 3
        assert site.asked() == [1, 3]
        go_on.set()
        assert begun.read() == ARCHIVE


def test_replicas_are_asked_all_the_same_where_none_is_ready(site: Site):
    for replica in (site.first, site.second):
        replica.on("/-/ready", DRAINING)
    site.are("DOWN", "DOWN")
    site.first.on("/reports/", close)
    assert ask_both(site) == [(200, ARCHIVE)] * 2
    site.first.on("/reports/", FULL)
    site.second.on("/reports/", FULL)
    assert ask(site) == (503, b"full")


def test_it_starts_with_as_many_descriptors_as_the_page_says_and_not_with_its_connections(
    tmp_path: Path,
):
    def starts(descriptors: int) -> bool:
        port = free_port()
        conf = tmp_path / "haproxy.cfg"
        text = (DEPLOY / "haproxy.cfg").read_text()
        conf.write_text(text.replace("bind :8080", f"bind 127.0.0.1:{port}"))
        limited = f"ulimit -n {descriptors}; exec haproxy -db -f {conf}"
        with subprocess.Popen(["bash", "-c", limited], stdout=DEVNULL, stderr=DEVNULL) as process:
            # It listens before it looks at its limit, but answers nobody.
            wait_until(lambda: answers(port) or process.poll() is not None, "HAProxy")
            started = process.poll() is None
            process.kill()
        return started

    said = re.search(r"`ulimit -Hn` says less than ([\d,]+)", PAPERS["deploy/README.md"])
    assert starts(int(said[1].replace(",", "")))
    assert not starts(2 * 4096)


def answers(port: int) -> bool:
    """Tell whether HAProxy itself answers."""
    with (
        closing(HTTPConnection("127.0.0.1", port, timeout=1)) as client,
        suppress(OSError, HTTPException),
    ):
        client.request("GET", "/-/ready")
        return client.getresponse().status == 404
    return False


@pytest.mark.parametrize("path", ["/-/metrics", "/%2D/ready?x"])
def test_the_gateways_own_pages_are_not_for_the_public(site: Site, path: str):
    for replica in (site.first, site.second):
        replica.on(path.partition("?")[0], answer(b"secret"))
    assert ask(site, path)[0] == 404


@pytest.mark.parametrize(
    "path",
    [
        *("/%", "/a%2", "/%zz", "/%2z/", "/a%00", "/%0a", "/%7f", "/-/%zz", "/%2D/metrics%"),
        *("/../-/metrics", "/a/../-/metrics", "/./-/metrics", "/%2e%2E/-/metrics", "/a/.."),
    ],
)
def test_a_path_that_is_malformed_or_climbs_is_refused(site: Site, path: str):
    assert ask(site, path)[0] == 400
    assert requests_for(site, path) == []


@pytest.mark.parametrize(
    "path", ["/100%25", "/a..b", "/..a/b..", "/.well-known/a", "/%C3%BC%20%2B", "/a/...", "/a./"]
)
def test_a_path_that_only_looks_odd_passes(site: Site, path: str):
    assert ask(site, path)[0] == 404  # the replica's own
    assert len(requests_for(site, path)) == 1


def requests_for(site: Site, path: str) -> list[Seen]:
    requests = [*site.first.requests, *site.second.requests]
    return [request for request in requests if request.target == path]


@pytest.mark.parametrize("name", IDENTITY)
def test_what_a_client_says_of_itself_is_not_passed_on_as_the_fronts_word(site: Site, name: str):
    ask(site, headers={name: "admin"})
    (request,) = asked_for(site)
    assert request.all(name) == []


@pytest.mark.parametrize("name", ["X_Remote_User", "X-Forwarded_User", "Remote_User", "Proxy_"])
def test_a_name_that_only_its_underscores_tell_from_a_fronts_is_not_passed_on(
    site: Site, name: str
):
    ask(site, headers={name: "admin"})
    (request,) = asked_for(site)
    assert request.all(name) == []


@pytest.mark.parametrize("path", ["/a", "/?bundle=a"])
def test_what_haproxy_says_reaches_authority_and_upstream_and_what_a_client_says_does_not(
    tmp_path: Path, path: str
):
    yes = answer(b"yes")
    chosen = {"forward_headers": "X-Remote-User,X-Forwarded-For", "trusted_proxies": "127.0.0.1"}
    rules = "option forwardfor\n    http-request set-header X-Remote-User from-the-front"
    forged = {"X-Original-URL": "/b", "X-HTTP-Method": "PUT", "Proxy": "evil", "X_Remote_User": "x"}
    with (
        Scripted({"/a": answer(b"alpha", 'ETag: "a"')}) as upstream,
        Scripted({"/check": yes}) as authority,
        gateway(upstream.url, tmp_path, auth_request=f"{authority.url}check", **chosen) as behind,
        haproxy_front(behind.url, tmp_path / "front", rules) as url,
        closing(HTTPConnection(urlsplit(url).netloc, timeout=30)) as client,
    ):
        client.request("GET", path, headers=forged)
        assert client.getresponse().status == 200
        for request in (*upstream.requests, *authority.requests):
            assert request.all("X-Remote-User") == ["from-the-front"]
            assert request.all("X-Forwarded-For") == ["127.0.0.1, 127.0.0.1"]
            assert "tar_gateway-" in "".join(request.all("Via"))
            assert not [name for name in forged if request.all(name)]
        asked = len(upstream.requests) + len(authority.requests)
        client.close()
        client.request("GET", path, headers={"Connection": "X-Forwarded-For, X-Remote-User"})
        assert client.getresponse().status == 400
        assert len(upstream.requests) + len(authority.requests) == asked


def test_a_replica_is_told_by_which_scheme_it_was_asked(site: Site):
    ask(site, headers={"X-Forwarded-Proto": "gopher"})
    (request,) = asked_for(site)
    assert request.all("X-Forwarded-Proto") == ["http"]


def test_a_page_with_its_files_passes_and_a_flood_is_told_when_to_come_back(site: Site):
    with closing(HTTPConnection("127.0.0.1", site.balancer.port, timeout=30)) as client:
        statuses = []
        for number in range(2000):
            client.request("GET", f"/{number}.png")
            answered = client.getresponse()
            answered.read()
            statuses.append(answered.status)
            if answered.status == 429:
                break
    assert set(statuses[:500]) == {404}  # the replicas' own
    assert (statuses[-1], answered.headers["Retry-After"]) == (429, "5")


def test_a_client_has_so_many_connections_and_no_more(site: Site):
    with ExitStack() as stack:
        address = ("127.0.0.1", site.balancer.port)
        for _ in range(128):
            client = stack.enter_context(closing(HTTPConnection(*address, timeout=30)))
            client.request("GET", "/a.png")
            assert client.getresponse().read() == b""
        with pytest.raises((OSError, HTTPException)):
            ask(site)
    wait_until(lambda: answers(site.balancer.port), "room for the next")


@pytest.mark.parametrize("told", [None, "mine-1"], ids=["none is told", "the client's"])
def test_a_replica_is_told_one_request_id(site: Site, told: str | None):
    ask(site, headers={} if told is None else {"X-Request-ID": told})
    (request,) = asked_for(site)
    (given,) = request.all("X-Request-ID")
    assert given == told if told else re.fullmatch("[0-9a-f-]{36}", given)


def test_a_replica_is_told_who_the_client_is(site: Site):
    ask(site, headers={"X-Forwarded-For": "192.0.2.1"})
    told = [request.all("X-Forwarded-For") for request in asked_for(site)]
    assert told == [["192.0.2.1", "127.0.0.1"]]


def test_the_next_download_goes_to_the_replica_that_has_the_fewest(site: Site):
    for replica in (site.first, site.second):
        replica.break_at("/reports/", Fault(len(ARCHIVE) // 2, stall(threading.Event())))
    with closing(HTTPConnection("127.0.0.1", site.balancer.port, timeout=30)) as client:
        client.request("GET", TARGET)
        client.getresponse()
        for replica in (site.first, site.second):
            replica.break_at("/reports/")
        assert [ask(site) for _ in range(3)] == [(200, ARCHIVE)] * 3
    assert sorted(site.asked()) == [1, 3]


def test_a_client_that_leaves_before_the_answer_is_told_to_the_replica(site: Site):
    for replica in (site.first, site.second):
        replica.on("/reports/", stall(threading.Event()))
    with closing(HTTPConnection("127.0.0.1", site.balancer.port, timeout=30)) as client:
        client.request("GET", TARGET)
        wait_until(lambda: sum(site.asked()) == 1, "the request")
    wait_until(lambda: site.balancer.answering() == [0, 0], "its end")
    (index,) = [index for index, count in enumerate(site.asked()) if count]
    assert [site.first, site.second][index].wait_for(lambda replica: not replica.open)

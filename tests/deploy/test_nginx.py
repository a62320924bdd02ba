"""What nginx does in front of a gateway with the sites of `deploy/`: plain, and as TLS end."""

import re
import socket
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from email.message import Message
from http.client import IncompleteRead
from pathlib import Path
from unittest.mock import ANY
from urllib.parse import urlsplit

import pytest

from tar_gateway import Settings
from tests.support.proxies import IDENTITY, PLAIN_SITE, deployed_site, nginx_front, nginx_tls_front
from tests.support.scripted import Fault, Script, Scripted, answer, close, reset, stall
from tests.support.servers import wait_until

pytestmark = pytest.mark.needs("nginx")

ARCHIVE = b"a" * 200_000
TARGET = "reports/?bundle=a"


@dataclass(frozen=True)
class Site:
    """A front, and the gateway behind it, which does as it is told."""

    url: str
    gateway: Scripted
    trusted: ssl.SSLContext | None

    def ask(
        self, target: str = TARGET, data: bytes | None = None, **headers: str
    ) -> tuple[int, Message, bytes]:
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        request = urllib.request.Request(self.url + target, data, named)
        try:
            with urllib.request.urlopen(request, timeout=30, context=self.trusted) as given:
                return given.status, given.headers, given.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.status, error.headers, error.read()


@pytest.fixture
def gateway() -> Iterator[Scripted]:
    with Scripted({"/reports/": answer(ARCHIVE)}) as scripted:
        yield scripted


@pytest.fixture(params=["nginx.conf", "nginx-tls.conf"])
def site(request, gateway: Scripted, tmp_path: Path) -> Iterator[Site]:
    if request.param == "nginx.conf":
        with nginx_front(gateway.url, tmp_path, deployed_site()) as url:
            yield Site(url, gateway, None)
    else:
        with nginx_tls_front(gateway.url, tmp_path) as (url, _, authority):
            yield Site(url, gateway, ssl.create_default_context(cafile=str(authority)))


def test_an_archive_comes_through_whole_over_http_1_1(site: Site):
    status, _, body = site.ask()
    assert (status, body) == (200, ARCHIVE)
    assert [request.version for request in site.gateway.requests] == ["HTTP/1.1"]


@pytest.mark.parametrize("failing", [close, reset], ids=["before it begins", "by a reset"])
def test_a_gateway_that_fails_is_asked_once(site: Site, failing: Script):
    site.gateway.on("/reports/", failing)
    assert site.ask()[0] == 502
    assert len(site.gateway.requests) == 1


def test_an_archive_that_breaks_off_is_broken_and_asked_for_once(site: Site):
    site.gateway.break_at("/reports/", Fault(len(ARCHIVE) // 2, close))
    with pytest.raises(IncompleteRead):
        site.ask()
    assert len(site.gateway.requests) == 1


@pytest.mark.parametrize("told", [None, "mine-1"], ids=["none is told", "the client's"])
def test_the_gateway_is_told_one_request_id(site: Site, told: str | None):
    site.ask(**({} if told is None else {"X_Request_ID": told}))
    (given,) = site.gateway.requests[0].all("X-Request-ID")
    assert given == told if told else re.fullmatch("[0-9a-f]{32}", given)


def test_a_list_may_be_as_long_as_the_gateway_takes_one_and_no_longer(site: Site):
    longest = Settings().max_body
    assert site.ask(data=b"a" * longest) == (200, ANY, ARCHIVE)
    assert site.ask(data=b"a" * (longest + 1))[0] == 413
    assert len(site.gateway.requests) == 1


def test_the_gateway_is_told_who_the_client_is(site: Site):
    site.ask(X_Forwarded_For="192.0.2.1")
    assert site.gateway.requests[0].all("X-Forwarded-For") == ["192.0.2.1, 127.0.0.1"]


@pytest.mark.parametrize("path", ["-/metrics", "%2D/ready", "reports/..//-/metrics"])
def test_the_gateways_own_pages_are_not_for_the_public(site: Site, path: str):
    assert site.ask(path)[0] == 404
    assert site.gateway.requests == []


@pytest.mark.parametrize("name", IDENTITY)
def test_what_a_client_says_of_itself_is_not_passed_on_as_the_fronts_word(site: Site, name: str):
    site.ask(**{name: "admin"})
    assert site.gateway.requests[0].all(name) == []


def test_an_archive_keeps_its_length_etag_and_ranges_where_nginx_compresses_all(tmp_path: Path):
    tagged = answer(ARCHIVE, 'ETag: "a"', "Accept-Ranges: bytes", "Content-Type: application/x-tar")
    everything = "gzip on; gzip_types *; gzip_min_length 1; gzip_proxied any;\n"
    asked = {"Accept-Encoding": "gzip"}

    def told(site: str) -> tuple[str | None, ...]:
        with nginx_front(gateway.url, tmp_path, everything + site) as url:
            _, headers, _ = Site(url, gateway, None).ask(**asked)
        names = ("Content-Encoding", "Content-Length", "ETag", "Accept-Ranges")
        return tuple(headers[name] for name in names)

    with Scripted({"/reports/": tagged}) as gateway:
        assert told(PLAIN_SITE)[:2] == ("gzip", None)
        assert told(deployed_site()) == (None, str(len(ARCHIVE)), '"a"', "bytes")


def test_a_page_with_two_hundred_files_passes_and_a_flood_is_told_when_to_come_back(site: Site):
    answered = [site.ask(f"reports/{number}.png")[:2] for number in range(200)]
    assert {status for status, _ in answered} == {404}  # the gateway's own
    limited = [headers for status, headers in flood(site) if status == 429]
    assert limited
    assert limited[0]["Retry-After"] == "5"
    assert len(site.gateway.requests) < 1000


def flood(site: Site) -> Iterator[tuple[int, Message]]:
    """Ask until there is no room, far more often than there may be any."""
    for number in range(2000):
        status, headers, _ = site.ask(f"reports/{number}.png")
        yield status, headers
        if status == 429:
            return


def test_of_ipv6_a_client_is_a_network_of_64_bits(gateway: Scripted, tmp_path: Path):
    said = "set_real_ip_from 127.0.0.1; real_ip_header X-Test-Address;\n"

    def limited(*networks: str) -> bool:
        """Tell whether a flood is limited whose addresses are all different, in these networks."""
        for number in range(600):
            network = networks[number % len(networks)]
            address = f"{network}:{number + 1:x}:{number + 2:x}:1:2"
            if site.ask("reports/a.png", X_Test_Address=address)[0] == 429:
                return True
        return False

    with nginx_front(gateway.url, tmp_path, said + deployed_site()) as url:
        site = Site(url, gateway, None)
        assert limited("2001:db8:1:2")
        assert limited("2001:db8:1:0")
        assert limited("2001:db8:0:0")
        assert not limited(*(f"2001:db8:2:{number:x}" for number in range(1, 9)))


def test_a_client_has_so_many_requests_under_way_and_no_more(gateway: Scripted, tmp_path: Path):
    gateway.on("/reports/", stall(threading.Event()))
    with ExitStack() as stack:
        url = stack.enter_context(nginx_front(gateway.url, tmp_path, deployed_site()))
        port = urlsplit(url).port
        for _ in range(128):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), 30))
            client.sendall(b"GET /reports/ HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_until(lambda: len(gateway.requests) == 128, "all of them")
        assert Site(url, gateway, None).ask()[0] == 429
    assert len(gateway.requests) == 128


def test_the_tls_end_sends_plain_http_to_https_under_its_own_name(
    gateway: Scripted, tmp_path: Path
):
    with nginx_tls_front(gateway.url, tmp_path) as (_, plain, _):
        named = {"Host": "evil.example"}
        request = urllib.request.Request(plain + TARGET, headers=named, method="HEAD")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.build_opener(NoRedirect).open(request, timeout=30)
        with refused.value as answered:
            assert answered.status == 301
            assert answered.headers["Location"] == f"https://files.example/{TARGET}"
    assert gateway.requests == []


def test_the_tls_end_asks_for_https_ever_after(site: Site):
    told = site.ask()[1]["Strict-Transport-Security"]
    assert (told is None) == site.url.startswith("http:")


def test_both_sites_say_the_same_of_the_gateway():
    def directives(name: str) -> list[str]:
        lines = (line.strip() for line in deployed_site(name).splitlines())
        keeping = (
            *("proxy_", "keepalive", "location", "$", "default", '""'),
            *("log_format", "'", "access_log", "client_max"),
            *("gzip", "limit_", "map", '"~', "error_page", "add_header Retry-After", "return 4"),
        )
        return [line for line in lines if line.startswith(keeping)]

    assert len(directives("nginx.conf")) > 10
    assert directives("nginx.conf") == directives("nginx-tls.conf")


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None

"""The gateway's own pages: where they are, what they say, and what they stand for."""

import json
import re
import socket
import subprocess
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from webtest import TestApp

from tar_gateway import Gateway, Settings, Upstream
from tar_gateway.web.observe import draining
from tar_gateway.web.observe.probes import Probes
from tests.support.papers import section
from tests.support.scripted import File, Scripted, answer, close


@pytest.fixture
def upstream():
    with Scripted() as server:
        server.on("/", answer(b"root"))
        server.on("/a", File(b"content of a"))
        yield server


@pytest.fixture
def make(upstream):
    made = []

    def make(**settings):
        made.append(Gateway(Upstream(upstream.url), Settings(retries=0, **settings)))
        return TestApp(made[-1])

    yield make
    for gateway in made:
        gateway.close()


class Accepted:
    """A connection as gunicorn shows it: accepted at a port."""

    def __init__(self, port: int, family: int = socket.AF_INET) -> None:
        self.family = family
        self._port = port

    def getsockname(self):
        return ("127.0.0.1", self._port)

    def gettimeout(self):
        return None

    def settimeout(self, seconds):
        pass

    def setsockopt(self, *option):
        pass


def at(port: int, family: int = socket.AF_INET) -> dict:
    # The path of a page needs nothing else of a connection.
    return {"gunicorn.socket": Accepted(port, family)}


def test_a_gateway_that_answers_is_healthy(make, upstream):
    response = make().get("/-/healthy")
    assert (response.body, response.headers["Cache-Control"]) == (b"healthy\n", "no-store")
    assert upstream.requests == []


def test_a_gateway_whose_upstream_answers_anything_is_ready(make, upstream):
    upstream.on("/", answer(b"", status="403 Forbidden"))
    assert make().get("/-/ready").body == b"ready\n"


def test_a_gateway_whose_upstream_is_gone_is_not_ready(make, upstream):
    upstream.on("/", close)
    response = make().get("/-/ready", status=503)
    assert response.json["detail"] == "the upstream broke the connection"


def test_many_looks_ask_the_upstream_once(make, upstream):
    app = make()
    for _ in range(5):
        app.get("/-/ready")
    assert [request.method for request in upstream.requests] == ["HEAD"]


def test_a_full_gateway_is_healthy_but_not_ready(make):
    app = make(max_downloads=1)
    held = app.app(
        {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "QUERY_STRING": "bundle=a"}, lambda *_: None
    )
    assert app.get("/-/healthy").status_int == 200
    assert "downloads" in app.get("/-/ready", status=503).json["detail"]
    held.close()
    app.get("/-/ready", status=200)


def test_a_drained_gateway_is_not_ready_and_still_serves(make, monkeypatch):
    app = make()
    monkeypatch.setattr(draining, "_drained", bytearray(1))
    draining.begin()
    assert "out of service" in app.get("/-/ready", status=503).json["detail"]
    assert app.get("/?bundle=a").status_int == 200


def test_the_metrics_are_not_public_unless_that_is_wished(make):
    make().get("/-/metrics", status=404)
    text = make(public_metrics=True).get("/-/metrics").text
    assert "tar_gateway_downloads_in_flight 0.0" in text


@pytest.mark.parametrize("page", ["healthy", "ready", "metrics"])
def test_with_an_address_of_their_own_the_pages_are_on_no_other(make, page):
    app = make(pages_bind="127.0.0.1:9000")
    app.get(f"/-/{page}", status=404)
    app.get(f"/-/{page}", extra_environ=at(8000), status=404)
    assert app.get(f"/-/{page}", extra_environ=at(9000)).status_int == 200


def test_public_metrics_are_public_beside_an_address_of_the_pages_own(make):
    app = make(pages_bind="127.0.0.1:9000", public_metrics=True)
    assert app.get("/-/metrics").status_int == 200
    app.get("/-/healthy", status=404)


@pytest.mark.parametrize("url", ["/", "/a", "/?bundle=a", "/-/other"])
def test_on_the_pages_own_address_there_is_nothing_else(make, upstream, url):
    make(pages_bind="127.0.0.1:9000").get(url, extra_environ=at(9000), status=404)
    assert upstream.requests == []


def test_a_host_header_makes_no_request_one_of_the_pages_own_address(make):
    app = make(pages_bind="127.0.0.1:9000")
    told = {**at(9000, socket.AF_UNIX), "SERVER_PORT": "9000", "HTTP_HOST": "127.0.0.1:9000"}
    app.get("/-/metrics", extra_environ=told, status=404)


def test_the_prefix_is_a_setting(make, upstream):
    app = make(pages_prefix="/gateway/own/")
    assert app.get("/gateway/own/healthy").body == b"healthy\n"
    upstream.on("/-/healthy", answer(b"a file", "Content-Type: text/plain"))
    assert app.get("/-/healthy").body == b"a file"


def test_other_files_below_the_prefix_are_the_upstreams(make, upstream):
    upstream.on("/-/other", answer(b"a file", "Content-Type: text/plain"))
    assert make().get("/-/other").body == b"a file"


def test_a_page_knows_get_and_head_only(make):
    app = make()
    assert app.head("/-/healthy").body == b""
    assert app.post("/-/healthy", status=405).headers["Allow"] == "GET, HEAD"


def test_what_may_fail_is_counted_from_nought_before_it_does(make):
    lines = make(public_metrics=True).get("/-/metrics").text.splitlines()
    listed = re.search("Outcomes are (.*?\\.)", section("Logs"), re.DOTALL)[1]
    for kind, outcome in product(("bundle", "file"), re.findall("`(.*?)`", listed)):
        begun = f'tar_gateway_downloads_total{{kind="{kind}",outcome="{outcome}",status="'
        assert any(line.startswith(begun) and line.endswith(" 0.0") for line in lines)


def test_the_metrics_tell_what_downloads_did(make, upstream):
    app = make(public_metrics=True)
    upstream.on("/none", answer(b"", status="404 Not Found"))
    app.get("/?bundle=a")
    upstream.on("/plain", answer(b"0123456789", "Content-Type: text/plain"))
    app.get("/plain")
    app.get("/?bundle=none", status=404)
    app.head("/?bundle=a")
    upstream.on("/away", answer(b"", status="500 Internal Server Error"))
    app.get("/?bundle=away", status=502)
    lines = dict(
        line.rpartition(" ")[::2]
        for line in app.get("/-/metrics").text.splitlines()
        if not line.startswith("#")
    )
    told = {name: lines["tar_gateway_" + name.replace("URL", upstream.url)] for name in TOLD}
    assert told == TOLD


TOLD = {
    'downloads_total{kind="bundle",outcome="complete",status="200"}': "1.0",
    'downloads_total{kind="bundle",outcome="refused",status="404"}': "1.0",
    'downloads_total{kind="bundle",outcome="upstream_failed",status="502"}': "1.0",
    'downloads_total{kind="bundle",outcome="no_body",status="200"}': "1.0",
    'downloads_total{kind="file",outcome="complete",status="200"}': "1.0",
    'download_seconds_count{kind="bundle"}': "4.0",
    "members_total": "1.0",
    "sent_bytes_total": str(10240.0 + 10),
    'upstream_requests_total{location="/",server="URL",status="404"}': "2.0",
    'upstream_up{location="/",server="URL"}': "1.0",
    "upstream_retries_total": "0.0",
    "plan_seconds_count": "2.0",
    "first_byte_seconds_count": "2.0",
    "downloads_in_flight": "0.0",
    "downloads_limit": "96.0",
    "fetchers_busy": "0.0",
}


OPENMETRICS = "application/openmetrics-text;version=1.0.0"


def test_metrics_are_openmetrics_where_that_is_asked_for(make):
    app = make(public_metrics=True)
    app.get("/?bundle=a")
    response = app.get("/-/metrics", headers={"Accept": OPENMETRICS})
    assert response.content_type == "application/openmetrics-text"
    families = {
        each.name: each for each in openmetrics.text_string_to_metric_families(response.text)
    }
    counted = {
        (sample.name, *sample.labels.values()): sample.value
        for sample in families["tar_gateway_downloads"].samples
    }
    assert counted["tar_gateway_downloads_total", "bundle", "complete", "200"] == 1


@pytest.mark.needs("promtool")
def test_promtool_finds_nothing_wrong_with_the_metrics(make):
    app = make(public_metrics=True)
    app.get("/?bundle=a")
    text = app.get("/-/metrics").body
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_a_server_that_fails_is_down_until_it_works_again(make, upstream):
    app = make(public_metrics=True, upstream_pause=0.001)
    up = f'tar_gateway_upstream_up{{location="/",server="{upstream.url}"}}'
    for status, names, told in (("503 Busy", "xyz", "0.0"), ("200 OK", "a", "1.0")):
        for name in names:
            if name != "a":
                upstream.on(f"/{name}", answer(b"", status=status))
        app.get("/?" + "&".join(f"bundle={name}" for name in names), expect_errors=True)
        assert f"{up} {told}" in app.get("/-/metrics").text.splitlines()


def test_probes_tell_errors_as_all_others_are_told(make):
    response = make().get("/-/metrics", status=404)
    assert json.loads(response.body)["title"] == "Not Found"


def test_who_asks_while_another_looks_is_told_what_was_seen_last():
    looks, begun, seen = [], threading.Event(), threading.Event()

    def reach() -> None:
        looks.append(None)
        begun.set()
        assert seen.wait(30)

    probes = Probes(Settings(), reach=reach, is_full=lambda: False, exposition=None)
    app = TestApp(probes)
    for before in ("not known yet", None):
        begun.clear()
        seen.clear()
        with ThreadPoolExecutor(1) as thread:
            first = thread.submit(app.get, "/-/ready", status=200)
            assert begun.wait(30)
            others = [app.get("/-/ready", expect_errors=True) for _ in range(3)]
            seen.set()
            first.result()
        assert {other.status_int for other in others} == {503 if before else 200}
        assert all((before or "ready") in other.text for other in others)
        probes._upstream._seen -= 60  # it is no longer fresh
    assert len(looks) == 2


def test_four_pages_of_metrics_are_sent_at_once_and_no_more(make):
    gateway = make(public_metrics=True).app
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/-/metrics", "QUERY_STRING": ""}

    def ask() -> tuple[list[int], Iterable[bytes]]:
        said: list[int] = []
        return said, gateway(dict(environ), lambda status, _: said.append(int(status[:3])))

    held = [ask() for _ in range(5)]
    assert [said for said, _ in held] == [[200]] * 4 + [[503]]
    for _, iterable in held:
        iterable.close()
    assert ask()[0] == [200]

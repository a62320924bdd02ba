"""The alerts and the dashboard, with a real Prometheus that asks a real gateway."""

import json
import re
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import yaml

from tests.support.papers import PAPERS, headings
from tests.support.scripted import File, Scripted, Wire, stall
from tests.support.servers import free_port, gateway, wait_until

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "rules.yml"
ALERTS = {
    rule["alert"]: rule
    for group in yaml.safe_load(RULES.read_text())["groups"]
    for rule in group["rules"]
}
BOARD = json.loads((DEPLOY / "prometheus" / "dashboard.json").read_text())
QUERIES = [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]
METRICS = set(re.findall(r"^\| `(\w+)` \|", PAPERS["docs/operations.md"], re.MULTILINE))

# It looks often, so that what takes minutes in use takes seconds here.
CONFIG = """
global: {{scrape_interval: 250ms, evaluation_interval: 250ms}}
rule_files: [{place}/rules.yml]
scrape_configs:
  - job_name: gateway
    metrics_path: /-/metrics
    static_configs: [targets: ['{target}']]
"""


def hurried(rules: str) -> str:
    """Return the rules with seconds in the place of minutes."""
    return re.sub(r"\bfor: \d+m", "for: 1s", re.sub(r"\[\d+m\]", "[4s]", rules))


@contextmanager
def prometheus(target: str, place: Path):
    """Let a Prometheus ask the gateway, and return what asks that Prometheus."""
    port = free_port()
    (place / "rules.yml").write_text(hurried(RULES.read_text()))
    (place / "prometheus.yml").write_text(CONFIG.format(place=place, target=target))
    server = subprocess.Popen(
        [
            "prometheus",
            f"--config.file={place}/prometheus.yml",
            f"--storage.tsdb.path={place}/data",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stderr=subprocess.DEVNULL,
    )

    def ask(page: str, **parameters: str):
        with urlopen(f"http://127.0.0.1:{port}/api/v1/{page}?{urlencode(parameters)}") as response:
            return json.load(response)["data"]

    def is_there() -> bool:
        with suppress(OSError):
            return bool(ask("query", query="tar_gateway_build_info")["result"])
        return False

    try:
        wait_until(is_there, "Prometheus to have asked")
        yield ask
    finally:
        server.terminate()
        server.wait()


def firing(ask) -> set[str]:
    return {
        each["labels"]["alertname"] for each in ask("alerts")["alerts"] if each["state"] == "firing"
    }


def test_each_alert_has_its_section():
    assert set(ALERTS) == set(headings(PAPERS["docs/alerts.md"])[1:])
    for name, rule in ALERTS.items():
        assert rule["annotations"]["runbook"] == f"docs/alerts.md#{name.lower()}"


@pytest.mark.parametrize("query", [*QUERIES, *(rule["expr"] for rule in ALERTS.values())])
def test_alerts_and_panels_ask_for_metrics_that_there_are(query):
    asked = re.findall(r"tar_gateway_(\w+?)(?:_bucket)?(?=[{\[) ])", query)
    assert asked
    assert set(asked) <= METRICS


@pytest.mark.needs("promtool")
def test_promtool_finds_nothing_wrong_with_the_rules():
    checked = subprocess.run(
        ["promtool", "check", "rules", RULES], capture_output=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


@contextmanager
def asked_again_and_again(url: str, every: float = 0.2):
    """Ask for a bundle, each time in a thread of its own, while this is open."""
    ended = threading.Event()

    def once() -> None:
        with suppress(OSError):
            urlopen(url, timeout=30).read()

    def all_of_them() -> None:
        while not ended.wait(every):
            asking.submit(once)

    with ThreadPoolExecutor(40) as asking:
        thread = threading.Thread(target=all_of_them)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def slowly(wire: Wire) -> None:
    """Take longer to say anything than a plan should."""
    wire.server.ending.wait(6)
    File(b"at last")(wire)


@pytest.fixture
def upstream():
    with Scripted({"/a": File(b"content of a"), "/slow": slowly}) as server:
        yield server


STATES = {
    # What is wrong: the members, the settings, and which alerts say so.
    "an outage": ("a", {}, {"TarGatewayUpstreamDown", "TarGatewayDownloadsFail"}),
    "a full process": ("a", {"max_downloads": "1"}, {"TarGatewayFull"}),
    "a slow upstream": ("slow", {}, {"TarGatewayUpstreamSlow"}),
    "nothing": ("a", {}, set()),
}


@pytest.mark.needs("prometheus")
@pytest.mark.parametrize("state", STATES)
def test_what_is_wrong_fires_its_alert_and_no_other(state, upstream, tmp_path):
    name, settings, expected = STATES[state]
    url = f"http://127.0.0.1:{free_port()}/" if state == "an outage" else upstream.url
    with ExitStack() as opened:
        running = opened.enter_context(
            gateway(url, tmp_path, public_metrics="yes", pass_through="yes", **settings)
        )
        ask = opened.enter_context(prometheus(f"{running.host}:{running.port}", tmp_path))
        if state == "a full process":
            held = socket.create_connection((running.host, running.port))
            opened.callback(held.close)
            upstream.on("/held", stall(upstream.ending))
            held.sendall(b"GET /held HTTP/1.1\r\nHost: a\r\n\r\n")
            assert upstream.wait_for(lambda server: server.requests)
        opened.enter_context(asked_again_and_again(f"{running.url}?bundle={name}"))
        if expected:
            wait_until(lambda: firing(ask) >= expected, f"{expected} to fire")
        else:
            evaluated = ask("rules")["groups"][0]["lastEvaluation"]
            wait_until(
                lambda: ask("rules")["groups"][0]["lastEvaluation"] > evaluated, "another look"
            )
        assert firing(ask) == expected


@pytest.mark.needs("prometheus")
def test_each_query_of_the_dashboard_has_a_result(upstream, tmp_path):
    with ExitStack() as opened:
        running = opened.enter_context(gateway(upstream.url, tmp_path, public_metrics="yes"))
        ask = opened.enter_context(prometheus(f"{running.host}:{running.port}", tmp_path))
        opened.enter_context(asked_again_and_again(f"{running.url}?bundle=a"))
        for query in QUERIES:
            filled = query.replace("$job", ".*").replace("$__rate_interval", "4s")
            wait_until(lambda asked=filled: ask("query", query=asked)["result"], query)

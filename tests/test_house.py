"""The house's order: a folder is a room, imports point down only, and a test stands by its room."""

import ast
import importlib
import inspect
import os
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import tar_gateway

ROOT = Path(tar_gateway.__file__).parent
TESTS = Path(__file__).parent

# From the bottom up: a room may import those before it. Rooms of one line do not know each other.
ORDER = [
    ["errors"],
    ["http"],
    ["archive", "settings", "sources.listing"],
    ["sources.wire", "client"],
    ["sources"],
    ["access", "delivery"],
    ["web"],
    ["server"],
    ["gunicorn_conf", "worker", "wsgi"],
    ["cli"],
]
FLOOR = {room: floor for floor, rooms in enumerate(ORDER) for room in rooms}

# The files that stand in no room: the public names, and addresses that others rely on.
AT_THE_TOP = {"__init__", "errors", "gunicorn_conf", "worker", "wsgi"}

# No IO, no clock, no chance, no server and no client.
NOT_PURE = {
    *("webob", "urllib3", "gunicorn", "socket", "ssl", "threading", "concurrent", "time"),
    *("os", "io", "tempfile", "random", "logging", "wsgiref", "http.client", "selectors"),
}

# Tests of behaviour that is no single file's, by the room whose business it is.
BEHAVIOURS = {
    "sources": {"failover", "patience", "service_headers", "upstream_location"},
    "sources.wire": {"arrived"},
    "access": {"signed_links"},
    "delivery": {"remembered_plans"},
    "web": {
        *("archive_files_answers", "archive_files_apps", "archive_files_bounds"),
        "archive_files_head",
        *(
            "gateway_bundles",
            "gateway_changes",
            "gateway_compressed",
            "gateway_errors",
            "gateway_manifests",
        ),
        "gateway_missing",
        "gateway_options",
        *("gateway_ranges", "leaving_clients", "middleware_quirks"),
    },
    "client": {"hostile"},
    "server": {"gunicorn_start", "production", "reloading"},
    "cli": {"command"},
}


def name_of(file: Path) -> str:
    """Return a module's name within the package, ``""`` for the package's own."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {name_of(file): ast.parse(file.read_text("utf-8")) for file in ROOT.rglob("*.py")}
NAMED = sorted(MODULES)
IN_ROOMS = [module for module in NAMED if module]


def room_of(module: str) -> str:
    """Return the room of a module: its folder, and its own name where it stands at the top."""
    return max((room for room in FLOOR if f"{module}.".startswith(f"{room}.")), key=len)


def imports(module: str) -> Iterator[str]:
    """Return the full names of what a module imports, wherever in it the import stands."""
    for node in ast.walk(MODULES[module]):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(origin), names=names, level=0):
                for alias in names:
                    whole = f"{origin}.{alias.name}"
                    is_module = whole.removeprefix("tar_gateway.") in MODULES
                    yield whole if is_module else origin
            case ast.ImportFrom():
                raise AssertionError(f"{module} has a relative import")


def own_imports(module: str) -> set[str]:
    """Return the modules of the package that a module imports."""
    found = (name.partition(".") for name in imports(module))
    return {rest for package, _, rest in found if package == "tar_gateway"}


def users_of(*packages: str) -> set[str]:
    """Return the modules that import any of these packages."""
    return {
        module
        for module in NAMED
        if any(name.partition(".")[0] in packages for name in imports(module))
    }


def test_the_rules_see_the_imports_there_are():
    assert {"delivery.planner", "delivery.selection", "errors"} <= own_imports("web.endpoint")
    assert {"archive.tar", "http.validators"} <= own_imports("archive.layout")
    assert "threading" in set(imports("delivery.body"))


def test_at_the_top_stand_only_addresses_and_the_errors():
    files = {file.stem for file in ROOT.glob("*.py")}
    assert files == AT_THE_TOP


@pytest.mark.parametrize("module", IN_ROOMS)
def test_imports_between_rooms_point_down_only(module):
    room = room_of(module)
    others = {name for name in own_imports(module) if name and room_of(name) != room}
    wrong = {name for name in others if FLOOR[room_of(name)] >= FLOOR[room]}
    assert not wrong, f"{module} ({room}) imports {wrong}"


def test_members_know_no_archive():
    users = {module for module in IN_ROOMS if room_of(module) in {"sources", "sources.wire"}}
    assert not {user for user in users if any("archive" in name for name in own_imports(user))}


def test_no_module_imports_itself_by_way_of_others():
    order = TopologicalSorter({module: own_imports(module) for module in MODULES}).static_order()
    assert set(order) == set(MODULES)


@pytest.mark.parametrize(
    "module",
    [
        *(name for name in IN_ROOMS if room_of(name) in {"errors", "http", "archive"}),
        *("settings.types", "web.form_data", "web.query", "web.json_list", "web.file_list"),
    ],
)
def test_a_pure_module_knows_no_io_no_clock_and_no_server(module):
    # The types of an environ are texts about texts.
    found = {name for name in imports(module) if name != "wsgiref.types"}
    wrong = {name for name in found if name in NOT_PURE or name.partition(".")[0] in NOT_PURE}
    assert not wrong, f"{module} imports {wrong}"


def test_only_who_connects_knows_urllib3_and_the_clients_session():
    assert users_of("urllib3") == {"sources.wire.connecting", "client.session"}


def test_only_the_rooms_on_the_roof_know_gunicorn():
    allowed = {"gunicorn_conf", "cli.check", "cli.directory_server"}
    assert {user for user in users_of("gunicorn") - allowed if room_of(user) != "server"} == set()


def test_only_the_command_line_knows_click():
    assert {room_of(user) for user in users_of("click")} == {"cli"}


def test_only_the_room_that_sees_the_client_knows_webob():
    assert {room_of(user) for user in users_of("webob")} == {"web", "cli"}


def test_every_room_says_its_law():
    rooms = [file for file in ROOT.rglob("__init__.py") if file.parent != ROOT]
    assert {name_of(file).partition(".")[0] for file in rooms} == {
        *("access", "archive", "cli", "client", "delivery", "http", "server", "settings"),
        *("sources", "web"),
    }
    for file in rooms:
        law = (ast.get_docstring(MODULES[name_of(file)]) or "").partition("\n")[0]
        assert law.endswith("."), f"{file}: the first line is the room's law"


@pytest.mark.parametrize("module", NAMED)
def test_every_module_says_what_it_is_for(module):
    assert ast.get_docstring(MODULES[module])


@pytest.mark.parametrize("file", sorted(ROOT.rglob("*.py")), ids=name_of)
def test_no_file_is_longer_than_one_thought(file):
    assert len(file.read_text("utf-8").splitlines()) <= 355


@pytest.mark.parametrize("file", sorted(ROOT.rglob("*.[jc]s*")), ids=lambda file: file.name)
def test_no_script_or_style_is_longer_either(file):
    assert len(file.read_text("utf-8").splitlines()) <= 355


def test_a_test_stands_in_the_room_of_what_it_tests():
    strays = set()
    for file in TESTS.rglob("test_*.py"):
        room = ".".join(file.parent.relative_to(TESTS).parts)
        subject = file.stem.removeprefix("test_")
        if room in {"", "whole", "deploy", "browser"} or subject in BEHAVIOURS.get(room, ()):
            continue
        own = f"{room}.{subject}" in MODULES
        if not (own or subject == room.rpartition(".")[2]):  # a room's own __init__.py
            strays.add(str(file.relative_to(TESTS)))
    assert strays == set()


def test_every_behaviour_that_is_listed_is_tested():
    for room, subjects in BEHAVIOURS.items():
        for subject in subjects:
            assert (TESTS / room.replace(".", "/") / f"test_{subject}.py").exists()


def test_the_public_names_are_those_that_the_package_offers():
    assert sorted(tar_gateway.__all__) == list(tar_gateway.__all__)
    assert set(tar_gateway._HOMES) == set(tar_gateway.__all__)


def test_a_name_that_the_package_does_not_offer_is_an_error():
    with pytest.raises(AttributeError, match="has no attribute 'Gatway'"):
        tar_gateway.Gatway  # noqa: B018


def test_gunicorns_master_reads_its_settings_without_importing_what_gevent_has_to_patch():
    command = (
        "import os, sys, gunicorn.config\n"  # which is there first, and imports ssl itself
        "before = {*sys.modules}\n"
        "import tar_gateway.gunicorn_conf\n"
        "late = ('ssl', 'urllib3', 'tar_gateway.web.client')\n"
        "print(*(m for m in late if m in {*sys.modules} - before))"
    )
    environment = os.environ | {"TAR_GATEWAY_UPSTREAM": "http://127.0.0.1:9/"}
    done = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, env=environment
    )
    assert (done.stdout, done.stderr) == ("\n", "")


@pytest.mark.parametrize("name", tar_gateway.__all__)
def test_every_public_name_and_method_is_described(name):
    public = getattr(tar_gateway, name)
    own = vars(public) if inspect.isclass(public) else {}
    methods = {
        key: value
        for key, value in own.items()
        if not key.startswith("_") and (callable(value) or isinstance(value, property))
    }
    assert inspect.getdoc(public)
    assert [key for key, value in methods.items() if not inspect.getdoc(value)] == []


def test_every_error_is_none_that_a_server_takes_for_the_clients_doing():
    errors = importlib.import_module("tar_gateway.errors")
    raised = [
        value
        for value in vars(errors).values()
        if inspect.isclass(value) and issubclass(value, BaseException)
    ]
    assert len(raised) > 10
    for error in raised:
        assert issubclass(error, tar_gateway.TarGatewayError)
        assert not issubclass(error, OSError | StopIteration)

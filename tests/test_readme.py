"""The README says what the package does: its settings, their defaults, its errors."""

import re
from dataclasses import MISSING, fields
from pathlib import Path

from tar_gateway import Gateway, Settings, errors, locations
from tar_gateway.file_server import file_server
from tar_gateway.startup import checked_settings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def rows(title: str) -> list[list[str]]:
    """Read the first table below a heading."""
    section = README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def shown(default: object) -> str:
    if isinstance(default, bool):
        return "`yes`" if default else "`no`"
    if isinstance(default, tuple):
        return f"`{','.join(default)}`" if default else "none"
    return f"`{default}`"


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


def test_every_error_status_stands_in_the_table_in_order():
    refusals = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.Refusal)
    ]
    possible = {int(kind.status) for kind in refusals} | set(errors.MembersFailed.precedence)
    assert [int(row[0]) for row in rows("Errors")] == sorted(possible - {500})


def test_the_example_of_a_gateway_makes_one():
    (example,) = re.findall(r"<!-- example: gateway -->\n```python\n(.+?)```", README, re.DOTALL)
    made: dict[str, object] = {}
    exec(example, made)
    assert isinstance(made["application"], Gateway)


def test_the_example_of_locations_is_understood(tmp_path):
    (example,) = re.findall(r"<!-- example: locations -->\n```toml\n(.+?)```", README, re.DOTALL)
    (tmp_path / "locations.toml").write_text(example)
    (tmp_path / "reports.headers").write_text("X-Api-Key: secret\n")
    environ = {"TAR_GATEWAY_LOCATIONS_FILE": str(tmp_path / "locations.toml")}
    settings = checked_settings(environ)
    assert isinstance(Gateway(file_server(settings), settings), Gateway)


def test_every_key_of_a_location_stands_in_the_table_in_order():
    told = [key.strip(" `") for row in rows("Several upstreams") for key in row[0].split(",")]
    assert told == list(locations.KEYS)


def test_both_commands_are_there_for_copying():
    commands = re.findall(r"<!-- command: (?:demo|tests) -->\n```sh\n(.+)\n```", README)
    endings = [command.rpartition(".venv/bin/")[2] for command in commands]
    assert endings == ["tar-gateway demo", "pytest -n auto --dist loadfile"]


def test_every_picture_is_there():
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", README)
    assert pictures
    assert [name for name in pictures if not (ROOT / name).is_file()] == []


def test_no_row_stands_outside_its_table():
    second = re.findall(r"(?<=\n\n)\|.*\n(.*)", README)
    assert len(second) > 5
    assert all(set(rule) <= set("|-: ") for rule in second)

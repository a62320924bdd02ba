"""The file of locations: what is understood, and the one line for what is not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tar_gateway.errors import SettingsError
from tar_gateway.server.startup import checked_settings
from tar_gateway.settings import Settings
from tar_gateway.settings.locations import Location, read_locations
from tests.support.files_upstream import FilesUpstream

SETTINGS = Settings(read_timeout=7, max_members=3)


def read(place: Path, text: str) -> tuple[Location, ...]:
    file = place / "locations.toml"
    file.write_text(text, "utf-8")
    return read_locations(file, SETTINGS)


def refusal(place: Path, text: str) -> str:
    """Give the line with which a file is refused, without the file's name."""
    with pytest.raises(SettingsError) as refused:
        read(place, text)
    line = str(refused.value)
    assert len(line.splitlines()) == 1
    start = f"{place}/locations.toml: "
    assert line.startswith(start)
    return line.removeprefix(start)


def test_a_location_is_a_prefix_and_its_servers(tmp_path: Path):
    text = """
        [[location]]
        prefix = "/"
        upstream = "http://a.internal"
        [[location]]
        prefix = "/reports/ü/"
        upstream = ["http://b.internal/base/", "https://c.internal:8443/base"]
    """
    assert read(tmp_path, text) == (
        Location("/", ("http://a.internal/",), SETTINGS),
        Location(
            "/reports/ü/", ("http://b.internal/base/", "https://c.internal:8443/base/"), SETTINGS
        ),
    )


ONE = '[[location]]\nprefix = "/"\nupstream = "http://a/"\n'


def test_what_a_location_says_holds_for_it_and_all_else_as_for_the_gateway(tmp_path: Path):
    settings = read(tmp_path, ONE + 'connect_timeout = 0.5\nread_timeout = "60"\n')[0].settings
    assert (settings.connect_timeout, settings.read_timeout, settings.max_members) == (0.5, 60, 3)


@pytest.mark.parametrize("key", ["headers_file", "ca_file", "cert_file", "key_file"])
@pytest.mark.parametrize("absolute", [True, False])
def test_a_file_is_found_from_the_directory_of_the_file_that_names_it(tmp_path, key, absolute):
    (tmp_path / "sub").mkdir()
    named = tmp_path / "sub" / "file"
    named.touch()
    given = str(named) if absolute else "sub/file"
    settings = read(tmp_path, ONE + f'{key} = "{given}"\n')[0].settings
    assert getattr(settings, "upstream_" + key) == named


SECOND = ONE + '[[location]]\nprefix = "/b/"\n'


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "there is no [[location]] in it"),
        ("location = 1", "there is no [[location]] in it"),
        ("location = [1]", "there is no [[location]] in it"),
        ("[location]\nprefix = '/'", "there is no [[location]] in it"),
        ("[[locations]]\nprefix = '/'", "'locations' is not a key; did you mean 'location'?"),
        (ONE + "[upstream]", "'upstream' is not a key"),
        ("[[location]\n", "it is not TOML: Expected ']]' at the end of an array declaration"),
        (SECOND, "location 2: upstream: it is missing"),
        (SECOND + "upstream = 1", "location 2: upstream: it must be a base URL, or a list of"),
        (SECOND + "upstream = []", "location 2: upstream: it must be a base URL, or a list of"),
        (SECOND + "upstream = [1]", "location 2: upstream: it must be a valid string"),
        (SECOND + 'upstream = "b.internal"', "location 2: upstream: it must be a URL such as"),
        (
            SECOND + 'upstream = ["http://b/", "http://b"]',
            "location 2: upstream: a URL stands there twice",
        ),
        (
            SECOND + 'upstream = "http://user:hunter2@b/"',
            "location 2: upstream: it must not hold a user name or password",
        ),
        ('[[location]]\nupstream = "http://a/"', "location 1: prefix: it is missing"),
        (ONE + ONE, "location 2: prefix: another location has '/'"),
        (ONE + "prefixes = 1", "location 1: 'prefixes' is not a key; did you mean 'prefix'?"),
        (ONE + "max_members = 0", "location 1: max_members: '0': it must be greater than"),
        (ONE + "retries = 1", "location 1: 'retries' is not a key"),
        (ONE + "read_timeuot = 1", "location 1: 'read_timeuot' is not a key; did you mean 'read_"),
        (ONE + "read_timeout = 0", "location 1: read_timeout: '0': it must be greater than"),
        (ONE + "read_timeout = 'x'", "location 1: read_timeout: 'x': it must be a number"),
        (ONE + "read_timeout = true", "location 1: read_timeout: it is neither a text nor a numb"),
        (ONE + "ca_file = ['a']", "location 1: ca_file: it is neither a text nor a number"),
        (ONE + "ca_file = 'none.pem'", "location 1: ca_file: '"),
        (ONE + "headers_file = ''", "location 1: headers_file: '"),
    ],
)
def test_a_mistake_is_one_line_with_the_file_the_location_and_the_key(tmp_path, text, line):
    assert refusal(tmp_path, text).startswith(line)


@pytest.mark.parametrize("prefix", ["1", '""', '"reports/"', '"/reports"', '"https://a/"'])
def test_a_prefix_begins_and_ends_with_a_slash(tmp_path: Path, prefix: str):
    text = f'[[location]]\nprefix = {prefix}\nupstream = "http://a/"'
    assert refusal(tmp_path, text) == (
        "location 1: prefix: it must be a path that begins and ends with a slash"
    )


@pytest.mark.parametrize(
    ("prefix", "reason"),
    [
        ("//", "is empty"),
        ("/a//b/", "contains an empty segment"),
        ("/../", "contains the segment '..'"),
        ("/a/./", "contains the segment '.'"),
        ("/%2e%2e/", "contains the segment '..' when it is decoded once more"),
    ],
)
def test_a_prefix_that_no_path_can_have_is_refused(tmp_path: Path, prefix: str, reason: str):
    text = f'[[location]]\nprefix = "{prefix}"\nupstream = "http://a/"'
    assert refusal(tmp_path, text) == f"location 1: prefix: '{prefix}' {reason}"


def test_a_file_that_is_not_text_is_refused(tmp_path: Path):
    (tmp_path / "locations.toml").write_bytes(b"\xff")
    with pytest.raises(SettingsError, match="not valid UTF-8"):
        read_locations(tmp_path / "locations.toml", SETTINGS)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path):
    with pytest.raises(SettingsError, match="Is a directory"):
        read_locations(tmp_path, SETTINGS)


# --- at the start -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("headers_file", "headers_file: '{bad}': line 1 is not 'Name: value'"),
        ("cert_file", "the certificates for the upstream can't be used: "),
    ],
)
def test_a_file_that_a_location_names_is_looked_into(tmp_path: Path, key: str, reason: str):
    bad = tmp_path / "bad"
    bad.write_text("hunter2")
    file = tmp_path / "locations.toml"
    file.write_text(ONE + ONE.replace('"/"', '"/b/"') + f'{key} = "bad"\n')
    with pytest.raises(SettingsError) as refused:
        checked_settings({"TAR_GATEWAY_LOCATIONS_FILE": str(file)})
    assert str(refused.value).startswith(f"{file}: location 2: {reason.format(bad=bad)}")
    assert "hunter2" not in str(refused.value)


def start(*arguments: str, file: Path) -> subprocess.CompletedProcess:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("TAR_GATEWAY_")}
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        env=clean | {"TAR_GATEWAY_LOCATIONS_FILE": str(file)},
        capture_output=True,
        text=True,
        timeout=30,
    )


@pytest.mark.parametrize(
    ("command", "start_of_line"),
    [
        (["gunicorn", "--config", "python:tar_gateway.gunicorn_conf"], "tar_gateway: "),
        (["tar_gateway.cli", "serve"], "Error: "),
    ],
)
def test_a_mistake_stops_the_start_with_one_line(tmp_path: Path, command, start_of_line):
    file = tmp_path / "locations.toml"
    file.write_text(ONE + "read_timeout = 0\n")
    done = start(*command, "--bind", "127.0.0.1:0", file=file)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{start_of_line}{file}: location 1: read_timeout: '0': ")
    assert len(done.stderr.splitlines()) == 1


def test_the_check_asks_every_server_of_every_location(tmp_path: Path):
    file = tmp_path / "locations.toml"
    with FilesUpstream() as upstream:
        urls = f'["{upstream.url}", "http://127.0.0.1:9/"]'
        file.write_text(f'[[location]]\nprefix = "/a/"\nupstream = {urls}\n')
        done = start("tar_gateway.cli", "check", file=file)
        assert len(upstream.requests) == 1
    assert done.returncode == 1
    assert f"ok     location /a/: {upstream.url} answers 404\n" in done.stdout
    assert "FAILS  location /a/: http://127.0.0.1:9/: the upstream cannot be reached" in done.stdout

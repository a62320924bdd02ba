"""What a process takes at the most, and the limits in `deploy/`, which have room for it."""

import re
from dataclasses import replace
from typing import Any

import pytest

from tar_gateway import Settings
from tar_gateway.cli.footprint import INCOMING, footprint
from tar_gateway.server import worker
from tar_gateway.server.startup import SPARE_THREADS, WAITING
from tar_gateway.settings import PREFIX
from tests.deploy.test_deploy import COMPOSE, CONTAINER, DEPLOY, MAPPED, POD, SERVICE, gunicorn_says

MIB = 1024**2


def test_it_counts_what_gunicorn_is_told(monkeypatch: pytest.MonkeyPatch):
    told = gunicorn_says(monkeypatch)
    assert told["threads"] == Settings().max_downloads + SPARE_THREADS
    assert told["worker_connections"] == told["threads"] + WAITING
    assert worker._MAX_HELD == INCOMING


@pytest.mark.parametrize(
    ("setting", "more", "field", "by"),
    [
        ("max_downloads", 1, "memory", 1024 * 10_000 + 2 * 2 * MIB + 4 * MIB),
        ("max_downloads", 1, "tasks", 2),
        ("max_downloads", 1, "descriptors", 3),
        ("max_members", 1, "memory", 97 * 1024),
        ("max_body", 1, "memory", 2 * 96),
        ("fetch_ahead_total", 7, "memory", 7),
        ("fetch_parallel", 3, "tasks", 3),
        ("fetch_parallel", 3, "descriptors", 3),
        ("checksum_memory", 3, "memory", 3 * 256),
        ("spool_limit", 5, "disk", 5),
    ],
)
def test_what_a_setting_allows_is_counted(setting: str, more: int, field: str, by: int):
    settings = Settings()
    larger = replace(settings, **{setting: getattr(settings, setting) + more})
    before, after = footprint(settings), footprint(larger)
    assert getattr(after, field) - getattr(before, field) == by


# --- limits -------------------------------------------------------------------------------------


def size(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([MmGg])i?", text).groups()  # type: ignore[union-attr]
    return int(number) * MIB * {"m": 1, "g": 1024}[unit.lower()]


def settings_of(environment: dict[str, str]) -> Settings:
    """Read the settings of a file, without its files of secrets, which take nothing."""
    kept = {name: text for name, text in environment.items() if not name.endswith("_FILE")}
    return Settings.from_environment({f"{PREFIX}UPSTREAM": "http://files/"} | kept)


GATEWAY: dict[str, Any] = COMPOSE["services"]["gateway-1"]
UNIT = dict(each.split("=", 1) for each in SERVICE["Environment"])
(TMPFS,) = re.findall(r"size=(\d+m)", GATEWAY["tmpfs"][0])
# Of each kind: the environment, the limits of memory and tasks, and what of the disk is memory.
LIMITS = {
    "Compose": (
        GATEWAY["environment"],
        size(GATEWAY["mem_limit"]),
        GATEWAY["pids_limit"],
        size(TMPFS),
    ),
    "Kubernetes": (MAPPED, size(CONTAINER["resources"]["limits"]["memory"]), None, 0),
    "systemd": (UNIT, size(SERVICE["MemoryMax"][0]), int(SERVICE["TasksMax"][0]), 0),
}
MASTER = 64 * MIB


@pytest.mark.parametrize("kind", LIMITS)
def test_the_memory_that_the_settings_allow_is_there(kind: str):
    environment, memory, _, disk_in_memory = LIMITS[kind]
    one = footprint(settings_of(environment))
    needed = int(environment["WEB_CONCURRENCY"]) * one.memory + MASTER + disk_in_memory
    assert needed <= memory <= 1.1 * needed


@pytest.mark.parametrize("kind", ["Compose", "systemd"])
def test_there_are_tasks_for_two_generations_of_processes(kind: str):
    environment, _, tasks, _ = LIMITS[kind]
    one = footprint(settings_of(environment))
    assert tasks >= 2 * int(environment["WEB_CONCURRENCY"]) * one.tasks + SPARE_THREADS


def test_the_disk_that_does_not_count_as_memory_is_no_memory():
    (tmp,) = [each["emptyDir"] for each in POD["volumes"] if each["name"] == "tmp"]
    assert "medium" not in tmp
    assert UNIT["TMPDIR"] == "/var/tmp"


@pytest.mark.parametrize("name", ["compose.yaml", "kubernetes.yaml", "tar-gateway.service"])
def test_the_figures_in_the_comments_are_those_of_the_settings(name: str):
    one = footprint(Settings())
    text = (DEPLOY / name).read_text()
    assert re.findall(r"([\d,]+) MiB (?:of memory )?(?:and|for)", text) == [
        f"{-(-one.memory // MIB):,}"
    ]
    assert name == "kubernetes.yaml" or f" {one.tasks} " in text


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_every_container_has_limits(name: str):
    service = COMPOSE["services"][name]
    assert size(service["mem_limit"]) >= 64 * MIB
    assert service["pids_limit"] > 0

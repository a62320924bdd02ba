"""Results as text for people and as JSON for programs."""

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import distributions
from typing import Any

from tests.bench.parts import Goal, Result

_PACKAGES = {"tar_gateway", "gunicorn", "urllib3", "zipstream-ng", "requests", "gevent"}


def as_text(results: Mapping[str, Result]) -> str:
    """Give a table for each part, with the goals in the line below what they are for."""
    return "\n\n".join(
        "\n".join([f"{name}: {result.part.title}", *_table(result), *_notes(result)])
        for name, result in results.items()
    )


def as_json(results: Mapping[str, Result], machine: Mapping[str, Any]) -> str:
    """Give everything that the tables say."""
    parts = {
        name: {
            "title": result.part.title,
            "values": result.values,
            "goals": [_goal(result, goal) for goal in result.part.goals],
            "notes": result.part.notes,
        }
        for name, result in results.items()
    }
    return json.dumps({"machine": machine, "parts": parts}, indent=2)


def machine() -> dict[str, Any]:
    """Tell what the figures are measured on."""
    found = {each.name: each.version for each in distributions() if each.name in _PACKAGES}
    return {
        "processors": len(os.sched_getaffinity(0)),
        "load": load(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": found,
    }


def load() -> float:
    """Tell how many processes want to run, on the average of the last minute."""
    return round(os.getloadavg()[0], 2)


def _goal(result: Result, goal: Goal) -> dict[str, Any]:
    value = result.values[goal.subject].get(goal.column)
    met = None if value is None else goal.is_met(value)
    return asdict(goal) | {"value": value, "met": met}


def _table(result: Result) -> list[str]:
    columns = result.columns()
    lines = [["", *columns]] if columns else []
    for subject, values in result.values.items():
        lines.append([subject, *(_number(values.get(column)) for column in columns)])
        goals = result.goals(subject)
        if goals:
            verdicts = [_verdict(goals.get(column), values.get(column)) for column in columns]
            lines.append(["  goal", *verdicts])
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    return [
        "  ".join([first.ljust(widths[0]), *map(str.rjust, cells, widths[1:])]).rstrip()
        for first, *cells in lines
    ]


def _notes(result: Result) -> list[str]:
    return [f"({note})" for note in result.part.notes]


def _verdict(goal: Goal | None, value: float | None) -> str:
    if goal is None or value is None:
        return ""
    return f"{goal} {'met' if goal.is_met(value) else 'MISSED'}"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    size = abs(value)
    return f"{value:,.{0 if size >= 100 else 1 if size >= 10 else 2 if size >= 0.1 else 3}f}"

"""The benchmark runs from end to end, and its tables say what was measured; not how fast it was."""

import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from tests.bench.__main__ import PARTS, main
from tests.bench.chart import as_svg
from tests.bench.parts import Chart, Goal, Part, Ratio, Result, Subject, measurements, run
from tests.bench.report import as_json, as_text
from tests.bench.site import RIVALS
from tests.bench.upstream import has_lua
from tests.support.papers import block

ROOT = Path(__file__).parents[2]
LUA = pytest.mark.skipif(not has_lua(), reason="not installed: nginx's Lua module")
PRESENT = [name for name, (needed, _) in RIVALS.items() if find_spec(needed)]


def bench(*arguments: str) -> str:
    command = [sys.executable, "-m", "tests.bench", "--quick", "--runs", "1", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def tables_of(text: str) -> dict[str, list[str]]:
    """Give the lines of each part's table, by the part's name."""
    paragraphs = [paragraph.splitlines() for paragraph in text.split("\n\n")]
    return {lines[0].partition(":")[0]: lines[1:] for lines in paragraphs}


def columns_of(header: str) -> list[str]:
    return re.split("  +", header.strip())


@pytest.fixture(scope="module")
def plot(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("plot") / "growth.svg"


@pytest.fixture(scope="module")
def printed(plot) -> dict[str, str]:
    """Give what is printed of each part, and of one as JSON.

    They run side by side: what they measure is worth nothing then, and here it needn't be.
    """
    arguments = {part: [part] for part in PARTS}
    arguments["growth"] += ["--plot", str(plot)]
    arguments["JSON"] = ["small", "--json"]
    with ThreadPoolExecutor(len(arguments)) as threads:
        texts = threads.map(lambda each: bench(*each), arguments.values())
        return dict(zip(arguments, texts, strict=True))


@pytest.fixture(scope="module")
def tables(printed) -> dict[str, list[str]]:
    return {part: tables_of(printed[part])[part] for part in PARTS}


@pytest.mark.needs("nginx")
@pytest.mark.parametrize(
    ("part", "columns", "subjects"),
    [
        (
            "bulk",
            ["GB/s", "x relay's", "CPU s/GiB", "x relay's CPU", "peak MiB"],
            ["relay", "gateway", *PRESENT, "urllib3 loop"],
        ),
        (
            "small",
            ["files/s", "x the loop's", "CPU ms/file", "peak MiB"],
            ["urllib3 loop", "gateway", *PRESENT],
        ),
        pytest.param(
            "latency",
            [
                "seconds",
                "x the loop's",
                "first byte s",
                "median s",
                "slowest s",
                "slowest : median",
            ],
            ["urllib3 loop", "gateway", *PRESENT, "gateway, 16 clients"],
            marks=LUA,
        ),
        (
            "memory",
            ["MiB over idle", "slowest KiB/s", "MiB while sent", "KiB a member"],
            [
                "50 slow readers, threads",
                "100 slow readers, gevent",
                "a member of 1 GiB",
                "5,000 members",
            ],
        ),
        (
            "growth",
            [
                "plan s",
                "first byte s",
                "all s",
                "ms a member",
                "x a thousand's",
                "MiB over idle",
                "GB/s",
                "x one client's",
            ],
            [
                *("10 members", "100 members", "1,000 members"),
                *("1 client", "4 clients", "16 clients", "64 clients"),
            ],
        ),
    ],
)
def test_a_table_has_a_column_a_quantity_and_a_line_a_subject(tables, part, columns, subjects):
    header, *lines = tables[part]
    assert columns_of(header) == columns
    named = [line.split("  ")[0] for line in lines if not line.startswith((" ", "("))]
    assert named == subjects


@pytest.mark.needs("nginx")
@pytest.mark.parametrize(
    ("part", "subject"),
    [
        ("bulk", "gateway"),
        ("small", "gateway"),
        pytest.param("latency", "gateway", marks=LUA),
        pytest.param("latency", "gateway, 16 clients", marks=LUA),
        ("memory", "50 slow readers, threads"),
        ("memory", "100 slow readers, gevent"),
        ("growth", "64 clients"),
    ],
)
def test_the_gateways_goals_stand_below_its_figures(tables, part, subject):
    lines = tables[part]
    (row,) = [index for index, line in enumerate(lines) if line.startswith(subject + "  ")]
    assert lines[row + 1].split()[0] == "goal"
    assert lines[row + 1].split()[-1] in {"met", "MISSED"}


@pytest.mark.needs("nginx")
def test_the_shown_tables_have_the_columns_that_are_printed(tables):
    shown = tables_of(block("output: bench").strip())
    assert {"bulk", "small", "latency", "memory"} <= set(shown)
    for part, (header, *_) in shown.items():
        assert columns_of(header) == columns_of(tables[part][0])


@pytest.mark.needs("nginx")
def test_json_tells_the_same_and_what_it_was_measured_on(printed):
    told = json.loads(printed["JSON"])
    values = told["parts"]["small"]["values"]
    gateway = values["gateway"]
    assert set(gateway) == {"files/s", "x the loop's", "CPU ms/file", "peak MiB"}
    assert min(gateway.values()) > 0
    assert [name for name in values if "peak MiB" in values[name]] == ["gateway", *PRESENT]
    assert {"processors", "load", "python", "packages", "quick", "runs"} <= set(told["machine"])


@pytest.mark.needs("nginx")
@pytest.mark.usefixtures("tables")
def test_growth_is_drawn_for_members_and_for_clients(plot):
    svg = ElementTree.parse(plot).getroot()
    assert {"members", "clients"} <= set(svg.itertext())
    assert len(centres(svg)) >= 3 * 3 + 4  # three times for three numbers of members, four crowds


def measured(part: Part, runs: int = 3) -> Result:
    return run(part, runs, lambda _count: None)


@pytest.mark.needs("nginx")
def test_all_parts_are_measured_unless_some_are_named(monkeypatch):
    monkeypatch.setattr(
        "tests.bench.__main__._measure", lambda name, *_, **__: measured(Part(name))
    )
    monkeypatch.setattr("tests.bench.__main__._allow_descriptors", lambda: None)
    asked: list[list[str]] = [[], ["small", "bulk", "small"]]
    said = [tables_of(CliRunner().invoke(main, names).stdout) for names in asked]
    assert [list(each)[:-1] for each in said] == [list(PARTS), ["small", "bulk"]]


def counting(name: str, calls: list[str], *, once: bool = False) -> Subject:
    numbers = count()

    def measure() -> dict[str, float]:
        calls.append(name)
        return {"s": float(next(numbers))}

    return Subject(name, measure, once)


def test_subjects_are_measured_in_turn_after_a_round_that_does_not_count():
    calls: list[str] = []
    result = measured(Part("", (counting("a", calls), counting("b", calls))))
    assert calls == ["a", "b"] * 4
    assert result.values == {"a": {"s": 2}, "b": {"s": 2}}  # of 1, 2 and 3: 0 was the first


def test_what_is_measured_once_is_measured_once():
    calls: list[str] = []
    part = Part("", (counting("a", calls, once=True), counting("b", calls)))
    measured(part)
    assert calls == ["b", "a", "b", "b", "b"]
    assert measurements(part, 3) == len(calls)


def test_a_ratio_is_the_median_of_the_rounds_ratios():
    slow, fast = iter([9, 2, 8, 3]), iter([9, 1, 2, 3])
    part = Part(
        "",
        (
            Subject("slow", lambda: {"s": float(next(slow))}),
            Subject("fast", lambda: {"s": float(next(fast))}),
        ),
        ratios=(Ratio("s", "fast", "x fast's"),),
    )
    assert measured(part).values["slow"] == {"s": 3, "x fast's": 2}


@pytest.mark.parametrize(
    ("value", "at_least", "verdict"),
    [
        (1.0, False, "<= 1 met"),
        (1.1, False, "<= 1 MISSED"),
        (1.0, True, ">= 1 met"),
        (0.9, True, ">= 1 MISSED"),
    ],
)
def test_a_goal_is_met_at_its_limit_and_missed_beyond(value, at_least, verdict):
    goal = Goal("a", "s", 1, at_least)
    result = measured(Part("", (Subject("a", lambda: {"s": value}),), goals=(goal,)))
    assert as_text({"p": result}).splitlines()[-1].split(None, 1) == ["goal", verdict]
    told = json.loads(as_json({"p": result}, {}))["parts"]["p"]["goals"]
    assert [each["met"] for each in told] == [verdict.endswith(" met")]


def drawn(values: dict[str, dict[str, float]], **options: float) -> ElementTree.Element:
    positions = {"ten": 10, "hundred": 100, "thousand": 1000}
    chart = Chart("a & b", "things", positions, ("s", "MiB"), **options)
    return ElementTree.fromstring(as_svg(Result(Part("", charts=(chart,)), values)))


def centres(svg: ElementTree.Element) -> list[tuple[float, float]]:
    circles = svg.iter("{http://www.w3.org/2000/svg}circle")
    return [(float(each.attrib["cx"]), float(each.attrib["cy"])) for each in circles]


def test_a_chart_has_a_point_for_every_value_there_is():
    svg = drawn({"ten": {"s": 1, "MiB": 5}, "hundred": {"s": 2}})
    assert len(centres(svg)) == 3
    assert "a & b" in "".join(svg.itertext())


def test_what_grows_in_proportion_is_drawn_straight():
    (x1, y1), (x2, y2), (x3, y3) = centres(
        drawn({"ten": {"s": 0.2}, "hundred": {"s": 2}, "thousand": {"s": 20}})
    )
    assert x1 < x2 < x3
    assert y1 > y2 > y3
    assert x2 - x1 == pytest.approx(x3 - x2, abs=0.2)
    assert y2 - y1 == pytest.approx(y3 - y2, abs=0.2)


def test_values_too_small_to_mean_anything_are_not_drawn():
    values = {"ten": {"MiB": 0.01}, "hundred": {"MiB": 3}, "thousand": {"MiB": -1}}
    assert len(centres(drawn(values, least=1))) == 1


def test_a_chart_of_nothing_is_empty():
    assert centres(drawn({}, in_proportion=True)) == []


def test_a_plot_of_what_is_not_measured_is_refused(tmp_path):
    target = tmp_path / "growth.svg"
    refused = CliRunner().invoke(main, ["bulk", "--plot", str(target)])
    assert refused.exit_code == 2
    assert "growth" in refused.output
    assert not target.exists()


def test_a_part_that_is_left_out_says_why():
    result = measured(Part("some title", notes=("left out: no reason",)))
    assert as_text({"p": result}) == "p: some title\n(left out: no reason)"

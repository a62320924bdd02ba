"""Results as a drawing: charts side by side in an SVG, all scales logarithmic."""

import math
from collections.abc import Iterator, Mapping
from xml.sax.saxutils import escape

from tests.bench.parts import Chart, Result

_WIDTH, _HEIGHT = 300, 260  # of one chart, in pixels
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 44, 44  # around its curves
_APART = 80  # between two curves' names
_COLOURS = ("#0072b2", "#d55e00", "#009e73")  # told apart by everybody


def as_svg(result: Result) -> str:
    """Draw all charts of a part from what was measured. Columns that are missing are left out."""
    charts = result.part.charts
    drawn = [
        line
        for index, chart in enumerate(charts)
        for line in [
            f'<g transform="translate({index * _WIDTH},0)">',
            *_chart(chart, result.values),
            "</g>",
        ]
    ]
    size = f'width="{len(charts) * _WIDTH}" height="{_HEIGHT}"'
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">'
    )
    paper = '<rect width="100%" height="100%" fill="white"/>'
    return "\n".join([head, paper, *drawn, "</svg>", ""])


class _Scale:
    """Where a value stands between two ends: ``low`` and ``high`` values at ``first``, ``last``."""

    def __init__(self, values: list[float], first: float, last: float) -> None:
        # From a power of ten to the next, so that the ends have names.
        self._low = math.floor(math.log10(min(values)))
        self.low = 10.0**self._low
        self._high = max(math.ceil(math.log10(max(values))), self._low + 1)
        self._first = first
        self._last = last

    def __call__(self, value: float) -> float:
        share = (math.log10(value) - self._low) / (self._high - self._low)
        return self._first + share * (self._last - self._first)

    def marks(self) -> list[float]:
        return [10.0**power for power in range(self._low, self._high + 1)]


def _chart(chart: Chart, values: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    curves = {
        column: [
            (position, values[subject][column])
            for subject, position in chart.positions.items()
            if values.get(subject, {}).get(column, 0) > chart.least
        ]
        for column in chart.columns
    }
    points = [point for curve in curves.values() for point in curve]
    yield f'<text x="{_LEFT}" y="16" font-weight="bold">{escape(chart.title)}</text>'
    if not points:
        return
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    across = _Scale([x for x, _ in points], _LEFT, right)
    up = _Scale([y for _, y in points], bottom, _TOP)
    for mark in across.marks():
        x = across(mark)
        yield f'<path d="M{x:.1f} {_TOP}V{bottom}" stroke="#ddd"/>'
        yield f'<text x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">{mark:,g}</text>'
    for mark in up.marks():
        y = up(mark)
        yield f'<path d="M{_LEFT} {y:.1f}H{right}" stroke="#ddd"/>'
        yield f'<text x="{_LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{mark:,g}</text>'
    middle = (_LEFT + right) / 2
    yield f'<text x="{middle}" y="{_HEIGHT - 10}" text-anchor="middle">{escape(chart.axis)}</text>'
    for index, (column, curve) in enumerate(curves.items()):
        colour = _COLOURS[index]
        line = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in curve)
        yield f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>'
        for x, y in curve:
            yield f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="3" fill="{colour}"/>'
        x = _LEFT + index * _APART
        yield f'<text x="{x}" y="34" fill="{colour}">{escape(column)}</text>'
    if chart.in_proportion:
        (x, y), (low, _) = max(points), min(points)
        start = max(low, x * up.low / y)  # not below the chart
        ends = f"{across(start):.1f},{up(y * start / x):.1f} {across(x):.1f},{up(y):.1f}"
        yield f'<polyline points="{ends}" fill="none" stroke="#888" stroke-dasharray="2 3"/>'

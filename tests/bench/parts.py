"""What a part of the benchmark is: subjects to measure, ratios between them, and goals.

Knows nothing of servers, and only that a measurement gives numbers by the name of a column.
"""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Values = dict[str, float]


@dataclass(frozen=True)
class Subject:
    """Something that is measured; ``measure`` gives a number for each column that it knows.

    One that is measured once takes long and is not about speed: it is neither warmed up nor
    repeated.
    """

    name: str
    measure: Callable[[], Values]
    once: bool = False


@dataclass(frozen=True)
class Ratio:
    """A column's values divided by one subject's."""

    column: str
    reference: str
    name: str


@dataclass(frozen=True)
class Goal:
    """What a subject's value in a column should be at least, or at most."""

    subject: str
    column: str
    limit: float
    at_least: bool = False

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.limit:g}"

    def is_met(self, value: float) -> bool:
        """Tell whether a value is good enough."""
        return value >= self.limit if self.at_least else value <= self.limit


@dataclass(frozen=True)
class Chart:
    """Columns of some subjects, drawn against each one's position, which is on ``axis``.

    Values up to ``least`` are too small to mean anything. ``in_proportion`` adds a dotted line:
    what would grow in proportion and end where the highest curve does.
    """

    title: str
    axis: str
    positions: Mapping[str, float]
    columns: tuple[str, ...]
    least: float = 0
    in_proportion: bool = False


@dataclass(frozen=True)
class Part:
    """Subjects with what they are compared by. One without subjects says in a note why."""

    title: str
    subjects: tuple[Subject, ...] = ()
    ratios: tuple[Ratio, ...] = ()
    goals: tuple[Goal, ...] = ()
    notes: tuple[str, ...] = ()
    charts: tuple[Chart, ...] = ()


@dataclass(frozen=True)
class Result:
    """Medians by subject and column; a ratio's is that of the rounds' ratios."""

    part: Part
    values: Mapping[str, Values]

    def columns(self) -> list[str]:
        """Give all columns in the order in which they came up."""
        return list(dict.fromkeys(name for row in self.values.values() for name in row))

    def goals(self, subject: str) -> dict[str, Goal]:
        """Give a subject's goals by column."""
        return {goal.column: goal for goal in self.part.goals if goal.subject == subject}


def measurements(part: Part, runs: int) -> int:
    """Count the measurements of a part, the warming up among them."""
    return sum(1 if subject.once else runs + 1 for subject in part.subjects)


def run(part: Part, runs: int, done: Callable[[int], object]) -> Result:
    """Measure all subjects in turn, ``runs`` times and once before; ``done`` counts them.

    In turn, so that whatever the machine does meanwhile does it to all of them.
    """
    measured: dict[str, list[Values]] = {subject.name: [] for subject in part.subjects}
    for round_number in range(runs + 1):
        this_round: dict[str, Values] = {}
        for subject in part.subjects:
            if not subject.once or round_number == 1:
                this_round[subject.name] = subject.measure()
                done(1)
        if round_number:
            for name, values in this_round.items():
                measured[name].append(_with_ratios(values, this_round, part.ratios))
    return Result(part, {name: _medians(values) for name, values in measured.items()})


def _with_ratios(
    values: Values, this_round: Mapping[str, Values], ratios: tuple[Ratio, ...]
) -> Values:
    """Put each ratio after the column it is made of."""
    complete: Values = {}
    for column, value in values.items():
        complete[column] = value
        for ratio in ratios:
            reference = this_round.get(ratio.reference, {}).get(ratio.column)
            if ratio.column == column and reference:
                complete[ratio.name] = value / reference
    return complete


def _medians(measured: list[Values]) -> Values:
    # A ratio may be missing from a round in which the reference was too small to be seen.
    columns = dict.fromkeys(column for values in measured for column in values)
    return {
        column: statistics.median(values[column] for values in measured if column in values)
        for column in columns
    }

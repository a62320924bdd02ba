"""The soak runs from end to end and notices what grows; how long it holds is for its command."""

from collections import Counter

import pytest

from tests import soak
from tests.soak import GROWTH, Round, growth


@pytest.mark.alone
def test_a_worker_under_load_and_faults_gives_only_right_answers_and_holds_no_more(capsys):
    assert soak.main(["--minutes", "0.13", "--rounds", "4"]) == 0, capsys.readouterr().out
    header, *rows = capsys.readouterr().out.splitlines()[:5]
    assert header.split()[:4] == ["round", "MiB", "descriptors", "threads"]
    assert [row.split()[0] for row in rows] == ["1", "2", "3", "4"]
    # What allocators and pools find they need, and no more: a block that splits the heap for
    # each of some hundred requests comes to ten times as much.
    first, *_, last = (float(row.split()[1]) for row in rows)
    assert last - first < 6


@pytest.mark.parametrize(
    ("values", "grown"),
    [([5, 5, 5], 0), ([1, 2, 3], 2), ([3, 2, 1], -2), ([5, 7, 5], 0), ([0, 0, 0, 10], 9)],
)
def test_growth_is_that_of_the_straight_line_that_fits_best(values, grown):
    assert growth(values) == pytest.approx(grown)


def rounds(outcomes: Counter[str], **held: list[float]) -> list[Round]:
    level = {"MiB": 50.0, "descriptors": 60.0, "threads": 80.0}
    return [
        Round(level | {what: values[index] for what, values in held.items()}, outcomes)
        for index in range(8)
    ]


GOOD = Counter(right=10, refused=2, broken=1, left=3)


@pytest.mark.parametrize(
    ("done", "said"),
    [
        (rounds(GOOD), 0),
        (rounds(GOOD, MiB=[50 + 10 * min(i, 4) for i in range(8)]), 0),
        (rounds(GOOD, MiB=[50.0 + 10 * i for i in range(8)]), 1),
        (rounds(GOOD, descriptors=[60.0 + 4 * i for i in range(8)]), 1),
        (rounds(GOOD, threads=[80.0 + 2 * i for i in range(8)]), 1),
        (rounds(GOOD + Counter({"WRONG: 200, 5 bytes": 1})), 1),
        (rounds(Counter(refused=10)), 1),
    ],
    ids=[
        *("flat", "grows at first", "memory", "descriptors", "threads"),
        *("a wrong response", "nothing but refusals"),
    ],
)
def test_what_a_run_says(done: list[Round], said: int, monkeypatch):
    monkeypatch.setattr(soak, "run", lambda *_: done)
    assert soak.main([]) == said


def test_every_quantity_is_bound():
    assert set(GROWTH) == set(rounds(GOOD)[0].held)

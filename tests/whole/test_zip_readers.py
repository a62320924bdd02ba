"""The table in `docs/formats.md`: which reader reads which zip. It is made here, and compared.

The cases over 4 GiB take minutes, so they run with ``ALL_READERS=1`` only.
"""

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.zip_readers import CASES, READERS, Case, Reader, reads

DOCS = Path(__file__).parents[2] / "docs/formats.md"
HEADINGS = ["Reader", *(case.name for case in CASES)]

# Those that are run: a quarter of a GiB is written for a large one.
RUN = [case for case in CASES if not case.is_large or os.environ.get("ALL_READERS")]

pytestmark = pytest.mark.alone


def rows() -> Iterator[list[str]]:
    """Give the cells of the table's rows, the heading's first."""
    text = DOCS.read_text("utf-8").partition("\n| Reader |")
    for line in "".join(text[1:]).strip().split("\n\n")[0].splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
        if not line.startswith("|--"):
            yield cells


@cache
def table() -> dict[str, list[str]]:
    return {first: rest for first, *rest in rows()}


@pytest.fixture(scope="module", params=RUN, ids=lambda case: case.name)
def case(request) -> Case:
    return request.param


@pytest.fixture(scope="module")
def file(case: Case, tmp_path_factory) -> Iterator[Path]:
    file = tmp_path_factory.mktemp("zip") / "a.zip"
    case.write(file)
    yield file
    file.unlink()


@pytest.mark.parametrize(
    "reader",
    [pytest.param(each, id=each.name, marks=pytest.mark.needs(*each.programs)) for each in READERS],
)
def test_the_table_says_what_a_reader_reads(reader: Reader, case: Case, file: Path, tmp_path):
    written = table()[reader.name][CASES.index(case)]
    read = "yes" if reads(reader, case, file, tmp_path / "place") else "no"
    assert written == read, f"docs/formats.md is out of date: {reader.name}, {case.name}: {read}"


def test_the_table_has_these_readers_and_cases():
    assert list(table()) == ["Reader", *(reader.name for reader in READERS)]
    assert table()["Reader"] == HEADINGS[1:]

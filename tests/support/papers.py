"""What the papers say, for the tests: sections, tables, and the blocks that are run.

A block that tests run stands below a marker of its own, such as ``<!-- example: flask -->``.
"""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAPERS = {
    path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
    for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("deploy/*.md")])
}

_BLOCK = re.compile(r"^<!-- (\w+: .+?) -->\n```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)

# Every marker and the block below it, in the order of the papers; a marker may wrongly recur.
BLOCKS = [found.groups() for text in PAPERS.values() for found in _BLOCK.finditer(text)]


def block(marker: str) -> str:
    """Return the lines of the block below a marker, without its fences."""
    found = [lines for name, lines in BLOCKS if name == marker]
    assert len(found) == 1, f"the papers have {len(found)} blocks marked {marker!r}, not one"
    return found[0]


def prose(text: str) -> str:
    """Return a paper without its fenced blocks, in which a # is a comment."""
    return _FENCED.sub("", text)


def headings(text: str) -> list[str]:
    return [found[2] for found in _HEADING.finditer(prose(text))]


def section(title: str) -> str:
    """Return what stands below a heading, up to the next one, in the paper that has it."""
    found = []
    for text in PAPERS.values():
        parts = _HEADING.split(prose(text))
        pairs = zip(parts[2::3], parts[3::3], strict=True)
        found += [below for name, below in pairs if name == title]
    assert len(found) == 1, f"the papers have {len(found)} sections called {title!r}, not one"
    return found[0]


def rows(title: str) -> list[list[str]]:
    """Return the cells of the table below a heading, without those of its head."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]

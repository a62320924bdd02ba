"""A directory's listing as a page with one form. Pure: what is listed in, HTML out."""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape

from tar_gateway.archive.bundle import FORMATS
from tar_gateway.archive.picks import base36, listing_digest
from tar_gateway.sources import Listed
from tar_gateway.web.browse import texts
from tar_gateway.web.browse.names import (
    date_in_html,
    name_in_html,
    natural_key,
    reference_to,
    size_in_words,
)
from tar_gateway.web.browse.shell import Look

# Systems whose own file manager opens zips, and tars late or never.
_PREFERS_ZIP = re.compile("Windows|Android|iPhone|iPad|Mobile")

COLUMNS = ("name", "size", "date")

Sign = Callable[[str], str]


def _as_it_is(reference: str) -> str:
    return reference


@dataclass(frozen=True, slots=True)
class View:
    """What a page shows.

    ``path`` is the directory's, below ``mount``, which is written as a URL has it. ``time`` is when
    it was listed, in seconds since 1970. ``sort`` is one of `COLUMNS`, with ``-`` before it for the
    other direction. ``sign`` makes a reference one that may be asked for. Without ``is_whole`` the
    directories above may not be asked for, and without ``has_files`` no plain files.
    """

    path: str
    entries: Sequence[Listed]
    time: int
    mount: str = ""
    sort: str = "name"
    user_agent: str = ""
    parameter: str = "bundle"
    max_members: int = 10_000
    sign: Sign = _as_it_is
    is_whole: bool = True
    has_files: bool = True


def render(view: View, look: Look) -> bytes:
    """Return the page of a directory."""
    name = view.path.rstrip("/").rpartition("/")[2]
    title = f"{name} - {look.title}" if name else look.title
    return look.document(title, _header(view, look) + _form(view), picks=True)


def _header(view: View, look: Look) -> str:
    """Return the title, and the way here: each directory above as a link where it is to be had."""
    segments = view.path.split("/")[:-1]
    steps = []
    for depth, name in enumerate(["", *segments]):
        text = name_in_html(name) if depth else texts.TOP
        above = len(segments) - depth
        if not above:
            steps.append(f"<li aria-current=page>{text}")
        elif view.is_whole:
            steps.append(f'<li><a href="{"../" * above}">{text}</a>')
        else:
            steps.append(f"<li><span data-up={above}>{text}</span>")
    return (
        f"<header><h1 class=title>{escape(look.title)}</h1>\n"
        f'<nav aria-label="{texts.WHERE}"><ol>{"".join(steps)}</ol></nav></header>\n'
    )


def _form(view: View) -> str:
    marked = sorted(each.marked for each in view.entries)
    version = f"{listing_digest(marked)}.{base36(view.time)}"
    right = "" if view.is_whole else "&browse"
    action = escape(view.sign(f"?{view.parameter}&pick{right}"))
    head = (
        f'<main><form method=post action="{action}" data-of={version} '
        f'data-most={view.max_members} data-texts="{escape(json.dumps(texts.SCRIPT))}">\n'
        f"<input type=hidden name=of value={version}>\n"
    )
    if not view.entries:
        return f"{head}<p class=empty>{texts.EMPTY}</p></form></main>"
    tools = (
        "<div class=tools>"
        f"<label class=all><input type=checkbox name=all value=yes> "
        f"<span>{texts.EVERYTHING}</span></label>"
        f"<label class=filter hidden>{texts.FILTER} <input type=search></label></div>\n"
        "<p class=notice role=status hidden></p>\n"
    )
    return f"{head}{tools}{_table(view, marked)}{_bar(view)}</form></main>"


def _table(view: View, marked: Sequence[str]) -> str:
    index = {name: number for number, name in enumerate(marked)}
    rows = "\n".join(_row(each, index[each.marked], view) for each in _sorted(view))
    here = name_in_html(view.path) if view.path else f"<bdi>{texts.TOP}</bdi>"
    heads = "".join(
        _column(view, column, text)
        for column, text in zip(COLUMNS, (texts.NAME, texts.SIZE, texts.DATE), strict=True)
    )
    return (
        f"<div class=rows><table><caption>{texts.CAPTION.format(directory=here)}</caption>\n"
        f"<thead><tr><th scope=col class=tick><span class=away>{texts.SELECTED}</span>"
        f"{heads}</thead>\n<tbody>\n{rows}\n</tbody></table></div>\n"
    )


def _column(view: View, column: str, text: str) -> str:
    """Return a column's head, whose link sorts by it, or the other way where it is sorted so."""
    column_now, down = view.sort.removeprefix("-"), view.sort.startswith("-")
    other = f"-{column}" if column == column_now and not down else column
    said = ""
    if column == column_now:
        said = f" aria-sort={'descending' if down else 'ascending'}"
    link = escape(view.sign(f"?browse&sort={other}"))
    return f'<th scope=col class={column}{said}><a href="{link}">{text}</a>'


def _row(each: Listed, index: int, view: View) -> str:
    shown, reference = name_in_html(each.name), reference_to(each.marked)
    kind = " class=folder" if each.is_directory else ""
    link = view.sign(reference if view.is_whole or not kind else f"{reference}?browse")
    name = f'<a id=n{index} href="{escape(link)}">{shown}</a>'
    if not (each.is_directory or view.has_files):
        link, name = "", f"<span id=n{index}>{shown}</span>"
    told = "" if link == reference else f' data-r="{escape(reference)}"'
    if each.is_directory:
        size = texts.FOLDER
    elif each.size is None:
        size = f"<span class=away>{texts.UNKNOWN}</span>"
    else:
        size = f"<data value={each.size}>{size_in_words(each.size)}</data>"
    date = "" if each.mtime is None else date_in_html(each.mtime)
    return (
        f"<tr{kind}><td><input type=checkbox name=row value={index} aria-labelledby=n{index}>"
        f"<th scope=row{told}>{name}<td>{size}<td>{date}"
    )


def _bar(view: View) -> str:
    zip_first = _PREFERS_ZIP.search(view.user_agent) is not None
    formats = sorted(FORMATS, key=lambda name: (name == "zip") != zip_first)
    options = "".join(f"<option value={name}>{texts.FORMATS[name]}" for name in formats)
    return (
        "<div class=bar>"
        f"<p class=sum role=status aria-live=polite>{texts.HOW}</p>\n"
        f"<p class=more hidden></p>\n"
        f"<div class=do><label>{texts.FORMAT} <select name=format>{options}</select></label>\n"
        f"<button class=main>{texts.DOWNLOAD}</button></div></div>\n"
    )


def _sorted(view: View) -> Iterable[Listed]:
    """Return the entries as people look for them: directories first, numbers by their value."""
    column, down = view.sort.removeprefix("-"), view.sort.startswith("-")
    entries = sorted(view.entries, key=lambda each: natural_key(each.name), reverse=down)
    if column == "size":
        entries.sort(key=lambda each: -1 if each.size is None else each.size, reverse=down)
    elif column == "date":
        entries.sort(key=lambda each: -1 if each.mtime is None else each.mtime, reverse=down)
    entries.sort(key=lambda each: not each.is_directory)
    return entries

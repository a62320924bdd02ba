"""How names, sizes and dates are written into a page; every name is hostile.

Pure: texts and numbers in, HTML out.
"""

import re
import unicodedata
from datetime import UTC, datetime
from html import escape

from tar_gateway.http.paths import url_segment

# Without a glyph of their own, though they are no format characters: fillers, and selectors that
# may follow anything.
_FILLERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")

# Joiners are part of how many languages and emoji are written, and turn nothing around.
_JOINERS = frozenset("\u200c\u200d")

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})

_UNITS = ("kB", "MB", "GB", "TB", "PB", "EB")

_NUMBER = re.compile(r"([0-9]+)")


def name_in_html(name: str) -> str:
    """Return a name as HTML: isolated, so that it turns nothing around it, and all of it visible.

    A character that no one would see, or that orders the others, stands there as its code.
    """
    if name.isascii() and name.isprintable():
        return f"<bdi>{escape(name, quote=False)}</bdi>"
    return f"<bdi>{''.join(map(_visible, name))}</bdi>"


def _visible(character: str) -> str:
    hidden = unicodedata.category(character) in _HIDDEN and character not in _JOINERS
    if hidden or character in _FILLERS:
        return f"<i>U+{ord(character):04X}</i>"
    return escape(character, quote=False)


def reference_to(name: str) -> str:
    """Return a reference to what lies directly below the page's directory.

    A directory's ends with a slash. A name with a colon is no scheme behind ``./``.
    """
    segment, slash, _ = name.partition("/")
    return "./" + url_segment(segment) + slash


def size_in_words(size: int) -> str:
    """Write a number of bytes for people, to three digits: ``48.2 kB``; 1 kB is 1,000 bytes."""
    if size < 1000:
        return f"{size} {'byte' if size == 1 else 'bytes'}"
    value = float(size)
    for unit in _UNITS:
        value /= 1000
        if value < 999.5 or unit == _UNITS[-1]:
            break
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f} {unit}"


def date_in_html(mtime: int) -> str:
    """Write a moment, in seconds since 1970, as ``<time>`` in UTC; empty for none or an odd one."""
    try:
        text = datetime.fromtimestamp(mtime, UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return ""
    return f"<time datetime={text[:19]}Z>{text[:10]} {text[11:16]}</time>"


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Return what sorts names as people do: without case, and numbers by their value."""
    parts = _NUMBER.split(name.casefold())
    return tuple(
        (1, int(part), "") if index % 2 else (0, 0, part) for index, part in enumerate(parts)
    )

"""What a member's name may be, and how it is written into an upstream's URL.

A name is text that was decoded exactly once. It is checked here, and what the upstream sees
is made from what was checked. Pure text: this file knows of no request and no archive.
"""

import re
from urllib.parse import quote, unquote_to_bytes

MAX_NAME_BYTES = 4096  # PATH_MAX: nothing longer can be unpacked

# What Unicode calls control characters (category Cc), C0 and C1.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

# Segments that Windows takes for a device, whatever their case and extension.
_DEVICE = re.compile(
    r"(?:\A|/)((?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³]) *(?:\.[^/]*)?)(?=/|\Z)",
    re.IGNORECASE | re.ASCII,
)

# What Windows takes for the root of a drive. `Q: notes.txt` is a file's name elsewhere, and a name
# with a colon is one that `STRICT_NAMES` refuses.
_DRIVE = re.compile(r"[A-Za-z]:(?:/|\Z)")


class BadName(ValueError):
    """A name that is refused; the text says why, as the end of a sentence."""


def check_name(name: str, *, limit: int = MAX_NAME_BYTES) -> None:
    """Refuse a name that is anything but a plain relative path of at most ``limit`` bytes.

    Raise `BadName` for what is empty, absolute, climbing, not text, or would become absolute or
    climbing, or get a control character, in an upstream that decodes once more than it should.
    Whatever else it would become, it is the name of a file: ``70%cacao.pdf``.
    """
    if not name:
        raise BadName("is empty")
    try:
        length = len(name.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise BadName("is not valid UTF-8") from error
    if length > limit:
        raise BadName(f"is longer than {limit} bytes")
    _check_once(name)
    if "%" in name:
        again = _OVERLONG.sub(_as_ascii, unquote_to_bytes(name))
        try:
            _check_once(again.decode("utf-8", "replace"))
        except BadName as error:
            raise BadName(f"{error} when it is decoded once more") from error


def device_in(name: str) -> str | None:
    """Return the first segment that is a device on Windows (``CON``, ``aux.txt``), if any."""
    found = _DEVICE.search(name)
    return found[1] if found else None


def decode_form_value(quoted: str) -> str:
    """Undo the encoding of a query's or form's part, where ``+`` is a space.

    Raise `BadName` for what is not UTF-8.
    """
    return decode_text(unquote_to_bytes(quoted.replace("+", " ")))


# What a segment may have as it stands (RFC 3986 3.3), and servers that decode as JavaScript's
# decodeURI does want so. But servlets cut a segment at a semicolon, and stores take + for a space.
_PLAIN = "!$&'()*,:=@"

# A path as a URL may have it, every escape well formed.
_SPELLED = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;:=@/-]|%[0-9A-Fa-f]{2})*")


def url_path(name: str) -> str:
    """Write a checked name as a URL's path without a leading slash, always in the same spelling."""
    return "/".join(map(url_segment, name.split("/")))


def url_segment(segment: str | bytes) -> str:
    """Write one segment of a URL's path; a slash in it is ``%2F``."""
    return quote(segment, safe=_PLAIN)


def below(path: str, prefix: bytes) -> str | None:
    """Return what follows a prefix in a URL's path, however it is spelled; `None` if elsewhere.

    A query may follow the path.
    """
    position = 0
    for byte in prefix:
        first = path[position : position + 1]
        width = 3 if first == "%" else 1
        if first == "?" or unquote_to_bytes(path[position : position + width]) != bytes((byte,)):
            return None
        position += width
    return path[position:]


def is_spelling(path: str, name: str) -> bool:
    """Return whether a URL's path, without a leading slash, may stand for a checked name.

    It decodes to the name, and no segment vanishes where parameters are cut off it.
    """
    vanishes = any(segment.startswith((";", ".;")) for segment in name.split("/"))
    same = unquote_to_bytes(path) == name.encode("utf-8")
    return same and not vanishes and _SPELLED.fullmatch(path) is not None


def decode_path(quoted: str) -> str:
    """Undo the encoding of a URL's path. Raise `BadName` for what is not UTF-8."""
    return decode_text(unquote_to_bytes(quoted))


def decode_text(raw: bytes) -> str:
    """Read bytes as UTF-8, strictly: raises `BadName` for anything else."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadName("is not valid UTF-8") from error


def shown(text: str) -> str:
    """Show a name within an error: in quotes, on one line, and never longer than that."""
    readable = text[:120].encode("utf-8", "backslashreplace").decode("utf-8")
    readable = "".join(c if c.isprintable() else repr(c)[1:-1] for c in readable)
    return f"'{readable}{'…' if len(text) > 120 else ''}'"


# ASCII in more bytes than it takes, which RFC 3629 forbids; old decoders read a slash or dot there.
_OVERLONG = re.compile(
    rb"(?:[\xc0\xc1]|(?:\xe0|\xf0\x80|\xf8\x80\x80|\xfc\x80\x80\x80)[\x80\x81])[\x80-\xbf]"
)


def _as_ascii(overlong: re.Match[bytes]) -> bytes:
    *_, high, low = overlong[0]
    return bytes([(high & 1) << 6 | low & 0x3F])


def _check_once(name: str) -> None:
    if _CONTROL.search(name):
        raise BadName("contains a control character")
    if "\\" in name:
        raise BadName("contains a backslash")
    if name.startswith("/"):
        raise BadName("starts with a slash")
    if _DRIVE.match(name):
        raise BadName("starts with a drive letter")
    for segment in name.split("/"):
        if not segment:
            raise BadName("contains an empty segment")
        if segment in {".", ".."}:
            raise BadName(f"contains the segment '{segment}'")
        if segment.startswith("..;"):  # servlets take it for `..`, and proxies decode its `%3B`
            raise BadName("contains the segment '..' with a parameter")


# --- what can be unpacked side by side ------------------------------------------------------------

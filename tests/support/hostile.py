"""Hostile names, and every way by which a name reaches the gateway.

A name is given as the bytes that it has once it was decoded. Tables only: what they prove is in
`tests.whole.test_hostile_names`, and `tests.fuzz` begins with them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
PARTS = "multipart/form-data; boundary=b"

_UNRESERVED = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"


def escaped(name: bytes, but: bytes = b"") -> str:
    """Write every byte as an escape, but for some that stand as they are."""
    return "".join(chr(byte) if byte in but else f"%{byte:02X}" for byte in name)


def expected_path(name: bytes) -> str:
    """Write a name as an upstream has to see it."""
    return escaped(name, _UNRESERVED + b"/!$&'()*,:=@")


# --- refused --------------------------------------------------------------------------------------

_CLIMBING = [
    *(b"", b".", b"..", b"./a", b"../a", b"../../a", b"a/.", b"a/..", b"a/./b", b"a/../b"),
    *(b"a/../../b", b"../", b"a/b/../../../c"),
    # Servlets cut a segment at a semicolon.
    *(b"..;", b"..;/a", b"a/..;v=1/b", b"..;%2e/a"),
    *(b"/", b"//", b"/a", b"//a", b"//host/a", b"/etc/passwd", b"/..", b"/../a"),
    *(b"a//b", b"a///b", b"a//", b"http://host/a", b"file:///etc/passwd"),
    *(b"\\", b"\\a", b"..\\a", b"a\\b", b"a\\", b"a\\..\\b", b"\\\\host\\a", b"a/..\\b", b".\\a"),
    *(b"C:", b"C:/a", b"C:\\a", b"z:/../a", b"Z:/a"),
]
_CONTROL = [
    *(b"a%cb" % code for code in [*range(0x20), 0x7F]),
    *(f"a{chr(code)}b".encode() for code in range(0x80, 0xA0)),
    *(b"\0", b"\0a", b"a\0", b"a\0/../b", b"a.pdf\0.txt", b"\na", b"a\n", b"\r", b"a\r", b"\ta"),
    *(b"a\r\nX-A: b", b"a HTTP/1.1\r\nHost: b\r\n\r\nGET /c", b"\x1b[2J", b"a\r\n\r\nb"),
]
_NO_UTF8 = [
    *(b"\xff", b"\xfe", b"a\xff/b", b"\x80", b"\xbf", b"\xc3", b"a\xc3", b"\xc3(", b"\xc3/\xa9"),
    *(b"\xe2\x82", b"\xf0\x9f\x98", b"\xe2(\xa1", b"\xf0(\x8c\xbc", b"\xe9", b"F\xfc\xdfe"),
    # Overlong forms of the dot, the slash, the backslash and NUL.
    *(b"\xc0\xae", b"\xc0\xae\xc0\xae/a", b".\xc0\xae/a", b"\xe0\x80\xae\xe0\x80\xae/a"),
    *(b"\xf0\x80\x80\xae", b"\xc0\xaf", b"..\xc0\xafa", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf"),
    *(b"\xf8\x80\x80\x80\xaf", b"\xfc\x80\x80\x80\x80\xaf", b"\xc1\x9c", b"\xe0\x81\x9c"),
    *(b"\xc0\x80", b"\xe0\x80\x80", b"\xc1\xbf"),
    # Surrogates, alone and as a pair, and what is behind the last character.
    *(b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xed\xa0\xbd\xed\xb8\x80", b"\xf4\x90\x80\x80"),
    *(b"\xf5\x80\x80\x80", b"\xff\xfe.\x00", b"\xf7\xbf\xbf\xbf"),
]
_ONCE = [*_CLIMBING, *_CONTROL, *_NO_UTF8]
_HALF_ESCAPED = [
    *(b"%2e%2e/a", b"%2E%2e/a", b".%2e/a", b"%2e./a", b"%2e/a", b"a/%2e%2e", b"a/%2E/b"),
    *(b"..%2fa", b"..%2Fa", b"a%2f..%2fb", b"%2fetc", b"a%2f", b"a%2f%2fb", b"a%2F/b", b"%2f"),
    *(b"..%3ba", b"..%3B/a", b"%2e%2e;/a"),
    *(b"..%5ca", b"..%5Ca", b"a%5cb", b"%5c%5chost", b"c%3a/a", b"%43:/a", b"%63%3A"),
    *(b"a%00", b"a%00.txt", b"%00", b"a%0ab", b"a%0d%0aX-A:%20b", b"%7f", b"%09a", b"%1b[2J"),
    *(b"%c0%ae%c0%ae/a", b"\xc3%28", b"a%c2%85b", b"%c1%9ca", b"%e0%80%afa", b"a%c0%80"),
    *(b"%f0%80%80%ae/a", b"%f8%80%80%80%afa", b"%fc%80%80%80%80%afa", b"c%c0%ba/a", b".%e0%80%ae"),
    *(b"%ff/%2e%2e/a", b"%2e%2e/%ff", b"a%ff%5cb", b"%C3%2f", b"%80%00"),
    "ü/%2e%2e/é".encode(),
    b"100%/%2e%2e/b",
]
REFUSED = list(
    dict.fromkeys(
        [
            *_ONCE,
            *(escaped(name).encode() for name in (*_CLIMBING, *_CONTROL) if name),
            *_HALF_ESCAPED,
            b"x" * 4097,
            "é".encode() * 2049,
            b"a/" * 2048 + b"b",
        ]
    )
)


# --- kept, byte for byte --------------------------------------------------------------------------

KEPT = [
    *(b"%", b"%%", b"100%", b"50%25", b"%2", b"%zz", b"a%20b", b"%41", b"a%/b", b"%u002e"),
    *(b"a%ff", b"%C3", b"%ed%a0%80", b"%80", b"70%cacao.pdf", b"100%de remise.pdf", b"20%aandeel"),
    *(b"F%fc%dfe", b"%e2%82", b"%f5%80%80%80", b"%c3(", b"a%fe/b", b"100%c9/%aa", b"%ff%fe.%%"),
    *(b"%252e%252e/a", b"%252fetc", b"%25", b"%2525", b"a%2fb", b"%C3%BC", b"%e2%80%ae"),
    *(b";", b"a;b", b"a;v=1/b", b";/a", b".;a", b"a;jsessionid=1", b"@", b"a@b", b"user@host/a"),
    *(b"c:a", b"c:a/b", b"a:80", b"A:..", b"Q: notes.txt", b"c%3aa", b"%43:a", b"a/C:/b", b"C:%zz"),
    *(b"ab:c", b"1:", b":", b":a", b"a/C:", b"http:a", b"#", b"a#b", b"a/#/b"),
    *(b"?", b"a?b", b"?a=b", b"a?bundle=b", b"a/?/b", b"&", b"a&b", b"a&bundle=b", b"=", b"a=b"),
    *(b"+", b"a+b", b",", b"a,b", b" ", b" a", b"a ", b"a b", b"a. ", b"a/ /b"),
    *(b"...", b"....", b"..a", b"a..", b".a", b"a.", b".../a", b"a/.b", b"a/..b", b". .", b".. "),
    *(b"-", b"--", b"-a", b"--help", b"-rf", b"--checkpoint-action=exec=sh", b"a/-b", b"-C/a"),
    *(b"~", b"~root/a", b"$HOME", b"$(id)", b"`id`", b"'", b'"', b"<a>", b"|", b"*", b"a*?[b]"),
    *(b"{a}", b"[a]", b"^", b"!", b"(a)", b"_", b"{}", b"%s%n", b"a'b\"c", b"<script>", b"';--"),
    *(b"CON", b"nul", b"aux.txt", b"COM1", b"a/PRN", b"@LongLink", b"PaxHeaders.0/a", b"@file"),
    *(b"pax_global_header", b"0", b"null", b"true", b"\xc2\xa0"),
    *(
        text.encode()
        for text in [
            *("ü", "e\u0301", "Füße", "日本語", "한국어", "العربية", "עברית", "🎉", "👩\u200d💻"),
            # Full-width and other look-alikes of the dot, the slash, the backslash and the colon.
            *("\uff0e\uff0e/a", "\uff0e", "\uff0f", "a\uff0fb", "\uff3c", "\u2024\u2024/a"),
            *("\u2215", "\u2044", "\uff1a", "\uff052e", "c\uff1a", "\u29f5", "\ufe52\ufe52/a"),
            *("\u202etxt.exe", "\ufeffa", "a\u2028b", "a\u2029b", "\u200b", "a\u00adb", "\ufffd"),
            *("\uffff", "\U0010ffff", "\ue000", "\U0001f600/\U0001f601", "\u0130", "ß", "ﬁ"),
        ]
    ),
    *(b"x" * 100, b"x" * 101, b"x" * 255, b"x" * 256, b"x" * 4096, "é".encode() * 2048),
    *((b"d" * 50 + b"/") * 3 + b"f", (b"d" * 255 + b"/") * 15 + b"f" * 255),
]


# --- ways -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    """A request to a gateway, and what its upstream has to hold for it.

    ``path`` is as a WSGI server gives it; ``lists`` are whole answers of the upstream by path,
    which may be asked for, and ``is_list`` says that they are lists for an archive.
    """

    path: str = "/d/"
    query: str = ""
    body: bytes | None = None
    media_type: str = ""
    lists: Mapping[str, bytes] = field(default_factory=dict)
    is_list: bool = False


_BY_URL = bytes(byte for byte in range(0x21, 0x7F) if byte not in b"%&+,#")


def _json_text(name: bytes) -> bytes:
    plain = b"".join(
        b"\\u%04x" % byte if byte < 0x20 or byte in b'"\\' else bytes([byte]) for byte in name
    )
    return b'"' + plain + b'"'


def in_parts(*values: bytes) -> bytes:
    """Write a form of the field ``bundle`` in parts, as `PARTS` says."""
    head = b'--b\r\nContent-Disposition: form-data; name="bundle"\r\n\r\n'
    return b"".join(head + value + b"\r\n" for value in values) + b"--b--\r\n"


def _posted(document: bytes) -> Call:
    return Call(query="bundle", body=document, media_type=JSON)


def _manifest(document: bytes) -> Call:
    return Call(query="bundle&manifest=all.json", lists={"/base/d/all.json": document})


def _by_path(name: bytes) -> bytes:
    return b'{"members": [{"path": ' + _json_text(name) + b', "name": "n"}]}'


def _by_name(name: bytes) -> bytes:
    return b'{"members": [{"path": "p", "name": ' + _json_text(name) + b"}]}"


def _line(line: bytes) -> Call:
    return Call("/list", lists={"/base/list": line}, is_list=True)


Way = Callable[[bytes], Call]

# Ways by which the name of a file is given: that is what the upstream must be asked for.
AS_PATH: dict[str, Way] = {
    "query": lambda name: Call(query="bundle=" + escaped(name)),
    "query, little escaped": lambda name: Call(query="bundle=" + escaped(name, _BY_URL)),
    "query, second": lambda name: Call(query="bundle=p," + escaped(name)),
    "form": lambda name: Call(
        query="bundle", body=b"bundle=" + escaped(name).encode(), media_type=FORM
    ),
    "form, little escaped": lambda name: Call(
        query="bundle",
        body=b"bundle=" + escaped(name, _BY_URL + b",").encode(),
        media_type=FORM,
    ),
    "form in parts": lambda name: Call(query="bundle", body=in_parts(name), media_type=PARTS),
    "JSON": lambda name: _posted(b'{"members": [' + _json_text(name) + b"]}"),
    "JSON path": lambda name: _posted(_by_path(name)),
    "manifest": lambda name: _manifest(b'{"members": [' + _json_text(name) + b"]}"),
    "manifest path": lambda name: _manifest(_by_path(name)),
    "manifest itself": lambda name: Call(query="bundle&manifest=" + escaped(name)),
    "list's location": lambda name: _line(b"- - /" + escaped(name, b"/").encode() + b" n\n"),
    "directory": lambda name: Call("/" + name.decode("latin-1") + "/", "bundle=p"),
    "plain path": lambda name: Call("/" + name.decode("latin-1")),
}

# Ways by which an entry of the archive is called.
AS_NAME: dict[str, Way] = {
    "JSON name": lambda name: _posted(_by_name(name)),
    "manifest name": lambda name: _manifest(_by_name(name)),
    "list's name": lambda name: _line(b"- 1 /p " + name + b"\n"),
    "list's directory": lambda name: _line(b"- 0 @directory " + name + b"\n"),
}


# Names of directories, by the path that the upstream is then asked for below the request's own.
DIRECTORIES = {b"./": "", b"a/": "a/", b"a/b/": "a/b/", b".../": ".../", b" /": "%20/"}

# Ways by which everything below a directory may be asked for; no other way has a slash at its end.
AS_DIRECTORY = (
    *("query", "query, little escaped", "query, second", "form", "form, little escaped"),
    *("form in parts", "JSON", "manifest"),
)


def is_directory(name: bytes) -> bool:
    """Tell whether a name is a directory's, as far as its slashes and dots go."""
    segments = name[:-1].split(b"/")
    plain = not {b"", b".", b".."} & set(segments)
    return name == b"./" or (name.endswith(b"/") and plain)


# Ways that begin at the root; all others are relative to the directory /d/.
_FROM_ROOT = {"directory", "plain path", "list's location"}


def expected_target(way: str, name: bytes) -> str:
    """Give what the upstream with the base /base/ must be asked for."""
    below = "" if way in _FROM_ROOT else "d/"
    name = b"" if name == b"./" and way in AS_DIRECTORY else name
    return "/base/" + below + expected_path(name) + ("/p" if way == "directory" else "")


def can_say(way: str, name: bytes) -> bool:
    """Tell whether a way can give this name at all, rather than another or none."""
    match way:
        case "list's name" | "list's directory":
            said = b"\n" not in name and not name.endswith(b"\r")
            return said and not (way == "list's directory" and name.endswith(b"/"))
        case "directory" | "plain path" | "list's location":
            # Behind a directory a slash at the end, or nothing, is that directory's own path.
            return name != b"" and not name.endswith(b"/")
        case "query, second":
            return name not in {b"p", b""}
        case _:
            return True

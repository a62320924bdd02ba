"""Requests made of any bytes, and what must hold whatever those are; `tests.fuzz` gives them."""

import faulthandler
import io
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import unquote, unquote_to_bytes
from wsgiref.util import setup_testing_defaults
from zlib import crc32

from tar_gateway import BrokenOff, BundleMiddleware, Gateway, Settings, Upstream
from tar_gateway.http.headers import TOKEN, VALUE
from tar_gateway.web.endpoint import METHODS
from tar_gateway.web.query import is_bundle
from tests.support.hostile import FORM, JSON, KEPT, PARTS, REFUSED, escaped
from tests.support.scripted import File, Script, Scripted, Wire, answer, chunked

SLOWEST = 2.0  # seconds that a request may take
_HANG = 30.0  # seconds after which the process shows where it hangs, and ends

T = TypeVar("T")


class Choices:
    """Choices that bytes make; behind the last of them all are the first ones."""

    def __init__(self, data: bytes) -> None:
        self._data = iter(data)

    def below(self, count: int) -> int:
        number = next(self._data, 0)
        return (number << 8 | next(self._data, 0)) % count if count > 256 else number % count

    def of(self, values: Sequence[T]) -> T:
        return values[self.below(len(values))]

    def often(self, usual: T, others: Sequence[T]) -> T:
        return usual if self.below(3) else self.of(others)

    def several(self, make: Callable[[], T], most: int = 4) -> list[T]:
        return [make() for _ in range(self.below(most + 1))]


# --- a request ------------------------------------------------------------------------------------

_PIECES = [
    *(b"a", b"b", b"x/y", b".", b"..", b"/", b"//", b"\\", b"%", b"%2e", b"%2f", b"%25", b"%00"),
    *(b"\0", b"\r\n", b"\xff", b"\xc3\xa9", b" ", b"+", b",", b";", b"&", b"=", b"?", b"#", b":"),
    *(b"bundle", b"manifest", b"filename", b"v", b"C:", b"~", b"-", b'"', b"<", b"\xc0\xae"),
]
_ORIGIN = "https://a.test"
_CONDITIONS = [
    *("*", '"1"', 'W/"1"', '"tar-0"', '"', "x", "", '"a", "b"', "\xff", '"tar-' + "0" * 40 + '"'),
    *("Sun, 13 Sep 2020 12:26:40 GMT", "x GMT", "GMT", "Sun, 99 Foo 2020 99:99:99 GMT"),
]
_RANGES = [
    *(
        "bytes=0-",
        "bytes=0-0",
        "bytes=-1",
        "bytes=-0",
        "bytes=-",
        "bytes=",
        "bytes",
        "=",
        "bytes=9-1",
    ),
    *(
        "bytes=0-1,3-4",
        "bytes=" + "9" * 5000 + "-",
        "bytes=1-" + "9" * 30,
        "bytes=\xb2-",
        "lines=1-2",
    ),
    *("bytes=600-1300", "bytes = 1-2", "bytes=0-,0-,0-", "bytes=--1", "bytes=+1-2", "", "\0"),
]
_HEADERS: dict[str, Sequence[str]] = {
    "HTTP_RANGE": _RANGES,
    "HTTP_IF_RANGE": _CONDITIONS,
    "HTTP_IF_MATCH": _CONDITIONS,
    "HTTP_IF_NONE_MATCH": _CONDITIONS,
    "HTTP_IF_MODIFIED_SINCE": _CONDITIONS,
    "HTTP_IF_UNMODIFIED_SINCE": _CONDITIONS,
    "HTTP_ACCEPT": ["text/html", "*/*", ";q=", "text/html;q=2", ",,,", "\xff", "a" * 9000, ""],
    "HTTP_AUTHORIZATION": ["Basic eA==", "", "\xff", "a\r\nX: y", "a\0", "x" * 9000],
    "HTTP_COOKIE": ["a=b", ";;;", "\xe9", "a\nb"],
    "HTTP_CONNECTION": ["close", "Authorization, Range", ",", "\0"],
    "HTTP_HOST": ["evil.test", "", "a:b:c", "\xff", "a/b"],
    "HTTP_TRANSFER_ENCODING": ["chunked", "x"],
    "HTTP_X_FORWARDED_FOR": ["1.2.3.4", ",", "x"],
    "HTTP_X_ACCEL_REDIRECT": ["/x"],
    "HTTP_ACCEPT_ENCODING": ["gzip", "x"],
    "HTTP_": ["x"],
    "HTTP_X Y": ["x"],
    "HTTP_\xe9": ["x"],
    "HTTP_EXPECT": ["100-continue", "x"],
    "HTTP_ORIGIN": [_ORIGIN, "null", "*", "\xff", "a\r\nX: y", "https://a.test, b"],
    "HTTP_ACCESS_CONTROL_REQUEST_METHOD": ["PUT", ""],
    "HTTP_ACCESS_CONTROL_REQUEST_HEADERS": ["range,x", "\xff\r\nX: y", "," * 9000],
    "SCRIPT_NAME": ["/mount", "/a b", "/\xff", "/..", "x"],
    "REMOTE_ADDR": ["", "::1", "x"],
}
_LENGTHS = ["", "0", "1", "-1", "x", "99999999", "9" * 30, " 5", "5.0", "\xb2", "0x1", "+1"]


def name_of(choices: Choices) -> bytes:
    match choices.below(6):
        case 0:
            return choices.of(REFUSED)
        case 1:
            return choices.of(KEPT)
        case 2:
            return b"".join(choices.several(lambda: choices.of(_PIECES), 6))
        case _:
            return b"file-%d" % choices.below(256)


def _written(choices: Choices, name: bytes) -> str:
    return choices.of(
        [escaped(name), escaped(name, b"/abcdefile-0123456789."), name.decode("latin-1")]
    )


def _query(choices: Choices) -> str:
    def pair() -> str:
        keys = ["bundle"] * 6 + [
            "filename",
            "manifest",
            "v",
            "x",
            "",
            "b%75ndle",
            "%ff",
            "bundle[]",
        ]
        key = choices.of(keys)
        return key + choices.often("=", ["", "==", ";"]) + _written(choices, name_of(choices))

    return choices.often("bundle", [""]) + choices.often("&", ["", ";", "&&", "=", ","]).join(
        ["", *choices.several(pair)]
    )


def _json(choices: Choices) -> bytes:
    def value(depth: int) -> Any:
        kind = choices.below(9)
        if kind < 5 or depth > 4:
            return name_of(choices).decode("utf-8", choices.of(["replace", "surrogateescape"]))
        if kind == 5:
            return choices.of([None, True, 0, -1, 1e308, "", 2**70])
        if kind == 6:
            return choices.several(lambda: value(depth + 1))
        keys = ["path", "path", "name", "members", "filename", "x"]
        return {choices.of(keys): value(depth + 1) for _ in range(choices.below(4))}

    document = choices.often(
        {"members": choices.several(lambda: value(1)), "filename": value(4)}, [value(0)]
    )
    return json.dumps(document, ensure_ascii=bool(choices.below(2))).encode("utf-8", "replace")


_PART_HEADERS = [
    *(b"Content-Type: text/plain", b"Content-Type: text/plain; charset=utf-16", b"X", b": x"),
    *(b"Content-Transfer-Encoding: base64", b"Content-Length: 1", b"Content-Length: -1"),
    b'Content-Disposition: form-data; name="bundle"',
]


def _parts(choices: Choices) -> bytes:
    def part() -> bytes:
        named = choices.often(b'name="%s"', [b"name=%s", b'name="%s', b'x="%s"', b'filename="%s"'])
        field = choices.of(
            [b"bundle", b"bundle", b"bundle", b"filename", b"x", choices.of(_PIECES)]
        )
        lines = [b"Content-Disposition: form-data; " + named % field]
        lines += choices.several(lambda: choices.often(b"X: y", _PART_HEADERS), 2)
        end = choices.often(b"\r\n", [b"\n", b"\r", b""])
        return end.join(
            [choices.often(b"--b", [b"--", b"b", b"--c"]), *lines, b"", name_of(choices)]
        )

    return b"\r\n".join([*choices.several(part), choices.often(b"--b--", [b"--b", b"", b"--b--x"])])


def _damaged(choices: Choices, body: bytes) -> bytes:
    place = choices.below(len(body) + 1)
    match choices.below(6):
        case 0:
            return body[:place]
        case 1:
            return body[:place] + choices.of(_PIECES) + body[place:]
        case 2:
            return body * choices.below(4)
        case _:
            return body


def _body(choices: Choices, kind: str) -> bytes:
    if kind.startswith(JSON):
        return _json(choices)
    if kind.startswith("multipart"):
        return _parts(choices)
    return _query(choices).encode("latin-1")


def environ_of(data: bytes) -> dict[str, Any]:
    """Make a request as a WSGI server gives it, or as none should."""
    choices = Choices(data)
    method = choices.often(
        choices.of(["GET", "GET", "HEAD", "POST"]), ["PUT", "OPTIONS", "get", "", "X Y"]
    )
    path = choices.often("/d/", ["/", "", "/lists/x", "/d", "/-/healthy", "x"]) + choices.often(
        "", [_written(choices, name_of(choices)), name_of(choices).decode("latin-1")]
    )
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "QUERY_STRING": _query(choices),
    }
    for name in choices.several(lambda: choices.of(list(_HEADERS)), 3):
        environ[name] = choices.of(_HEADERS[name])
    body = b""
    if method == "POST" or not choices.below(8):
        others = ["", "text/plain", "\xff", JSON + ";x", ";", PARTS[:-1], PARTS + ";boundary=c"]
        kind = choices.often(choices.of([FORM, JSON, PARTS]), others)
        body = _body(choices, kind)
        body = _damaged(choices, body)
        environ["CONTENT_TYPE"] = kind
        environ["CONTENT_LENGTH"] = choices.often(str(len(body)), _LENGTHS)
        if not choices.below(4):
            environ["wsgi.input_terminated"] = True
    environ["wsgi.input"] = io.BytesIO(body)
    setup_testing_defaults(environ)
    return environ


# --- what is behind it ----------------------------------------------------------------------------

_LIST = b"- - /d/file-1 one\n- 0 @directory two\n- 5 /d/file-2 three\n"
_ANSWERS: list[Script] = [
    *([File(b"content" * 99)] * 6),
    *(File(b""), File(b"x" * 70_000), answer(b"untold", length=None), chunked(b"in ", b"chunks")),
    *(
        answer(b"", status=f"{status} x")
        for status in (204, 304, 401, 403, 404, 410, 412, 416, 500)
    ),
    *(answer(b"", "Location: /base/a", status="302 x"), answer(b"", status="999 x")),
    *(answer(b"cut", length=99, then=lambda wire: wire.close()), answer(b"x", "ETag: \xff\x01")),
    answer(_LIST, "X-Archive-Files: tar"),
    answer(_LIST[:-3], "X-Archive-Files: tar", "Set-Cookie: a=b"),
    answer(b"- 1 /../up x\n", "X-Archive-Files: tar"),
    answer(b'{"members": ["file-1", {"path": "file-2", "name": "n"}]}'),
    answer(b'{"members": ["../up"]}'),
    *(answer(b"x", length=-5), answer(b"x", "Content-Encoding: gzip"), lambda wire: wire.close()),
]


def respond(wire: Wire) -> None:
    """Answer each path always alike, and all of them differently."""
    _ANSWERS[crc32(wire.request.path.encode("latin-1")) % len(_ANSWERS)](wire)


class Files:
    """A wrapped application that has every file, and remembers which were asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, environ, start_response):
        path = environ["PATH_INFO"]
        self.asked.append(path)
        kind = crc32(path.encode("latin-1", "replace")) % 8
        headers = [("Content-Type", "text/plain")]
        if kind == 1:
            headers.append(("X-Archive-Files", "tar"))
        status = {2: "404 Not Found", 3: "302 Found", 4: "500 Oh"}.get(kind, "200 OK")
        start_response(status, headers)
        return [_LIST if kind == 1 else b"content"]


# --- what must hold -------------------------------------------------------------------------------


class Violation(AssertionError):
    """What must never happen; the text says what did."""


@dataclass
class Target:
    """The gateway and the middleware, and a count of what they answered."""

    outcomes: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0

    def __enter__(self) -> "Target":
        self._stack = ExitStack()
        settings = Settings(
            retries=0,
            read_timeout=1,
            max_members=20,
            max_body=20_000,
            spool_limit=100_000,
            cors_origins=_ORIGIN,
        )
        strict = Settings(retries=0, read_timeout=1, strict_names=True, max_name=40, max_query=300)
        self._upstream = self._stack.enter_context(Scripted(default=respond))
        base = self._upstream.url + "base/"
        self._files = Files()
        self._faces: dict[str, Any] = {
            "gateway": Gateway(Upstream(base, settings), settings),
            "strict gateway": Gateway(Upstream(base, strict), strict),
            "middleware": BundleMiddleware(self._files, settings=settings),
            "middleware to an upstream": BundleMiddleware(
                self._files, Upstream(base, settings), settings
            ),
        }
        for face in self._faces.values():
            self._stack.callback(face.close)
        return self

    def __exit__(self, *error: object) -> None:
        faulthandler.cancel_dump_traceback_later()
        self._stack.close()

    def run(self, data: bytes) -> None:
        """Send the request that these bytes make to a face. Raises `Violation`."""
        face = list(self._faces)[crc32(data[:2]) % len(self._faces)]
        environ = environ_of(data)
        told = {key: value for key, value in environ.items() if not key.startswith("wsgi.")}
        self._upstream.requests.clear()
        self._files.asked.clear()
        faulthandler.dump_traceback_later(_HANG, exit=True, file=sys.__stderr__)
        began = time.monotonic()
        try:
            self.outcomes[self._answer(face, environ)] += 1
        except Violation as violation:
            raise Violation(f"{violation}: {face}, {told}") from violation
        except Exception as error:
            raise Violation(f"{error!r} came out: {face}, {told}") from error
        seconds = time.monotonic() - began
        self.slowest = max(self.slowest, seconds)
        if seconds > SLOWEST:
            raise Violation(f"{seconds:.1f} s: {face}, {told}")

    def _answer(self, face: str, environ: dict[str, Any]) -> str:
        bundled = environ["REQUEST_METHOD"] in METHODS and is_bundle(
            environ["QUERY_STRING"], "bundle"
        )
        statuses: list[str] = []
        headers: list[tuple[str, str]] = []
        body: list[bytes] = []

        def start_response(status, given, exc_info=None):
            statuses.append(status)
            headers[:] = given
            return body.append

        blocks = self._faces[face](environ, start_response)
        broken = False
        try:
            body += list(blocks)
        except BrokenOff:
            broken = True
        finally:
            getattr(blocks, "close", tuple)()
        if len(statuses) != 1 or not re.fullmatch("[1-5][0-9]{2} [ -~]*", statuses[0]):
            raise Violation(f"the statuses {statuses}")
        # An upstream's or an application's own error is handed on; ours is not to be stored.
        if statuses[0].startswith("500") and ("Cache-Control", "no-store") in headers:
            raise Violation("a defect")
        for name, value in headers:
            if not (TOKEN.fullmatch(name) and VALUE.fullmatch(value)):
                raise Violation(f"the header {name!r}: {value!r}")
        if dict(headers).get("Access-Control-Allow-Origin") not in {None, _ORIGIN}:
            raise Violation("another origin may read it")
        length = dict(headers).get("Content-Length")
        empty = environ["REQUEST_METHOD"] == "HEAD" or statuses[0].startswith("304")
        given = sum(map(len, body))
        if length and not broken and not empty and int(length) != given:
            raise Violation(f"{given} bytes of {length}")
        self._check_asked(face, bundled=bundled)
        return "broken off" if broken else statuses[0][:3]

    def _check_asked(self, face: str, *, bundled: bool) -> None:
        for seen in self._upstream.requests:
            if not seen.target.startswith("/base/"):
                raise Violation(f"the upstream was asked for {seen.target}")
            _check_place(seen.path.removeprefix("/base/"))
            if seen.all("Host") != [f"127.0.0.1:{self._upstream.port}"]:
                raise Violation(f"the upstream was asked as {seen.all('Host')}")
            if seen.method not in {"GET", "HEAD"}:
                raise Violation(f"the upstream was asked by {seen.method}")
        if bundled:
            for path in self._files.asked:
                _check_place(escaped(path.encode("latin-1").removeprefix(b"/")))


def _check_place(quoted: str) -> None:
    """Refuse a path that is not below where it begins, decoded once or twice."""
    once = unquote_to_bytes(quoted)
    for path in (once, unquote_to_bytes(once)):
        segments = path.decode("utf-8", "replace").removesuffix("/").split("/")
        if path and set(segments) & {"", ".", ".."}:
            raise Violation(f"the path {quoted}")
        if re.search(rb"[\x00-\x1f\x7f\\]", path):
            raise Violation(f"the path {quoted}")
    if unquote(quoted, errors="replace").startswith("/"):
        raise Violation(f"the path {quoted}")

"""An HTTP upstream on raw sockets that does, byte for byte, what a test's scripts say.

A script is called with the `Wire` of one request and sends what it likes. Content bytes are
counted per path, over all connections, so that a fault can be set at an exact offset.
"""

import re
import select
import socket
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import BinaryIO, Self

PATIENCE = 10.0  # seconds after which a condition that was waited for counts as never met


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as it arrived; ``connection`` counts the server's connections from 1."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    connection: int
    version: str = "HTTP/1.1"

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        return next(iter(self.all(name)), None)


class Ended(Exception):
    """The connection has ended, and the script with it."""


Script = Callable[["Wire"], None]


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens once a path has given ``offset`` bytes of content, all requests together.

    ``then`` is a script, such as `close`; when it returns, the content goes on.
    """

    offset: int
    then: Script


class Wire:
    """A script's end of one request's connection."""

    def __init__(self, server: "Scripted", connection: socket.socket, request: Seen) -> None:
        self.server = server
        self.connection = connection
        self.request = request

    def send(self, data: bytes) -> None:
        """Send raw bytes, such as a head. They are not counted."""
        self.connection.sendall(data)

    def give(self, content: bytes) -> None:
        """Send content: it is counted, and the path's faults happen at their offsets."""
        path = self.request.path
        position = 0
        while True:
            count, fault = self.server._until_fault(path, len(content) - position)
            self.connection.sendall(content[position : position + count])
            position += count
            if fault is None:
                return
            fault.then(self)

    def drip(self, content: bytes, pause: float = 0.0) -> None:
        """Give content byte by byte, ``pause`` seconds apart."""
        for index in range(len(content)):
            self.give(content[index : index + 1])
            self.server.ending.wait(pause)

    def stall(self, until: threading.Event) -> None:
        """Do nothing until the event is set; the peer's end or the server's ends it too."""
        while not until.wait(0.01):
            if self.server.ending.is_set() or self._peer_left():
                raise Ended

    def close(self) -> None:
        """End the connection as a clean server does."""
        raise Ended

    def reset(self) -> None:
        """End the connection by RST: what was sent and not yet read may be lost."""
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        raise Ended

    def _peer_left(self) -> bool:
        readable, _, _ = select.select([self.connection], [], [], 0)
        return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)


class Scripted:
    """The server, a context manager. ``scripts`` by path: one, or one for each request in turn.

    The last of several stays. A path without a script does what ``default`` does: 404 unless
    another is given. A free ``port`` is taken unless one is given.
    """

    def __init__(
        self,
        scripts: Mapping[str, Script | Sequence[Script]] | None = None,
        *,
        default: Script | None = None,
        port: int = 0,
    ) -> None:
        self._default = default or answer(b"", status="404 Not Found")
        self.port = port
        self.requests: list[Seen] = []
        self.connections = 0
        self.open = 0
        self.given: Counter[str] = Counter()
        self.ending = threading.Event()
        self._scripts: dict[str, deque[Script]] = {}
        self._faults: dict[str, deque[Fault]] = {}
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._sockets: set[socket.socket] = set()
        self._errors: list[BaseException] = []
        for path, script in (scripts or {}).items():
            self.on(path, *([script] if callable(script) else script))

    def on(self, path: str, *scripts: Script) -> None:
        """Set what a path does from now on."""
        self._scripts[path] = deque(scripts)

    def break_at(self, path: str, *faults: Fault) -> None:
        """Set a path's faults; each happens once, in the order of their offsets."""
        self._faults[path] = deque(sorted(faults, key=lambda fault: fault.offset))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def wait_for(self, met: Callable[["Scripted"], bool]) -> bool:
        """Wait until a condition on ``requests``, ``connections`` or ``open`` is met."""
        with self._changed:
            return self._changed.wait_for(lambda: met(self), PATIENCE)

    def cut(self) -> None:
        """End all connections, idle ones too."""
        with self._changed:
            for connection in self._sockets:
                with suppress(OSError):  # the peer was faster
                    connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept)
        self._acceptor.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.ending.set()
        socket.create_connection(("127.0.0.1", self.port)).close()  # wakes the acceptor
        self._acceptor.join()
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join()
        if self._errors and error is None:
            raise self._errors[0]

    def _until_fault(self, path: str, wanted: int) -> tuple[int, Fault | None]:
        """Count bytes that are about to be given, up to the next fault."""
        with self._changed:
            faults = self._faults.get(path)
            given = self.given[path]
            if faults and faults[0].offset <= given + wanted:
                fault = faults.popleft()
                self.given[path] = max(given, fault.offset)
                return max(0, fault.offset - given), fault
            self.given[path] += wanted
            return wanted, None

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            if self.ending.is_set():
                connection.close()
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._changed:
                self.connections += 1
                self.open += 1
                self._sockets.add(connection)
                thread = threading.Thread(target=self._serve, args=(connection, self.connections))
                self._threads.append(thread)
                self._changed.notify_all()
            thread.start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        try:
            with connection.makefile("rb") as lines:
                while (request := _read_request(lines, number)) is not None:
                    with self._changed:
                        self.requests.append(request)
                        script = self._next_script(request.path)
                        self._changed.notify_all()
                    script(Wire(self, connection, request))
        except (Ended, OSError):
            pass  # the script's doing, or the peer's
        except BaseException as error:
            self._errors.append(error)
        finally:
            with self._changed:
                self._sockets.discard(connection)
                connection.close()
                self.open -= 1
                self._changed.notify_all()

    def _next_script(self, path: str) -> Script:
        scripts = self._scripts.get(path)
        if not scripts:
            return self._default
        return scripts.popleft() if len(scripts) > 1 else scripts[0]


def _read_request(lines: BinaryIO, number: int) -> Seen | None:
    """Read a request, and its body to throw it away."""
    head = []
    for line in lines:
        text = line.decode("latin-1").rstrip("\r\n")
        if not text:
            break
        head.append(text)
    if not head:
        return None
    method, target, version = head[0].split(" ")
    pairs = (text.partition(":") for text in head[1:])
    headers = tuple((key, value.strip()) for key, _, value in pairs)
    seen = Seen(method, target, headers, number, version)
    lines.read(int(seen.get("Content-Length") or 0))
    return seen


def close(wire: Wire) -> None:
    wire.close()


def reset(wire: Wire) -> None:
    wire.reset()


def stall(until: threading.Event) -> Script:
    return lambda wire: wire.stall(until)


def raw(data: bytes, then: Script | None = None) -> Script:
    """Send these bytes, whatever the request, then do what ``then`` does."""

    def script(wire: Wire) -> None:
        wire.send(data)
        if then is not None:
            then(wire)

    return script


def answer(
    content: bytes,
    *headers: str,
    status: str = "200 OK",
    version: str = "1.1",
    length: int | None = -1,
    then: Script | None = None,
) -> Script:
    """Answer with a head and content; ``headers`` are whole lines.

    ``length`` is the told Content-Length, by default the content's, `None` for none. A
    connection that has to be closed to end the response is closed.
    """
    told = len(content) if length == -1 else length

    def script(wire: Wire) -> None:
        lines = [f"HTTP/{version} {status}", *headers]
        if told is not None:
            lines.append(f"Content-Length: {told}")
        wire.send("\r\n".join([*lines, "", ""]).encode("latin-1"))
        if wire.request.method != "HEAD":
            wire.give(content)
        if then is not None:
            then(wire)
        if version == "1.0" or (told is None and wire.request.method != "HEAD"):
            wire.close()

    return script


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n", headers: Sequence[str] = ()) -> Script:
    """Answer in chunks; without the right ``end`` the connection is closed."""

    def script(wire: Wire) -> None:
        lines = ["HTTP/1.1 200 OK", "Transfer-Encoding: chunked", *headers, "", ""]
        wire.send("\r\n".join(lines).encode("latin-1"))
        if wire.request.method == "HEAD":
            return
        for chunk in chunks:
            wire.send(b"%x\r\n" % len(chunk))
            wire.give(chunk)
            wire.send(b"\r\n")
        wire.send(end)
        if end != b"0\r\n\r\n":
            wire.close()

    return script


@dataclass(frozen=True, slots=True)
class File:
    """A script that serves a file as a good server does: HEAD, one Range, If-Match."""

    data: bytes
    etag: str = '"1"'
    headers: Sequence[str] = field(default=("Last-Modified: Sun, 13 Sep 2020 12:26:40 GMT",))

    def __call__(self, wire: Wire) -> None:
        request, size = wire.request, len(self.data)
        headers = [*self.headers, f"ETag: {self.etag}"]
        if request.get("If-Match") not in {None, "*", self.etag}:
            return answer(b"", status="412 Precondition Failed")(wire)
        asked = re.fullmatch(r"bytes=([0-9]+)-([0-9]+)", request.get("Range") or "")
        if asked is None or request.method == "HEAD":
            return answer(self.data, *headers)(wire)
        start, stop = int(asked[1]), min(int(asked[2]) + 1, size)
        if start >= stop:
            headers.append(f"Content-Range: bytes */{size}")
            return answer(b"", *headers, status="416 Range Not Satisfiable")(wire)
        headers.append(f"Content-Range: bytes {start}-{stop - 1}/{size}")
        return answer(self.data[start:stop], *headers, status="206 Partial Content")(wire)


def wait_until(met: Callable[[], bool]) -> bool:
    """Wait for a condition that nobody announces; tells whether it was met in time."""
    end = time.monotonic() + PATIENCE
    while not met():
        if time.monotonic() > end:
            return False
        threading.Event().wait(0.002)
    return True

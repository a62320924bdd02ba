"""What a stack is asked for, and what came of it: for tests, and a table in `docs/`."""

import io
import json
import socket
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, IncompleteRead
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlencode

from tests.stacks import files
from tests.stacks.servers import Server, serving
from tests.support.scripted import Scripted, Wire, answer
from tests.support.servers import wait_until

TIMEOUT = 20


class Notes:
    """Word from the application of what was opened and closed."""

    def __init__(self) -> None:
        self._receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._receiver.bind(("127.0.0.1", 0))
        self.address = "{}:{}".format(*self._receiver.getsockname())
        self._counts: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._receive)
        self._thread.start()

    def _receive(self) -> None:
        while note := self._receiver.recv(1024):
            self._counts[note.decode()] += 1

    def held(self, name: str) -> int:
        """Count the streams of a file that are open."""
        return self.opened(name) - self._counts[f"closed {name}"]

    def opened(self, name: str) -> int:
        return self._counts[f"opened {name}"]

    def close(self) -> None:
        host, port = self._receiver.getsockname()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"", (host, port))
        self._thread.join()
        self._receiver.close()


@dataclass(frozen=True)
class Framework:
    """A framework's application: how its login works and how it says no.

    ``denied`` is the status of a bundle that the caller may not have.
    """

    name: str
    package: str | None = None
    denied: int = 403
    mount: str = ""

    @property
    def module(self) -> str:
        return f"tests.stacks.{self.name}_app"

    def missing(self) -> list[str]:
        """Name the package that it needs, where that isn't installed."""
        return [self.package] if self.package and find_spec(self.package) is None else []


FRAMEWORKS = {
    framework.name: framework
    for framework in (
        Framework("bare", denied=401),
        Framework("django", "django"),
        Framework("flask", "flask", mount="/shop"),
        Framework("pyramid", "pyramid"),
        Framework("bottle", "bottle"),
        Framework("falcon", "falcon", denied=401),
        Framework("webob", "webob"),
    )
}


@dataclass(frozen=True)
class Answer:
    """A whole response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def members(self) -> dict[str, bytes | None]:
        """Unpack an archive; `None` stands for a directory."""
        with tarfile.open(fileobj=io.BytesIO(self.body)) as archive:
            unpacked = {}
            for member in archive:
                with closing(archive.extractfile(member) or io.BytesIO()) as content:
                    unpacked[member.name] = content.read() if member.isfile() else None
            return unpacked


@dataclass(frozen=True)
class Stack:
    """An application that is served."""

    framework: Framework
    server: Server
    port: int
    notes: Notes
    _session: dict[str, str] = field(default_factory=dict)

    def get(self, target: str, **headers: str) -> Answer:
        """Ask for a target by GET."""
        return self.ask("GET", target, headers)

    def ask(
        self, method: str, target: str, headers: Mapping[str, str], body: str | None = None
    ) -> Answer:
        """Ask for a target below the mount point. Raises `IncompleteRead` for a part of it."""
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)) as connection:
            connection.request(method, self.framework.mount + target, body, headers)
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())

    def credentials(self) -> Mapping[str, str]:
        """Log in, or give the password with each request where that is how it is done."""
        if self.framework.denied == 401:
            return {"Authorization": files.CREDENTIALS}
        if not self._session:
            form = urlencode({"user": files.USER, "password": files.PASSWORD})
            kind = {"Content-Type": "application/x-www-form-urlencoded"}
            answer = self.ask("POST", "/login", kind, form)
            cookie, _, _ = answer.headers["Set-Cookie"].partition(";")
            self._session["Cookie"] = cookie
        return self._session

    @contextmanager
    def asking(self, target: str, window: int | None = None) -> Iterator[socket.socket]:
        """Ask for a target, and give the connection."""
        with socket.socket() as client:
            if window is not None:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
            client.settimeout(TIMEOUT)
            client.connect(("127.0.0.1", self.port))
            lines = f"GET {self.framework.mount}{target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
            client.sendall(lines.encode())
            yield client


@contextmanager
def stack(framework: Framework, server: Server, place: Path, **environment: str) -> Iterator[Stack]:
    """Serve a framework's application under a server."""
    with closing(Notes()) as notes:
        environment["STACKS_NOTES"] = notes.address
        with serving(server, framework.module, place, **environment) as port:
            yield Stack(framework, server, port, notes)


NAMES = [*files.FILES, "made.txt"]
WHOLE = {**files.FILES, "made.txt": files.MADE}


def bundle_of(*names: str) -> str:
    """Give the target that asks for a bundle of files."""
    return "/files/?" + urlencode([("bundle", name) for name in names])


def is_bundled(stack: Stack) -> bool:
    """Tell whether a bundle of files, and of one that is made on the way, is right."""
    answer = stack.get(bundle_of(*NAMES))
    return answer.status == 200 and answer.members() == WHOLE


def is_posted(stack: Stack) -> bool:
    """Tell whether the same bundle is right when its list is sent."""
    sent = {"Content-Type": "application/json"}
    answer = stack.ask("POST", "/files/?bundle", sent, json.dumps({"members": NAMES}))
    return answer.status == 200 and answer.members() == WHOLE


def is_sliced(stack: Stack) -> bool:
    """Tell whether parts of a bundle are those of the whole."""
    target = bundle_of(*files.FILES)
    whole = stack.get(target).body
    slices = [(0, 1), (511, 2_000), (100_000, 250_000), (len(whole) - 20_000, len(whole))]
    parts = [stack.get(target, Range=f"bytes={start}-{stop - 1}") for start, stop in slices]
    return all(
        (part.status, part.body) == (206, whole[start:stop])
        for part, (start, stop) in zip(parts, slices, strict=True)
    )


BROKEN = {
    "a member": bundle_of("small.txt", "broken.bin"),
    "data in a view": "/tar/broken",
}


def is_seen_as_broken(stack: Stack, target: str) -> bool:
    """Tell whether a response that breaks off in the middle is an error to a client, at once."""
    try:
        stack.get(target)
    except IncompleteRead as error:
        return len(error.partial) >= len(files.MIDDLE)
    except TimeoutError:
        return False
    return False


def is_seen_without_length(stack: Stack) -> bool:
    """Tell whether a response that breaks off, and has no length, is an error to a client."""
    try:
        stack.get("/unmeasured/broken")
    except (IncompleteRead, ConnectionResetError):
        return True
    return False


def is_compressed(stack: Stack) -> bool:
    """Tell whether a compressed archive is sent, whole, and is an error where it breaks off.

    Where it is refused instead, nothing is promised.
    """
    target = bundle_of("small.txt", "middle.bin") + "&format=tar.gz"
    answer = stack.get(target)
    if answer.status == 406:
        return False
    assert answer.members() == {"small.txt": files.SMALL, "middle.bin": files.MIDDLE}
    assert "Content-Length" not in answer.headers
    with suppress(IncompleteRead, ConnectionResetError):
        answer = stack.get(bundle_of("middle.bin", "broken.bin") + "&format=tar.gz")
        raise AssertionError(f"a broken archive came as if whole: {len(answer.body)} bytes")
    return True


LEFT = {"a member that comes fast": "large.bin", "one that drips": "drip.bin"}


def seconds_until_noticed(stack: Stack, name: str) -> float:
    """Leave a download of a stream in the middle; tell how long it was held after that."""
    with stack.asking(bundle_of("small.txt", name)) as client:
        receive(client, 5_000)
        wait_until(lambda: stack.notes.held(name) == 1, "the download's start")
    return seconds_until(lambda: stack.notes.held(name) == 0, f"the end of {name}")


def seconds_until_cut_off(stack: Stack, patience: float) -> float | None:
    """Read nothing of a download; tell how long it was held, `None` for ``patience`` seconds."""
    name = "large.bin"
    with stack.asking(bundle_of("small.txt", name), window=4096):
        wait_until(lambda: stack.notes.held(name) == 1, "the download's start")
        start = time.monotonic()
        while stack.notes.held(name):
            if time.monotonic() - start > patience:
                return None
            time.sleep(0.01)
        return time.monotonic() - start


SILENT = 100_000  # bytes that an upstream gives before it falls silent


def seconds_until_noticed_in_silence(server: Server, place: Path, patience: float) -> float | None:
    """Leave a download while the upstream that it comes from says nothing.

    Tell how long the upstream's connection was held after that, `None` for ``patience`` seconds.
    """
    at_work, never = threading.Event(), threading.Event()

    def silent(wire: Wire) -> None:
        if wire.request.method == "HEAD":
            return
        at_work.set()
        try:
            wire.stall(never)
        finally:
            at_work.clear()
        wire.close()

    script = answer(bytes(SILENT), 'ETag: "1"', length=2 * SILENT, then=silent)
    elsewhere = Framework("elsewhere")
    with (
        Scripted({"/silent": script}) as upstream,
        stack(elsewhere, server, place, STACKS_UPSTREAM=upstream.url) as running,
    ):
        try:
            with running.asking("/?bundle=silent") as client:
                receive(client, SILENT)
                wait_until(at_work.is_set, "the upstream's silence")
            start = time.monotonic()
            while at_work.is_set():
                if time.monotonic() - start > patience:
                    return None
                time.sleep(0.01)
            return time.monotonic() - start
        finally:
            never.set()


def seconds_until(condition: Callable[[], bool], what: str) -> float:
    start = time.monotonic()
    wait_until(condition, what)
    return time.monotonic() - start


def receive(client: socket.socket, count: int) -> None:
    """Receive so many bytes at least."""
    while count > 0:
        block = client.recv(min(count, 65536))
        assert block, "the response ended too early"
        count -= len(block)

"""A server of one bundle that does to a client what a test wants: plan, bytes and faults."""

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from tar_gateway.archive.format import Literal, Member
from tar_gateway.archive.layout import Layout
from tar_gateway.http.validators import Validator
from tests.support.servers import wait_until

MTIME = 1_600_000_000


@dataclass(frozen=True)
class Seen:
    """A request as it arrived; names of headers are in lower case."""

    target: str
    headers: Mapping[str, str]

    @property
    def is_plan(self) -> bool:
        return "plan=json" in self.target


Answer = Callable[["Handler", int, int], None]
"""Answers a request of the archive for the bytes from the first number to the other."""


@dataclass
class Bundle:
    """What the server has: the archive's bytes, and the plan as it tells it."""

    files: Mapping[str, bytes]
    mtime: int = MTIME
    archive: bytes = b""
    plan: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        members = [
            Member(
                name, len(data), self.mtime, validator=Validator.etag(f"v{self.mtime}", strong=True)
            )
            for name, data in self.files.items()
        ]
        layout = Layout(members)
        contents = list(self.files.values())
        self.archive = b"".join(
            part.data if isinstance(part, Literal) else contents[part.index][part.start : part.stop]
            for part in layout.slice(0, layout.size)
        )
        self.plan = {
            "filename": "reports.tar",
            "format": "tar",
            "size": layout.size,
            "etag": layout.etag.text,
            "link": f"?bundle=a&v={layout.etag.opaque}",
            "members": [
                {
                    "name": member.name,
                    "size": member.size,
                    "mtime": member.mtime,
                    "offset": layout.place(index)[0],
                    "data_offset": layout.place(index)[1],
                    "validator": member.validator.text,
                }
                for index, member in enumerate(members)
            ],
            "missing": [],
        }

    def replace(self, old: bytes, new: bytes) -> None:
        """Write other bytes into the archive."""
        assert len(old) == len(new)
        assert old in self.archive
        self.archive = self.archive.replace(old, new, 1)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def do_GET(self) -> None:
        home = self.server.home
        home.seen.append(Seen(self.path, {k.lower(): v for k, v in self.headers.items()}))
        if self.path.startswith("/elsewhere") and home.elsewhere:
            self.redirect(home.elsewhere + self.path.removeprefix("/elsewhere"))
        elif "plan=json" in self.path:
            if home.plans:
                home.plans.popleft()(self, 0, 0)
            else:
                self.give(200, json.dumps(home.bundle.plan).encode(), "application/json")
        elif f"v={home.bundle.plan['etag'].strip(chr(34))}" not in self.path and "v=" in self.path:
            self.give(412, b"{}", "application/problem+json")
        else:
            self._archive(home)

    def _archive(self, home: "BundleServer") -> None:
        size = len(home.bundle.archive)
        span = self.headers["Range"]
        start, stop = 0, size
        if span is not None:
            first, _, last = span.removeprefix("bytes=").partition("-")
            start, stop = int(first), int(last) + 1 if last else size
        answer = home.answers.popleft() if home.answers else whole
        answer(self, start, stop)

    def head(self, start: int, stop: int, **headers: str) -> None:
        """Send the head of a right response; ``headers`` replace some, `_` in their names for -."""
        size = len(self.server.home.bundle.archive)
        partial = (start, stop) != (0, size)
        self.send_response(206 if partial else 200)
        sent = {
            "Content-Type": "application/x-tar",
            "Content-Length": str(stop - start),
            "ETag": self.server.home.bundle.plan["etag"],
            "Accept-Ranges": "bytes",
        }
        if partial:
            sent["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        for name, value in sent.items():
            self.send_header(name, value)
        self.end_headers()

    def body(self, start: int, stop: int) -> None:
        self.wfile.write(self.server.home.bundle.archive[start:stop])

    def give(self, status: int, body: bytes, media_type: str, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def redirect(self, url: str) -> None:
        self.give(302, b"", "text/plain", Location=url)

    def end(self) -> None:
        """End the connection."""
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Be silent."""


def whole(handler: Handler, start: int, stop: int) -> None:
    handler.head(start, stop)
    handler.body(start, stop)


def cut_after(count: int) -> Answer:
    """Break off after so many bytes."""

    def answer(handler: Handler, start: int, stop: int) -> None:
        handler.head(start, stop)
        handler.body(start, min(start + count, stop))
        handler.end()

    return answer


def says(status: int, body: bytes = b"{}", **headers: str) -> Answer:
    """Answer with an error."""

    def answer(handler: Handler, start: int, stop: int) -> None:
        handler.give(status, body, "application/problem+json", **headers)

    return answer


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    home: "BundleServer"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients leave, and that is well."""


class BundleServer:
    """The server, a context manager. ``answers`` are used up, one by each request of the archive.

    ``plans`` likewise for requests of the plan.
    """

    def __init__(self, files: Mapping[str, bytes], answers: Sequence[Answer] = ()) -> None:
        self.bundle = Bundle(files)
        self.answers = deque(answers)
        self.plans: deque[Answer] = deque()
        self.seen: list[Seen] = []
        self.elsewhere = ""
        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.home = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/"

    @property
    def url(self) -> str:
        return f"{self.base}reports/?bundle=a"

    @property
    def archive_requests(self) -> list[Seen]:
        return [seen for seen in self.seen if not seen.is_plan]

    def wait_for(self, requests: int) -> None:
        wait_until(lambda: len(self.archive_requests) >= requests, "requests")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def stall(seconds: float) -> Answer:
    """Send half, and then nothing for a while."""

    def answer(handler: Handler, start: int, stop: int) -> None:
        handler.head(start, stop)
        handler.body(start, (start + stop) // 2)
        handler.wfile.flush()
        time.sleep(seconds)
        handler.end()

    return answer

"""Small WSGI applications that remember how they were called, and the middleware around them."""

import io
import tarfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from wsgiref.validate import validator

from webtest import TestApp

from tar_gateway import BundleMiddleware, Settings

TEXT = ("Content-Type", "text/plain")
TAGGED = ("ETag", '"1"')

WSGIApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Counted:
    """An iterable that counts how often it was closed; closing reaches what it wraps."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = blocks
        self._iterator: Iterator[bytes] | None = None
        self.closes = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._iterator is None:
            self._iterator = iter(self._blocks)
        return next(self._iterator)

    def close(self) -> None:
        self.closes += 1
        close = getattr(self._blocks, "close", None)
        if close is not None:
            close()


@dataclass(frozen=True, slots=True)
class Page:
    """What is answered at a path: this, whatever was asked, with its length unless told not to."""

    content: bytes = b""
    headers: tuple[tuple[str, str], ...] = (TAGGED,)
    status: str = "200 OK"
    sized: bool = True

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        length = [("Content-Length", str(len(self.content)))] if self.sized else []
        start_response(self.status, [TEXT, *length, *self.headers])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [self.content]


@dataclass
class Probes:
    """An application of an application for each path; remembers its calls and their responses."""

    pages: Mapping[str, WSGIApp]
    environs: list[dict[str, Any]] = field(default_factory=list)
    answers: list[Counted] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Counted:
        self.environs.append(environ)
        self.threads.add(threading.get_ident())
        page = self.pages.get(environ["PATH_INFO"], Page(b"nothing here", (), "404 Not Found"))
        answer = Counted(page(environ, start_response))
        self.answers.append(answer)
        return answer

    @property
    def asked(self) -> list[str]:
        """The paths that were asked for, with their queries."""
        return [
            environ["PATH_INFO"] + ("?" + query if (query := environ["QUERY_STRING"]) else "")
            for environ in self.environs
        ]

    @property
    def closes(self) -> set[int]:
        """How often answers were closed: all of them once, if this is {1}."""
        return {answer.closes for answer in self.answers}


@contextmanager
def wrapped(
    app: WSGIApp, source: Any = None, environ: Mapping[str, Any] | None = None, **settings: Any
) -> Iterator[TestApp]:
    """Give a middleware around an application, both held to PEP 3333; bare, it is ``.bare``."""
    chosen = Settings(retries=0, **settings)
    middleware = BundleMiddleware(validator(app), source, chosen)
    client = TestApp(validator(middleware), extra_environ=dict(environ or {}), lint=True)
    client.bare = BundleMiddleware(app, source, chosen)
    try:
        yield client
    finally:
        client.bare.close()
        middleware.close()


def unpacked(archive: bytes) -> dict[str, bytes | None]:
    """Give an archive's members in order, `None` for a directory."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return {
            member.name: opened.extractfile(member).read() if member.isfile() else None
            for member in opened
        }

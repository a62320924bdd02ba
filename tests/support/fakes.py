"""Sources and contents in memory that do what a test tells them, and remember what was done."""

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TypeVar
from urllib.parse import unquote

import pytest

from tar_gateway.archive.bundle import Bundle, Entry
from tar_gateway.delivery.plan import Plan
from tar_gateway.errors import SourceError
from tar_gateway.http.validators import Validator
from tar_gateway.sources import Caller, Stat, UnknownSize
from tar_gateway.sources.stepwise import FileServer
from tar_gateway.sources.wire.asking import Steps as Asking
from tar_gateway.sources.wire.loop import run
from tar_gateway.sources.wire.response import Content, Headers, Response

STRONG = Validator('"1"', strong=True)
WEAK = Validator('W/"1"', strong=False)

Step = bytes | BaseException

T = TypeVar("T")


class Steps:
    """A content that takes one step for each read: gives a block, or raises."""

    def __init__(self, *steps: Step) -> None:
        self._steps = deque(steps)
        self.closes = 0

    @property
    def closed(self) -> bool:
        return self.closes > 0

    def read(self, limit: int) -> bytes:
        assert not self.closed
        if not self._steps:
            return b""
        step = self._steps.popleft()
        if isinstance(step, BaseException):
            raise step
        if len(step) > limit:
            self._steps.appendleft(step[limit:])
        return step[:limit]

    def close(self) -> None:
        self.closes += 1


class MemorySource:
    """Serves ``files``, all under one validator, but for what the tables say otherwise.

    ``told`` gives a path's answers to `stat` in turn, ``given`` its responses to `open`: an error
    to raise, or the steps of a content. When they are used up, the file is served.
    """

    def __init__(
        self,
        files: Mapping[str, bytes] | None = None,
        *,
        told: Mapping[str, Sequence[Stat | UnknownSize | BaseException]] | None = None,
        given: Mapping[str, Sequence[BaseException | Sequence[Step]]] | None = None,
        validator: Validator | None = STRONG,
    ) -> None:
        self.files = dict(files or {})
        self.validator = validator
        self._told = {path: deque(answers) for path, answers in (told or {}).items()}
        self._given = {path: deque(answers) for path, answers in (given or {}).items()}
        self._lock = threading.Lock()
        self.asked: list[str] = []
        self.callers: list[Caller] = []
        self.opened: list[tuple[str, int, int]] = []
        self.contents: list[Steps] = []

    def is_concurrent(self, caller: Caller) -> bool:
        return True

    def cache_key(self, caller: Caller) -> tuple[tuple[str, str], ...]:
        return caller.headers

    def stat(self, path: str, caller: Caller) -> Stat | UnknownSize:
        path = unquote(path)
        with self._lock:
            self.asked.append(path)
            self.callers.append(caller)
            answer = self._told[path].popleft() if self._told.get(path) else None
        if isinstance(answer, BaseException):
            raise answer
        return answer or self.stat_of(path)

    def stat_of(self, path: str) -> Stat:
        if path not in self.files:
            raise missing()
        return Stat(len(self.files[path]), 0, self.validator)

    def open(self, path: str, start: int, stop: int, stat: Stat, caller: Caller) -> Content:
        path = unquote(path)
        assert stat == self.stat_of(path)
        self.callers.append(caller)
        self.opened.append((path, start, stop))
        if self._given.get(path):
            answer = self._given[path].popleft()
            if isinstance(answer, BaseException):
                raise answer
            content = Steps(*answer)
        else:
            content = Steps(self.files[path][start:stop])
        self.contents.append(content)
        return content

    @property
    def held(self) -> int:
        """How many contents are open."""
        return sum(not content.closed for content in self.contents)


def bundle_of(*paths: str) -> Bundle:
    return Bundle(tuple(Entry(path, path) for path in paths), "bundle.tar")


def plan_of(source: MemorySource, kind: type[Plan] = Plan) -> Plan:
    """Plan an archive of all that a source holds, without asking it."""
    stats = [source.stat_of(path) for path in source.files]
    return kind(source, Caller(), bundle_of(*source.files), stats, {})


def waited(steps: Asking[T], caller: Caller | None = None) -> T:
    """Answer what is asked by waiting for it, and return what comes of it."""
    return run(steps, (caller or Caller()).cancellation)


def forwarded(
    server: FileServer, method: str, path: str, headers: Headers, caller: Caller
) -> Response:
    """Pass a plain request on to a server."""
    return waited(server.forward_steps(method, path, headers, caller), caller)


def broken() -> SourceError:
    """Make a fault that may pass."""
    return SourceError("it broke", transient=True)


def missing() -> SourceError:
    """Make a fault that will not pass."""
    return SourceError("it does not exist", status=404)


def record_pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let no retry wait, and list how long each would have."""
    pauses: list[float] = []

    def due(seconds: float) -> float:
        pauses.append(seconds)
        return 0

    monkeypatch.setattr("tar_gateway.sources.wire.loop.due", due)
    return pauses

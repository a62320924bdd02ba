"""What a user sees of a download: a line that is written again and again, or one now and then."""

import json
import shutil
import sys
import time
from threading import Lock
from typing import TextIO

from tar_gateway.client.events import (
    Event,
    MemberDone,
    MemberVerified,
    Notice,
    Planned,
    Received,
    Waiting,
)
from tar_gateway.http.paths import shown

_EVERY_LINE = 10.0
"""Seconds between two lines where there is no terminal."""
_EVERY_FRAME = 0.1
_WINDOW = 5.0
"""Seconds of which the rate is the average."""
_UNITS = ("KiB", "MiB", "GiB", "TiB")


class Progress:
    """A listener. What it says goes to ``out``, objects to ``objects`` (JSON, one a line)."""

    def __init__(self, out: TextIO = sys.stderr, *, quiet: bool, objects: TextIO | None) -> None:
        self._out = out
        self._quiet = quiet
        self._objects = objects
        self._is_terminal = out.isatty() and not quiet
        self._lock = Lock()
        self._size: int | None = None
        self._there = self._received = 0
        self._name: str | None = None
        self._shown = self._since = time.monotonic()
        self._at_since = 0
        self._width = 0

    def __call__(self, event: Event) -> None:
        """Take what happens."""
        with self._lock:
            match event:
                case Received(count, name):
                    self._received += count
                    self._name = name
                    self._tick()
                case Planned():
                    self._begin(event)
                case MemberDone(name, size):
                    self._object({"member": name, "size": size})
                case MemberVerified(name, is_right):
                    self._object({"verified": name, "is_right": is_right})
                case Waiting(reason, pause):
                    self._say(f"{reason}; again in {pause:.1f} s")
                case Notice(text):
                    self._say(text)

    def end(self, told: dict[str, object]) -> None:
        """Remove the line, and write the last object."""
        with self._lock:
            self._clear()
            self._object(told)

    def _begin(self, planned: Planned) -> None:
        self._size, self._there = planned.size, planned.there
        if planned.there:
            self._say(f"{in_bytes(planned.there)} are there already")

    def _tick(self) -> None:
        if self._quiet:
            return
        now = time.monotonic()
        if now - self._shown < (_EVERY_FRAME if self._is_terminal else _EVERY_LINE):
            return
        self._shown = now
        text = self._line(now)
        if not self._is_terminal:
            print(text, file=self._out, flush=True)
            return
        width = shutil.get_terminal_size().columns - 1
        text = text[:width]
        print("\r" + text.ljust(self._width), end="", file=self._out, flush=True)
        self._width = len(text)

    def _line(self, now: float) -> str:
        rate = (self._received - self._at_since) / max(now - self._since, 0.001)
        if now - self._since > _WINDOW:
            self._since, self._at_since = now, self._received
        there = self._there + self._received
        text = f"{in_bytes(there)}, {in_bytes(int(rate))}/s"
        if self._size:
            left = max(self._size - there, 0)
            ends = f", {_clock(left / rate)} left" if rate >= 1 else ""
            share = f"{100 * there // self._size:3d} %"
            text = f"{share} of {in_bytes(self._size)}, {in_bytes(int(rate))}/s{ends}"
        return f"{text}  {shown(self._name)[1:-1]}" if self._name else text

    def _say(self, text: str) -> None:
        if not self._quiet:
            self._clear()
            print(printable(text), file=self._out, flush=True)

    def _clear(self) -> None:
        if self._width:
            print("\r" + " " * self._width + "\r", end="", file=self._out, flush=True)
            self._width = 0

    def _object(self, told: dict[str, object]) -> None:
        if self._objects is not None:
            print(json.dumps(told, ensure_ascii=False), file=self._objects, flush=True)


def printable(text: str) -> str:
    """Return a text that may hold words of a server as one that a terminal only shows."""
    return "".join(c if c.isprintable() else "?" for c in text)


def in_bytes(count: int) -> str:
    """Write a number of bytes for a person."""
    if count < 1024:
        return f"{count} B"
    power = min((count.bit_length() - 1) // 10, len(_UNITS))
    return f"{count / 1024**power:.1f} {_UNITS[power - 1]}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(min(seconds, 359_999)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"

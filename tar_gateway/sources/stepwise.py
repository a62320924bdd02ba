"""Sources whose decisions are apart from who waits for them, and their face that waits."""

from typing import Protocol, runtime_checkable

from tar_gateway.sources import Caller, ListingSource, Source, Stat, UnknownSize
from tar_gateway.sources.wire.asking import Steps
from tar_gateway.sources.wire.health import Health
from tar_gateway.sources.wire.loop import run
from tar_gateway.sources.wire.response import Content, Headers, Response


@runtime_checkable
class StepwiseSource(Source, Protocol):
    """A `Source` whose decisions are apart from who waits for them."""

    def stat_steps(self, path: str, caller: Caller) -> Steps[Stat | UnknownSize]:
        """Return the steps of `stat`."""
        ...

    def open_steps(
        self, path: str, start: int, stop: int, stat: Stat, caller: Caller
    ) -> Steps[Content]:
        """Return the steps of `open`."""
        ...


class FileServer(StepwiseSource, ListingSource, Protocol):
    """A `Source` that lists directories and takes plain requests as well.

    A server of files, or several as one.
    """

    def forward_steps(
        self, method: str, path: str, headers: Headers, caller: Caller
    ) -> Steps[Response]:
        """Pass a plain request on, and return the response as it is. Raise `SourceError`.

        ``path`` is a reference as `stat` takes it; a directory's ends with a slash, and the root's
        is empty. ``headers`` are all that go along: those of ``caller`` are among them.
        """
        ...

    def own_path(self, url: str, path: str) -> str | None:
        """Return the path that a ``Location`` points to, `None` if it is none of the server's.

        ``path`` is the reference that was asked for when it came.
        """
        ...

    def reach(self) -> object:
        """Ask for anything at all, within seconds. Raise `SourceError` if nothing answers."""
        ...

    def close(self) -> None:
        """Close the connections that are not in use."""
        ...


class Replica(FileServer, Protocol):
    """One of several equivalent file servers: each is known by its ``url``."""

    url: str
    health: Health


@runtime_checkable
class PrivateSource(Protocol):
    """A source that the gateway's own credentials open to all callers alike."""

    @property
    def is_private(self) -> bool:
        """Whether somebody has to say who may have what."""
        ...


def is_private(source: object) -> bool:
    """Return whether a source needs somebody else to say who may have what."""
    return isinstance(source, PrivateSource) and source.is_private


class Blocking:
    """The blocking face of a `StepwiseSource`: each call waits in its own thread."""

    def stat(self: StepwiseSource, path: str, caller: Caller) -> Stat | UnknownSize:
        """Learn a member's size, date and validator. Raise `SourceError`."""
        return run(self.stat_steps(path, caller), caller.cancellation)

    def open(
        self: StepwiseSource, path: str, start: int, stop: int, stat: Stat, caller: Caller
    ) -> Content:
        """Open a slice of the version that ``stat`` describes. Raise `SourceError`."""
        return run(self.open_steps(path, start, stop, stat, caller), caller.cancellation)


class Remote(Blocking):
    """The face of sources that are asked over connections, and sent a caller's headers alone."""

    def is_concurrent(self, caller: Caller) -> bool:
        """Say yes: each thread has a connection of its own."""
        return True

    def cache_key(self, caller: Caller) -> tuple[tuple[str, str], ...]:
        """Return the headers that go along: nothing else of the caller is sent."""
        return caller.headers

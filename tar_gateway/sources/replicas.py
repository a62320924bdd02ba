"""Several equivalent upstreams as one: what one can't give is asked of the next.

What a file is, and whether two responses are of one version, is known below; here is only who
is asked, in which order, and what a failure of one means while there are others.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from hashlib import blake2b
from typing import TypeVar

from tar_gateway.errors import MemberChanged, SourceError
from tar_gateway.sources import Caller, Listing, Stat, UnknownSize
from tar_gateway.sources.stepwise import FileServer, Remote, Replica, is_private
from tar_gateway.sources.wire.asking import Steps
from tar_gateway.sources.wire.health import HealthContent
from tar_gateway.sources.wire.response import PASSING, Content, Headers, Response

T = TypeVar("T")

# What speaks of the server rather than of the member.
_ITS_OWN = frozenset({502, 504})


class Replicas(Remote):
    """A file server made of equivalent ones: the same files under the same paths.

    Each path has its own order of servers, the same in every process: that spreads load, while
    a file stays with the server that has it in memory, and that says the same of it each time.
    Those that failed come last for a while. A bundle's member goes on at the next server in
    the middle of its bytes, where its version is provably the same there.
    """

    def __init__(self, servers: Sequence[Replica]) -> None:
        self._servers = tuple(servers)

    def __repr__(self) -> str:
        return f"Replicas({list(self._servers)!r})"

    @property
    def is_private(self) -> bool:
        """Whether any of them is."""
        return any(map(is_private, self._servers))

    def stat_steps(self, path: str, caller: Caller) -> Steps[Stat | UnknownSize]:
        """Learn a member's size, date and validator. Raise `SourceError`.

        What the first server says that is able to is what counts, a 404 as well.
        """
        found = yield from self._first(path, lambda server: server.stat_steps(path, caller))
        if isinstance(found, UnknownSize):
            return replace(found, content=self._tracked(found.content, path))
        return found

    def open_steps(
        self, path: str, start: int, stop: int, stat: Stat, caller: Caller
    ) -> Steps[Content]:
        """Open a slice of the version that ``stat`` describes, at a server that has it.

        Raise `MemberChanged` when those that can be asked have another, or none. It is a
        passing fault while there is one that can't be asked.
        """

        def open_at(server: Replica) -> Steps[Content]:
            return server.open_steps(path, start, stop, stat, caller)

        content = yield from self._first(path, open_at, of_one_version=True, at_first=stat.told_by)
        return self._tracked(content, path)

    def list_steps(self, path: str, caller: Caller, *, deep: bool = False) -> Steps[Listing]:
        """List a directory at the first server that is able to. Raise `SourceError`."""
        return self._first(path, lambda server: server.list_steps(path, caller, deep=deep))

    def forward_steps(
        self, method: str, path: str, headers: Headers, caller: Caller
    ) -> Steps[Response]:
        """Pass a plain request on, to the next server where one answers that it is not able to.

        Raise `SourceError` where none answers; a response that is no better at any other is
        given as it is.
        """
        refused: list[Response] = []

        def ask(server: Replica) -> Steps[Response]:
            response = yield from server.forward_steps(method, path, headers, caller)
            if response.status not in PASSING:
                return response
            refused.append(response)
            raise SourceError(f"the upstream answered {response.status}")

        try:
            return (yield from self._first(path, ask))
        except SourceError:
            if not refused:
                raise
            return refused.pop(0)
        finally:
            for response in refused:
                response.content.close()

    def own_path(self, url: str, path: str) -> str | None:
        """Return the path below the bases that a ``Location`` points to, `None` if elsewhere."""
        found = (server.own_path(url, path) for server in self._servers)
        return next((below for below in found if below is not None), None)

    def reach(self) -> None:
        """Ask all of them, within seconds. Raise `SourceError` if none answers."""
        reach_any(self._servers)

    def close(self) -> None:
        """Close the connections that are not in use."""
        for server in self._servers:
            server.close()

    def _first(
        self,
        path: str,
        ask: Callable[[Replica], Steps[T]],
        *,
        of_one_version: bool = False,
        at_first: str | None = None,
    ) -> Steps[T]:
        """Return what the first server gives that is able to, or raise what tells most.

        With ``of_one_version`` one that has another version, or no such file, is not able to. The
        one with the URL ``at_first`` is asked before others that are as well.
        """
        faults = []
        for server in self._in_order(path, at_first):
            try:
                return (yield from ask(server))
            except SourceError as error:
                another = isinstance(error, MemberChanged) or error.status == 404
                if not (error.status in _ITS_OWN or (another and of_one_version)):
                    raise
                faults.append(error)
        raise _summed_up(faults)

    def _in_order(self, path: str, at_first: str | None = None) -> Iterator[Replica]:
        """Return the servers as they are to be asked; those left alone come last.

        They come all the same: whether one is able to is not known before it was asked.
        """
        left_alone = []
        ranked = self._ranked(path.partition("?")[0])
        for server in sorted(ranked, key=lambda server: server.url != at_first):
            if server.health.is_resting(path):
                left_alone.append(server)
            else:
                yield server
        yield from sorted(left_alone, key=lambda server: server.health.last_failure)

    def _ranked(self, path: str) -> list[Replica]:
        # Rendezvous hashing: without one server, the order of the others stays as it is.
        def rank(server: Replica) -> bytes:
            return blake2b(f"{server.url} {path}".encode(), digest_size=8).digest()

        return sorted(self._servers, key=rank)

    def _tracked(self, content: Content, path: str) -> Content:
        return HealthContent(content, lambda error: self._noted(error, path))

    def _noted(self, error: SourceError, path: str) -> SourceError:
        """Say of a failure in the middle whether there is a server to go on at, at once."""
        if not error.transient or all(server.health.has_failed(path) for server in self._servers):
            return error
        return error.but(elsewhere=True)


def reach_any(servers: Iterable[FileServer]) -> None:
    """Ask all at once until one answers: one that is silent holds nobody up.

    Raise a `SourceError` where none does.
    """
    fault: SourceError | None = None
    servers = list(servers)
    threads = ThreadPoolExecutor(max(1, len(servers)), "tar-gateway-reach")
    try:
        for asked in as_completed(threads.submit(server.reach) for server in servers):
            try:
                asked.result()
            except SourceError as error:
                fault = error
            else:
                return
    finally:
        threads.shutdown(wait=False)  # those that are still asked are so for seconds only
    if fault is not None:
        raise fault


def _summed_up(faults: list[SourceError]) -> SourceError:
    """Choose, of all servers' faults, the one that says what can be done about it."""
    passing = next((fault for fault in faults if fault.transient), None)
    changed = next((fault for fault in faults if isinstance(fault, MemberChanged)), None)
    if passing is not None and len(faults) > 1:
        others = [fault for fault in faults if fault.status == 404 or fault is changed]
        if others:
            # The one with the right version may come back; if not, the bundle is planned anew.
            return MemberChanged(others[0].reason, transient=True)
    return passing or changed or faults[0]

"""Scripts of a server that are answered without a socket: what they send is read as a response."""

from collections.abc import Callable
from contextlib import suppress

from tar_gateway.errors import SourceError
from tar_gateway.http.messages import BadLength, BadMessage
from tar_gateway.http.receiving import Receiver
from tar_gateway.sources import Caller, Stat, UnknownSize
from tar_gateway.sources.members import HttpMembers
from tar_gateway.sources.stepwise import Blocking
from tar_gateway.sources.wire.asking import Ask, Steps
from tar_gateway.sources.wire.response import Content, Headers, Response
from tests.support.scripted import Ended, Seen


class MemoryWire:
    """A script's end of one request: what it sends is kept."""

    def __init__(self, request: Seen) -> None:
        self.request = request
        self.sent = bytearray()
        self.error: type[OSError] | None = None

    def send(self, data: bytes) -> None:
        self.sent += data

    def close(self) -> None:
        raise Ended

    def reset(self) -> None:
        self.error = ConnectionResetError
        raise Ended


Script = Callable[[MemoryWire], None]


class _Content:
    """The content of a response, whose errors are a source's."""

    def __init__(self, receiver: Receiver, error: type[OSError] | None) -> None:
        self._receiver = receiver
        self._error = error

    def read(self, limit: int) -> bytes:
        try:
            while (piece := self._receiver.content(limit)) is None:
                if self._error is not None:
                    raise self._error
                self._receiver.feed(b"")
        except (OSError, BadMessage) as error:
            raise SourceError("it broke", transient=True) from error
        return piece

    def close(self) -> None:
        pass


class MemoryServer:
    """Answers requests by scripts, as `tests.support.scripted.Scripted` does over sockets."""

    def __init__(self) -> None:
        self._scripts: dict[str, Script] = {}

    def on(self, path: str, script: Script) -> None:
        """Set what a path does from now on."""
        self._scripts[path] = script

    def request(
        self,
        method: str,
        target: str,
        headers: Headers,
        caller: Caller,
        *,
        timeout: float | None = None,
    ) -> Response:
        wire = MemoryWire(Seen(method, target, tuple(headers), 1))
        with suppress(Ended):
            self._scripts[wire.request.path](wire)
        receiver = Receiver()
        receiver.begin(method)
        receiver.feed(wire.sent)
        try:
            head = receiver.head()
        except BadLength as error:
            raise SourceError("its length is invalid") from error
        except BadMessage as error:
            raise SourceError("it is not HTTP", transient=True) from error
        except ConnectionError as error:
            raise SourceError("it broke", transient=True) from error
        if head is None:
            raise SourceError("it broke", transient=True)
        content = _Content(receiver, wire.error)
        return Response(head.status, head.fields, content, values=head.values)


class MemoryUpstream(Blocking):
    """A source over one server in memory, asked in the thread that wants to know."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server
        self._members = HttpMembers(self._ask)

    def is_concurrent(self, caller: Caller) -> bool:
        return False

    def cache_key(self, caller: Caller) -> None:
        return None

    def stat_steps(self, path: str, caller: Caller) -> Steps[Stat | UnknownSize]:
        return self._members.stat(path, caller)

    def open_steps(
        self, path: str, start: int, stop: int, stat: Stat, caller: Caller
    ) -> Steps[Content]:
        return self._members.open(path, start, stop, stat, caller)

    def _ask(self, method: str, path: str, headers: Headers, caller: Caller) -> Steps[Response]:
        response: Response = yield Ask(self._server, method, "/" + path, headers, caller)
        return response

"""A line between a client and a server, which can be held after so many bytes, and cut."""

import re
import socket
import struct
import threading
from contextlib import suppress
from typing import Self

from tests.support.servers import PATIENCE

_REQUEST = re.compile(rb"(?:GET|HEAD|POST) \S+(?= HTTP/1)")
_RESET = struct.pack("ii", 1, 0)


class Line:
    """Passes connections on to a loopback port, whether or not something listens there now."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._ends: set[socket.socket] = set()
        self._change = threading.Condition()
        self._left: int | None = None
        self.requests: list[str] = []
        """The methods and targets of all requests that came, in order."""

    def __enter__(self) -> Self:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.close()
        self.release()
        self.cut()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def hold_after(self, count: int) -> None:
        """Let so many more bytes of responses through, and no other."""
        with self._change:
            self._left = count

    def wait_until_held(self) -> None:
        """Wait until all of these have gone through."""
        with self._change:
            assert self._change.wait_for(lambda: self._left == 0, PATIENCE), "no response came"

    def is_held(self) -> bool:
        """Return whether all of these have gone through."""
        return self._left == 0

    def release(self) -> None:
        """Let everything through."""
        with self._change:
            self._left = None
            self._change.notify_all()

    def cut(self) -> None:
        """Reset all connections that are open, on both sides."""
        with self._change:
            ends, self._ends = self._ends, set()
            self._change.notify_all()
        for end in ends:
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                end.shutdown(socket.SHUT_RD)  # ends a wait for bytes
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return  # the line was taken down
            try:
                server = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                client.close()  # as a machine whose server is not there
                continue
            with self._change:
                self._ends |= {client, server}
            for pump in (self._up, self._down):
                threading.Thread(target=pump, args=(client, server), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while block := client.recv(65536):
                self.requests += [found.decode("latin-1") for found in _REQUEST.findall(block)]
                server.sendall(block)
            server.shutdown(socket.SHUT_WR)

    def _down(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while block := server.recv(65536):
                while block:
                    count = self._allowed(server, len(block))
                    client.sendall(block[:count])
                    block = block[count:]
            client.shutdown(socket.SHUT_WR)

    def _allowed(self, server: socket.socket, wanted: int) -> int:
        """Wait until bytes may go through, or the line is cut. Return how many."""
        with self._change:
            self._change.wait_for(lambda: self._left != 0 or server not in self._ends)
            if self._left is None:
                return wanted
            count = min(wanted, self._left) or wanted
            self._left = max(0, self._left - count)
            self._change.notify_all()
            return count

"""The limit: bytes moved by the kernel from an upstream's socket to the client's, and no archive.

``python -m tests.bench.relay LISTENER_DESCRIPTOR UPSTREAM_PORT`` answers one client at a time.
"""

import fcntl
import json
import os
import re
import socket
import sys

_PIPE = 1024 * 1024  # bytes; the most that an ordinary user may ask for


def serve(listener: socket.socket, upstream: int) -> None:
    """Answer every bundle request by its members, one after the other."""
    source, sink = os.pipe()
    fcntl.fcntl(sink, fcntl.F_SETPIPE_SZ, _PIPE)
    while True:
        client, _ = listener.accept()
        with client, socket.create_connection(("127.0.0.1", upstream)) as server:
            members = _asked(client)
            client.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
            for member in members:
                server.sendall(f"GET /{member} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                head, body = _read_head(server)
                client.sendall(body)
                left = _length(head) - len(body)
                while left:
                    count = os.splice(server.fileno(), sink, min(left, _PIPE))
                    if not count:
                        raise ConnectionError("the upstream broke the connection")
                    left -= count
                    while count:
                        count -= os.splice(source, client.fileno(), count)


def _asked(client: socket.socket) -> list[str]:
    head, body = _read_head(client)
    while len(body) < _length(head):
        body += client.recv(64 * 1024)
    return json.loads(body)["members"]


def _read_head(connection: socket.socket) -> tuple[bytes, bytes]:
    received = b""
    while b"\r\n\r\n" not in received:
        block = connection.recv(64 * 1024)
        if not block:
            raise ConnectionError("it ended in the head")
        received += block
    head, _, body = received.partition(b"\r\n\r\n")
    return head, body


def _length(head: bytes) -> int:
    found = re.search(rb"(?im)^content-length:\s*(\d+)", head)
    assert found
    return int(found[1])


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as inherited:
        serve(inherited, int(sys.argv[2]))

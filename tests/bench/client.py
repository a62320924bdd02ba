"""Clients: one that reads as fast as it can, many that read slowly, and a loop of plain GETs.

All responses are counted and thrown away.
"""

import json
import re
import selectors
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import urllib3

PATIENCE = 900  # seconds; a download that takes longer is taken for hanging
_BLOCK = 1024 * 1024
_TICKS = 8  # a second: how often a slow reader reads
_SMALL_WINDOW = 16 * 1024  # bytes that the system takes in for a slow reader


class BenchError(Exception):
    """A response is not what it should be, so its speed means nothing."""


@dataclass(frozen=True)
class Download:
    """Seconds from before the connection to the response's first byte, its body's, and the last."""

    answered: float
    first_byte: float
    seconds: float


def asking(members: Iterable[str]) -> bytes:
    """Make the request for a bundle, a list of any length."""
    body = json.dumps({"members": list(members)}).encode()
    return (
        b"POST /?bundle HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    )


def asking_list(manifest: str, method: str = "GET") -> bytes:
    """Make the request for the bundle that a manifest lists."""
    target = f"/?bundle&manifest={manifest}"
    return f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()


def download(
    port: int, request: bytes, least: int, on_body: Callable[[], object] | None = None
) -> Download:
    """Read a response of at least ``least`` bytes to its end.

    ``on_body`` is called when the body begins. Raises `BenchError` for a status that is not 200
    and for a response that is short.
    """
    buffer = bytearray(_BLOCK)
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        connection.sendall(request)
        head, body = _read_head(connection)
        answered = time.perf_counter() - began
        length = _length(head)
        is_head = request.startswith(b"HEAD ")
        count = len(body)
        if not is_head and not count:
            count = connection.recv_into(buffer)
        first_byte = time.perf_counter() - began
        if on_body is not None:
            on_body()
        while not is_head and count != length and (got := connection.recv_into(buffer)):
            count += got
        seconds = time.perf_counter() - began
    if (length is not None and count != length and not is_head) or count < least:
        raise BenchError(f"{count} bytes came of {length or least}")
    return Download(answered, first_byte, seconds)


def download_at_once(port: int, requests: Sequence[bytes], least: int) -> list[Download]:
    """Read as many answers at a time, each in a thread."""
    with ThreadPoolExecutor(len(requests)) as threads:
        return list(threads.map(lambda request: download(port, request, least), requests))


def fetch_in_turn(upstream: str, paths: Iterable[str], least: int) -> float:
    """Fetch files one after the other over one connection, and give the seconds that took."""
    count = 0
    began = time.perf_counter()
    with urllib3.PoolManager() as pool:
        for path in paths:
            response = pool.request("GET", upstream + path, preload_content=False)
            for block in response.stream():
                count += len(block)
            response.release_conn()
    seconds = time.perf_counter() - began
    if count < least:
        raise BenchError(f"{count} bytes came of {least}")
    return seconds


def read_slowly(port: int, request: bytes, readers: int, *, rate: int, seconds: float) -> float:
    """Let many clients read at ``rate`` bytes a second each, all at the same time.

    The time counts from when all are being answered. Gives the bytes a second that the slowest
    of them got.
    """
    got = [0] * readers
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        for index in range(readers):
            reader = stack.enter_context(socket.socket())
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_WINDOW)
            reader.settimeout(PATIENCE)
            reader.connect(("127.0.0.1", port))
            reader.sendall(request)
            selector.register(reader, selectors.EVENT_READ, index)
        _read_ticks(selector, got, rate, lambda _ticks: all(got))
        got[:] = [0] * readers
        _read_ticks(selector, got, rate, lambda ticks: ticks >= seconds * _TICKS)
    return min(got) / seconds


def _read_ticks(
    selector: selectors.BaseSelector, got: list[int], rate: int, is_over: Callable[[int], bool]
) -> None:
    began = time.monotonic()
    ticks = 0
    while not is_over(ticks):
        for key, _ in selector.select(0):
            assert isinstance(key.fileobj, socket.socket)
            block = key.fileobj.recv(rate // _TICKS)
            if not block:
                raise BenchError("a response ended while it was being read slowly")
            got[key.data] += len(block)
        ticks += 1
        if ticks > PATIENCE * _TICKS:
            raise BenchError("not all were answered")
        time.sleep(max(0, began + ticks / _TICKS - time.monotonic()))


def _read_head(connection: socket.socket) -> tuple[bytes, bytes]:
    received = b""
    while b"\r\n\r\n" not in received:
        block = connection.recv(64 * 1024)
        if not block:
            raise BenchError(f"the response ended in its head: {received!r}")
        received += block
    head, _, body = received.partition(b"\r\n\r\n")
    if head.split(None, 2)[1] != b"200":
        raise BenchError(received.decode(errors="replace"))
    return head, body


def _length(head: bytes) -> int | None:
    found = re.search(rb"(?im)^content-length:\s*(\d+)", head)
    return int(found[1]) if found else None

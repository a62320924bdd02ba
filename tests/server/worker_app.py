"""An application for the worker's tests: each path does one thing that matters to a server."""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from wsgiref.types import StartResponse, WSGIEnvironment


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    return PATHS[environ["PATH_INFO"]](environ, start_response)


def _quick(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Length", "5")])
    return [b"quick"]


def _held(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    """Give a byte, and another when the file that the query names is there."""
    start_response("200 OK", [("Content-Length", "2")])
    yield b"1"
    while not Path(environ["QUERY_STRING"]).exists():
        time.sleep(0.01)
    yield b"2"


def _breaks(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    start_response("200 OK", [("Content-Length", "2")])
    yield b"1"
    raise ValueError("a defect midway")


def _fails(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    start_response("200 OK", [("Content-Length", "2")])
    yield Path("/nonexistent").read_bytes()


def _fails_without_status(
    environ: WSGIEnvironment, start_response: StartResponse
) -> Iterator[bytes]:
    yield Path("/nonexistent").read_bytes()


def _fails_at_once(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    return [Path("/nonexistent").read_bytes()]


def _exits(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    raise SystemExit(1)


def _body(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer with the length of the request's body."""
    text = str(len(environ["wsgi.input"].read())).encode()
    start_response("200 OK", [("Content-Length", str(len(text)))])
    return [text]


def _body_late(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    """Read the request's body when the response is iterated, behind what the query is."""
    start_response("200 OK", [("Content-Length", "2")])
    if begun := environ["QUERY_STRING"].encode():
        yield begun
    environ["wsgi.input"].read()
    yield b"2"


PATHS = {
    "/quick": _quick,
    "/held": _held,
    "/breaks": _breaks,
    "/fails": _fails,
    "/fails-without-status": _fails_without_status,
    "/fails-at-once": _fails_at_once,
    "/exits": _exits,
    "/body": _body,
    "/body-late": _body_late,
}

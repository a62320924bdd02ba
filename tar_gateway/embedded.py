"""An upstream of our own: a directory's files, served by a second gunicorn on a loopback port.

For trying things out and for sharing a directory; a real file server is better at it. It ends
when whoever started it ends, however that happens: it watches a pipe on its standard input.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from hmac import compare_digest
from pathlib import Path
from typing import Self
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from gunicorn.app.base import BaseApplication
from webob import Request
from webob.static import DirectoryApp

THREADS = 32


def files_app(directory: str, authorization: str | None = None) -> WSGIApplication:
    """Make a WSGI application of a directory's files.

    With ``authorization`` only requests that carry exactly this header's value are answered;
    others are challenged for a user name and password.
    """
    directory_app = DirectoryApp(directory)

    def files(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        status, headers, body = Request(environ).call_application(directory_app)
        if status.startswith(("403", "404")):  # WebOb's page says where the file would be
            headers, body = [("Content-Length", "0")], ()
        start_response(status, headers)
        return body

    if authorization is None:
        return files

    def protected(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        given = environ.get("HTTP_AUTHORIZATION", "")
        if compare_digest(given.encode(), authorization.encode()):
            return files(environ, start_response)
        headers = [("WWW-Authenticate", 'Basic realm="protected files"'), ("Content-Length", "0")]
        start_response("401 Unauthorized", headers)
        return ()

    return protected


def listen(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """Open a listening socket that a child process may take over; port 0 takes a free one."""
    listener = socket.create_server((host, port))
    listener.set_inheritable(True)
    return listener


def address(listener: socket.socket) -> str:
    """Give the URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://{host}:{port}/"


@dataclass(frozen=True, slots=True)
class Embedded:
    """A running upstream: its ``url``, and the ``pipe`` that keeps it running while open.

    A process that goes on without this object, as one that becomes another program does, has
    only to keep the pipe.
    """

    url: str
    pipe: int
    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls, directory: Path, authorization: str | None = None) -> Self:
        """Start serving a directory, to everybody or as `files_app` says."""
        reading, writing = os.pipe()
        with listen() as listener, open(reading, "rb") as stdin:
            arguments = [str(listener.fileno()), str(directory)]
            if authorization is not None:
                arguments.append(authorization)
            process = subprocess.Popen(
                [sys.executable, "-m", "tar_gateway.embedded", *arguments],
                stdin=stdin,
                pass_fds=[listener.fileno()],
            )
            return cls(address(listener), writing, process)

    def close(self) -> None:
        """End it, and wait until it has ended."""
        os.close(self.pipe)
        self.process.wait()


class _Files(BaseApplication):
    """gunicorn around `files_app`, on a socket that is open already."""

    def __init__(self, descriptor: int, directory: str, authorization: str | None) -> None:
        self._descriptor = descriptor
        self._directory = directory
        self._authorization = authorization
        super().__init__()

    def load_config(self) -> None:
        self.cfg.set("bind", f"fd://{self._descriptor}")
        self.cfg.set("worker_class", "gthread")
        self.cfg.set("threads", THREADS)
        self.cfg.set("loglevel", "warning")
        self.cfg.set("proc_name", "tar-gateway-files")
        self.cfg.set("control_socket_disable", True)
        self.cfg.set("forwarder_headers", "")
        self.cfg.set("post_worker_init", _end_with_starter)

    def load(self) -> WSGIApplication:  # type: ignore[override]  # the stub wants a bare dict
        return files_app(self._directory, self._authorization)


def _end_with_starter(_worker: object) -> None:
    """End the server once nobody holds the other end of the pipe."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1):
            pass
        os.kill(os.getppid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    _descriptor, _directory, *_rest = sys.argv[1:]
    _Files(int(_descriptor), _directory, _rest[0] if _rest else None).run()

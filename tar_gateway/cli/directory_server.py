"""An upstream of our own: a directory's files, served by a second gunicorn on a loopback port.

For trying things out and for sharing a directory; a real file server is better at it. It ends
when whoever started it ends, however that happens: it watches a pipe on its standard input.

Any program on the machine can connect to a loopback port, so every request needs a credential.
It is told to the server in its environment, since everyone may read a command line.
"""

import json
import mimetypes
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from email.utils import formatdate
from hmac import compare_digest
from pathlib import Path
from typing import BinaryIO, Self
from urllib.parse import quote
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from gunicorn.app.base import BaseApplication
from webob import Response
from webob.static import FileIter

from tar_gateway.cli.directory import Directory, Shown

THREADS = 32

_AUTHORIZATION = "TAR_GATEWAY_FILES_AUTHORIZATION"
_HIDDEN = "--hidden"
_INDEX = "index.html"


def files_app(directory: Directory, authorization: str) -> WSGIApplication:
    """Make a WSGI application of a directory's files.

    Only requests whose ``Authorization`` is exactly this one are answered; others are challenged
    for a user name and password.
    """

    def files(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        sent = environ.get("HTTP_AUTHORIZATION", "")
        if not compare_digest(sent.encode(), authorization.encode()):
            response = _empty(401)
            response.www_authenticate = 'Basic realm="protected files"'
        elif environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
            response = _empty(405)
            response.allow = ("GET", "HEAD")
        else:
            path = os.fsdecode(environ["PATH_INFO"].encode("latin-1")).removeprefix("/")
            if path.endswith("/") or not path:
                wanted = "application/json" in environ.get("HTTP_ACCEPT", "")
                response = _listing(directory, path) if wanted else _file(directory, path + _INDEX)
            else:
                response = _file(directory, path)
        return response(environ, start_response)

    return files


def _file(directory: Directory, path: str) -> Response:
    try:
        file = directory.open(path)
    except FileNotFoundError:
        return _to_directory(directory, path) or _empty(404)
    except PermissionError:
        return _empty(403)
    kind, encoding = mimetypes.guess_type(path)
    status = os.fstat(file.fileno())
    return Response(
        app_iter=_Content(file),
        content_length=status.st_size,
        # A compressed file is its own bytes, not an encoding of others (RFC 9110 8.4).
        content_type=kind if kind and not encoding else "application/octet-stream",
        last_modified=status.st_mtime,
        accept_ranges="bytes",
        conditional_response=True,
    )


def _to_directory(directory: Directory, path: str) -> Response | None:
    """Redirect from a directory's name to the same with a slash, as servers of files do."""
    try:
        directory.shown_in(f"{path}/")
    except OSError:
        return None
    response = _empty(301)
    response.location = "/" + quote(os.fsencode(path)) + "/"
    return response


def _listing(directory: Directory, path: str) -> Response:
    """List a directory as nginx does (autoindex_format json), beside an index page as well."""
    try:
        shown = [_described(each) for each in directory.shown_in(path)]
    except FileNotFoundError:
        return _empty(404)
    except PermissionError:
        return _empty(403)
    # A name's bytes stand as they are, as nginx writes them.
    text = json.dumps(shown, ensure_ascii=False)
    body = text.encode("utf-8", "surrogateescape")
    return Response(body=body, content_type="application/json", cache_control="no-cache")


def _described(shown: Shown) -> dict[str, str | int]:
    date = formatdate(int(shown.status.st_mtime), usegmt=True)
    kind = "directory" if shown.is_directory else "file"
    size = {} if shown.is_directory else {"size": shown.status.st_size}
    return {"name": shown.name, "type": kind, "mtime": date, **size}


def _empty(status: int) -> Response:
    """Make a response without WebOb's page, which would say where a file would be."""
    return Response(status=status, body=b"", content_type=None)


class _Content(FileIter):
    """A file's bytes; closed with the response, also where none of them is sent."""

    file: BinaryIO

    def close(self) -> None:
        self.file.close()


def secret_file(text: str) -> str:
    """Write a text to a file that has no place on a disk, and return its name.

    Only processes that this one becomes or starts, and those that may look into them, can read
    it; it is gone with the last of them.
    """
    descriptor = os.memfd_create("tar-gateway", 0)  # without MFD_CLOEXEC, which is the default
    os.write(descriptor, text.encode())
    return f"/dev/fd/{descriptor}"


def listen(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """Open a listening socket that a child process may take over; port 0 takes a free one."""
    listener = socket.create_server((host, port))
    listener.set_inheritable(True)
    return listener


def address(listener: socket.socket) -> str:
    """Return the URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://{host}:{port}/"


@dataclass(frozen=True, slots=True)
class DirectoryServer:
    """A running upstream: its ``url``, and the ``pipe`` that keeps it running while open.

    A process that goes on without this object, as one that becomes another program does, has
    only to keep the pipe.
    """

    url: str
    pipe: int
    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls, directory: Path, authorization: str, *, hidden: bool = False) -> Self:
        """Start serving a directory to those who send this ``Authorization``.

        Files and directories whose names begin with a dot are served only if ``hidden``.
        """
        reading, writing = os.pipe()
        with listen() as listener, open(reading, "rb") as stdin:
            arguments = [str(listener.fileno()), str(directory), *([_HIDDEN] if hidden else [])]
            process = subprocess.Popen(
                [sys.executable, "-m", "tar_gateway.cli.directory_server", *arguments],
                stdin=stdin,
                env=os.environ | {_AUTHORIZATION: authorization},
                pass_fds=[listener.fileno()],
            )
            return cls(address(listener), writing, process)

    def close(self) -> None:
        """End it, and wait until it has ended."""
        os.close(self.pipe)
        self.process.wait()


class _Files(BaseApplication):
    """gunicorn around `files_app`, on a socket that is open already."""

    def __init__(self, descriptor: int, application: WSGIApplication) -> None:
        self._descriptor = descriptor
        self._application = application
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
        return self._application


def _end_with_starter(_worker: object) -> None:
    """End the server once nobody holds the other end of the pipe."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1):
            pass
        os.kill(os.getppid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    _descriptor, _path, *_rest = sys.argv[1:]
    _directory = Directory(Path(_path), hidden=_HIDDEN in _rest)
    _Files(int(_descriptor), files_app(_directory, os.environ.pop(_AUTHORIZATION))).run()

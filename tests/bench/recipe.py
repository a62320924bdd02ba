"""A rival: the recipe that is passed around, a generator with a tar and a buffer."""

import io
import tarfile
from collections.abc import Iterator
from wsgiref.types import StartResponse, WSGIEnvironment

import requests

from tests.bench import asked


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    """Stream a tar of the members."""
    members = asked.members(environ)
    start_response("200 OK", [("Content-Type", "application/x-tar")])
    return _archive(members)


def _archive(members: list[str]) -> Iterator[bytes]:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for member in members:
            data = requests.get(asked.url(member), timeout=60).content
            info = tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()

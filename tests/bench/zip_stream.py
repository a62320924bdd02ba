"""A rival: zipstream-ng in a WSGI application, each file fetched by urllib3 in its turn."""

from collections.abc import Iterator
from wsgiref.types import StartResponse, WSGIEnvironment

import urllib3
from zipstream import ZipStream

from tests.bench import asked

_pool = urllib3.PoolManager(maxsize=128)


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    """Stream a zip of the members, not compressed."""
    archive = ZipStream()
    for member in asked.members(environ):
        archive.add(_fetched(member), member)
    start_response("200 OK", [("Content-Type", "application/zip")])
    return iter(archive)


def _fetched(member: str) -> Iterator[bytes]:
    response = _pool.request("GET", asked.url(member), preload_content=False)
    yield from response.stream()
    response.release_conn()

"""A bare WSGI function: no framework, HTTP's own passwords."""

from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIEnvironment

from tar_gateway import BundleMiddleware, Settings
from tests.stacks import files


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer by path."""
    path = environ["PATH_INFO"].encode("latin-1").decode()  # PEP 3333 calls it text
    folder, _, name = path.rpartition("/")
    validated = [("ETag", files.etag(name)), ("Last-Modified", files.LAST_MODIFIED)]
    if folder == "/files" and name in files.FILES:
        content = files.FILES[name]
        start_response("200 OK", [("Content-Length", str(len(content))), *validated])
        return [content]
    if folder == "/files" and name in files.STREAMS:
        size, _ = files.STREAMS[name]
        start_response("200 OK", [("Content-Length", str(size)), *validated] if size else [])
        return files.stream(name)
    if path == "/private/secret.txt":
        if environ.get("HTTP_AUTHORIZATION") != files.CREDENTIALS:
            start_response("401 Unauthorized", [("WWW-Authenticate", 'Basic realm="files"')])
            return [b"Who are you?"]
        start_response("200 OK", [("Content-Length", str(len(files.SECRET))), *validated])
        return [files.SECRET]
    if path == "/list":
        start_response("200 OK", [("X-Archive-Files", "tar")])
        return [files.LIST.encode()]
    if folder == "/tar":
        archive = files.archive(name)
        start_response(
            "200 OK",
            [("Content-Type", "application/x-tar"), ("Content-Length", str(archive.size))],
        )
        return archive
    if folder == "/unmeasured":
        start_response("200 OK", [("Content-Type", "application/x-tar")])
        return files.archive(name)
    start_response("404 Not Found", [])
    return [b"There is nothing here."]


application = BundleMiddleware(app, settings=Settings(write_timeout=2))

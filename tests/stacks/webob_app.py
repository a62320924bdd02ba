"""WebOb's directory of real files, with views of WebOb's beside it."""

import atexit
import os
import tempfile
from pathlib import Path

from webob import Request, Response
from webob.dec import wsgify
from webob.exc import HTTPForbidden, HTTPNotFound
from webob.static import DirectoryApp

from tar_gateway import BundleMiddleware
from tests.stacks import files

_place = tempfile.TemporaryDirectory()
atexit.register(_place.cleanup)
for _name, _content in files.FILES.items():
    _file = Path(_place.name, _name)
    _file.write_bytes(_content)
    os.utime(_file, (files.MODIFIED, files.MODIFIED))

directory = DirectoryApp(_place.name)


@wsgify
def app(request: Request) -> Response:
    """Answer by path."""
    match request.path_info.strip("/").split("/"):
        case ["files", name] if name in files.STREAMS:
            return stream(name)
        case ["files", _]:
            request.path_info_pop()
            return request.send(directory)
        case ["login"]:
            return login(request)
        case ["private", "secret.txt"]:
            if request.cookies.get("user") != files.USER:
                raise HTTPForbidden
            return Response(files.SECRET)
        case ["list"]:
            return Response(files.LIST, headers={"X-Archive-Files": "tar"})
        case ["tar", name]:
            return tar(name)
    raise HTTPNotFound


def stream(name: str) -> Response:
    """Give a stream."""
    answer = Response(app_iter=files.stream(name), content_type="application/octet-stream")
    answer.content_length, _ = files.STREAMS[name]
    if answer.content_length is not None:
        answer.etag = files.etag(name).strip('"')
        answer.last_modified = files.MODIFIED
    return answer


def login(request: Request) -> Response:
    """Give a cookie."""
    if (request.POST["user"], request.POST["password"]) != (files.USER, files.PASSWORD):
        raise HTTPForbidden
    answer = Response("welcome")
    answer.set_cookie("user", request.POST["user"])
    return answer


def tar(name: str) -> Response:
    """Give an archive of data at hand."""
    archive = files.archive(name)
    return Response(app_iter=archive, content_type="application/x-tar", content_length=archive.size)


application = BundleMiddleware(app)

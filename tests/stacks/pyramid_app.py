"""A Pyramid application with a session."""

from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPForbidden, HTTPNotFound
from pyramid.request import Request
from pyramid.response import Response
from pyramid.session import SignedCookieSessionFactory

from tar_gateway import BundleMiddleware
from tests.stacks import files


def file(request: Request) -> Response:
    """Give a file as one that is there, or a stream."""
    name = request.matchdict["name"]
    answer = Response(conditional_response=True, content_type="application/octet-stream")
    if name in files.FILES:
        answer.body = files.FILES[name]
    elif name in files.STREAMS:
        answer.app_iter = files.stream(name)
        answer.content_length, _ = files.STREAMS[name]
        if answer.content_length is None:
            return answer
    else:
        raise HTTPNotFound
    answer.etag = files.etag(name).strip('"')
    answer.last_modified = files.MODIFIED
    return answer


def login(request: Request) -> Response:
    """Begin a session."""
    if (request.POST["user"], request.POST["password"]) != (files.USER, files.PASSWORD):
        raise HTTPForbidden
    request.session["user"] = request.POST["user"]
    return Response("welcome")


def secret(request: Request) -> Response:
    """Show who is logged in what nobody else may have."""
    if "user" not in request.session:
        raise HTTPForbidden
    return Response(files.SECRET)


def listed(request: Request) -> Response:
    """Name the files of an archive."""
    return Response(files.LIST, headers={"X-Archive-Files": "tar"})


def tar(request: Request) -> Response:
    """Give an archive of data at hand."""
    archive = files.archive(request.matchdict["name"])
    return Response(app_iter=archive, content_type="application/x-tar", content_length=archive.size)


with Configurator(session_factory=SignedCookieSessionFactory("for signed cookies")) as config:
    for name, pattern, view in (
        ("file", "/files/{name}", file),
        ("login", "/login", login),
        ("secret", "/private/secret.txt", secret),
        ("list", "/list", listed),
        ("tar", "/tar/{name}", tar),
    ):
        config.add_route(name, pattern)
        config.add_view(view, route_name=name)

application = BundleMiddleware(config.make_wsgi_app())

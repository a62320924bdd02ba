"""A Flask application with a session, mounted under a prefix."""

from collections.abc import Iterator

from flask import Flask, Response, abort, request, session, stream_with_context
from werkzeug.exceptions import NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from tar_gateway import BundleMiddleware
from tests.stacks import files

app = Flask(__name__)
app.secret_key = "for signed cookies"


@app.get("/files/<name>")
def file(name: str) -> Response:
    """Give a file as one that is there, or a stream."""
    if name in files.FILES:
        answer = Response(files.FILES[name])
    elif name in files.STREAMS:
        answer = Response(files.stream(name))
        size, _ = files.STREAMS[name]
        if size is None:
            return answer
        answer.content_length = size
    else:
        abort(404)
    answer.set_etag(files.etag(name).strip('"'))
    answer.last_modified = files.MODIFIED
    return answer.make_conditional(request)


@app.post("/login")
def login() -> str:
    """Begin a session."""
    if (request.form["user"], request.form["password"]) != (files.USER, files.PASSWORD):
        abort(403)
    session["user"] = request.form["user"]
    return "welcome"


@app.get("/private/secret.txt")
def secret() -> Response:
    """Show who is logged in what nobody else may have."""
    if "user" not in session:
        abort(403)
    return Response(files.SECRET)


@app.get("/context/<name>")
def context(name: str) -> Response:
    """Give a stream that needs the request all the while."""

    def lines() -> Iterator[str]:
        for number in range(3):
            yield f"{number} {request.path} {session['user']}\n"

    return Response(stream_with_context(lines()), mimetype="text/plain")


@app.get("/list")
def listed() -> Response:
    """Name the files of an archive."""
    return Response(files.LIST, headers={"X-Archive-Files": "tar"})


@app.get("/tar/<name>")
def tar(name: str) -> Response:
    """Give an archive of data at hand."""
    archive = files.archive(name)
    return Response(
        archive, mimetype="application/x-tar", headers={"Content-Length": str(archive.size)}
    )


application = DispatcherMiddleware(NotFound(), {"/shop": BundleMiddleware(app)})

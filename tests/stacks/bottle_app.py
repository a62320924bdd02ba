"""A Bottle application with a signed cookie."""

from collections.abc import Iterable

from bottle import Bottle, HTTPResponse, abort, request, response

from tar_gateway import BundleMiddleware, TarStream
from tests.stacks import files

KEY = "for signed cookies"
app = Bottle()


@app.get("/files/<name>")
def file(name: str) -> bytes | Iterable[bytes]:
    """Give a file as one that is there, or a stream."""
    if name not in files.FILES and name not in files.STREAMS:
        abort(404)
    size, _ = files.STREAMS.get(name, (len(files.FILES.get(name, b"")), None))
    if size is not None:
        response.content_length = size
        response.set_header("ETag", files.etag(name))
        response.set_header("Last-Modified", files.LAST_MODIFIED)
    return files.FILES[name] if name in files.FILES else files.stream(name)


@app.post("/login")
def login() -> str:
    """Give a cookie that nobody can make."""
    if (request.forms.user, request.forms.password) != (files.USER, files.PASSWORD):
        abort(403)
    response.set_cookie("user", request.forms.user, secret=KEY, path="/")
    return "welcome"


@app.get("/private/secret.txt")
def secret() -> bytes:
    """Show who is logged in what nobody else may have."""
    if not request.get_cookie("user", secret=KEY):
        abort(403)
    return files.SECRET


@app.get("/list")
def listed() -> HTTPResponse:
    """Name the files of an archive."""
    return HTTPResponse(files.LIST, headers={"X-Archive-Files": "tar"})


@app.get("/tar/<name>")
def tar(name: str) -> TarStream:
    """Give an archive of data at hand."""
    archive = files.archive(name)
    response.content_type = "application/x-tar"
    response.content_length = archive.size
    return archive


application = BundleMiddleware(app)

"""A Falcon application with HTTP's own passwords, which it asks for by 401."""

from falcon import App, HTTPNotFound, HTTPUnauthorized, Request, Response

from tar_gateway import BundleMiddleware
from tests.stacks import files


class File:
    """A file as one that is there, or a stream."""

    def on_get(self, req: Request, resp: Response, name: str) -> None:
        """Give it."""
        if name in files.FILES:
            resp.data = files.FILES[name]
        elif name in files.STREAMS:
            size, _ = files.STREAMS[name]
            resp.stream = files.stream(name)
            if size is None:
                return
            resp.content_length = size
        else:
            raise HTTPNotFound
        resp.etag = files.etag(name)
        resp.set_header("Last-Modified", files.LAST_MODIFIED)


class Secret:
    """What only those with the password may have."""

    def on_get(self, req: Request, resp: Response) -> None:
        """Give it."""
        if req.auth != files.CREDENTIALS:
            raise HTTPUnauthorized(challenges=['Basic realm="files"'])
        resp.data = files.SECRET


class Query:
    """The list of an archive's files."""

    def on_get(self, req: Request, resp: Response) -> None:
        """Give it."""
        resp.set_header("X-Archive-Files", "tar")
        resp.text = files.LIST


class Tar:
    """An archive of data at hand."""

    def on_get(self, req: Request, resp: Response, name: str) -> None:
        """Give it."""
        archive = files.archive(name)
        resp.content_type = "application/x-tar"
        resp.set_stream(archive, archive.size)


app = App()
app.add_route("/files/{name}", File())
app.add_route("/private/secret.txt", Secret())
app.add_route("/list", Query())
app.add_route("/tar/{name}", Tar())

application = BundleMiddleware(app)

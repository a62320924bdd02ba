"""Members from a wrapped WSGI application: sub-requests with all that the caller has.

The application sees each member as a request of its own by the same caller, so its own rules
decide who may have what.
"""

import io
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from email.utils import formatdate
from types import TracebackType
from typing import Any
from urllib.parse import unquote_to_bytes
from wsgiref.types import WSGIApplication, WSGIEnvironment

from tar_gateway.errors import SourceError
from tar_gateway.http.environ import CLIENT_SOCKET, mount_of
from tar_gateway.http.headers import is_override
from tar_gateway.settings import Settings
from tar_gateway.sources import Caller, Listing, Stat, UnknownSize
from tar_gateway.sources.judgement import ExactContent, size_by_get, stat_of
from tar_gateway.sources.members import HttpMembers
from tar_gateway.sources.spool import Spool, SpoolFile
from tar_gateway.sources.stepwise import Blocking
from tar_gateway.sources.wire.asking import Steps, calling
from tar_gateway.sources.wire.response import REDIRECTS, Content, Headers, Response, fault_of
from tar_gateway.sources.wire.tally import Place

# What `sys.exc_info` gives: PEP 3333's way of telling that an error came up late.
OptExcInfo = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]

log = logging.getLogger(__name__)

# What belongs to the outer request's message and not to its caller.
_OUTER = frozenset(
    {
        "CONTENT_LENGTH",
        "CONTENT_TYPE",
        "HTTP_ACCEPT_ENCODING",
        "HTTP_CONTENT_ENCODING",
        "HTTP_CONTENT_LENGTH",
        "HTTP_CONTENT_TYPE",
        "HTTP_EXPECT",
        "HTTP_IF_MATCH",
        "HTTP_IF_MODIFIED_SINCE",
        "HTTP_IF_NONE_MATCH",
        "HTTP_IF_RANGE",
        "HTTP_IF_UNMODIFIED_SINCE",
        "HTTP_RANGE",
        "HTTP_TRANSFER_ENCODING",
        # A server's shortcuts to its own socket or files.
        CLIENT_SOCKET,
        "wsgi.file_wrapper",
        "wsgi.input_terminated",
    }
)
# Where frameworks keep what they have parsed of the request at hand.
_PARSED = ("webob.", "werkzeug.", "bottle.", "flask.")


class Subrequests(Blocking):
    """A `Source` whose members are the answers of a WSGI application to GET.

    Asked from several threads at once only where the server says that the application may be.
    What it writes, rather than yields, is set aside in ``spool``.
    """

    def __init__(
        self, app: WSGIApplication, spool: Spool, settings: Settings | None = None
    ) -> None:
        self._app = app
        self._spool = spool
        self._members = HttpMembers(self._ask, place=Place("application"), settings=settings)

    def is_concurrent(self, caller: Caller) -> bool:
        """Tell what the server told the application of itself."""
        return bool(caller.environ.get("wsgi.multithread", False))

    def cache_key(self, caller: Caller) -> None:
        """Say that nobody can tell: an application sees all of the request, and may look."""

    def stat_steps(self, path: str, caller: Caller) -> Steps[Stat | UnknownSize]:
        """Ask once by GET: an application may know no HEAD, and may make its response anew.

        With a validator and a length the response is let go and asked for again when its bytes
        are wanted. Without, the one response is kept, as a second might be another.
        """
        plain = [("Accept-Encoding", "identity")]
        response = yield from self._members.ask("GET", path, plain, caller)
        if 300 <= response.status < 400:
            response.content.close()
            raise _redirected(response, path)
        size = yield from size_by_get(response, path)
        validator = response.validator()
        # A weak date is of a response that was made this very moment, as the next one would be.
        if size is not None and validator is not None and (validator.is_etag or validator.strong):
            response.content.close()
            return stat_of(response, size)
        content = (
            response.content if size is None else ExactContent(response.content, size, ends=True)
        )
        return UnknownSize(response.mtime(), content, response.no_store())

    def open_steps(
        self, path: str, start: int, stop: int, stat: Stat, caller: Caller
    ) -> Steps[Content]:
        """Ask for the member again, and check that it is the same. Raise `SourceError`."""
        return self._members.open(path, start, stop, stat, caller)

    def list_steps(self, path: str, caller: Caller, *, deep: bool = False) -> Steps[Listing]:
        """Read the application's own listing of a directory. Raise `SourceError`."""
        at = f"{mount_of(caller.environ)}/{path}"
        return self._members.list(path, at, caller, _not_listed)

    def _ask(self, method: str, path: str, headers: Headers, caller: Caller) -> Steps[Response]:
        return calling(lambda: self._call(method, path, headers, caller))

    def _call(self, method: str, path: str, headers: Headers, caller: Caller) -> Response:
        environ = subrequest(caller.environ, method, path, [*headers, *caller.trace])
        called = AppResponse(self._app, environ, self._spool.file())
        received = called.headers
        if not any(name.lower() == "date" for name, _ in received):
            # Servers add Date; without it Last-Modified could not be told to be strong or weak.
            received = [*received, ("Date", formatdate(time.time(), usegmt=True))]
        return Response(called.status, received, called)


def _redirected(response: Response, path: str) -> SourceError:
    """Say what the application's redirect means: it hides from a stranger what there is."""
    fault = fault_of(response, path)
    if fault.status == 404 or fault.cause:  # a directory, or an object store
        return fault
    location = response.get("location") if response.status in REDIRECTS else None
    reason = "it is not shown: a login is asked for instead"
    return SourceError(reason, status=403, login=location)


def _not_listed(response: Response, path: str) -> SourceError:
    """Say what an application's response means that is no listing."""
    if response.status in {404, 405, 410}:
        reason = "it does not exist, or this application lists no directories"
        return SourceError(reason, status=404)
    return _redirected(response, path) if response.status in REDIRECTS else fault_of(response, path)


def subrequest(
    environ: Mapping[str, Any], method: str, path: str, headers: Headers
) -> WSGIEnvironment:
    """Make a request of another: the same caller and mount point, another path, no body."""
    place, _, query = path.partition("?")
    made = plain_get(environ)
    made["REQUEST_METHOD"] = method
    made["PATH_INFO"] = "/" + unquote_to_bytes(place).decode("latin-1")
    made["QUERY_STRING"] = query
    for raw in ("RAW_URI", "REQUEST_URI"):
        if raw in made:
            made[raw] = f"{mount_of(made)}/{path}"
    for name, value in headers:
        made["HTTP_" + name.upper().replace("-", "_")] = value
    return made


def plain_get(environ: Mapping[str, Any]) -> WSGIEnvironment:
    """Make a request of another: the same, but by GET, unconditional and without a body."""
    made = {
        key: value
        for key, value in environ.items()
        if not (key in _OUTER or key.startswith(_PARSED) or _is_override(key))
    }
    made["REQUEST_METHOD"] = "GET"
    made["wsgi.input"] = io.BytesIO()
    return made


def _is_override(key: str) -> bool:
    # It would make another path or method of a member's GET.
    return key.startswith("HTTP_") and is_override(key.removeprefix("HTTP_"))


class AppResponse:
    """One call of an application: its status and headers, and its content.

    The call is made, and its first blocks are drawn, until ``start_response`` was called.
    What the application writes is kept in ``written`` until it is read, which is closed with it.
    Raise `SourceError` when it gives no response; what it raised itself is logged.
    """

    def __init__(self, app: WSGIApplication, environ: WSGIEnvironment, written: SpoolFile) -> None:
        self._path = environ["PATH_INFO"]
        self._written = _WriteBuffer(written)
        self._rest = memoryview(b"")  # of the block that was drawn last
        self._started: tuple[str, list[tuple[str, str]]] | None = None
        self._committed = False
        self._closed = False
        self._iterable: Iterable[bytes] = ()
        with self._failing():
            self._iterable = app(environ, self._start_response)
            self._iterator = iter(self._iterable)
            drawn = True
            while (started := self._started) is None:
                if not drawn:
                    raise SourceError("the application gave no response")
                # A generator may say all before its end, and have no block to give.
                drawn = self._draw()
            self._committed = True
            self.status: int = int(started[0][:3])
        self.headers: list[tuple[str, str]] = started[1]

    def read(self, limit: int) -> bytes:
        """Return what is there, as `Content.read` does."""
        with self._failing():
            while not self._written and not self._rest:
                if not self._draw() and not self._written:
                    return b""
            if self._written:  # before the block that came with it
                return self._written.read(limit)
        block, self._rest = self._rest[:limit], self._rest[limit:]
        return bytes(block)

    def close(self) -> None:
        """Close the application's iterable, once."""
        if not self._closed:
            self._closed = True
            close = getattr(self._iterable, "close", None)
            try:
                if close is not None:
                    close()
            except Exception:  # the bytes are right all the same
                log.exception("the application failed to close the member %r", self._path)
            finally:
                self._written.close()

    def _start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: OptExcInfo | None = None
    ) -> Callable[[bytes], object]:
        if exc_info is not None and exc_info[1] is not None and self._committed:
            raise exc_info[1].with_traceback(exc_info[2])
        if exc_info is None and self._started is not None:
            raise AssertionError("start_response was called twice without exc_info")
        self._started = (status, list(headers))
        return self._written.add

    def _draw(self) -> bool:
        """Take the application's next block. Return whether there was one, be it empty."""
        try:
            block = next(self._iterator)
        except StopIteration:
            return False
        self._rest = memoryview(_checked(block))
        return True

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Let what the application raises become an error of this source."""
        try:
            yield
        except SourceError:
            self.close()
            raise
        except Exception as error:
            log.exception("the application failed at the member %r", self._path)
            self.close()
            raise SourceError("the application failed") from error
        except BaseException:  # a server that ends its worker
            self.close()
            raise


class _WriteBuffer:
    """What an application has written and nobody has read yet."""

    def __init__(self, file: SpoolFile) -> None:
        self._file = file
        self._position = 0

    def __bool__(self) -> bool:
        return self._position < self._file.size

    def add(self, block: bytes) -> None:
        """Be the application's ``write``. Raise `SourceError` where there is no room."""
        self._file.append(_checked(block))

    def read(self, limit: int) -> bytes:
        block = self._file.read(self._position, min(limit, self._file.size - self._position))
        self._position += len(block)
        if not self:
            self._position = 0
            self._file.clear()
        return block

    def close(self) -> None:
        self._position = 0
        self._file.close()


def _checked(block: object) -> bytes:
    if not isinstance(block, bytes):
        raise TypeError(f"the application gave {type(block).__name__} in place of bytes")
    return block

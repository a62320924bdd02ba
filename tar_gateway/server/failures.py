"""What gunicorn finds wrong with a request, in words that hold nothing of the request.

gunicorn's own quote the line at fault, in its log and in its response: a link's signature may be in
it, or a caller's credentials.
"""

import errno
from collections.abc import Callable, Iterable, Iterator
from ssl import SSLError
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from gunicorn.http import errors as found
from gunicorn.http.errors import NoMoreData, ParseException
from gunicorn.http.wsgi import FileWrapper

from tar_gateway.errors import (
    BadRequest,
    BrokenOff,
    ExpectationFailed,
    Forbidden,
    HeaderTooLarge,
    InternalError,
    Refusal,
    UnsupportedTransferCoding,
    UriTooLong,
)

# With the statuses that gunicorn gives. The last one is for what other releases may find.
_WORDS: tuple[tuple[type[Exception], type[Refusal], str], ...] = (
    (found.InvalidRequestLine, BadRequest, "the request line is malformed"),
    (found.InvalidRequestMethod, BadRequest, "the method is malformed"),
    (found.InvalidHTTPVersion, BadRequest, "the version of HTTP is not understood"),
    (found.InvalidHeaderName, BadRequest, "a header's name is malformed or not allowed"),
    (found.InvalidHeader, BadRequest, "a header is malformed or contradicts another"),
    (found.ObsoleteFolding, BadRequest, "a header is folded over several lines"),
    (found.InvalidSchemeHeaders, BadRequest, "headers contradict each other about the scheme"),
    (found.InvalidChunkSize, BadRequest, "a chunk's size is malformed"),
    (found.ChunkMissingTerminator, BadRequest, "a chunk is longer than its size"),
    (found.InvalidChunkExtension, BadRequest, "a chunk's extension is malformed"),
    (found.InvalidH2CPreface, BadRequest, "the preface of HTTP/2 is malformed"),
    (found.InvalidProxyLine, BadRequest, "the PROXY line is malformed"),
    (found.InvalidProxyHeader, BadRequest, "the PROXY header is malformed"),
    (found.ForbiddenProxyRequest, Forbidden, "this address may send no PROXY line"),
    (SSLError, Forbidden, "the connection is not TLS, or not a version that is understood"),
    (found.LimitRequestLine, UriTooLong, "the request line is too long"),
    (found.ExpectationFailed, ExpectationFailed, "only 100-continue can be expected"),
    (found.LimitRequestHeaders, HeaderTooLarge, "a header is too long, or there are too many"),
    (found.ConfigurationProblem, InternalError, "the path is not below the server's SCRIPT_NAME"),
    (found.UnsupportedTransferCoding, UnsupportedTransferCoding, "the body's coding is not known"),
    (found.ParseException, BadRequest, "the request is malformed"),
)

# Those of an application that answers with such a header.
_APPLICATIONS = (
    found.InvalidResponseHeader,  # type: ignore[attr-defined] # not in the stubs
    found.InvalidResponseHeaderName,  # type: ignore[attr-defined]
)


def refusal_of(error: BaseException) -> Refusal | None:
    """Return what a client is told of an error, or None where it is the application's."""
    if isinstance(error, _APPLICATIONS):
        return None
    if unescaped := _unescaped(error):
        return BadRequest(unescaped)
    told = (kind(words) for raised, kind, words in _WORDS if isinstance(error, raised))
    return next(told, None)


def _unescaped(error: BaseException) -> str | None:
    """Return what to write instead of a URL as people write it, if that is what is wrong."""
    match error:
        case found.InvalidRequestLine() if not str(getattr(error, "req", "")).isascii():
            return "the URL contains characters beyond ASCII: percent-encode them as UTF-8 (%C3%A9)"
        case found.InvalidHTTPVersion() if " " in str(getattr(error, "version", "")):
            return "the URL contains a space: write it as %20"
    return None


# What an application passes on when its client has left, or has not sent all that it promised.
_CLIENTS_DOING = (ConnectionError, NoMoreData)


class ErrorBoundary:
    """Runs ``application``; ``log`` is given a line and finds the exception where it is handled.

    gunicorn takes every OSError for the client's doing: here it becomes a 500. And behind an
    answer that breaks off gunicorn lingers in its thread: here that looks as if the client had
    left, and ends at once. A body that is malformed is no failure of the application's.
    """

    def __init__(self, application: WSGIApplication, log: Callable[[str], None]) -> None:
        self._application = application
        self._log = log

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        try:
            blocks = self._application(environ, start_response)
        except _CLIENTS_DOING:
            raise
        except OSError as error:
            raise RuntimeError("the application failed") from error
        if isinstance(blocks, FileWrapper):  # gunicorn sends files by itself
            return blocks
        return _Blocks(blocks, self._log)


class _Blocks:
    """The blocks of an application's response; see `ErrorBoundary`."""

    def __init__(self, blocks: Iterable[bytes], log: Callable[[str], None]) -> None:
        self._blocks = blocks
        self._log = log

    def __iter__(self) -> Iterator[bytes]:
        begun = False
        try:
            for block in self._blocks:
                yield block
                begun = True
        except _CLIENTS_DOING:
            raise
        except Exception as error:
            if begun:
                # The one was told where it was raised; the other is the client's doing.
                if not isinstance(error, BrokenOff | ParseException):
                    self._log("The response broke off")
                raise BrokenPipeError(errno.EPIPE, "the response broke off") from error
            if isinstance(error, ParseException):  # the worker refuses the request
                raise
            raise RuntimeError("the application failed") from error

    def close(self) -> None:
        if hasattr(self._blocks, "close"):
            self._blocks.close()

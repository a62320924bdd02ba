"""What gunicorn finds wrong with a request, in words that hold nothing of the request.

gunicorn's own quote the line at fault, in its log and in its answer: a link's signature may be in
it, or a caller's credentials.
"""

from ssl import SSLError

from gunicorn.http import errors as found

from tar_gateway.errors import (
    BadRequest,
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
    (SSLError, Forbidden, "the connection is no TLS that is understood"),
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
    """Give what a client is told of an error, or None where it is the application's."""
    if isinstance(error, _APPLICATIONS):
        return None
    told = (kind(words) for raised, kind, words in _WORDS if isinstance(error, raised))
    return next(told, None)

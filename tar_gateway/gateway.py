"""The gateway: bundles from an upstream, and everything else passed to it and back."""

import logging
from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIEnvironment

from tar_gateway.endpoint import Endpoint
from tar_gateway.errors import InternalError, MethodNotAllowed, NotFound, Refusal
from tar_gateway.passthrough import PassThrough
from tar_gateway.problem import refuse
from tar_gateway.settings import Settings
from tar_gateway.sources.upstream import Upstream

log = logging.getLogger(__name__)


class Gateway:
    """A WSGI application in front of a protected file server.

    ``?bundle=`` requests become archives of the upstream's files; other GET and HEAD requests
    are passed to it unless ``settings.pass_through`` is off. One serves many threads.
    """

    def __init__(self, upstream: Upstream, settings: Settings | None = None) -> None:
        self._settings = settings or Settings()
        self._upstream = upstream
        self._bundles = Endpoint(upstream, self._settings)
        self._plain = PassThrough(upstream, self._bundles, self._settings)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request (PEP 3333)."""
        refusal: Refusal
        try:
            if self._bundles.takes(environ):
                return self._bundles(environ, start_response)
            if not self._settings.pass_through:
                raise NotFound("only bundles are served here: see ?" + self._settings.parameter)
            if environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
                raise MethodNotAllowed(("GET", "HEAD"))
            return self._plain(environ, start_response)
        except Refusal as error:
            refusal = error
        except Exception:
            # A defect of ours. An OSError that left here would give the client silence.
            log.exception("a defect in answering %r", environ.get("PATH_INFO"))
            refusal = InternalError()
        return refuse(refusal, environ, start_response, vary=self._settings.forward_headers)

    def close(self) -> None:
        """End the threads and close the idle connections."""
        self._bundles.close()
        self._upstream.close()

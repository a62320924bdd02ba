"""What both faces do around a response: admit the request, refuse it, tell what became of it."""

import errno
import logging
from collections.abc import Callable, Iterable
from wsgiref.types import StartResponse, WSGIEnvironment

from tar_gateway.access.credentials import Hop
from tar_gateway.access.limits import ClientQuota, Downloads, Questions
from tar_gateway.access.links import SignedLinks
from tar_gateway.errors import Cancelled, InternalError, Refusal
from tar_gateway.http.environ import check_query
from tar_gateway.settings import Settings
from tar_gateway.sources.wire.tally import Listener, Tally
from tar_gateway.web.client import until_departure
from tar_gateway.web.observe.download import Download
from tar_gateway.web.problem import refuse

log = logging.getLogger(__name__)

Handler = Callable[[Download, StartResponse], Iterable[bytes]]


class Door:
    """Answers requests, within the limits, by functions that may raise `Refusal`.

    Raise `SettingsError` for a file of signing keys that has become wrong.
    """

    def __init__(self, settings: Settings, hop: Hop, listener: Listener | None = None) -> None:
        self._settings = settings
        self._hop = hop
        self._listener = listener
        self.downloads = Downloads(settings, listener)
        a_minute = settings.questions_per_client
        # A bundle's members are asked about, and then for.
        self._questions = Questions(a_minute, 2 * settings.max_members) if a_minute else None
        self.links = SignedLinks.from_settings(settings)
        """What links must be signed by, if they must be."""

    def __call__(
        self,
        environ: WSGIEnvironment,
        start_response: StartResponse,
        handler: Handler,
        *,
        check: bool = True,
    ) -> Iterable[bytes]:
        """Answer a request (PEP 3333) by ``handler``, or say why not.

        ``check`` is off for a request that an application of its own has let in: neither its
        query nor its link is ours.
        """
        quota = ClientQuota.of(self._questions, environ, self._settings.trusted_proxies)
        tally = Tally(self._listener, quota)
        download = Download(self.downloads, environ, tally, self._hop)
        start_response = _noted(download, start_response)
        refusal: Refusal
        try:
            download.begin()
            download.scope.callback(tally.settle)
            download.scope.enter_context(until_departure(environ, download.cancellation.cancel))
            self._hop.check(environ)
            if check:
                check_query(environ, self._settings.max_query)
                if self.links is not None:
                    self.links.check(environ)
            iterable = handler(download, start_response)
            if not download.delivered:
                download.end("no body")
            return iterable
        except Refusal as error:
            refusal = error
        except Cancelled as error:
            download.end("client left")
            # Servers end a connection on this without a word, and nobody would hear one.
            raise ConnectionResetError(errno.ECONNRESET, "the client has left") from error
        except Exception:
            # A defect of ours. An OSError that left here would give the client silence.
            log.exception("a defect in answering %r", environ.get("PATH_INFO"))
            refusal = InternalError()
        except BaseException:  # a server ends its thread or greenlet, and nothing can be said
            download.end("failed")
            raise
        vary = self._settings.forward_headers
        try:
            return refuse(refusal, environ, start_response, vary=vary)
        finally:
            download.refuse(refusal)


def _noted(download: Download, start_response: StartResponse) -> StartResponse:
    """Return a `start_response` that tells the download of the status, and the client of the id."""

    def start(
        status: str, headers: list[tuple[str, str]], *exc_info: object
    ) -> Callable[[bytes], object]:
        download.answered(int(status[:3]))
        given = [*headers, ("X-Request-ID", download.id)]
        return start_response(status, given, *exc_info)  # type: ignore[arg-type]

    return start

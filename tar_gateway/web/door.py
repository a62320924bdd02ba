"""What both faces do around a response: admit the request, refuse it, tell what became of it."""

import errno
import logging
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from wsgiref.types import StartResponse, WSGIEnvironment

from tar_gateway.access.credentials import Hop
from tar_gateway.access.limits import ClientQuota, Downloads, Questions
from tar_gateway.access.links import SignedLinks
from tar_gateway.errors import Cancelled, InternalError, Refusal
from tar_gateway.http.environ import check_query
from tar_gateway.settings import Settings
from tar_gateway.sources.wire.tally import Listener, Tally
from tar_gateway.web.browse.error_page import ways_on
from tar_gateway.web.browse.shell import Look
from tar_gateway.web.client import Delivery, told, until_departure
from tar_gateway.web.cors import CrossOrigin
from tar_gateway.web.observe.download import Download
from tar_gateway.web.problem import refuse
from tar_gateway.web.query import is_bundle

log = logging.getLogger(__name__)

Handler = Callable[[Download, StartResponse], Iterable[bytes]]


class Door:
    """Answers requests, within the limits, by functions that may raise `Refusal`.

    Raise `SettingsError` for a file of signing keys that has become wrong.
    """

    def __init__(self, settings: Settings, hop: Hop, listener: Listener | None = None) -> None:
        self._settings = settings
        self._hop = hop
        self._look = Look.from_settings(settings)
        self._listener = listener
        self.downloads = Downloads(settings, listener)
        a_minute = settings.questions_per_client
        # A bundle's members are asked about, and then for.
        self._questions = Questions(a_minute, 2 * settings.max_members) if a_minute else None
        self.cross_origin = CrossOrigin(settings.cors_origins)
        """Which pages of other origins may read responses."""
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
        query nor its link is ours. The download's room is held until the response was closed.
        A preflight takes no room: refused, it would be told to a page as an origin's refusal.
        """
        if self.cross_origin.is_preflight(environ):
            answer = self.cross_origin.answer(environ, start_response)
            return Delivery(answer, environ, 0, ExitStack())
        start_response = self.cross_origin.wrap(environ, start_response)
        quota = ClientQuota.of(self._questions, environ, self._settings.trusted_proxies)
        tally = Tally(self._listener, quota)
        download = Download(self.downloads, environ, tally, self._hop)
        query = environ.get("QUERY_STRING", "")
        is_short = len(query) <= self._settings.max_query  # a longer one is not logged either
        if check and is_short and is_bundle(query, self._settings.parameter):
            download.kind = "bundle"  # also one that is refused before it is read
        start_response = _noted(download, start_response)
        held = ExitStack()
        held.callback(download.end)
        try:
            blocks = self._blocks(download, start_response, handler, held, check=check)
        except BaseException:
            held.close()
            raise
        # Who was given no room gets a few bytes, and no thread waits until these are taken.
        seconds = self._settings.write_timeout if download.has_room else 0
        return Delivery(blocks, environ, seconds, held)

    def _blocks(
        self,
        download: Download,
        start_response: StartResponse,
        handler: Handler,
        held: ExitStack,
        *,
        check: bool,
    ) -> Iterable[bytes]:
        """Return what is sent, whose own `close` is in ``held``."""
        environ = download.environ
        try:
            download.begin()
            download.scope.callback(download.tally.settle)
            download.scope.enter_context(until_departure(environ, download.cancellation.cancel))
            self._hop.check(environ)
            if check:
                check_query(environ, self._settings.max_query)
                if self.links is not None:
                    self.links.check(environ)
            blocks = handler(download, start_response)
        except Refusal as error:
            return self._refuse(error, download, start_response)
        except Cancelled as error:
            download.became("client_left")
            # Servers end a connection on this without a word, and nobody would hear one.
            raise ConnectionResetError(errno.ECONNRESET, "the client has left") from error
        except Exception:
            # A defect of ours. An OSError that left here would give the client silence.
            log.exception("a defect in answering %r", environ.get("PATH_INFO"))
            return self._refuse(InternalError(), download, start_response)
        except BaseException:  # a server ends its thread or greenlet, and nothing can be said
            download.became("failed")
            raise
        if not blocks:
            download.became("no_body")
            return ()
        if hasattr(blocks, "close"):
            held.callback(blocks.close)
        return told(blocks, download)

    def _refuse(
        self, refusal: Refusal, download: Download, start_response: StartResponse
    ) -> Iterable[bytes]:
        download.refused(refusal)
        return refuse(
            refusal,
            download.environ,
            start_response,
            vary=self._settings.forward_headers,
            request_id=download.id,
            look=self._look,
            ways=ways_on(refusal, download.environ, self._settings),
        )


def _noted(download: Download, start_response: StartResponse) -> StartResponse:
    """Return a `start_response` that tells the download of the status, and the client of the id."""

    def start(
        status: str, headers: list[tuple[str, str]], *exc_info: object
    ) -> Callable[[bytes], object]:
        measured = any(name.lower() == "content-length" for name, _ in headers)
        download.answered(int(status[:3]), measured=measured)
        given = [*headers, ("X-Request-ID", download.id)]
        return start_response(status, given, *exc_info)  # type: ignore[arg-type]

    return start

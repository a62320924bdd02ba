"""The gateway: bundles from an upstream, and everything else passed to it and back."""

from collections.abc import Iterable
from typing import TYPE_CHECKING
from wsgiref.types import StartResponse, WSGIEnvironment

from tar_gateway.access.authority import Authority
from tar_gateway.access.credentials import Hop
from tar_gateway.errors import MethodNotAllowed, NotFound, SettingsError, SourceError
from tar_gateway.http.environ import check_no_encoded_slash
from tar_gateway.settings import Settings
from tar_gateway.sources import Listing
from tar_gateway.sources.stepwise import FileServer, is_private
from tar_gateway.web.browse.pages import Pages, denied, is_directory, varied
from tar_gateway.web.door import Door
from tar_gateway.web.endpoint import Endpoint
from tar_gateway.web.observe.download import Download
from tar_gateway.web.observe.probes import Probes
from tar_gateway.web.passthrough import PassThrough

if TYPE_CHECKING:
    from tar_gateway.web.observe.metrics import Metrics


class Gateway:
    """A WSGI application in front of a protected file server.

    ``?bundle=`` requests become archives of the upstream's files; other GET and HEAD requests
    are passed to it unless ``settings.pass_through`` is off. The upstream is an `Upstream`,
    an `S3` bucket, several equivalent ones (`Replicas`), or a `Locations`. One serves many
    threads. Raise `SettingsError` for a file of signing keys that has become wrong, and for a
    bucket that everyone would have; `TypeError` for an upstream's URL in its place.
    """

    def __init__(self, upstream: FileServer, settings: Settings | None = None) -> None:
        if isinstance(upstream, str):
            example = 'Gateway(Upstream("http://files.internal/"))'
            raise TypeError(f"it takes an upstream and not its URL: {example}")
        self._settings = settings or Settings()
        if is_private(upstream) and not (self._settings.s3_public or self._settings.is_guarded):
            raise SettingsError(
                f"{upstream!r} is opened by the gateway's own credentials: give the gateway "
                "settings with signing_keys_file or auth_request, which say who may have what of "
                "it, or s3_public=True to let everyone have all of it"
            )
        self._upstream = upstream
        metrics = _metrics()
        hop = Hop.before(upstream, self._settings)
        self._authority = Authority.from_settings(self._settings, hop)
        permit = self._authority.permit if self._authority else None
        self._bundles = Endpoint(upstream, self._settings, permit, metrics)
        self._plain = PassThrough(upstream, self._bundles, self._settings, hop, self._authority)
        self._door = Door(self._settings, hop, metrics)
        asks = 1 if self._authority is None else 2
        self._pages = Pages(self._bundles.lister, self._settings, self._door.links, asks=asks)
        self._probes = Probes(
            self._settings,
            reach=upstream.reach,
            is_full=lambda: self._door.downloads.is_full,
            exposition=metrics.exposition if metrics else None,
        )

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request (PEP 3333)."""
        if self._probes.takes(environ):
            return self._probes(environ, start_response)
        return self._door(environ, start_response, self._answer)

    def close(self) -> None:
        """End the threads and close the idle connections."""
        self._bundles.close()
        if self._authority is not None:
            self._authority.close()
        self._upstream.close()

    def _answer(self, download: Download, start_response: StartResponse) -> Iterable[bytes]:
        environ, links = download.environ, self._door.links
        if self._settings.browse and is_directory(environ):
            start_response = varied(start_response)
        if self._pages.takes_form(environ):
            return self._pages(download, start_response)
        if self._pages.takes(environ) and (listing := self._listing(download)) is not None:
            return self._pages.show(environ, listing, start_response)
        if self._bundles.takes(environ):
            return self._bundles(download, start_response)
        if not self._settings.pass_through:
            raise NotFound("only bundles are served here: see ?" + self._settings.parameter)
        if environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
            raise MethodNotAllowed(("GET", "HEAD"))
        if links is not None or self._authority is not None:  # which go by the decoded path
            check_no_encoded_slash(environ)
        passed = environ if links is None else links.for_upstream(environ)
        return self._plain(download, passed, start_response)

    def _listing(self, download: Download) -> Listing | None:
        """List the directory that a browser asks for; `None` where its response is passed on."""
        caller = download.caller(self._settings.forward_headers)
        try:
            return self._pages.listing(download.environ, caller)
        except SourceError as error:
            if error.status == 403:
                raise denied(error) from error
            return None


def _metrics() -> "Metrics | None":
    """Make the metrics, where their library is installed."""
    try:
        from tar_gateway.web.observe.metrics import Metrics  # noqa: PLC0415 - it may not be there
    except ModuleNotFoundError:
        return None
    return Metrics()

"""Asks a store what was composed: signed, at the bucket's own region, its errors understood.

Nothing is signed here that does not come from `tar_gateway.sources.s3.composing`, and no redirect
is followed: a region that a store names is signed for, at a host that is composed as well.
"""

import logging
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from tar_gateway.errors import SourceError
from tar_gateway.http.messages import host_field
from tar_gateway.settings import Settings
from tar_gateway.sources import Caller
from tar_gateway.sources.s3.composing import Scope
from tar_gateway.sources.s3.refusals import LONGEST, Complaint
from tar_gateway.sources.s3.signing import Credentials, sign
from tar_gateway.sources.wire.asking import Ask, Call, Read, Steps, counted, discard
from tar_gateway.sources.wire.pool import PORTS, Origin
from tar_gateway.sources.wire.response import Headers, Response
from tar_gateway.sources.wire.tally import Place
from tar_gateway.sources.wire.throttle import Throttles
from tar_gateway.sources.wire.tls import client_tls

# Statuses that answer what was asked; all others are errors.
_ANSWERS: Final = frozenset({200, 206, 304, 412, 416})

# Errors to a HEAD, which have no content, whose code decides what they mean.
_TOLD_BY_CODE: Final = frozenset({301, 307, 400, 401, 403})

log = logging.getLogger(__name__)


class Store:
    """The store that has the bucket in ``scope``. Safe to use from many threads.

    ``place`` is what metrics call it.
    """

    def __init__(self, scope: Scope, settings: Settings, place: Place) -> None:
        self._scope = scope
        self._place = place
        self._settings = settings
        self._credentials = Credentials(settings.s3_profile)
        self._throttles = Throttles(settings)
        self._region = settings.s3_region
        self._moved = False
        self._hosts: dict[str, _Host] = {}
        https = scope.origin("us-east-1").startswith("https:")
        self._tls = client_tls(settings, certificate=True) if https else None

    def ask(
        self,
        method: str,
        target: str,
        headers: Headers,
        caller: Caller,
        *,
        timeout: float | None = None,
    ) -> Steps[Response]:
        """Ask, and return a response of 200, 206, 304, 412 or 416, whose content is open.

        ``target`` and ``headers`` are composed. Raise `SourceError` for any other response. Another
        region, and credentials that have expired, cost one more request each.
        """
        moved = renewed = explained = False
        while True:
            region = yield from self._known_region()
            credentials = yield from self._credentials.ready()
            host = self._host(region)
            url = host.url + target
            signed = sign(method, url, headers, region, host=host.field, by=credentials)
            asked = Ask(host.origin, method, target, signed, caller, timeout)
            response = yield from self._throttles.held_back(self._counted(asked), caller.key)
            if response.status in _ANSWERS:
                return response
            complaint = yield from self._complaint(asked, response)
            if complaint.region not in {None, region} and not moved:
                moved = True
                self._move(complaint.region or region)
            elif complaint.is_of_passing_credentials and not renewed:
                renewed = True
                if not self._credentials.forget(credentials):
                    raise complaint.fault(response)
            elif method == "HEAD" and response.status in _TOLD_BY_CODE and not explained:
                explained = True  # if GET is answered, HEAD may be by now as well
                yield from self._ask_for_code(target, caller, timeout)
            else:
                raise complaint.fault(response)

    def close(self) -> None:
        """Close the connections that are not in use."""
        for host in tuple(self._hosts.values()):
            host.origin.close()

    def _ask_for_code(self, target: str, caller: Caller, timeout: float | None) -> Steps[None]:
        """Raise what the store says to a GET: of its errors to a HEAD it does not tell the code."""
        first_byte = [("Range", "bytes=0-0")]
        response = yield from self.ask("GET", target, first_byte, caller, timeout=timeout)
        yield from discard(response)

    def _counted(self, asked: Ask) -> Steps[Response]:
        def steps() -> Steps[Response]:
            response: Response = yield asked
            return response

        return counted(steps(), asked.caller.tally, self._place)

    def _complaint(self, asked: Ask, response: Response) -> Steps[Complaint]:
        body = b""
        with closing(response.content), suppress(SourceError):
            while asked.method != "HEAD" and len(body) < LONGEST:
                block: bytes = yield Read(response.content, LONGEST)
                if not block:
                    break
                body += block
        return Complaint.read(body, response)

    def _known_region(self) -> Steps[str]:
        if self._region is None:
            self._region = yield Call(self._credentials.region)
        return self._region

    def _move(self, region: str) -> None:
        """Sign for another region from now on, for the store says that the bucket is there."""
        if not self._moved:  # one that says another each time does not fill the log
            log.warning(
                "the bucket %s is in the region %s: set S3_REGION, or each start asks twice",
                *(self._scope.bucket, region),
            )
        self._region, self._moved = region, True

    def _host(self, region: str) -> "_Host":
        url = self._scope.origin(region)  # the same of all regions of a store of one's own
        if (known := self._hosts.get(url)) is not None:
            return known
        origin = Origin(url, self._settings, called="the upstream", tls=self._tls)
        parts = urlsplit(url)
        field = host_field(parts.hostname or "", parts.port, PORTS[parts.scheme])
        return self._hosts.setdefault(url, _Host(origin, url.removesuffix("/"), field))


@dataclass(frozen=True, slots=True)
class _Host:
    """What is asked: the connections to it, its URL without a slash, and its Host field."""

    origin: Origin
    url: str
    field: str

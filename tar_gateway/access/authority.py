"""The operator's authority, asked for each file before anything of it is fetched.

As nginx's ``auth_request``: a sub-request by the same caller, whose status decides. Apart from
the upstream it is the one server that sees the caller's credentials; the service's own it
never sees.
"""

from collections.abc import Iterable
from urllib.parse import urlsplit

from tar_gateway.access.credentials import Hop, passed_headers
from tar_gateway.access.links import referer_of
from tar_gateway.http.environ import mount_of, reference_of
from tar_gateway.settings import Settings
from tar_gateway.sources import Caller
from tar_gateway.sources.wire.asking import Ask, Steps, asking, discard
from tar_gateway.sources.wire.health import Health
from tar_gateway.sources.wire.loop import run
from tar_gateway.sources.wire.pool import REACH, Origin
from tar_gateway.sources.wire.response import Headers, Response, failure_of, fault_of
from tar_gateway.sources.wire.tls import client_tls


class Authority:
    """Answers whether a caller may have a file. Safe to use from many threads.

    ``url`` is asked as it is, its query included; ``hop`` is the server that asks. Raise
    `SettingsError` for certificates that can't be used.
    """

    def __init__(self, url: str, settings: Settings, hop: Hop | None = None) -> None:
        parts = urlsplit(url)
        tls = client_tls(settings, certificate=False) if parts.scheme == "https" else None
        self._origin = Origin(url, settings, called="the authority", tls=tls)
        self._hop = hop or Hop.before(None, settings)
        self._health = Health("the authority", settings)
        self._target = parts.path + ("?" + parts.query if parts.query else "")

    @classmethod
    def from_settings(cls, settings: Settings, hop: Hop) -> "Authority | None":
        """Return the one that the settings name, if any. Raise `SettingsError`."""
        url = settings.auth_request
        return None if url is None else cls(url, settings, hop)

    def permit(self, path: str, caller: Caller) -> Steps[None]:
        """Ask for a member, ``path`` being a reference below the source's base.

        Raise `SourceError`: 401 or 403 where the caller may not have it, 502 or 504 where
        that is not known.
        """
        # What the caller sends along is shown here too, whatever its `Connection` says of it.
        return self._ask("GET", path, caller.headers, caller)

    def permit_plain(self, caller: Caller) -> Steps[None]:
        """Ask for the file that a plain request is for. Raise `SourceError`, as `permit` does."""
        environ = caller.environ
        return self._ask(environ["REQUEST_METHOD"], reference_of(environ), (), caller)

    def reach(self) -> int:
        """Ask on no one's behalf, within seconds. Return the response's status.

        Raise `SourceError` if nothing answers.
        """
        caller = Caller()
        steps = asking(Ask(self._origin, "GET", self._target, (), caller, timeout=REACH))
        response = run(steps, caller.cancellation)
        response.content.close()
        return response.status

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._origin.close()

    def _ask(
        self, method: str, path: str, credentials: Iterable[tuple[str, str]], caller: Caller
    ) -> Steps[None]:
        environ = caller.environ
        # By lower-case names, so that no header comes twice.
        headers = {
            name.lower(): value
            for name, value in (*passed_headers(caller, self._hop, conditions=False), *credentials)
            if not name.lower().startswith("content-")
        }
        if "referer" in headers:
            headers["referer"] = referer_of(environ) or ""
        uri = f"{mount_of(environ)}/{path}"
        told = [("X-Original-URI", uri), ("X-Original-Method", method)]
        sent = [*headers.items(), *told]
        yield from self._health.track(self._judge(sent, caller), path, caller)

    def _judge(self, headers: Headers, caller: Caller) -> Steps[None]:
        caller.tally.asked_authority()
        response: Response = yield Ask(self._origin, "GET", self._target, headers, caller)
        yield from discard(response)
        if response.status in {401, 403}:
            raise fault_of(response)
        if not 200 <= response.status < 300:
            raise failure_of(response, "the authority")

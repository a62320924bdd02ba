"""Signed links at the door: no request goes further without one."""

import time
from collections.abc import Callable, Sequence
from wsgiref.types import WSGIEnvironment

from tar_gateway.access.links import referer_of
from tar_gateway.errors import Forbidden
from tar_gateway.http.environ import query_of
from tar_gateway.settings import Settings
from tar_gateway.settings.line_files import SigningKey, read_keys
from tar_gateway.signing import check_link, without_signature


class SignedLinks:
    """Checks requests by ``keys``; ``now`` gives the Unix time."""

    def __init__(self, keys: Sequence[SigningKey], now: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._now = now

    @classmethod
    def from_settings(cls, settings: Settings) -> "SignedLinks | None":
        """Read the keys; `None` where links need no signature. Raises `SettingsError`."""
        file = settings.signing_keys_file
        return None if file is None else cls(read_keys(file))

    def check(self, environ: WSGIEnvironment) -> None:
        """Raise `Forbidden` unless a request came by a link that is signed and still holds."""
        if environ["REQUEST_METHOD"] == "POST":
            raise Forbidden("what is sent is not signed: sign a link with manifest= instead")
        whole = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
        path = whole.encode("latin-1", "replace") or b"/"
        check_link(path, query_of(environ), self._keys, self._now())

    def for_upstream(self, environ: WSGIEnvironment) -> WSGIEnvironment:
        """Give the request without its signature, and without what anybody may have added."""
        stripped = {**environ, "QUERY_STRING": without_signature(query_of(environ))}
        referer = referer_of(environ)
        return stripped if referer is None else {**stripped, "HTTP_REFERER": referer}

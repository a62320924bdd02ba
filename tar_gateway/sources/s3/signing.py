"""The gateway's own credentials for a store, and what they sign: the only file that knows botocore.

They come by the usual chain (environment, profiles, roles, containers, instances). Finding and
renewing them may block, so that is a `Call`, or happens in a thread of its own ahead of time.
"""

import threading
import time
from typing import Final, Protocol

from tar_gateway.errors import SettingsError, SourceError
from tar_gateway.sources.wire.asking import Call, Steps
from tar_gateway.sources.wire.response import Headers

try:
    import botocore.session
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
except ModuleNotFoundError as error:
    raise SettingsError(
        "an s3:// upstream needs the package botocore: pip install 'tar_gateway[s3]'"
    ) from error

_USUAL_REGION: Final = "us-east-1"

# Seconds of their life in which temporary credentials are not used any more.
_LAST = 30

# Seconds between two attempts to find or renew credentials.
_AGAIN = 10


class Frozen(Protocol):
    """What signs: an access key, its secret, and a token of temporary ones."""

    access_key: str
    secret_key: str
    token: str | None


def sign(method: str, url: str, headers: Headers, region: str, *, host: str, by: Frozen) -> Headers:
    """Return the headers with those that sign them by these credentials.

    ``host`` is the Host field that is sent, by whoever sends it.
    """
    request = AWSRequest(method, url, headers={"Host": host, **dict(headers)})
    S3SigV4Auth(by, "s3", region).add_auth(request)
    return [pair for pair in request.headers.items() if pair[0] != "Host"]


class Credentials:
    """The credentials of ``profile``, or those that the chain finds. Safe to use from threads.

    Nothing is read before the first request, so that one may be made before a fork. ``called``
    names the thread that renews.
    """

    def __init__(self, profile: str | None = None, *, called: str = "tar-gateway-s3") -> None:
        self._profile = profile
        self._called = called
        self._lock = threading.Lock()
        self._credentials: botocore.credentials.Credentials | None = None
        self._frozen: Frozen | None = None
        self._fault: SourceError | None = None
        self._asked = -float("inf")
        self._renewing = False

    def __repr__(self) -> str:
        return f"Credentials(profile={self._profile!r})"

    def region(self) -> str:
        """Return the region that the configuration names, or the usual one. It may block."""
        try:
            return self._session().get_config_variable("region") or _USUAL_REGION
        except botocore.exceptions.BotoCoreError:  # an unknown profile: told when it is used
            return _USUAL_REGION

    def ready(self) -> Steps["Frozen"]:
        """Return credentials that are good for a request. Raise `SourceError` if there are none."""
        frozen = self._frozen
        if frozen is None or self._ends_within(_LAST):
            frozen = yield Call(self._renew)
        elif self._ends_within(None):
            self._renew_ahead()
        return frozen

    def forget(self, used: Frozen) -> bool:
        """Hear that a store takes these for expired, or for unknown.

        Return whether there may be others: these were not looked for a moment ago.
        """
        with self._lock:
            if self._frozen is not used:
                return True  # others have found new ones meanwhile
            if time.monotonic() - self._asked < _AGAIN:
                return False
            self._frozen = self._credentials = None
            return True

    def _ends_within(self, seconds: int | None) -> bool:
        """Return whether credentials end so soon; `None` is when it is time to renew them."""
        needed = getattr(self._credentials, "refresh_needed", None)
        return needed is not None and bool(needed(seconds))

    def _session(self) -> "botocore.session.Session":
        return botocore.session.Session(profile=self._profile)

    def _renew(self) -> Frozen:
        """Find credentials, or renew those that are about to end. It blocks."""
        with self._lock:
            if self._frozen is not None and not self._ends_within(_LAST):
                return self._frozen  # another thread was faster
            if self._fault is not None and time.monotonic() - self._asked < _AGAIN:
                raise self._fault.but()
            try:
                return self._fetch()
            except SourceError as error:
                self._fault = error
                raise
            finally:
                self._asked = time.monotonic()

    def _fetch(self) -> Frozen:
        try:
            found = self._credentials or self._session().get_credentials()
            frozen: Frozen | None = None if found is None else found.get_frozen_credentials()
        except Exception as error:  # whatever a provider of the chain raises
            raise _no_credentials(f"{type(error).__name__}: {error}") from error
        if frozen is None or not (frozen.access_key and frozen.secret_key):
            raise _no_credentials("none were found")
        self._credentials, self._frozen, self._fault = found, frozen, None
        return frozen

    def _renew_ahead(self) -> None:
        """Renew in a thread of its own, while those that there are still hold."""
        with self._lock:
            if self._renewing or time.monotonic() - self._asked < _AGAIN:
                return
            self._renewing, self._asked = True, time.monotonic()
        threading.Thread(target=self._run_ahead, name=self._called, daemon=True).start()

    def _run_ahead(self) -> None:
        try:
            found = self._credentials
            if found is not None:
                frozen = found.get_frozen_credentials()  # botocore renews them, and logs a failure
                with self._lock:
                    if self._credentials is found:
                        self._frozen = frozen
        except Exception:  # noqa: BLE001, S110 - botocore has logged it, and the next request tells
            pass
        finally:
            self._renewing = False


def _no_credentials(cause: str) -> SourceError:
    return SourceError(
        "the gateway has no credentials for its store",
        of_service=True,
        cause=f"the gateway's credentials: {cause}",
    )

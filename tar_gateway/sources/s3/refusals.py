"""What a store's error means: for the member, for the gateway's credentials, or for its clock.

Read from its status and the code in its content; how either came is not known here. Pure.
"""

import re
from dataclasses import dataclass
from typing import Final

from tar_gateway.errors import SourceError
from tar_gateway.http.validators import read_date
from tar_gateway.settings.buckets import is_region
from tar_gateway.sources.wire.response import Response, failure_of

# Bytes of an error's content that are read.
LONGEST: Final = 16 * 1024

# What the gateway's credentials may be, by the codes that say so.
_CREDENTIALS: Final = {
    "AccountProblem": "their account may not use the store",
    "AllAccessDisabled": "the bucket is disabled",
    "AuthorizationHeaderMalformed": "the signature is for another region or form",
    "ExpiredToken": "they have expired",
    "ExpiredTokenException": "they have expired",
    "InvalidAccessKeyId": "their access key is unknown",
    "InvalidSecurity": "they are invalid",
    "InvalidToken": "their token is invalid",
    "InvalidTokenId": "their token is invalid",
    "NotSignedUp": "their account may not use the store",
    "SignatureDoesNotMatch": "their secret key is wrong, or a proxy changes requests",
    "TokenRefreshRequired": "they have expired",
    "UnauthorizedAccess": "they may not use the store here",
}

# Credentials for which there may be others by now.
_RENEWED: Final = frozenset(
    {"ExpiredToken", "ExpiredTokenException", "InvalidToken", "InvalidTokenId"}
    | {"TokenRefreshRequired", "InvalidAccessKeyId"}
)

_CLOCK: Final = frozenset({"RequestTimeTooSkewed", "RequestExpired"})

# What a store answers to whom it wants to ask less, where its status does not say so.
_SLOWER: Final = frozenset({"SlowDown", "RequestLimitExceeded", "TooManyRequests"})

# Statuses that a wrong region or host comes with.
_ELSEWHERE: Final = frozenset({301, 307, 400, 403})


@dataclass(frozen=True, slots=True)
class Complaint:
    """An error's ``code``, empty if it has none, and what else it tells."""

    code: str = ""
    region: str | None = None
    theirs: str | None = None
    """The time at the store."""

    @classmethod
    def read(cls, body: bytes, response: Response) -> "Complaint":
        """Read the content of an error, and the headers of its response."""
        text = body.decode("utf-8", "replace")
        told = _element(text, "Region") or response.get("x-amz-bucket-region") or ""
        region = told if is_region(told) and response.status in _ELSEWHERE else None
        code = _element(text, "Code") or ""
        return cls(code, region, _element(text, "ServerTime"))

    @property
    def is_of_passing_credentials(self) -> bool:
        """Whether other credentials may be there by now."""
        return self.code in _RENEWED

    def fault(self, response: Response) -> SourceError:
        """Return the error that a response with this content means."""
        match self.code:
            case "AccessDenied" if response.status == 403:
                error = SourceError("access to it is denied", status=403)
            case "NoSuchKey" | "KeyTooLongError":
                error = SourceError("it does not exist", status=404)
            case "NoSuchBucket":
                error = SourceError("its bucket was not found", cause=self.code)
            case "InvalidObjectState":
                error = archived()
            case code if code in _CLOCK:
                error = _refused(f"{code}: {self._clocks(response)}")
            case code if code in _CREDENTIALS:
                error = _refused(f"{code}: the gateway's credentials: {_CREDENTIALS[code]}")
            case code if code in _SLOWER:
                error = SourceError(
                    "the upstream takes no more requests for now",
                    transient=True,
                    retry_after=response.retry_after(),
                    of_server=response.status == 503,
                    refused=True,
                    cause=code,
                )
            case _:
                error = self._by_status(response)
        return error

    def _by_status(self, response: Response) -> SourceError:
        status, code = response.status, self.code or "without a code"
        if status in {401, 403}:  # not the store's word that the file is denied to anyone
            return _refused(f"it answered {status} {code}")
        if status == 404 and not self.code:
            return SourceError("it does not exist", status=404)
        if 300 <= status < 400:
            cause = f"it answered {status} {code}: is S3_ENDPOINT that of the bucket?"
            return SourceError("its bucket is at another place", cause=cause)
        error = failure_of(response, "the upstream")
        error.cause = self.code or None
        return error

    def _clocks(self, response: Response) -> str:
        theirs = self.theirs or response.get("date") or "unknown"
        told = read_date(response.get("date"))
        text = f"the gateway's clock is wrong: the store's time is {theirs}"
        if told is None:
            return text
        return f"{text}, which differs by {abs(round(response.arrived - told))} seconds"


def archived() -> SourceError:
    """Return the error of an object that can't be read before it was restored."""
    return SourceError("it is in its store's archive, and has to be restored first")


def _refused(cause: str) -> SourceError:
    return SourceError("its store refused the gateway's own request", of_service=True, cause=cause)


def _element(text: str, name: str) -> str | None:
    found = re.search(rf"<{name}>([!-;=?-~ ]{{1,100}})</{name}>", text)
    return found[1] if found else None

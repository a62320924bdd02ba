"""What an HTTP answer says: its lengths, its version, and what its status means for a member.

How it travelled is not known here, nor what was asked.
"""

import re
import time
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import Final, Protocol, runtime_checkable
from urllib.parse import unquote, urljoin, urlsplit

from tar_gateway.errors import SourceError
from tar_gateway.http.codings import coding_beyond
from tar_gateway.http.headers import VALUE, forbids_storing
from tar_gateway.http.messages import BadLength, content_length
from tar_gateway.http.validators import Validator, read_date, read_validator


class Content(Protocol):
    """The bytes of one response, read once from front to back."""

    def read(self, limit: int) -> bytes:
        """Return what is there, at least 1 byte and at most ``limit``; ``b""`` at the end.

        Waits only while nothing is there. Raise `SourceError` when the bytes stop coming.
        """
        ...

    def close(self) -> None:
        """Release the connection or file. May be called again, and before the end."""
        ...


@runtime_checkable
class TrackedContent(Content, Protocol):
    """A content whose server is told what its reader finds wrong with it."""

    def failed(self, error: SourceError) -> SourceError:
        """Tell of a failure, and return the error to raise."""
        ...


def failed(content: Content, error: SourceError) -> SourceError:
    """Tell a content's server of a failure, where one is told, and return the error to raise."""
    return content.failed(error) if isinstance(content, TrackedContent) else error


class ContentOf:
    """A content that is another one, held to something: what reads it goes through to that."""

    def __init__(self, content: Content) -> None:
        self._content = content

    def close(self) -> None:
        """Close the content itself."""
        self._content.close()


def innermost(content: Content) -> Content:
    """Return the content that others were made of."""
    while isinstance(content, ContentOf):
        content = content._content
    return content


Headers = Sequence[tuple[str, str]]

# A file's name in a Content-Disposition (RFC 6266 4.1), as far as its end goes.
_FILENAME = re.compile(r'filename\*?[ \t]*=[ \t]*"?([^";]*)', re.IGNORECASE)

# Statuses that mean: try again later.
PASSING = frozenset({408, 429, 500, 502, 503, 504})

# Seconds that two machines' clocks may differ by, as RFC 9110's forerunner has it (RFC 2616,
# 13.3.3). It counts where a response has no date but that of its arrival here.
_CLOCKS_DIFFER = 60

# Of these, what speaks of the request or of its caller, and not of the server.
_OF_A_REQUEST = frozenset({408, 429, 500})


@dataclass(frozen=True, slots=True)
class Response:
    """A response's status, its headers in order, and its content, which is open.

    ``arrived`` is when it was received, in seconds since 1970. ``redirected`` says that another
    place was asked than the one that was meant. ``values`` are those of the headers by their names
    in lower case, and made of them unless they are given.
    """

    status: int
    headers: Headers
    content: Content
    arrived: float = field(default_factory=time.time, repr=False, compare=False)
    redirected: bool = False
    values: dict[str, list[str]] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.values:
            for name, value in self.headers:
                self.values.setdefault(name.lower(), []).append(value.strip(" \t"))

    @property
    def names(self) -> Set[str]:
        """The names of the headers, in lower case."""
        return self.values.keys()

    def all(self, name: str) -> list[str]:
        """Return the values of every header of this name, in order, ``name`` in lower case."""
        return self.values.get(name, [])

    def get(self, name: str) -> str | None:
        """Return the value of a header that must not come twice; `None` unless it came once."""
        values = self.all(name)
        return values[0] if len(values) == 1 else None

    def length(self) -> int | None:
        """Return the content's length as the headers tell it, `None` where they don't.

        Raise `SourceError` for lengths that no honest server sends.
        """
        coded = "transfer-encoding" in self.names
        try:
            return content_length(self.all("content-length"), coded=coded)
        except BadLength as error:
            raise SourceError(str(error)) from error

    def validator(self) -> Validator | None:
        """Return the validator of the version that this response is of.

        Without a ``Date`` (RFC 9110 6.6.1 lets a server without a clock leave it out) it was made
        when it arrived, give or take what the clocks differ by.
        """
        return self.judged(self.get("etag"), self.get("last-modified"))

    def dated(self) -> Validator | None:
        """Return Last-Modified as a validator."""
        return self.judged(None, self.get("last-modified"))

    def judged(self, etag: str | None, modified: str | None) -> Validator | None:
        """Return the better of a tag and a date that were told when this response was made."""
        date = self.get("date")
        if "date" not in self.names:
            date = formatdate(self.arrived - _CLOCKS_DIFFER, usegmt=True)
        return read_validator(etag, modified, date)

    def mtime(self) -> int:
        """Return the date of ``Last-Modified`` in seconds since 1970, 0 without one."""
        return read_date(self.get("last-modified")) or 0

    def coding(self, path: str) -> str | None:
        """Return what the content is encoded as, `None` where it is the file at ``path`` itself.

        It is where the file's name states the coding: the path's, or the response's own.
        """
        codings = self.all("content-encoding")
        if not codings:
            return None
        coding = coding_beyond(path.partition("?")[0], codings)
        named = _FILENAME.findall(self.get("content-disposition") or "")
        return coding if all(coding_beyond(name, codings) for name in named) else None

    def retry_after(self) -> float:
        """Return the seconds that ``Retry-After`` asks to wait for, 0 without it.

        Its other form, a date, would need a clock that both sides agree on.
        """
        text = self.get("retry-after") or ""
        return float(text) if re.fullmatch(r"[0-9]{1,9}", text) else 0

    def no_store(self) -> bool:
        """Return whether no cache may keep the content."""
        return forbids_storing(self.all("cache-control"))


REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

# What signs a URL of an object store, and where those are.
_SIGNED = re.compile(
    r"(?:^|&)(?:x-(?:amz|goog|oss)-(?:signature|credential)|awsaccesskeyid|googleaccessid"
    r"|ossaccesskeyid|signature|sig|q-signature|key-pair-id|temp_url_sig)=",
    re.IGNORECASE,
)
_STORES = re.compile(
    r"\.(?:amazonaws\.com(?:\.cn)?|cloudfront\.net|blob\.core\.windows\.net|storage\.googleapis\.com"
    r"|r2\.cloudflarestorage\.com|digitaloceanspaces\.com|backblazeb2\.com|aliyuncs\.com)\Z"
)


def fault_of(response: Response, path: str = "") -> SourceError:
    """Make an error of a response whose status says that the member can't be retrieved.

    ``path`` is the reference that was asked for.
    """
    status = response.status
    if status == 401:
        given = [value for value in response.all("www-authenticate") if VALUE.fullmatch(value)]
        challenge = ", ".join(given) or None
        return SourceError("it needs credentials", status=401, challenge=challenge)
    if status == 403:
        return SourceError("access to it is denied", status=403)
    if status in {404, 410}:
        return SourceError("it does not exist", status=404)
    if 300 <= status < 400:
        return _redirect_fault(response, path)
    return failure_of(response, "the upstream")


def _redirect_fault(response: Response, path: str) -> SourceError:
    """Say what a redirect that is not followed means for the member; see `fault_of`."""
    asked = "/" + path.partition("?")[0]
    try:
        place = urlsplit(urljoin(asked, response.get("location") or ""))
        host = place.hostname
    except ValueError:
        place, host = urlsplit(""), None
    if path and unquote(place.path).endswith(unquote(asked) + "/"):
        return SourceError(
            "it is a directory: with a slash at its end it stands for all files in it", status=404
        )
    if host and (_SIGNED.search(place.query) or _STORES.search("." + host)):
        return SourceError(
            "it is redirected to an object store, whose host is not in REDIRECT_HOSTS",
            cause=f"it is on {host}",
        )
    return SourceError("the upstream redirects to a place that is not allowed")


def failure_of(response: Response, called: str) -> SourceError:
    """Make an error of a response whose status says nothing that the caller could act upon.

    ``called`` is what the error calls the server.
    """
    status = response.status
    try:
        phrase = f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        phrase = str(status)
    return SourceError(
        f"{called} answered {phrase}",
        status=504 if status == 504 else 502,
        transient=status in PASSING,
        of_server=not (response.redirected or status in _OF_A_REQUEST),
        retry_after=response.retry_after(),
        refused=status in {429, 503},
    )

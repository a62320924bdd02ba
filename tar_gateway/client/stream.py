"""Bytes of one version of something, whatever breaks on the way: each once, and in order."""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http import HTTPStatus

from tar_gateway.client.address import Address
from tar_gateway.client.failures import (
    BrokenArchive,
    Busy,
    Changed,
    Denied,
    DownloadError,
    NetworkError,
    ServerError,
)
from tar_gateway.client.patience import Attempts
from tar_gateway.client.session import Response, Session
from tar_gateway.http.validators import read_date, read_validator

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)")
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
_CODED = re.compile(r"(?:-|--|;)(?:gzip|br|deflate|zstd)\Z")  # what proxies write into tags
_MOST_OF_AN_ERROR = 64 * 1024


@dataclass(frozen=True, slots=True)
class Version:
    """What is downloaded: where, and what proves that it is still the same.

    ``validator`` is the text of an entity tag or date; ``is_strong`` says that equal ones mean
    equal bytes. ``is_pinned``: the URL names the version, so that another one is an error there.
    ``size`` in bytes, `None` where it is not known.
    """

    address: Address
    size: int | None
    validator: str | None
    is_strong: bool
    is_pinned: bool = False
    prefers_ranges: bool = False
    """Whether a gateway remembers its plan for a range, which it makes anew for the whole."""

    @property
    def is_resumable(self) -> bool:
        """Whether parts of two responses may be put together."""
        return self.is_strong and self.size is not None


class Stream:
    """Bytes ``start`` to ``stop`` of a version; all until the end where ``stop`` is `None`.

    An iterable of blocks. ``position`` is behind the last one. Raise `DownloadError`.
    """

    def __init__(
        self,
        session: Session,
        version: Version,
        start: int,
        stop: int | None,
        attempts: Attempts,
    ) -> None:
        self._session = session
        self._version = version
        self._attempts = attempts
        self._start = start
        self._stop = stop
        self.position = start

    def __iter__(self) -> Iterator[bytes]:
        while self._stop is None or self.position < self._stop:
            try:
                with self._session.get(self._version.address, self._headers()) as response:
                    yield from self._read(response)
            except NetworkError as error:
                if self.position > self._start and not self._version.is_resumable:
                    raise _lost(error) from error
                self._attempts.failed(error)
            else:
                if self._stop is None:
                    return

    def _headers(self) -> dict[str, str]:
        size, stop = self._version.size, self._stop
        is_whole = self.position == 0 and (stop is None or stop == size)
        if is_whole and not self._version.prefers_ranges:
            return {}
        headers = {"Range": f"bytes={self.position}-{'' if stop is None else stop - 1}"}
        if not self._version.is_pinned and self._version.validator and self._version.is_strong:
            headers["If-Range"] = self._version.validator
        return headers

    def _read(self, response: Response) -> Iterator[bytes]:
        skip, last = self._place(response)
        for block in response.blocks():
            if skip >= len(block):
                skip -= len(block)
                continue
            data = block[skip:] if skip else block
            skip = 0
            if last is not None and len(data) > last - self.position:
                # The rest of a whole response, of which only a part was wanted.
                data = data[: last - self.position]
            self.position += len(data)
            self._attempts.progress()
            if data:
                yield data
            if last is not None and self.position >= last:
                return
        if last is not None:
            raise NetworkError(f"the response ended {last - self.position} bytes early")

    def _place(self, response: Response) -> tuple[int, int | None]:
        """Return how many bytes to skip, and where those that are wanted end."""
        if response.status not in {200, 206}:
            raise failure_of(response)
        self._check_version(response)
        size = self._version.size
        if response.status == 200:
            length = response.headers.get("Content-Length")
            if size is not None and length is not None and length != str(size):
                kind = response.headers.get("Content-Type", "of an unknown type")
                raise BrokenArchive(f"the server sent {length} bytes ({kind}) instead of {size}")
            if self.position and not self._version.is_resumable:
                raise _lost(NetworkError("the server does not send ranges"))
            return self.position, size if self._stop is None else self._stop
        found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if found is None or int(found[1]) != self.position:
            raise NetworkError("the server sent another range than was asked for")
        if found[3] not in {"*", str(size)}:
            raise Changed(f"it has {found[3]} bytes by now, not {size}")
        end = int(found[2]) + 1
        return 0, end if self._stop is None else min(end, self._stop)

    def _check_version(self, response: Response) -> None:
        told = response.headers.get("ETag")
        if self._version.validator is None or (told is None and self._version.is_pinned):
            return
        headers = response.headers
        if self._version.validator.startswith(('"', 'W/"')):
            if _opaque(told or "") == _opaque(self._version.validator):
                return
        elif headers.get("Last-Modified") == self._version.validator:
            return
        raise Changed("it is another version by now")


def version_of(response: Response) -> Version:
    """Return the version that a whole response, of a server without plans, is of."""
    headers = response.headers
    proof = read_validator(headers.get("ETag"), headers.get("Last-Modified"), headers.get("Date"))
    length = headers.get("Content-Length", "")
    return Version(
        response.address,
        int(length) if re.fullmatch("[0-9]{1,18}", length) else None,
        proof.text if proof else None,
        is_strong=proof is not None and proof.strong,
    )


def pinned(version: Version, address: Address) -> Version:
    """Return the version at a URL that names it."""
    return replace(version, address=address, is_pinned=True)


def failure_of(response: Response) -> DownloadError:
    """Return what an error response says, as an error of ours."""
    detail = _detail(response)
    status = response.status
    phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else "unknown"
    text = f"the server answered {status} ({phrase})" + (f": {detail}" if detail else "")
    if status in {401, 403}:
        return Denied(text)
    if status == 412:
        return Changed(text)
    if status in _BUSY:
        return Busy(text, pause=_retry_after(response))
    return ServerError(text)


def _detail(response: Response) -> str:
    """Return what a problem (RFC 9457) says, with up to ten members that are at fault."""
    if "json" not in response.headers.get("Content-Type", ""):
        return ""
    try:
        problem = json.loads(response.whole(_MOST_OF_AN_ERROR))
        members = [f"{each['path']}: {each['reason']}" for each in problem.get("members", [])]
        text = "; ".join([str(problem["detail"]), *members[:10]])
    except (ValueError, KeyError, TypeError, AttributeError, DownloadError):
        return ""
    return "".join(c if c.isprintable() else " " for c in text)


def _retry_after(response: Response) -> float | None:
    text = response.headers.get("Retry-After", "")
    if re.fullmatch("[0-9]{1,9}", text):
        return float(text)
    moment = read_date(text)
    return None if moment is None else max(0.0, moment - time.time())


def _opaque(tag: str) -> str:
    return _CODED.sub("", tag.removeprefix("W/").strip('"'))


def _lost(error: NetworkError) -> NetworkError:
    return NetworkError(
        f"{error}; this server's response can't be resumed, for it proves no version",
        is_final=True,
    )

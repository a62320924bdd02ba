"""Requests of one user: with their credentials to one origin, and to no other.

The only file of the client that knows urllib3.
"""

import ssl
import threading
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3 import exceptions
from urllib3.connection import HTTPConnection, HTTPSConnection

from tar_gateway.client.address import Address
from tar_gateway.client.failures import NetworkError, ServerError, TlsError, WrongUse
from tar_gateway.http.headers import TOKEN, VALUE

BLOCK = 256 * 1024
"""Bytes of one read at most."""

_MOST_REDIRECTS = 10
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TARGET = "x-tar-gateway-target"  # within this file only: it is no header that is sent


@dataclass(frozen=True, slots=True)
class Access:
    """By what a user may have a file: headers, name and password, certificates.

    ``netrc`` says whether ~/.netrc is read, which happens only on demand. ``ca_file`` replaces the
    system's authorities; ``cert`` is a client certificate with its key, in PEM form.
    """

    headers: tuple[tuple[str, str], ...] = ()
    user: str | None = None
    password: str = field(default="", repr=False)
    netrc: bool = False
    ca_file: Path | None = None
    cert: Path | None = None


class _Exactly:
    """A connection's request with the target as it was typed: a signature covers its spelling."""

    def request(
        self,
        method: str,
        url: str,
        body: Any = None,  # noqa: ANN401 - as the library has it
        headers: Mapping[str, str] | None = None,
        **how: Any,  # noqa: ANN401
    ) -> None:
        sent = dict(headers or {})
        target = sent.pop(_TARGET, url)
        super().request(method, target, body=body, headers=sent, **how)  # type: ignore[misc]


class _HTTP(_Exactly, HTTPConnection):  # type: ignore[misc]
    pass


class _HTTPS(_Exactly, HTTPSConnection):  # type: ignore[misc]
    pass


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _HTTP


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HTTPS


class Response:
    """A response whose head has arrived: ``status``, ``headers``, where it is from, its content."""

    def __init__(self, raw: urllib3.BaseHTTPResponse, address: Address) -> None:
        self._raw = raw
        self.status = raw.status
        self.headers = raw.headers
        self.address = address

    def blocks(self) -> Iterator[bytes]:
        """Return the content, as it arrives. Raise `NetworkError` where it breaks off."""
        while block := self.read():
            yield block

    def read(self) -> bytes:
        """Return some bytes, none at the end."""
        try:
            return self._raw.read1(BLOCK)
        except (exceptions.HTTPError, HTTPException, OSError, ValueError) as error:
            raise NetworkError(f"the response broke off: {_cause(error)}") from error

    def whole(self, limit: int) -> bytes:
        """Return all of the content. Raise `ServerError` if it is longer than ``limit`` bytes."""
        parts, length = [], 0
        for block in self.blocks():
            parts.append(block)
            length += len(block)
            if length > limit:
                raise ServerError(f"the response has more than {limit} bytes")
        return b"".join(parts)

    def interrupt(self) -> None:
        """Let a thread that waits for content find its end. May be called by any thread."""
        with suppress(ValueError, RuntimeError, OSError):
            self._raw.shutdown()

    def close(self) -> None:
        """Close the connection, unless all was read: then it takes the next request."""
        with suppress(OSError, exceptions.HTTPError, HTTPException):
            if self._raw.length_remaining == 0:
                self._raw.read1(1)  # notices the end, and gives the connection back
            self._raw.close()
        self._raw.release_conn()


class Session:
    """The connections of one download. Credentials go to the origin of ``address`` only."""

    def __init__(self, address: Address, access: Access, *, timeout: float, jobs: int = 1) -> None:
        self._home = address.origin
        self._credentials = _credentials(address, access)
        self._lock = threading.Lock()
        self._open: set[Response] = set()
        self.is_stopped = threading.Event()
        self._how: dict[str, Any] = {
            "maxsize": jobs + 1,
            "timeout": urllib3.Timeout(connect=min(timeout, 30), read=timeout),
        }
        self._access = access
        self._managers: dict[tuple[str | None, str], urllib3.PoolManager] = {}

    @contextmanager
    def get(self, address: Address, headers: Mapping[str, str]) -> Iterator[Response]:
        """Ask for something, and follow where that leads; the response is closed in the end.

        Raise `NetworkError` or `TlsError` without a response.
        """
        response = self._follow(address, headers)
        with self._lock:
            self._open.add(response)
        try:
            if self.is_stopped.is_set():
                raise NetworkError("the download is stopped", is_final=True)
            yield response
        finally:
            with self._lock:
                self._open.discard(response)
            response.close()

    def stop(self) -> None:
        """End every wait for a response's content, by any thread."""
        self.is_stopped.set()
        with self._lock:
            for response in self._open:
                response.interrupt()

    def close(self) -> None:
        """Close all connections."""
        for manager in self._managers.values():
            manager.clear()

    def _follow(self, address: Address, headers: Mapping[str, str]) -> Response:
        for _ in range(_MOST_REDIRECTS):
            response = self._ask(address, headers)
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or location is None:
                return response
            response.close()
            target = address.following(location)
            if address.scheme == "https" and target.scheme != "https":
                raise ServerError(f"{address.host} redirects to a URL without TLS")
            address = target
        raise ServerError(f"{address.host} redirects more than {_MOST_REDIRECTS} times")

    def _ask(self, address: Address, headers: Mapping[str, str]) -> Response:
        sent = {"Accept-Encoding": "identity", "User-Agent": "tar-gateway"}
        if address.origin == self._home:
            sent |= self._credentials
        sent |= headers
        proxy = _proxy_for(address)
        exact = str(address) if proxy and address.scheme == "http" else address.target
        try:
            raw = self._manager(proxy, address.scheme).urlopen(
                "GET",
                str(address),
                headers=sent | {_TARGET: exact},
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
            )
        except exceptions.LocationParseError as error:
            raise WrongUse(f"{address.host} is not a host") from error
        except (exceptions.HTTPError, HTTPException, OSError) as error:
            raise _failure(address, error) from error
        return Response(raw, address)

    def _manager(self, proxy: str | None, scheme: str) -> urllib3.PoolManager:
        with self._lock:
            if (proxy, scheme) not in self._managers:
                self._managers[proxy, scheme] = self._make(proxy, scheme)
            return self._managers[proxy, scheme]

    def _make(self, proxy: str | None, scheme: str) -> urllib3.PoolManager:
        # Reading the system's authorities takes longer than a small download.
        how = self._how
        if "https" in {scheme, (proxy or "").partition(":")[0]}:
            how = how | {"ssl_context": _tls(self._access)}
        if proxy is None:
            manager = urllib3.PoolManager(**how)
        else:
            parts = urlsplit(proxy)
            shown = {}
            if parts.username is not None:
                name = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
                shown = urllib3.make_headers(proxy_basic_auth=name)
            bare = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
            try:
                manager = urllib3.ProxyManager(bare, proxy_headers=shown, **how)
            except exceptions.HTTPError as error:
                raise WrongUse(f"the proxy {bare} is not one of http or https") from error
        manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
        return manager


def _proxy_for(address: Address) -> str | None:
    """Return the proxy that the usual variables name (http_proxy, https_proxy, no_proxy)."""
    proxies = getproxies()
    proxy = proxies.get(address.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(address.authority):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _credentials(address: Address, access: Access) -> dict[str, str]:
    sent: dict[str, str] = {}
    user, password = access.user, access.password
    if access.netrc and user is None:
        user, password = _from_netrc(address.host)
    if user is not None:
        token = b64encode(f"{user}:{password}".encode()).decode("ascii")
        sent["Authorization"] = f"Basic {token}"
    for name, value in access.headers:
        if not TOKEN.fullmatch(name) or not VALUE.fullmatch(value):
            raise WrongUse(f"the header {name!r} can't be sent: it is no name and value of HTTP")
        sent[name.title()] = value
    return sent


def _from_netrc(host: str) -> tuple[str | None, str]:
    try:
        found = netrc().authenticators(host)
    except FileNotFoundError as error:
        raise WrongUse("there is no ~/.netrc") from error
    except (NetrcParseError, OSError) as error:
        raise WrongUse("~/.netrc can't be read: it needs mode 0600 and lines of netrc") from error
    return (found[0], found[2] or "") if found else (None, "")


def _tls(access: Access) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=str(access.ca_file) if access.ca_file else None)
    except OSError as error:
        raise WrongUse(f"{access.ca_file} holds no certificate of an authority") from error
    if access.cert is not None:
        try:
            context.load_cert_chain(access.cert, password="")
        except OSError as error:
            raise WrongUse(
                f"{access.cert} must hold a certificate and its key, in PEM form and without a "
                "password"
            ) from error
    return context


def _failure(address: Address, error: Exception) -> NetworkError | TlsError:
    for cause in (error, error.__cause__, *error.args):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return TlsError(f"{address.host} has no valid certificate: {cause.verify_message}")
    if isinstance(error, exceptions.NameResolutionError):
        return NetworkError(f"the host {address.host} is not known", is_final=True)
    if isinstance(error, exceptions.SSLError):
        return TlsError(f"no TLS connection to {address.host}: {_cause(error)}")
    return NetworkError(f"no response from {address.host}: {_cause(error)}")


def _cause(error: BaseException) -> str:
    """Return what was behind it, in the system's words."""
    chain: list[BaseException] = []
    seen: BaseException | None = error
    while seen is not None and seen not in chain:
        chain.append(seen)
        inner = (each for each in seen.args if isinstance(each, BaseException))
        seen = seen.__cause__ or seen.__context__ or next(inner, None)
    for each in chain:
        if isinstance(each, OSError) and each.strerror:
            return each.strerror.lower()
    if any(isinstance(each, exceptions.TimeoutError | TimeoutError) for each in chain):
        return "timed out"
    if isinstance(error, exceptions.ProtocolError):
        return "the connection was closed"
    return type(error).__name__

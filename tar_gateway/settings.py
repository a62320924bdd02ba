"""Every number and switch a user may want to change: unit, default and reason in one place.

The gateway reads them from its environment as ``TAR_GATEWAY_<NAME>``; elsewhere they are
keyword arguments of `Settings`. Values are checked alike, by pydantic, either way.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field, fields
from difflib import get_close_matches
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Literal, cast
from urllib.parse import SplitResult, unquote_to_bytes, urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)
from pydantic.dataclasses import dataclass

from tar_gateway.errors import SettingsError
from tar_gateway.headers import OF_ONE_REQUEST, TOKEN
from tar_gateway.names import MAX_NAME_BYTES, BadName, check_name, decode_text, shown
from tar_gateway.service_headers import read_service_headers
from tar_gateway.signing_keys import read_keys

PREFIX = "TAR_GATEWAY_"


def _check_server(url: str, example: str) -> SplitResult:
    """Check all of a URL that comes before its path, and give its parts."""
    parts = urlsplit(url)
    if (
        parts.scheme not in {"http", "https"}
        or not parts.hostname
        or not re.fullmatch(r"[\w.:\[\]@-]+", parts.netloc, re.ASCII)
    ):
        raise ValueError(f"it must be a URL such as {example}")
    if parts.username is not None or parts.password is not None:
        raise ValueError("it must not hold a user name or password")
    if parts.port == 0 or parts.netloc.endswith(":"):  # others that are none raise ValueError
        raise ValueError("its port is none")
    try:
        parts.hostname.encode("idna")
    except UnicodeError as error:
        raise ValueError("its host is none: a part of it is empty or too long") from error
    return parts


def _check_base_url(url: str) -> str:
    """Check an upstream's base URL and give it with exactly one slash at its end."""
    parts = _check_server(url, "http://files.internal:8080/base/")
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise ValueError("it must end with its path: no ? and no #")
    if not re.fullmatch(r"[!-~]*", parts.path):
        raise ValueError("its path must be percent-encoded")
    path = parts.path.strip("/")
    if path:
        try:
            check_name(decode_text(unquote_to_bytes(path)))
        except BadName as error:
            raise ValueError(f"its path {error}") from error
    return f"{parts.scheme}://{parts.netloc}/{path}{'/' if path else ''}"


def _check_url(url: str) -> str:
    """Check a URL that is asked for as it is."""
    parts = _check_server(url, "http://auth.internal:8080/check?for=files")
    if "#" in url or not re.fullmatch(r"[!-~]*", url):
        raise ValueError("it must be percent-encoded, and hold no #")
    return parts._replace(path=parts.path or "/").geturl()


def _split_commas(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _read_networks(value: object) -> object:
    found = []
    for text in cast(Iterable[object], _split_commas(value)):
        try:
            found.append(text if text == "unix" else ip_network(cast(str, text)))
        except ValueError as error:
            raise ValueError(
                f"{error}; give addresses, networks such as 10.0.0.0/8, or unix"
            ) from error
    return tuple(found)


def _read_size(value: object) -> int:
    try:
        return int(_BYTES.validate_python(value))
    except ValidationError as error:
        raise ValueError(error.errors()[0]["msg"]) from error


def _check_header_name(name: str) -> str:
    if not TOKEN.fullmatch(name):
        raise ValueError(f"'{name}' is not the name of a header")
    if name.lower() in OF_ONE_REQUEST:
        raise ValueError(f"{name} belongs to one connection or to the gateway: it can't be passed")
    return name


def _check_parameter(name: str) -> str:
    if not name.replace("_", "").replace("-", "").isalnum() or not name.isascii():
        raise ValueError("letters, digits, - and _ only")
    if name in {"filename", "v", "manifest", "signature", "expires", "key_id"}:
        raise ValueError(f"'{name}' has another meaning in a bundle's URL")
    return name


def _check_file(path: Path) -> Path:
    try:
        if path.is_file():
            return path
        reason = "it is not a file" if path.exists() else "there is no such file"
    except OSError as error:  # a directory on the way that is closed to us, a name too long
        raise ValueError(f"it can't be looked at: {error.strerror}") from error
    raise ValueError(reason)


def _check_by(read: Callable[[Path], object]) -> Callable[[Path], Path]:
    """Make a check that a file can be read by this function."""

    def check(path: Path) -> Path:
        try:
            read(path)
        except SettingsError as error:
            raise ValueError(str(error)) from error
        return path

    return check


def _check_pages_prefix(prefix: str) -> str:
    if not re.fullmatch(r"/([A-Za-z0-9._~-]+/)+", prefix):
        raise ValueError("it must be a path such as /-/, of letters, digits and - . _ ~")
    return prefix


@dataclass(frozen=True, slots=True)
class Address:
    """A host and port to listen on; a host of IPv6 is written in brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def _read_address(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})", value)
    if not match or not 0 < int(match[2]) < 65536:
        raise ValueError("it must be host:port, such as 127.0.0.1:9000")
    return Address(match[1], int(match[2]))


def _check_host(host: str) -> str:
    """Check ``host`` or ``host:port``, and give it in lower case."""
    parts = urlsplit(f"//{host}")
    if not re.fullmatch(r"[\w.:\[\]-]+", host, re.ASCII) or not parts.hostname:
        raise ValueError(f"{shown(host)} is not a host such as store.internal or store.internal:81")
    if parts.port == 0 or host.endswith(":"):  # others that are none raise ValueError
        raise ValueError(f"{shown(host)} has no port that can be")
    return host.lower()


_BYTES = TypeAdapter(ByteSize)  # understands 64KiB

Url = Annotated[str, AfterValidator(_check_url)]
BaseUrl = Annotated[str, AfterValidator(_check_base_url)]
Seconds = Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False)]
Pause = Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)]
Size = Annotated[int, BeforeValidator(_read_size), Field(ge=0)]
HeaderNames = Annotated[
    tuple[Annotated[str, AfterValidator(_check_header_name)], ...], BeforeValidator(_split_commas)
]
Proxies = Annotated[
    tuple[IPv4Network | IPv6Network | Literal["unix"], ...], BeforeValidator(_read_networks)
]
File = Annotated[Path, AfterValidator(_check_file)]
KeysFile = Annotated[File, AfterValidator(_check_by(read_keys))]
HeadersFile = Annotated[File, AfterValidator(_check_by(read_service_headers))]
Hosts = Annotated[
    tuple[Annotated[str, AfterValidator(_check_host)], ...], BeforeValidator(_split_commas)
]


@dataclass(
    frozen=True,
    slots=True,
    kw_only=True,
    config=ConfigDict(extra="forbid", hide_input_in_errors=True),
)
class Settings:
    """The settings, each with its unit and reason. Raises `pydantic.ValidationError`."""

    upstream: BaseUrl | None = None
    """Base URL of the protected server; nothing outside it is ever asked for."""

    locations_file: File | None = None
    """TOML file of locations, in place of ``upstream``: paths by their prefixes, each with one or
    more equivalent servers; see `tar_gateway.locations`."""

    forward_headers: HeaderNames = ("Authorization", "Cookie")
    """The caller's headers that go along with every member, so that the upstream decides."""

    upstream_headers_file: HeadersFile | None = None
    """File of lines ``Name: value``: the service's own headers, sent with every request to the
    upstream in place of the caller's."""

    upstream_ca_file: File | None = None
    """PEM file of the certificate authorities trusted for an https upstream, and wherever else
    the gateway asks by https; the system's without it."""

    upstream_cert_file: File | None = None
    """PEM file of the client certificate shown to an https upstream."""

    upstream_key_file: File | None = None
    """PEM file of that certificate's key, where it is not in the same file."""

    redirect_hosts: Hosts = ()
    """Hosts that a redirect of the upstream is followed to for a member, with nobody's
    credentials: object stores hand out signed URLs. ``host`` stands for the usual port."""

    auth_request: Url | None = field(default=None, repr=False)  # its query may hold a token
    """URL of an authority that is asked whether the caller may have a file, for each one and
    before it is fetched: 2xx lets pass, 401 and 403 are handed on."""

    connect_timeout: Seconds = 5
    """Seconds for a connection to the upstream: a server that is up answers at once."""

    read_timeout: Seconds = 30
    """Seconds for the head of an upstream's answer, and for one read of its content: longer
    silence counts as failure, and so does a head that drips."""

    plan_timeout: Seconds = 60
    """Seconds to learn all members' sizes: browsers and proxies give up soon after."""

    plan_memory: Pause = 10
    """Seconds that these are remembered for ranges of the same bundle by the same caller; 0 asks
    each time. A resuming or parallel client asks for many ranges in a row."""

    retries: Annotated[int, Field(ge=0, le=100)] = 2
    """Further attempts at a request to the upstream that failed for a passing reason."""

    retry_pause: Pause = 0.1
    """Seconds before the first further attempt; twice as long each time, up to 20 times it."""

    retry_after_limit: Pause = 5
    """Seconds that an upstream's Retry-After is obeyed for at most: the client is waiting."""

    upstream_pause: Pause = 10
    """Seconds that a server which failed is left alone while another one can answer: then one
    request tries it again. A server that goes on failing is asked less, for as long; 0: never."""

    min_read_rate: Size = 1024
    """Bytes a second that an upstream must give while it is waited for; 0 lets it drip."""

    client_header_timeout: Seconds = 10
    """Seconds that a client may take for a request's line and headers: they fit in a packet."""

    client_body_timeout: Seconds = 60
    """Seconds that a client may take for a request's body: a list of a few MiB at the most."""

    write_timeout: Seconds = 60
    """Seconds that a client may take for one block, of 512 KiB at most, before it is cut off."""

    max_members: Annotated[int, Field(ge=1)] = 10_000
    """Members of one bundle: each costs the upstream a question and the process a kilobyte."""

    max_name: Annotated[Size, Field(ge=1)] = MAX_NAME_BYTES
    """Bytes of one member's path or name: no Linux system call takes a longer path."""

    strict_names: bool = False
    """Whether names that differ only in case or Unicode form are refused, for the users whose
    file systems unpack only one of them (macOS, Windows); files on Linux may be called so."""

    max_bytes: Annotated[Size, Field(ge=1)] | None = None
    """Bytes of one archive; no limit without it, for nothing here grows with an archive."""

    max_body: Size = 2 * 1024 * 1024
    """Bytes of a POST's body or a manifest: ten thousand long names fit."""

    max_query: Size = 64 * 1024
    """Bytes of a request's query: gunicorn takes 8 KiB at most, other servers any length."""

    max_downloads: Annotated[int, Field(ge=1)] = 96
    """Answers of one process under way at once; more get 503 before they hold up the others."""

    max_downloads_per_client: Annotated[int, Field(ge=1)] | None = None
    """The same, of one client's address; more get 429. Off without it: many may share one."""

    trusted_proxies: Proxies = ()
    """Addresses or networks whose ``X-Forwarded-For`` says who the client is; ``unix`` for all
    that connect by a unix socket."""

    spool_limit: Size = 1024 * 1024 * 1024
    """Bytes on the temporary disk, of all downloads of a process, for members of untold size."""

    fetch_parallel: Annotated[int, Field(ge=1, le=1024)] = 64
    """Requests to the upstream that one process has under way ahead of need, three quarters of
    them for one download: five hundred members 20 ms away are known in a quarter of a second."""

    fetch_ahead: Size = 4 * 1024 * 1024
    """Bytes of small members that a download fetches before their turn; 0 fetches none."""

    fetch_ahead_total: Size = 64 * 1024 * 1024
    """The same, for all downloads of a process together; without room one fetches none ahead."""

    signing_keys_file: KeysFile | None = None
    """File of lines ``id:secret``; with it every request must come by a link signed with one."""

    parameter: Annotated[str, AfterValidator(_check_parameter)] = "bundle"
    """The query parameter that asks for a bundle."""

    pass_through: bool = True
    """Whether plain requests are passed to the upstream; 404 otherwise."""

    pages_prefix: Annotated[str, AfterValidator(_check_pages_prefix)] = "/-/"
    """Where the gateway's own pages are, below its mount point; files of their names are not."""

    pages_bind: Annotated[Address, BeforeValidator(_read_address)] | None = None
    """``host:port`` of an address for those pages alone, which gunicorn opens as well."""

    public_metrics: bool = False
    """Whether the metrics are on the public address too."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Settings":
        """Read the settings of a gateway: ``UPSTREAM`` or ``LOCATIONS_FILE`` is among them.

        An empty variable counts as unset. Raises `SettingsError`, one line, for the first
        that is missing, wrong or unknown.
        """
        known = {PREFIX + field.name.upper(): field.name for field in fields(cls)}
        given = {name: text for name, text in environ.items() if name.startswith(PREFIX) and text}
        for name in given:
            if name not in known:
                names = [field.name.upper() for field in fields(cls)]
                close = get_close_matches(name.removeprefix(PREFIX), names, n=1)
                hint = f"; did you mean {PREFIX}{close[0]}?" if close else ""
                raise SettingsError(f"{name} is not a setting{hint}")
        if PREFIX + "UPSTREAM" not in given and PREFIX + "LOCATIONS_FILE" not in given:
            raise SettingsError(
                f"{PREFIX}UPSTREAM is not set: give the base URL of the files, "
                "such as http://files.internal:8080/base/"
            )
        try:
            settings = _SETTINGS.validate_python({known[n]: text for n, text in given.items()})
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            name = PREFIX + str(fault["loc"][0]).upper()
            reason = fault["msg"].removeprefix("Value error, ")
            # A URL may hold a password or a token, and this line goes to a log.
            url = name in {PREFIX + "UPSTREAM", PREFIX + "AUTH_REQUEST"}
            secret = url and re.search("[@?%]", given[name])
            value = "wrong" if secret else shown(given[name])
            raise SettingsError(f"{name} is {value}: {reason}") from error
        if settings.upstream is not None and settings.locations_file is not None:
            raise SettingsError(
                f"{PREFIX}UPSTREAM and {PREFIX}LOCATIONS_FILE are both set: give one of them"
            )
        return settings


_SETTINGS = TypeAdapter(Settings)

"""What the values of settings may be, each type with its check and the words for what is wrong.

Annotated types for pydantic; what they are used for is not known here.
"""

import re
from collections.abc import Callable, Iterable
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

from tar_gateway.errors import SettingsError, WrongSetting
from tar_gateway.http.headers import OF_ONE_REQUEST, TOKEN
from tar_gateway.http.paths import BadName, check_name, decode_text, shown
from tar_gateway.settings.buckets import (
    IN_HOST,
    check_bucket_url,
    check_profile,
    check_region,
    is_bucket,
)
from tar_gateway.settings.line_files import read_keys, read_service_headers


def _check_server(url: str, example: str) -> SplitResult:
    """Check all of a URL that comes before its path. Return its parts."""
    parts = urlsplit(url)
    if (
        parts.scheme not in {"http", "https"}
        or not parts.hostname
        or not re.fullmatch(r"[\w.:\[\]@-]+", parts.netloc, re.ASCII)
    ):
        raise ValueError(f"it must be a URL such as {example}")
    if parts.username is not None or parts.password is not None:
        raise ValueError("it must not hold a user name or password")
    if parts.port == 0 or parts.netloc.endswith(":"):  # urlsplit refuses other wrong ones
        raise ValueError("its port is invalid: give one from 1 to 65535, or none")
    try:
        parts.hostname.encode("idna")
    except UnicodeError as error:
        raise ValueError("its host is invalid: a part of it is empty or too long") from error
    return parts


def _check_base_url(url: str) -> str:
    """Check an upstream's base URL. Return it with exactly one slash at its end."""
    if is_bucket(url):
        return check_bucket_url(url)
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


def _check_endpoint(url: str) -> str:
    """Check the URL of a store. Return it without a slash at its end."""
    parts = _check_server(url.replace(IN_HOST, "bucket"), "https://store.internal:9000")
    if parts.path.strip("/") or "?" in url or "#" in url:
        raise ValueError("it must end with its host and port: no path, no ? and no #")
    return url.rstrip("/")


def check_base_url(url: object) -> str:
    """Return an upstream's base URL with exactly one slash at its end. Raise `WrongSetting`."""
    try:
        return _BASE_URL.validate_python(url)
    except ValidationError as error:
        raise wrong_setting(error, "upstream", url) from error


# What pydantic says of these is about its parsing, and not about what would be right.
_WORDS = {
    "bool_parsing": "it must be yes or no",
    "float_parsing": "it must be a number of seconds, or such as 30s, 5m, 2h or 1d",
    "int_parsing": "it must be a whole number",
}


def wrong_setting(error: ValidationError, name: str, value: object) -> WrongSetting:
    """Say the first thing that pydantic found wrong with a setting's value."""
    found = error.errors(include_url=False)[0]
    said = found["msg"].removeprefix("Value error, ").replace("Input should be", "it must be")
    reason = _WORDS.get(found["type"], said)
    # A URL may hold a password or a token, and this line goes to a log.
    secret = name in {"upstream", "auth_request"} and re.search("[@?%]", str(value))
    return WrongSetting(name, "wrong" if secret else shown(str(value)), reason)


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


def _read_formats(value: object) -> object:
    return () if value in ("no", False) else _split_commas(value)


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


# Of a second.
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _read_seconds(value: object) -> object:
    """Read ``30s``, ``5m``, ``2h`` and ``1d``; a number is one of seconds."""
    match = (
        re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhd])", value) if isinstance(value, str) else None
    )
    return value if match is None else float(match[1]) * _UNITS[match[2]]


def _read_size(value: object) -> int:
    try:
        return int(_BYTES.validate_python(value))
    except ValidationError as error:
        raise ValueError("it must be a number of bytes, such as 65536 or 64KiB") from error


def _check_header_name(name: str) -> str:
    if not TOKEN.fullmatch(name):
        raise ValueError(f"'{name}' is not the name of a header")
    if name.lower() in OF_ONE_REQUEST:
        raise ValueError(f"{name} belongs to one connection or to the gateway: it can't be passed")
    return name


# Other parameters of a bundle's URL, those that are still to come among them.
_TAKEN = {
    *(
        "browse",
        "sort",
        "checksums",
        "duplicates",
        "exclude",
        "expires",
        "filename",
        "folder",
        "format",
        "include",
    ),
    *(
        "key_id",
        "manifest",
        "manifest_sha256",
        "missing",
        "names",
        "pick",
        "plan",
        "signature",
        "v",
    ),
}


def _check_parameter(name: str) -> str:
    if not name.replace("_", "").replace("-", "").isalnum() or not name.isascii():
        raise ValueError("letters, digits, - and _ only")
    if name in _TAKEN:
        raise ValueError(f"'{name}' has another meaning in a bundle's URL")
    return name


def _check_file(path: Path) -> Path:
    try:
        if path.is_file():
            return path
        reason = "it is not a file" if path.exists() else "there is no such file"
    except OSError as error:  # a directory on the way that is closed to us, a name too long
        raise ValueError(f"it can't be read: {error.strerror}") from error
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
    """Check ``host`` or ``host:port``. Return it in lower case."""
    parts = urlsplit(f"//{host}")
    if not re.fullmatch(r"[\w.:\[\]-]+", host, re.ASCII) or not parts.hostname:
        raise ValueError(f"{shown(host)} is not a host such as store.internal or store.internal:81")
    if parts.port == 0 or host.endswith(":"):  # urlsplit refuses other wrong ones
        raise ValueError(f"{shown(host)} has an invalid port")
    return host.lower()


_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>[a-z0-9._-]+|\[[0-9a-f:.]+\])(?P<port>:[0-9]{1,5})?"
)
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def _check_origin(text: str) -> str:
    """Check an origin, or ``*``. Return it as browsers send it (RFC 6454 6.2)."""
    if text == "*":
        return text
    if text == "null":
        raise ValueError("null is the origin of anyone's sandboxed pages and local files")
    parts = _ORIGIN.fullmatch(text.lower())
    if parts is None:
        raise ValueError(
            f"{shown(text)} is not an origin such as https://app.example.com: "
            "scheme, host, and port if any, without a path and without wildcards"
        )
    is_default = parts["port"] == _DEFAULT_PORTS.get(parts["scheme"])
    return text.lower().removesuffix(parts["port"] or "") if is_default else text.lower()


def _check_origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    if "*" in origins and len(origins) > 1:
        raise ValueError(
            "* stands for all origins, without credentials: give it alone or name them"
        )
    return origins


_BYTES = TypeAdapter(ByteSize)  # understands 64KiB

Url = Annotated[str, AfterValidator(_check_url)]
Endpoint = Annotated[str, AfterValidator(_check_endpoint)]
Region = Annotated[str, AfterValidator(check_region)]
Profile = Annotated[str, AfterValidator(check_profile)]
BaseUrl = Annotated[str, AfterValidator(_check_base_url)]
_BASE_URL = TypeAdapter[str](BaseUrl, config=ConfigDict(hide_input_in_errors=True))
Seconds = Annotated[
    float, BeforeValidator(_read_seconds), Field(gt=0, le=86400, allow_inf_nan=False)
]
Pause = Annotated[float, BeforeValidator(_read_seconds), Field(ge=0, le=3600, allow_inf_nan=False)]
Size = Annotated[int, BeforeValidator(_read_size), Field(ge=0)]
HeaderNames = Annotated[
    tuple[Annotated[str, AfterValidator(_check_header_name)], ...], BeforeValidator(_split_commas)
]
Listings = Literal["auto", "json", "html", "webdav", "lighttpd", "apache", "s3", "no"]
"""How an upstream is asked for its directories; see `tar_gateway.sources.listing.kinds`."""

ArchiveFormats = Annotated[tuple[Literal["tar", "zip"], ...], BeforeValidator(_read_formats)]
Proxies = Annotated[
    tuple[IPv4Network | IPv6Network | Literal["unix"], ...], BeforeValidator(_read_networks)
]
File = Annotated[Path, AfterValidator(_check_file)]
KeysFile = Annotated[File, AfterValidator(_check_by(read_keys))]
HeadersFile = Annotated[File, AfterValidator(_check_by(read_service_headers))]
Hosts = Annotated[
    tuple[Annotated[str, AfterValidator(_check_host)], ...], BeforeValidator(_split_commas)
]
Origins = Annotated[
    tuple[Annotated[str, AfterValidator(_check_origin)], ...],
    BeforeValidator(_split_commas),
    AfterValidator(_check_origins),
]
ParameterName = Annotated[str, AfterValidator(_check_parameter)]
PagesPrefix = Annotated[str, AfterValidator(_check_pages_prefix)]
BindAddress = Annotated[Address, BeforeValidator(_read_address)]


def unknown_setting(name: str, known: Iterable[str], prefix: str = "") -> SettingsError:
    """Return the error of a name that is no setting, with the one that was probably meant."""
    # Without the prefix, which all have in common: any name would come close to another.
    names = [each.removeprefix(prefix) for each in known]
    close = get_close_matches(name.removeprefix(prefix), names, n=1)
    hint = f"; did you mean {prefix}{close[0]}?" if close else ""
    return SettingsError(f"{name} is not a setting{hint}")

"""Every number and switch a user may want to change: unit, default and reason in one place.

The gateway reads them from its environment as ``TAR_GATEWAY_<NAME>``; elsewhere they are
keyword arguments of `Settings`. Values are checked alike, by pydantic, either way.
"""

from collections.abc import Iterable, Mapping
from dataclasses import field, fields
from typing import Annotated

from pydantic import (
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.dataclasses import dataclass
from pydantic_core import ArgsKwargs

from tar_gateway.errors import SettingsError, WrongSetting
from tar_gateway.http.paths import MAX_NAME_BYTES
from tar_gateway.settings.buckets import is_bucket
from tar_gateway.settings.types import (
    ArchiveFormats,
    BaseUrl,
    BindAddress,
    Endpoint,
    File,
    HeaderNames,
    HeadersFile,
    Hosts,
    KeysFile,
    Listings,
    Origins,
    PagesPrefix,
    ParameterName,
    Pause,
    Profile,
    Proxies,
    Region,
    Seconds,
    Size,
    Url,
    unknown_setting,
    wrong_setting,
)

PREFIX = "TAR_GATEWAY_"


@dataclass(
    frozen=True,
    slots=True,
    kw_only=True,
    config=ConfigDict(extra="forbid", hide_input_in_errors=True),
)
class Settings:
    """The settings, each with its unit and reason.

    Raise `SettingsError`, one line, for the first that is wrong or unknown.
    """

    upstream: BaseUrl | None = None
    """Base URL of the protected server, or ``s3://bucket/prefix/``; nothing outside it is ever
    asked for."""

    s3_endpoint: Endpoint | None = None
    """URL of the store that has an ``s3://`` upstream; AWS's own without it. The bucket is part of
    the path there, or of the host where ``{bucket}`` stands for it."""

    s3_region: Region | None = None
    """The bucket's region, which requests are signed for; without it that of the credentials'
    configuration, or else us-east-1. A store that says another is believed."""

    s3_profile: Profile | None = None
    """The profile of the AWS configuration files whose credentials are used, in place of those that
    the usual chain finds first."""

    s3_public: bool = False
    """Whether everyone may have what the gateway's own credentials may read of a bucket. Otherwise
    an ``s3://`` upstream needs ``signing_keys_file`` or ``auth_request``."""

    locations_file: File | None = None
    """TOML file of locations, in place of ``upstream``: paths by their prefixes, each with one or
    more equivalent servers; see `tar_gateway.settings.locations`."""

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

    keep_alive: Pause = 30
    """Seconds after which an idle connection to the upstream is not used again: firewalls forget
    it without a sign, most after minutes. A request by one that was idle for a second is given
    ``connect_timeout``, then sent by a new connection; 0 keeps none."""

    read_timeout: Seconds = 30
    """Seconds for the head of an upstream's response, and for one read of its content: longer
    silence counts as failure, and so does a head that drips."""

    plan_timeout: Seconds = 60
    """Seconds to learn all members' sizes, or to read a list of them: browsers and proxies give up
    soon after."""

    plan_memory: Pause = 10
    """Seconds that these are remembered for ranges, HEAD and 304 of the same bundle by the same
    caller; 0 asks each time. A resuming or parallel client asks for many ranges in a row."""

    retries: Annotated[int, Field(ge=0, le=100)] = 2
    """Further attempts at a request to the upstream that failed for a passing reason."""

    retry_pause: Pause = 0.1
    """Seconds before the first further attempt; twice as long each time, up to 20 times it."""

    retry_after_limit: Pause = 5
    """Seconds that an upstream's Retry-After is obeyed for at most: the client is waiting."""

    retry_for: Pause = 15
    """Seconds that a member is tried for once its bytes have begun, while its upstream is away:
    one that restarts is back within seconds, and the client only waits. 0: by ``retries`` alone."""

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

    listings: Listings | None = None
    """How directories are listed: ``auto`` by the GET that the caller could send, ``no`` not at
    all; the others ask so that more may be listed, or take any page for a listing (``html``).
    Without it ``auto``, but ``no`` without ``pass_through``: that GET is refused there."""

    listing_exact: bool = True
    """Whether sizes and dates of listings are believed where they are exact; otherwise each file is
    asked about. For servers whose listings lag behind their files."""

    max_depth: Annotated[int, Field(ge=1, le=1000)] = 32
    """Levels of directories below one that is asked for: links can make a tree endless."""

    max_listing: Annotated[Size, Field(ge=1)] = 16 * 1024 * 1024
    """Bytes of one directory's listing, which is read into memory: a hundred thousand names fit."""

    max_listings: Annotated[int, Field(ge=1)] = 2000
    """Directories that one bundle lists, each by a request to the upstream."""

    max_bytes: Annotated[Size, Field(ge=1)] | None = None
    """Bytes of one archive; no limit without it, for nothing here grows with an archive."""

    max_body: Size = 2 * 1024 * 1024
    """Bytes of a POST's body or a manifest: ten thousand long names fit."""

    max_query: Size = 64 * 1024
    """Bytes of a request's query: gunicorn takes 8 KiB at most, other servers any length."""

    max_downloads: Annotated[int, Field(ge=1)] = 96
    """Answers of one process under way at once; more get 503 before they hold up the others."""

    max_downloads_per_client: Annotated[int, Field(ge=1)] = 32
    """The same, of one client's address, four plain files counting as one; more get 429. One
    client must not take all; a loopback, private or unix peer may be a proxy that speaks for many,
    so it is not counted unless ``trusted_proxies`` names it."""

    questions_per_client: Annotated[int, Field(ge=1)] | None = None
    """Questions to the upstream and the authority that one client's address may cause a minute, in
    one process; more get 429. Up to twice ``max_members`` are saved, so that one largest bundle
    always passes. Off without it: many may share one address."""

    trusted_proxies: Proxies = ()
    """Addresses or networks whose ``X-Forwarded-For`` says who the client is; ``unix`` for all
    that connect by a unix socket."""

    spool_limit: Size = 1024 * 1024 * 1024
    """Bytes in memory and on the temporary disk, of all downloads of a process, for members of
    unknown size and for what a wrapped application writes."""

    fetch_parallel: Annotated[int, Field(ge=1, le=1024)] = 64
    """Requests to the upstream that one process has under way ahead of need, three quarters of
    them for one download: five hundred members 20 ms away are known in a quarter of a second."""

    fetch_ahead: Size = 4 * 1024 * 1024
    """Bytes of small members that a download fetches before their turn; 0 fetches none."""

    fetch_ahead_total: Size = 64 * 1024 * 1024
    """The same, for all downloads of a process together; without room one fetches none ahead."""

    reread_limit: Size = 1024 * 1024 * 1024
    """Bytes of members that one request may read again for checksums: what a resumed zip, or one of
    ``checksums=``, has at its end covers members that were sent before. Larger archives whose
    checksums are not told take no ranges."""

    checksum_memory: Annotated[int, Field(ge=0)] = 100_000
    """Members whose checksums a process remembers, so as not to read them again for a resumed
    download; 0 remembers none. Each takes a few hundred bytes."""

    signing_keys_file: KeysFile | None = None
    """File of lines ``id:secret``; with it every request must come by a link signed with one."""

    cors_origins: Origins = ()
    """Origins such as ``https://app.example.com`` whose pages may read what is served here, with
    their users' credentials; ``*`` for those of all, without credentials. Without it only pages of
    the gateway's own origin may, and what an upstream says of others holds for its plain files."""

    archive_files: ArchiveFormats = ("tar", "zip")
    """Lists of files (``X-Archive-Files``) of these formats are answered with the archive; ``no``
    leaves all lists to a server in front, such as nginx with mod_zip. Others reach no client."""

    parameter: ParameterName = "bundle"
    """The query parameter that asks for a bundle."""

    pass_through: bool = True
    """Whether plain requests are passed to the upstream; 404 otherwise."""

    browse: bool = False
    """Whether a browser is shown a page to pick files from where a directory is listed."""

    browse_style: File | None = None
    """File of CSS behind the page's own."""

    browse_title: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    """What the page is called, in place of ``Files``."""

    pages_prefix: PagesPrefix = "/-/"
    """Where the gateway's own pages are, below its mount point; files of their names are not."""

    pages_bind: BindAddress | None = None
    """``host:port`` of an address for those pages alone, which gunicorn opens as well."""

    public_metrics: bool = False
    """Whether the metrics are on the public address too."""

    log_pages: bool = True
    """Whether requests for the gateway's own pages leave a line in the access log. Balancers ask
    every second; a page that is not well has a line all the same."""

    @model_validator(mode="wrap")
    @classmethod
    def _check(
        cls, given: ArgsKwargs | dict[str, object], check: ModelWrapValidatorHandler["Settings"]
    ) -> "Settings":
        """Word what pydantic finds, for every way to make settings."""
        if isinstance(given, ArgsKwargs) and given.args:
            raise TypeError("settings are keyword arguments alone")
        try:
            return check(given)
        except ValidationError as error:
            name = str(error.errors(include_url=False)[0]["loc"][0])
            names = [field.name for field in fields(cls)]
            if name not in names:
                raise unknown_setting(name, names) from error
            values = given.kwargs if isinstance(given, ArgsKwargs) else given
            raise wrong_setting(error, name, (values or {})[name]) from error

    @property
    def listed_by(self) -> str | None:
        """The kind of listings that is asked for, `None` where directories are not listed."""
        if self.listings is None:
            return "auto" if self.pass_through else None
        return None if self.listings == "no" else self.listings

    @property
    def is_guarded(self) -> bool:
        """Whether anything says who may have what: signed links, or an authority."""
        return self.signing_keys_file is not None or self.auth_request is not None

    def check_guarded(self, upstreams: Iterable[str]) -> None:
        """Raise `SettingsError` where one of these is a bucket that everyone would have."""
        if any(map(is_bucket, upstreams)) and not (self.s3_public or self.is_guarded):
            raise SettingsError(
                "a bucket is opened by the gateway's own credentials, and nothing says who may "
                f"have what of it: set {PREFIX}SIGNING_KEYS_FILE or {PREFIX}AUTH_REQUEST, or "
                f"{PREFIX}S3_PUBLIC=yes to let everyone have all of it"
            )

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str], *, needs_upstream: bool = True
    ) -> "Settings":
        """Read the settings of a gateway: ``UPSTREAM`` or ``LOCATIONS_FILE`` is among them.

        Neither has to be where the settings are those of a `BundleMiddleware`. An empty variable
        counts as unset. Raise `SettingsError`, one line, for the first that is missing, wrong or
        unknown.
        """
        known = {PREFIX + field.name.upper(): field.name for field in fields(cls)}
        given = {name: text for name, text in environ.items() if name.startswith(PREFIX) and text}
        for name in given:
            if name not in known:
                raise unknown_setting(name, list(known), PREFIX)
        has_upstream = not given.keys().isdisjoint({PREFIX + "UPSTREAM", PREFIX + "LOCATIONS_FILE"})
        if needs_upstream and not has_upstream:
            raise SettingsError(
                f"{PREFIX}UPSTREAM is not set: give the base URL of the files, "
                "such as http://files.internal:8080/base/"
            )
        try:
            settings = _SETTINGS.validate_python({known[n]: text for n, text in given.items()})
        except WrongSetting as error:
            name = PREFIX + error.name.upper()
            raise WrongSetting(name, error.value, error.reason) from error
        if settings.upstream is not None and settings.locations_file is not None:
            raise SettingsError(
                f"{PREFIX}UPSTREAM and {PREFIX}LOCATIONS_FILE are both set: give one of them"
            )
        if settings.upstream is not None:
            settings.check_guarded([settings.upstream])
        return settings


_SETTINGS = TypeAdapter(Settings)

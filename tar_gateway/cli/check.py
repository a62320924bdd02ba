"""What would fail if a gateway were started with these settings: asked before it is."""

import errno
import re
import resource
import socket
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from importlib.util import find_spec
from typing import Literal, Protocol

from tar_gateway.access.authority import Authority
from tar_gateway.cli.footprint import footprint
from tar_gateway.errors import SettingsError, SourceError, WrongSetting
from tar_gateway.server.startup import SPARE_THREADS
from tar_gateway.settings import PREFIX, Settings
from tar_gateway.settings.buckets import is_bucket
from tar_gateway.settings.locations import read_locations
from tar_gateway.settings.types import Address
from tar_gateway.sources.locations import server_of

# What gunicorn is sized by; where it listens is for its command line to say.
_SIZES = ("workers", "worker_class", "threads", "worker_connections", "graceful_timeout")


Severity = Literal["ok", "warns", "fails"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    A gateway would not work with what ``fails``, and with what ``warns`` not as is likely meant.
    """

    text: str
    severity: Severity = "ok"


def effective(settings: Settings) -> Iterator[str]:
    """Return the settings as lines of an environment, with what may be secret masked."""
    for field in fields(settings):
        value = getattr(settings, field.name)
        yield f"{PREFIX}{field.name.upper()}={_written(value)}"


def wrong_settings(environ: Mapping[str, str]) -> Iterator[SettingsError]:
    """Return what is wrong with each variable by itself; a start tells the first alone."""
    for name, text in environ.items():
        try:
            Settings.from_environment({name: text}, needs_upstream=False)
        except WrongSetting as error:
            yield error
        except SettingsError as error:
            if name in str(error):  # others may be needed beside it
                yield error


def server() -> Mapping[str, object]:
    """Return gunicorn's own settings by their names, ``GUNICORN_CMD_ARGS`` included.

    The gateway's, which some follow from, are read from the environment.
    """
    # Where settings are wrong, importing these would end the process.
    from gunicorn.config import Config  # noqa: PLC0415

    from tar_gateway import gunicorn_conf  # noqa: PLC0415

    config = Config(prog="gunicorn")
    given = config.parser().parse_args(config.get_cmd_args_from_env())
    return {
        name: getattr(gunicorn_conf, name) if (told := getattr(given, name)) is None else told
        for name in _SIZES
    }


def command(sizes: Mapping[str, object]) -> str:
    """Return gunicorn's settings as the options of a command."""
    options = (f"--{name.replace('_', '-')} {value}" for name, value in sizes.items())
    return f"gunicorn {' '.join(options)}"


def findings(settings: Settings, sizes: Mapping[str, object]) -> Iterator[Finding]:
    """Look at everything that a gateway with these settings needs. Asks each server once.

    ``sizes`` are gunicorn's settings. Raise `SettingsError` for a file that has become wrong since
    the settings were checked.
    """
    if settings.upstream is not None:
        yield _reached("upstream", settings.upstream, server_of, settings)
        yield from _opened_to_all([settings.upstream], settings, "upstream")
    if settings.locations_file is not None:
        for location in read_locations(settings.locations_file, settings):
            called = f"location {location.prefix}"
            for url in location.upstreams:
                yield _reached(called, url, server_of, location.settings)
            yield from _opened_to_all(location.upstreams, location.settings, called)
    if settings.auth_request is not None:
        yield _reached("authority", settings.auth_request, Authority, settings)
    if settings.pages_bind is not None:
        yield _opened(settings.pages_bind)
    yield from _served(settings, sizes)
    yield from _secrets(settings)
    yield _descriptors(settings)
    yield _room(settings)
    yield _clients(settings)
    if find_spec("prometheus_client") is None:
        yield Finding("metrics: none, for the package prometheus_client is not installed")
    elif settings.pages_bind is None and not settings.public_metrics:
        yield Finding(f"metrics: on no address; set {PREFIX}PAGES_BIND to have them on their own")


def _opened_to_all(urls: Iterable[str], settings: Settings, called: str) -> Iterator[Finding]:
    """Warn where the service's own credentials open files to everyone."""
    if settings.is_guarded:
        return
    opens = None
    if any(map(is_bucket, urls)):
        opens = "S3_PUBLIC"
    elif settings.upstream_headers_file is not None:
        opens = "UPSTREAM_HEADERS_FILE"
    if opens is not None:
        yield Finding(
            f"{called}: everyone may have what the gateway's own credentials open ({opens}): set "
            f"{PREFIX}SIGNING_KEYS_FILE or {PREFIX}AUTH_REQUEST if not all of it is public",
            "ok" if opens == "S3_PUBLIC" else "warns",  # that is said on purpose
        )


def _served(settings: Settings, sizes: Mapping[str, object]) -> Iterator[Finding]:
    """Say where gunicorn's settings do not fit the gateway's."""
    if sizes["worker_class"] == "sync":
        yield Finding(
            "server: --worker-class sync ends a download after --timeout, 30 seconds, and serves "
            "one at a time: leave --worker-class out",
            "fails",
        )
    elif str(sizes["threads"]).isdigit() and "gevent" not in str(sizes["worker_class"]):
        threads, needed = int(str(sizes["threads"])), settings.max_downloads + SPARE_THREADS
        if threads < needed:
            yield Finding(
                f"server: {threads} threads are fewer than the {needed} that "
                f"{PREFIX}MAX_DOWNLOADS={settings.max_downloads} needs: leave --threads out",
                "warns",
            )


def _secrets(settings: Settings) -> Iterator[Finding]:
    """Say which secrets every user of the machine can read."""
    for name in ("signing_keys_file", "upstream_headers_file", "upstream_key_file"):
        file = getattr(settings, name)
        if file is not None and file.stat().st_mode & stat.S_IROTH:
            yield Finding(
                f"secrets: {file} ({name.upper()}) can be read by every user: chmod o= {file}",
                "warns",
            )


class _Server(Protocol):
    def reach(self) -> object: ...

    def close(self) -> None: ...


def _reached(
    called: str, url: str, make: Callable[[str, Settings], _Server], settings: Settings
) -> Finding:
    server = make(url, settings)
    try:
        status = server.reach()
    except SourceError as error:
        return Finding(f"{called}: {_written(url)}: {error.for_operator}", "fails")
    finally:
        server.close()
    if make is Authority and isinstance(status, int) and status not in {401, 403, *range(200, 300)}:
        return Finding(
            f"{called}: {_written(url)} answers {status}: with any other status than 2xx, 401 and "
            "403 every request fails",
            "fails",
        )
    return Finding(f"{called}: {_written(url)} answers {status}")


def _opened(address: Address) -> Finding:
    """Open the pages' address as gunicorn does, and close it again."""
    family = socket.AF_INET6 if address.host.startswith("[") else socket.AF_INET
    try:
        with socket.socket(family) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address.host.strip("[]"), address.port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return Finding(f"pages: {address} is in use, by a gateway that runs or by others")
        return Finding(f"pages: {address}: {error.strerror}", "fails")
    return Finding(f"pages: {address} can be opened")


def _descriptors(settings: Settings) -> Finding:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = footprint(settings).descriptors
    text = f"descriptors: {soft} may be open in a process, and {needed} may be needed"
    return Finding(text, "fails" if soft < needed else "ok")


def _room(settings: Settings) -> Finding:
    """Say what limits of memory, disk and tasks have to leave a process."""
    most = footprint(settings)
    return Finding(
        f"limits: a process takes up to {_mebibytes(most.memory)} MiB of memory, "
        f"{_mebibytes(most.disk)} MiB of temporary disk and {most.tasks} tasks"
    )


def _clients(settings: Settings) -> Finding:
    """Say by what clients are told apart, for the limits of each."""
    trusted = settings.trusted_proxies
    if trusted:
        return Finding(f"clients: told by X-Forwarded-For of {_written(trusted)}")
    return Finding(
        "clients: told by their own address, and behind a proxy not at all: "
        "MAX_DOWNLOADS_PER_CLIENT does not apply to loopback, private and unix peers, "
        "and QUESTIONS_PER_CLIENT counts all behind a proxy as one; "
        f"set {PREFIX}TRUSTED_PROXIES to your proxy's address"
    )


def _mebibytes(count: int) -> int:
    return -(-count // (1024 * 1024))


def _written(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case tuple():
            return ",".join(map(str, value))
        case str() if "?" in value:
            return re.sub(r"\?.*", "?...", value)  # what stands behind it may be a token
        case _:
            return str(value)

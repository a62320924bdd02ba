"""What is checked before a server starts, so that what is wrong is one line and no traceback."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, cast

from tar_gateway.errors import SettingsError
from tar_gateway.settings import Settings
from tar_gateway.settings.buckets import is_bucket
from tar_gateway.settings.locations import read_locations

if TYPE_CHECKING:
    from gunicorn.arbiter import Arbiter
    from gunicorn.workers.base import Worker


# Threads besides those of downloads, so that refusals and pages always find one; and connections
# that are waited for: new ones, kept-alive ones, ones to be closed.
SPARE_THREADS = 32
WAITING = 512

GATEWAY = "tar_gateway.wsgi:application"
"""What gunicorn runs unless it is told of another application."""


def checked_settings(environ: Mapping[str, str], *, needs_upstream: bool = True) -> Settings:
    """Read a gateway's settings, certificates and locations included. Raise `SettingsError`.

    An application of one's own, which `BundleMiddleware` wraps, needs no upstream.
    """
    settings = Settings.from_environment(environ, needs_upstream=needs_upstream)
    _check_certificates(settings)
    _check_signing([settings.upstream or ""])
    if settings.locations_file is not None:
        locations = read_locations(settings.locations_file, settings)
        for number, location in enumerate(locations, start=1):
            try:
                _check_certificates(location.settings)
                _check_signing(location.upstreams)
            except SettingsError as error:
                where = f"{settings.locations_file}: location {number}"
                raise SettingsError(f"{where}: {error}") from error
    return settings


def _check_certificates(settings: Settings) -> None:
    if settings.upstream_ca_file or settings.upstream_cert_file or settings.upstream_key_file:
        # Imported for those who use it: gunicorn's master should load little that gevent patches.
        from tar_gateway.sources.wire.tls import client_tls  # noqa: PLC0415

        client_tls(settings, certificate=True)


def _check_signing(upstreams: Iterable[str]) -> None:
    """Raise `SettingsError` for a bucket where the package that signs is not installed."""
    if any(map(is_bucket, upstreams)) and find_spec("botocore") is None:
        raise SettingsError(
            "an s3:// upstream needs the package botocore: pip install 'tar_gateway[s3]'"
        )


def gunicorn_command(bind: str) -> list[str]:
    """Return the arguments for Python that run the gateway under gunicorn."""
    return ["-m", "gunicorn", "--config", "python:tar_gateway.gunicorn_conf", "--bind", bind]


def runs_gateway(arguments: Sequence[str]) -> bool:
    """Return whether gunicorn's arguments name no application of somebody's own."""
    # Here, for it is there by now: gevent has to patch much of it first.
    from gunicorn.config import Config  # noqa: PLC0415

    config = Config()
    given = [*config.get_cmd_args_from_env(), *arguments]
    named, _ = config.parser().parse_known_args(given)
    return named.args in ([], [GATEWAY])


class Reloader:
    """Takes the place of an arbiter's ``reload``, which ``reload`` is."""

    def __init__(
        self, server: "Arbiter", reload: Callable[[], None], *, needs_upstream: bool
    ) -> None:
        self._server = server
        self._needs_upstream = needs_upstream
        self._reload = reload
        self._graceful_timeout = server.cfg.graceful_timeout
        self._old: set[int] = set()

    def __call__(self) -> None:
        """Reload, unless a setting or a file has become wrong: then all goes on as it was."""
        server = self._server
        try:
            checked_settings(os.environ, needs_upstream=self._needs_upstream)
        except SettingsError as error:
            assert server.log is not None
            server.log.error("Not reloaded: %s", error)  # noqa: TRY400 - it is the operator's
            return
        before, self._old = set(server.WORKERS), set()
        try:
            self._reload()
        finally:
            server.cfg.set("graceful_timeout", self._graceful_timeout)
        self._old = before & server.WORKERS.keys()
        # Otherwise gunicorn would count the old workers as new ones and replace none that dies.
        server.num_workers += len(self._old)

    def begin(self) -> None:
        """Take gunicorn's wait away: its settings are new by now, and no worker has started."""
        self._graceful_timeout = self._server.cfg.graceful_timeout
        self._server.cfg.set("graceful_timeout", 0)

    def begin_worker(self, worker: "Worker") -> None:
        """Let a new worker have the time for its own stop that gunicorn's wait has not."""
        worker.cfg.set("graceful_timeout", self._graceful_timeout)

    def forget(self, worker: "Worker") -> None:
        """Take note that a worker has ended."""
        pid = cast(int, worker.pid)  # the stub's fault
        if pid in self._old:
            self._old.discard(pid)
            self._server.num_workers -= 1

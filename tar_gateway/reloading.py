"""A reload (SIGHUP): new workers read all files anew, old ones end with their last download.

gunicorn 27 waits in one place for the old ones, `graceful_timeout` at the most. That is an hour
here, in which its master would hear no signal and replace no worker that dies.
"""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from tar_gateway.errors import SettingsError
from tar_gateway.startup import checked_settings

if TYPE_CHECKING:
    from gunicorn.arbiter import Arbiter
    from gunicorn.workers.base import Worker


class Reloading:
    """Takes the place of an arbiter's ``reload``, which ``reload`` is."""

    def __init__(self, server: "Arbiter", reload: Callable[[], None]) -> None:
        self._server = server
        self._reload = reload
        self._graceful_timeout = server.cfg.graceful_timeout
        self._old: set[int] = set()

    def __call__(self) -> None:
        """Reload, unless a setting or a file has become wrong: then all goes on as it was."""
        server = self._server
        try:
            checked_settings(os.environ)
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
        # Or the old ones would count for the new, of which none would be replaced.
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

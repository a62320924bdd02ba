"""gunicorn's settings for a gateway, in the wheel so that every installation has them.

Used as ``gunicorn --config python:tar_gateway.gunicorn_conf``, or as plain ``gunicorn`` in a
directory whose ``gunicorn.conf.py`` takes them over. With an application of one's own behind it,
such as ``mysite.wsgi``, that is run the same way, and no upstream has to be set. Options on the
command line and ``GUNICORN_CMD_ARGS`` still come before them.
"""

import atexit
import os
import signal
import sys
from typing import TYPE_CHECKING, cast

from tar_gateway.errors import SettingsError
from tar_gateway.server import metrics_directory
from tar_gateway.server.startup import (
    GATEWAY,
    SPARE_THREADS,
    WAITING,
    Reloader,
    checked_settings,
    runs_gateway,
)
from tar_gateway.web.observe import draining

if TYPE_CHECKING:
    from gunicorn.arbiter import Arbiter
    from gunicorn.workers.base import Worker

    from tar_gateway.server.worker import GatewayWorker

_STOPS = (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT)

# Read before a worker starts, so that what is wrong is one line and not a worker's traceback.
try:
    _is_gateway = runs_gateway(sys.argv[1:])
    _settings = checked_settings(os.environ, needs_upstream=_is_gateway)
except SettingsError as error:
    raise SystemExit(f"tar_gateway: {error}") from error

wsgi_app = GATEWAY

# gunicorn's threaded worker, except that clients which are slow to ask or to close hold no
# thread. "gevent" is possible too, once it is installed; `deploy/README.md` tells them apart.
worker_class = "tar_gateway.server.worker.GatewayWorker"

# A thread a download, for a blocked one costs a stack and nothing else.
threads = _settings.max_downloads + SPARE_THREADS

# All together stay below the 1,024 descriptors that a process usually may have.
worker_connections = threads + WAITING

# A process a core: Python runs one thread at a time.
workers = int(os.environ.get("WEB_CONCURRENCY") or len(os.sched_getaffinity(0)))

# Between two files of one user; longer would hold connections that others need.
keepalive = 5

# The longest that gunicorn reads safely: a longer list of members goes into a POST.
limit_request_line = 8190

# Workers are never restarted for having served many requests: that would cut downloads.
max_requests = 0

# Downloads may end within an hour after a stop was asked for.
graceful_timeout = 3600

# A unix socket is for its owner and its group (0660), in which the front has to be. gunicorn's own
# is for all on the machine.
umask = 0o117

# No request header may rewrite the path: SCRIPT_NAME is the mount point's to say.
forwarder_headers = ""

# A header's name with `_` is dropped: WSGI takes it for the same with `-`, which a front that
# looks at names did not.
header_map = "drop"

# gunicorn opens a control socket by default; nothing here uses one.
control_socket_disable = True

# To standard output, where service managers and containers look for it.
accesslog = "-"

# Logs as JSON, with a line for each bundle, so that they can be searched.
logger_class = "tar_gateway.server.logger.JsonLogger"


def post_fork(server: "Arbiter", worker: "GatewayWorker") -> None:
    """Tell the worker the gateway's settings; one of another class has no use for them."""
    worker.settings = _settings
    _reloading_of(server).begin_worker(worker)


def on_reload(server: "Arbiter") -> None:
    """Let the master go on with its work while old workers end."""
    _reloading_of(server).begin()


def _reloading_of(server: "Arbiter") -> Reloader:
    return cast(Reloader, server.reload)


def on_starting(server: "Arbiter") -> None:
    """Listen to ``tar-gateway drain``, reload our way, and let the workers share their counts."""
    # gunicorn leaves its pid file behind when a start fails, at an address that is taken, say.
    atexit.register(_unlink_pid_file, server, os.getpid())
    if server.cfg.preload_app:
        raise SystemExit("tar_gateway: --preload is refused: workers would not share their counts")
    try:
        metrics_directory.share(server.cfg.uid, server.cfg.gid)
    except SettingsError as error:
        raise SystemExit(f"tar_gateway: {error}") from error
    server.reload = Reloader(server, server.reload, needs_upstream=_is_gateway)  # type: ignore[method-assign]
    if draining.SIGNAL is not None:
        signal.signal(draining.SIGNAL, draining.begin)
    _let_starting_workers_be_stopped()


def when_ready(server: "Arbiter") -> None:
    """Open the pages' own address, beside whatever gunicorn was told to listen at."""
    bound = _settings.pages_bind
    if bound is None:
        return
    # By its port a connection is known for one of the pages, whatever interface it came by.
    if any(isinstance(each, tuple) and each[1] == bound.port for each in server.cfg.address):
        raise SystemExit(f"tar_gateway: the pages at {bound} need a port that --bind has not")
    if any(each.getsockname()[1:2] == (bound.port,) for each in server.LISTENERS):
        return  # an earlier master, or systemd, has handed it over
    # gunicorn has it by now; before, it would load ssl, which gevent has to patch first.
    from gunicorn.sock import TCP6Socket, TCPSocket  # noqa: PLC0415

    assert server.log is not None
    address = (bound.host.strip("[]"), bound.port)
    kind = TCP6Socket if bound.host.startswith("[") else TCPSocket
    try:
        listener = kind(address, server.cfg, server.log)  # type: ignore[arg-type] # the stub's fault
    except OSError as error:
        raise SystemExit(f"tar_gateway: the pages can't use {bound}: {error.strerror}") from error
    server.LISTENERS.append(listener)
    server.log.info("Pages at: http://%s%s", bound, _settings.pages_prefix)


def child_exit(server: "Arbiter", worker: "Worker") -> None:
    """Forget what an ended worker had under way."""
    _reloading_of(server).forget(worker)
    metrics_directory.forget(cast(int, worker.pid))  # the stub's fault


def _unlink_pid_file(server: "Arbiter", master: int) -> None:
    if server.pidfile is not None and os.getpid() == master:  # its forks have this from it
        server.pidfile.unlink()


def _let_starting_workers_be_stopped() -> None:
    """Let a stop be heard by a worker that is just being started.

    Between its fork and the moment it sets its own handlers a worker has the master's, which
    write a signal down where nobody reads it. A stop in between would be lost on it, and the
    master would wait the whole `graceful_timeout`.
    """
    os.register_at_fork(
        before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS),
        after_in_parent=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS),
        after_in_child=_stop_by_default,
    )


def _stop_by_default() -> None:
    for each in _STOPS:
        signal.signal(each, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)

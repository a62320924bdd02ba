"""gunicorn's logger for a gateway: a line of JSON a request, and one for every download.

Both go to the access log, and the ``id`` joins them. What a gateway warns of goes to the error
log, beside gunicorn's own; there each message is a line of JSON, its traceback included.
"""

import json
import logging
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from gunicorn.glogging import Logger

from tar_gateway.access.limits import client_of
from tar_gateway.access.links import hide_signature, logged_query, referer_of
from tar_gateway.errors import SettingsError
from tar_gateway.http.environ import logged_path
from tar_gateway.settings import Settings
from tar_gateway.web.observe.download import LOGGER
from tar_gateway.web.observe.log_line import log_line

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from gunicorn.config import Config
    from gunicorn.http.message import Request
    from gunicorn.http.wsgi import Response

    from tar_gateway.errors import Refusal


class JsonFormatter(logging.Formatter):
    """Writes a message as a line of JSON, whatever is in it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a message."""
        line = {
            "level": record.levelname,
            "pid": record.process,
            "message": record.getMessage(),
            "traceback": self.formatException(record.exc_info) if record.exc_info else None,
        }
        return log_line("log", line, at=datetime.fromtimestamp(record.created, UTC))


# What of a line a person sees, in this order.
_SHOWN = (
    *("outcome", "status", "method", "path", "range", "bytes", "bytes_sent", "seconds", "client"),
    *("member", "reason", "cause"),
)


class TerminalFormatter(logging.Formatter):
    """Writes a line of the access log for a person, who reads it while it is written."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a request or a download."""
        line: dict[str, object] = json.loads(record.getMessage())
        if "query" in line:
            line["path"] = f"{line['path']}?{line['query']}"
        for name, unit in (("bytes", "bytes"), ("bytes_sent", "bytes"), ("seconds", "s")):
            if name in line:
                line[name] = f"{line[name]} {unit}"
        # Escaped as in JSON, so that nothing moves the cursor.
        words = (json.dumps(str(line[name]))[1:-1] for name in _SHOWN if line.get(name))
        at = datetime.fromtimestamp(record.created).astimezone()
        return f"{at:%H:%M:%S} {line['event']:7} {' '.join(words)}"


class JsonLogger(Logger):
    """Writes both logs as JSON, whatever gunicorn's formats for them say.

    At a terminal they are lines for a person instead.
    """

    def setup(self, cfg: "Config") -> None:
        """Open the logs, and let the package's own messages go to them."""
        super().setup(cfg)
        handler = self._get_gunicorn_handler(self.error_log)  # type: ignore[attr-defined] # not in the stubs
        # An operator's own configuration may be in its place; at a terminal a person reads.
        if handler is not None and not handler.stream.isatty():
            handler.setFormatter(JsonFormatter())
        for handler in self.access_log.handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream.isatty():
                handler.setFormatter(TerminalFormatter())
        try:
            settings = Settings.from_environment(os.environ, needs_upstream=False)
        except SettingsError:  # which stops the start, and says so
            settings = Settings()
        self._trusted = settings.trusted_proxies
        self._unlogged = None if settings.log_pages else settings.pages_prefix
        downloads = logging.getLogger(LOGGER)
        downloads.setLevel(logging.INFO)
        downloads.propagate = False
        downloads.handlers = self.access_log.handlers
        package = logging.getLogger("tar_gateway")
        package.setLevel(self.loglevel)
        package.propagate = False
        package.handlers = self.error_log.handlers

    def access(
        self,
        resp: "Response",
        req: "Request",
        environ: "MutableMapping[str, Any]",
        request_time: timedelta,
    ) -> None:
        """Write the line of a request that is done."""
        if not self.access_log_enabled:
            return
        headers = {name.lower(): value for name, value in resp.headers}
        status = str(resp.status)[:3]  # an application may have failed before it had one
        path = environ.get("PATH_INFO", "")
        if self._unlogged and status == "200" and path.rpartition("/")[0] + "/" == self._unlogged:
            return
        line = {
            "id": headers.get("x-request-id"),
            "client": client_of(environ, self._trusted) or None,
            "peer": environ.get("REMOTE_ADDR") or None,
            "forwarded_for": environ.get("HTTP_X_FORWARDED_FOR"),
            "method": environ.get("REQUEST_METHOD"),
            "path": hide_signature(logged_path(environ)),
            "query": logged_query(environ) or None,
            "protocol": environ.get("SERVER_PROTOCOL"),
            "status": int(status) if status.isdigit() else None,
            "bytes": resp.sent,
            "seconds": round(request_time.total_seconds(), 3),
            "range": environ.get("HTTP_RANGE"),
            "referer": referer_of(environ),
            "agent": environ.get("HTTP_USER_AGENT"),
        }
        self.access_log.info("%s", log_line("request", line))

    def refused(self, client: str, refusal: "Refusal") -> None:
        """Write the line of a request that was never whole, or was none: nothing else is known."""
        if not self.access_log_enabled:
            return
        line = {"client": client, "status": int(refusal.status), "reason": refusal.detail}
        self.access_log.info("%s", log_line("request", line))

"""gunicorn's logger for a gateway: a line of JSON a request, and one for every download.

Both go to the access log, and the ``id`` joins them. What a gateway warns of goes to the error
log, beside gunicorn's own; there each message is a line of JSON, its traceback included.
"""

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from gunicorn.glogging import Logger

from tar_gateway.access.links import hide_signature, logged_query, referer_of
from tar_gateway.http.environ import logged_path
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


class JsonLogger(Logger):
    """Writes both logs as JSON, whatever gunicorn's formats for them say."""

    def setup(self, cfg: "Config") -> None:
        """Open the logs, and let the package's own messages go to them."""
        super().setup(cfg)
        handler = self._get_gunicorn_handler(self.error_log)  # type: ignore[attr-defined] # not in the stubs
        # An operator's own configuration may be in its place; at a terminal a person reads.
        if handler is not None and not handler.stream.isatty():
            handler.setFormatter(JsonFormatter())
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
        line = {
            "id": headers.get("x-request-id"),
            "client": environ.get("REMOTE_ADDR"),
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

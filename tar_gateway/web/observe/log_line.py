"""A line of a log as JSON: the one way that the access log, the downloads and the errors take.

It knows no logger and no request.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime


def log_line(event: str, fields: Mapping[str, object], *, at: datetime | None = None) -> str:
    """Return the line of an event, without its end; ``at`` is its time if it is not now.

    Fields that are None or ``{}`` are left out. The line is printable ASCII, whatever the fields
    hold: a client's C1 controls, line separators and bidi characters do nothing to a terminal,
    and make no second line for readers that split at more than LF.
    """
    time = (at or datetime.now(UTC)).isoformat(timespec="milliseconds")
    told = {key: value for key, value in fields.items() if value not in (None, {})}
    return json.dumps({"event": event, "time": time, **told}, ensure_ascii=True)

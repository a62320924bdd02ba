"""Answers, compared: what is of one response alone, its id and its timing, is left out."""

from typing import Any


def lasting(response: Any) -> list[tuple[str, str]]:
    """Give the headers that another response to the same request has as well, in order."""
    return [
        pair for pair in response.headerlist if pair[0] not in {"X-Request-ID", "Server-Timing"}
    ]

"""Signed links: made, checked at the door, and kept out of logs."""

from collections.abc import Mapping
from typing import Any

from tar_gateway.http.environ import query_of
from tar_gateway.signing import hide_signature

# Bytes of a query in a log: all that gunicorn lets through, of what other servers do.
_LOGGED = 8192


def logged_query(environ: Mapping[str, Any]) -> str:
    """Give the query string for a log: its beginning, without the signature that opens a link."""
    beginning = {"QUERY_STRING": environ.get("QUERY_STRING", "")[:_LOGGED]}
    return hide_signature(query_of(beginning))


def referer_of(environ: Mapping[str, Any]) -> str | None:
    """Give the Referer: without the signature, where a page was had by a signed link."""
    referer = environ.get("HTTP_REFERER")
    if referer is None:
        return None
    page, mark, query = str(referer).partition("?")
    return page + mark + hide_signature(query)

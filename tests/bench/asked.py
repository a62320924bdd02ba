"""What a rival's application is asked for: the gateway's own request, its upstream's variable."""

import json
import os
from wsgiref.types import WSGIEnvironment


def members(environ: WSGIEnvironment) -> list[str]:
    """Give the members' paths."""
    return json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))["members"]


def url(member: str) -> str:
    """Give where a member is fetched."""
    return os.environ["TAR_GATEWAY_UPSTREAM"] + member

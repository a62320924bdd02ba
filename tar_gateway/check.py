"""What would fail if a gateway were started with these settings: asked before it is."""

import re
import resource
from collections.abc import Iterator
from dataclasses import dataclass, fields
from importlib.util import find_spec

from tar_gateway.errors import SettingsError, SourceError
from tar_gateway.settings import PREFIX, Settings
from tar_gateway.sources.upstream import Upstream

# Descriptors that a process has open besides its downloads' two each.
_OTHERS = 100


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; ``fails`` says that a gateway would not work with it."""

    text: str
    fails: bool = False


def effective(settings: Settings) -> Iterator[str]:
    """Give the settings as lines of an environment, with what may be secret masked."""
    for field in fields(settings):
        value = getattr(settings, field.name)
        yield f"{PREFIX}{field.name.upper()}={_written(value)}"


def findings(settings: Settings) -> Iterator[Finding]:
    """Look at everything that a gateway with these settings needs. Asks the upstream once."""
    yield _upstream(settings)
    yield _descriptors(settings)
    if find_spec("prometheus_client") is None:
        yield Finding("metrics: none, for the package prometheus_client is not installed")
    elif settings.pages_bind is None and not settings.public_metrics:
        yield Finding(f"metrics: on no address; set {PREFIX}PAGES_BIND to have them on their own")


def _upstream(settings: Settings) -> Finding:
    assert settings.upstream is not None
    try:
        upstream = Upstream(settings.upstream, settings)
    except SettingsError as error:
        return Finding(f"upstream: {error}", fails=True)
    try:
        upstream.reach()
    except SourceError as error:
        return Finding(f"upstream: {settings.upstream}: {error.reason}", fails=True)
    finally:
        upstream.close()
    return Finding(f"upstream: {settings.upstream} answers")


def _descriptors(settings: Settings) -> Finding:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * settings.max_downloads + settings.fetch_parallel + _OTHERS
    text = f"descriptors: {soft} may be open in a process, and {needed} may be needed"
    return Finding(text, fails=soft < needed)


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

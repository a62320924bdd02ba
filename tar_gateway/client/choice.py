"""Which members of a plan are taken. Pure."""

from collections.abc import Iterable

from tar_gateway.archive.globs import Filter
from tar_gateway.client.failures import WrongUse
from tar_gateway.client.plan import Plan
from tar_gateway.http.paths import BadName


def chosen(plan: Plan, include: Iterable[str], exclude: Iterable[str]) -> list[int]:
    """Return the members that globs take, as ``include=`` and ``exclude=`` of a request do.

    A directory that ``exclude`` matches is left out with all that it holds. Raise `WrongUse`.
    """
    try:
        filter_ = Filter(include, exclude)
    except BadName as error:
        raise WrongUse(f"a glob of --include or --exclude {error}") from error
    return [i for i, member in enumerate(plan.members) if _takes(filter_, member.name)]


def _takes(filter_: Filter, name: str) -> bool:
    place = filter_.start
    *above, last = name.rstrip("/").split("/")
    for segment in above:
        place = filter_.step(place, segment)
        if not filter_.looks_below(place):
            return False
    return filter_.takes(filter_.step(place, last))

"""From a URL to what is downloaded: the plan of a bundle, or the version of a plain file."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from tar_gateway.client.address import Address
from tar_gateway.client.events import Listener, Notice, Waiting
from tar_gateway.client.failures import BrokenArchive, NetworkError, WrongUse
from tar_gateway.client.patience import Attempts, Patience
from tar_gateway.client.plan import Plan, read_plan
from tar_gateway.client.session import Response, Session
from tar_gateway.client.stream import Version, failure_of, version_of
from tar_gateway.client.verify import sums_member

_T = TypeVar("_T")

LARGEST_PLAN = 128 * 1024 * 1024
"""Bytes: more than half a million members take."""


@dataclass(frozen=True, slots=True)
class Found:
    """What is downloaded; without a plan it is one file of a server that gives none."""

    version: Version
    plan: Plan | None


def ask_plan(
    session: Session, address: Address, patience: Patience, listener: Listener
) -> Found | None:
    """Ask for a bundle's plan; `None` where the server gives none. Raise `DownloadError`."""
    asked = address if address.has("plan") else address.adding("plan=json")

    def read(response: Response) -> Found | None:
        if response.status != 200:
            raise failure_of(response)
        if not response.headers.get("Content-Type", "").startswith("application/json"):
            return None
        data = response.whole(LARGEST_PLAN)
        try:
            plan = read_plan(data)
        except (ValueError, RecursionError) as error:
            raise NetworkError("the server's plan is none, or was cut off") from error
        return Found(_version(response.address, plan), plan)

    return _asked(session, asked, patience, listener, read)


def ask_plain(session: Session, address: Address, patience: Patience, listener: Listener) -> Found:
    """Ask what a server without plans has there, and say what it can't promise."""

    def read(response: Response) -> Found:
        if response.status != 200:
            raise failure_of(response)
        version = version_of(response)
        if response.headers.get("Accept-Ranges", "").strip().lower() == "none":
            version = replace(version, is_strong=False)
        return Found(replace(version, address=address), None)

    found = _asked(session, address, patience, listener, read)
    if found.version.size is None:
        listener(Notice("the server does not say how long this is: it can't be resumed"))
    elif not found.version.is_strong:
        listener(Notice("the server proves no version of this: it can't be resumed if it breaks"))
    return found


def _asked(
    session: Session,
    address: Address,
    patience: Patience,
    listener: Listener,
    read: Callable[[Response], _T],
) -> _T:
    attempts = Attempts(
        patience,
        session.is_stopped.wait,
        lambda reason, pause: listener(Waiting(reason, pause)),
    )
    while True:
        try:
            with session.get(address, {}) as response:
                return read(response)
        except NetworkError as error:
            attempts.failed(error)


def _version(address: Address, plan: Plan) -> Version:
    """Return the version that a plan is of. Raise `WrongUse`, `BrokenArchive`."""
    if plan.link is None:
        raise WrongUse("this link is for the plan only: it opens no archive")
    if not plan.link.startswith("?"):
        raise BrokenArchive("the plan's link leads elsewhere")
    pinned = address.following(plan.link)
    is_strong = plan.etag is not None and not plan.etag.startswith("W/")
    return Version(
        pinned,
        plan.size,
        plan.etag,
        is_strong=is_strong,
        is_pinned=pinned.has("v"),
        prefers_ranges=is_strong and plan.is_tar and sums_member(plan) is None,
    )

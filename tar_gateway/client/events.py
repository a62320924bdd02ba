"""What a download tells while it runs, by a function that gets one of these at a time.

It may be called by any thread of the download, and should return soon.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Planned:
    """What will be done is known: members and bytes that are to come, of all, and what is there.

    ``there`` are the bytes that an earlier run has left; ``skipped`` the members that are there by
    name, size and date. Sizes are `None` where they are not known.
    """

    filename: str
    members: int
    size: int | None
    there: int
    skipped: int


@dataclass(frozen=True, slots=True)
class Received:
    """So many bytes have arrived; ``name`` is the member that the last of them is of."""

    count: int
    name: str | None


@dataclass(frozen=True, slots=True)
class MemberDone:
    """A member is complete, and in its place."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class MemberVerified:
    """A member's bytes have the checksum that the archive has for it, or not."""

    name: str
    is_right: bool


@dataclass(frozen=True, slots=True)
class Waiting:
    """Something failed, and is tried again in so many seconds."""

    reason: str
    pause: float


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that a user should know."""

    text: str


Event: TypeAlias = Planned | Received | MemberDone | MemberVerified | Waiting | Notice
Listener: TypeAlias = Callable[[Event], object]

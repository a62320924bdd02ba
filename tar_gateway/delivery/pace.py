"""How fast bytes must come from those who are waited for."""

from dataclasses import dataclass
from typing import Self

from tar_gateway.errors import SourceError
from tar_gateway.settings import Settings
from tar_gateway.sources.wire.response import Content, failed


@dataclass(frozen=True, slots=True)
class Pace:
    """The least that a source must give: ``rate`` bytes a second, over ``window`` seconds.

    Only the seconds count in which it was waited for: a slow client is not its fault.
    """

    rate: int
    window: float

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Take the numbers from the settings."""
        return cls(settings.min_read_rate, settings.read_timeout)


class PaceMeter:
    """What came in the current window of a pace, and how long it was waited for."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._waited = 0.0
        self._given = 0

    def begin(self) -> None:
        """Begin a new window."""
        self._waited, self._given = 0.0, 0

    def add(self, waited: float, given: int) -> None:
        """Count ``given`` bytes that were waited for ``waited`` seconds."""
        self._waited += waited
        self._given += given

    def missed(self, content: Content) -> SourceError:
        """Tell the server of a content that the pace is missed, and return the error to raise."""
        error = SourceError("the upstream gives it too slowly", status=504, transient=True)
        return failed(content, error)

    @property
    def is_over(self) -> bool:
        """Whether the window is over, so that the pace can be judged."""
        return self._waited >= self._pace.window

    @property
    def is_kept(self) -> bool:
        """Whether enough has come for the time that it was waited for."""
        return self._given >= self._pace.rate * self._waited

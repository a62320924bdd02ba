"""How a download may fail, each kind with the exit status that the command has for it."""

from collections.abc import Sequence

from tar_gateway.errors import TarGatewayError


class DownloadError(TarGatewayError):
    """A download came to no good end; the text is a sentence for the user."""

    status = 1


class WrongUse(DownloadError):
    """What was asked for makes no sense."""

    status = 2


class DiskError(DownloadError):
    """A file could not be written or read: full, read-only, in the way."""

    status = 3


class NetworkError(DownloadError):
    """No response, or one that broke off. It may help to ask again.

    ``pause`` are the seconds that the server asks to wait before that (RFC 9110 10.2.3).
    """

    status = 4

    def __init__(self, text: str, *, pause: float | None = None, is_final: bool = False) -> None:
        super().__init__(text)
        self.pause = pause
        self.is_final = is_final


class TlsError(DownloadError):
    """The server could not prove who it is, or has no use for our certificate."""

    status = 5


class Denied(DownloadError):
    """The server answered 401 or 403."""

    status = 6


class BrokenArchive(DownloadError):
    """What arrived is not what the plan announced, or is not safe to unpack."""

    status = 7


class ServerError(DownloadError):
    """The server answered with another error."""

    status = 8


class Busy(ServerError, NetworkError):
    """The server answered with an error that may pass; the status is that of `ServerError`."""

    status = 8


class Changed(DownloadError):
    """It is another version by now; ``names`` are the members that changed, as far as is known."""

    status = 9

    def __init__(self, text: str, names: Sequence[str] = ()) -> None:
        super().__init__(text)
        self.names = tuple(names)


class Stopped(DownloadError):
    """The download was stopped, and can be continued."""

    status = 130

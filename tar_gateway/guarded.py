"""An application whose own failures no server takes for a client's leaving."""

import errno
from collections.abc import Callable, Iterable, Iterator
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from gunicorn.http.errors import NoMoreData, ParseException
from gunicorn.http.wsgi import FileWrapper

from tar_gateway.errors import BrokenOff

# What an application passes on when its client has left, or has not sent all that it promised.
_CLIENTS_DOING = (ConnectionError, NoMoreData)


class Guarded:
    """Runs ``application``; ``log`` is given a line and finds the exception where it is handled.

    gunicorn takes every OSError for the client's doing: here it becomes a 500. And behind an
    answer that breaks off gunicorn lingers in its thread: here that looks as if the client had
    left, and ends at once. A body that is malformed is no failure of the application's.
    """

    def __init__(self, application: WSGIApplication, log: Callable[[str], None]) -> None:
        self._application = application
        self._log = log

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        try:
            blocks = self._application(environ, start_response)
        except _CLIENTS_DOING:
            raise
        except OSError as error:
            raise RuntimeError("the application failed") from error
        if isinstance(blocks, FileWrapper):  # gunicorn sends files by itself
            return blocks
        return _Blocks(blocks, self._log)


class _Blocks:
    """The blocks of an application's answer; see `Guarded`."""

    def __init__(self, blocks: Iterable[bytes], log: Callable[[str], None]) -> None:
        self._blocks = blocks
        self._log = log

    def __iter__(self) -> Iterator[bytes]:
        begun = False
        try:
            for block in self._blocks:
                yield block
                begun = True
        except _CLIENTS_DOING:
            raise
        except Exception as error:
            if begun:
                # The one was told where it was raised; the other is the client's doing.
                if not isinstance(error, BrokenOff | ParseException):
                    self._log("The answer broke off")
                raise BrokenPipeError(errno.EPIPE, "the answer broke off") from error
            if isinstance(error, ParseException):  # the worker refuses the request
                raise
            raise RuntimeError("the application failed") from error

    def close(self) -> None:
        if hasattr(self._blocks, "close"):
            self._blocks.close()

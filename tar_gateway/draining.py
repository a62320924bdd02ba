"""Whether this service is being taken out of use, known to all processes of one gunicorn.

A drained gateway still takes requests, but calls itself not ready, so that what stands in
front sends no more of them; it is stopped after that.
"""

import mmap
import signal

# A real-time signal: gunicorn and servers like it use none of those.
SIGNAL = signal.SIGRTMIN if hasattr(signal, "SIGRTMIN") else None

# One byte that a process shares with those it forks, whichever of them is told.
_drained = mmap.mmap(-1, 1)


def begin(*_: object) -> None:
    """Call the service drained, from now until it ends. Serves as a signal's handler."""
    _drained[0] = 1


def is_draining() -> bool:
    """Tell whether it is."""
    return bool(_drained[0])

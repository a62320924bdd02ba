"""Whether this service is being taken out of use, known to all processes of one gunicorn.

A drained gateway still takes requests, but calls itself not ready, so that what stands in
front sends no more of them; it is stopped after that.
"""

import mmap
import os
import re
import signal
from pathlib import Path

from tar_gateway.errors import TarGatewayError

# A real-time signal, Linux's first: gunicorn and servers like it use none of those.
SIGNAL = getattr(signal, "SIGRTMIN", None)

# One byte that a process shares with those it forks, whichever of them is told.
_drained = mmap.mmap(-1, 1)


class NotDrained(TarGatewayError):
    """The process can't be drained; the text says why."""


def begin(*_: object) -> None:
    """Call the service drained, from now until it ends. Serves as a signal's handler."""
    _drained[0] = 1


def is_draining() -> bool:
    """Return whether it is."""
    return bool(_drained[0])


def drain(pid: int) -> None:
    """Tell a gateway's gunicorn, by its process id, to `begin`. Raise `NotDrained`."""
    if SIGNAL is None:
        raise NotDrained("draining needs Linux's real-time signals")
    try:
        status = Path(f"/proc/{pid}/status").read_text("ascii", "replace")
    except OSError as error:
        raise NotDrained(f"there is no process {pid}") from error
    caught = re.search(r"^SigCgt:\s*([0-9a-f]+)", status, re.MULTILINE)
    # A process that does not wait for this signal would be ended by it.
    if caught is None or not int(caught[1], 16) >> (SIGNAL - 1) & 1:
        raise NotDrained(f"process {pid} is not a gateway run by gunicorn")
    try:
        os.kill(pid, SIGNAL)
    except OSError as error:
        raise NotDrained(f"process {pid} can't be signalled: {error.strerror}") from error

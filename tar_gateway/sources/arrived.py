"""How much has come on a connection, so that a read is made no larger than what it gives.

Python makes room for all of a read's limit, and cuts off what stayed empty. glibc keeps the cut-off
end for the thread, where it is of a kilobyte or less, and from then on it stands in the way of
the next large block: a worker grew by some MiB with the length of a single download. A block
that is made in its own size leaves nothing to cut.
"""

import socket
import ssl

try:
    from fcntl import ioctl
    from termios import FIONREAD
except ImportError:  # another system, with another allocator
    ioctl = None  # type: ignore[assignment]

_NUMBER = bytes(4)  # room for a C int


def arrived(wire: socket.socket, limit: int) -> int:
    """Wait until something is there, and give its length: at least 1, at most ``limit``, bytes.

    At the connection's end it is 1, too: a read of so much tells. Where encryption hides how
    much it is, nothing is waited for. Raises `OSError` as a read would, `TimeoutError` included.
    """
    if ioctl is None or isinstance(wire, ssl.SSLSocket):
        return limit
    if not (count := _count(wire)):
        wire.recv(1, socket.MSG_PEEK)
        count = _count(wire)
    return max(1, min(count, limit))


def _count(wire: socket.socket) -> int:
    return int.from_bytes(ioctl(wire, FIONREAD, _NUMBER), "little")

"""Reading all of something that must be known whole: a manifest, or a list of files."""

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from tar_gateway.delivery.pace import Pace, PaceMeter
from tar_gateway.errors import Cancelled, SourceError, TooSlow
from tar_gateway.sources.wire.cancellation import Cancellation
from tar_gateway.sources.wire.response import Content

_READ_SIZE = 64 * 1024


def blocks_of(content: Content) -> Iterator[bytes]:
    """Return a content's blocks as they come."""
    return iter(lambda: content.read(_READ_SIZE), b"")


def read_whole(
    blocks: Iterable[bytes], *, limit: int, deadline: float, pace: Pace | None = None
) -> bytes:
    """Join blocks, as far as shows whether they are longer than ``limit`` bytes.

    ``deadline`` is a `time.monotonic` moment, looked at between blocks; see `ended_at`. ``pace``
    is the one to hold, where the blocks hold none themselves. Raise `TooSlow` where either is
    missed.
    """
    meter = PaceMeter(pace) if pace else None
    parts, length = [], 0
    before = time.monotonic()
    for block in blocks:
        now = time.monotonic()
        if now > deadline:
            raise _late()
        if meter is not None:
            # Judged by what came before this block: had it been the end, all would be there.
            if meter.is_over:
                if not meter.is_kept:
                    raise TooSlow("it comes too slowly")
                meter.begin()
            meter.add(now - before, len(block))
        parts.append(block)
        length += len(block)
        if length > limit:
            break
        before = now
    return b"".join(parts)


@contextmanager
def ended_at(deadline: float, cancellation: Cancellation) -> Iterator[None]:
    """End what waits in this context at the deadline, and raise `TooSlow` in its place.

    ``cancellation`` is what it waits by, and no one else's: it is cancelled then.
    """
    timer = threading.Timer(max(0, deadline - time.monotonic()), cancellation.cancel)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (Cancelled, SourceError) as error:
        if time.monotonic() < deadline or isinstance(error, TooSlow):
            raise
        raise _late() from error
    finally:
        timer.cancel()


def _late() -> TooSlow:
    return TooSlow("it was not there in time")

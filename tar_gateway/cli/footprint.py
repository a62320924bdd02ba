"""What one process takes of its machine at the most, worked out of its settings.

Limits of memory and tasks in `deploy/` are sums of these, and ``tar-gateway check`` prints them. A
limit that is lower ends the process under load, with all of its downloads.
"""

from dataclasses import dataclass

from tar_gateway.delivery.fetch import LARGEST
from tar_gateway.delivery.reread import AT_ONCE
from tar_gateway.server.startup import SPARE_THREADS, WAITING
from tar_gateway.settings import Settings

_KIB, _MIB = 1024, 1024 * 1024

# Bytes of a process that has served a download: Python, the libraries and the code.
_IDLE = 64 * _MIB

# Bytes of one download besides its plan and its list: the block being sent and the one being read,
# its thread's stack, and what the kernel holds in the sockets to the client and the upstream.
_DOWNLOAD = 2 * LARGEST + 512 * _KIB

# What one adds that is compressed: the blocks ahead, and the compressor.
_COMPRESSED = 2 * LARGEST + 1536 * _KIB

# Bytes of one member in a plan: its stat, and its place in the archive.
_MEMBER = _KIB

# Bytes of one member whose checksums are remembered.
_REMEMBERED = 256

# Bytes of all requests that are not whole yet: what `worker` allows.
INCOMING = 64 * _MIB

# Threads of a process's own, and descriptors: the listening sockets, logs, and what watches.
_OWN_THREADS = 16
_OWN_DESCRIPTORS = 100


@dataclass(frozen=True, slots=True)
class Footprint:
    """The most that one process takes.

    ``memory`` and ``disk`` are in bytes, the latter of the temporary directory: where that is a
    file system in memory, both are memory. ``tasks`` counts threads.
    """

    memory: int
    disk: int
    tasks: int
    descriptors: int


def footprint(settings: Settings) -> Footprint:
    """Work out what a process with these settings takes at the most."""
    # A list stands in memory as it came, and once more as the values made of it.
    plan = settings.max_members * _MEMBER
    download = _DOWNLOAD + _COMPRESSED + 2 * settings.max_body + plan
    remembered = plan if settings.plan_memory else 0
    return Footprint(
        memory=_IDLE
        + settings.max_downloads * download
        + remembered
        + settings.checksum_memory * _REMEMBERED
        + settings.fetch_ahead_total
        + INCOMING,
        disk=settings.spool_limit,
        # A compressed download has two.
        tasks=2 * settings.max_downloads
        + SPARE_THREADS
        + settings.fetch_parallel
        + AT_ONCE
        + _OWN_THREADS,
        # A download's connections to the client and the upstream, and its file of the spool.
        descriptors=3 * settings.max_downloads
        + settings.fetch_parallel
        + SPARE_THREADS
        + WAITING
        + _OWN_DESCRIPTORS,
    )

"""Lists of members that are files of the source themselves: long, and still resumable."""

from contextlib import closing

from tar_gateway.bundle import Requested
from tar_gateway.errors import ContentTooLarge, MembersFailed, SourceError
from tar_gateway.planner import member_fault
from tar_gateway.retry import Retry
from tar_gateway.sources import Caller, Content, Permit, Source, Unsized

_READ_SIZE = 64 * 1024


def read_manifest(
    source: Source,
    manifest: Requested,
    caller: Caller,
    *,
    limit: int,
    retry: Retry,
    permit: Permit | None,
) -> bytes:
    """Read a manifest of at most ``limit`` bytes, as any member and with the caller's rights.

    ``permit`` is asked first, where there is one.
    Raises `MembersFailed` where it can't be had, `ContentTooLarge` where it is too long, and
    `Cancelled` once the caller's cancellation is cancelled.
    """
    cancellation = caller.cancellation

    def read() -> bytes:
        with closing(_open(source, manifest.reference, caller, limit)) as content:
            return _read_all(content, limit)

    try:
        if permit is not None:
            retry.call(lambda: permit(manifest.reference, caller), stopped=cancellation.event)
        return retry.call(read, tally=caller.tally, stopped=cancellation.event)
    except SourceError as error:
        raise MembersFailed([member_fault(manifest, error)]) from error


def _open(source: Source, path: str, caller: Caller, limit: int) -> Content:
    stat = source.stat(path, caller)
    if isinstance(stat, Unsized):
        return stat.content
    if stat.size > limit:
        raise _too_large(limit)
    return source.open(path, 0, stat.size, stat, caller)


def _read_all(content: Content, limit: int) -> bytes:
    blocks, length = [], 0
    while block := content.read(_READ_SIZE):
        blocks.append(block)
        length += len(block)
        if length > limit:
            raise _too_large(limit)
    return b"".join(blocks)


def _too_large(limit: int) -> ContentTooLarge:
    return ContentTooLarge(f"the manifest is larger than the {limit} bytes that are allowed")

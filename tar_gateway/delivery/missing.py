"""Members that a bundle may do without, and the report that names them in the archive."""

from collections.abc import Iterable, Sequence
from hashlib import sha256
from zlib import crc32

from tar_gateway.archive.bundle import Entry, free_name
from tar_gateway.errors import MemberFault, SourceError
from tar_gateway.http.validators import Validator
from tar_gateway.sources import Stat

_REPORT = "MISSING.txt"


def is_missing(error: SourceError) -> bool:
    """Return whether an error says that a member is not there, or not for this caller.

    The refusal of the service's own credentials says nothing of the caller, and a caller that
    has to log in first may have the member after all.
    """
    return error.status in {403, 404} and not (error.of_service or error.login)


def report_of(
    missing: Sequence[MemberFault], folder: str, names: Iterable[str]
) -> tuple[Entry, Stat]:
    """Return the member that names what is missing, a line each, with its stat.

    It is called so that it is none of ``names``. The same faults make the same bytes, and its
    validator covers them.
    """
    lines = "".join(f"{fault.name}: {fault.reason}\n" for fault in missing)
    text = lines.encode("utf-8")
    name = free_name(folder + _REPORT, names)
    entry = Entry("", name, size=len(text), checksum=crc32(text), literal=text)
    return entry, Stat(len(text), 0, Validator.etag(sha256(text).hexdigest(), strong=True))

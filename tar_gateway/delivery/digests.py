"""The member that lists the digests of all others, for bundles that ask for it."""

from collections.abc import Sequence

from tar_gateway.archive.bundle import Entry, free_name
from tar_gateway.archive.sums import Sums
from tar_gateway.http.validators import Validator
from tar_gateway.sources import Stat

_LIST = "SHA256SUMS"

# Its content follows from the others', whose validators an archive's tag covers as well.
_VALIDATOR = Validator.etag("sha256sums", strong=True)


def digests_of(members: Sequence[Entry], stats: Sequence[Stat], folder: str) -> tuple[Entry, Stat]:
    """Return the member that lists the digests of these, with its stat.

    It is called so that it is none of them. Directories are not listed.
    """
    names = [member.name for member in members]
    literals = {
        index: member.literal or b""
        for index, (member, stat) in enumerate(zip(members, stats, strict=True))
        if member.literal is not None or not stat.size
    }
    sums = Sums(names, folder, literals)
    entry = Entry("", free_name(folder + _LIST, names), size=sums.size, generated=sums)
    return entry, Stat(sums.size, 0, _VALIDATOR)

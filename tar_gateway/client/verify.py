"""Files compared with the checksums that the archive has for them."""

import os
import zipfile
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256

from tar_gateway.client.events import Listener, MemberVerified
from tar_gateway.client.failures import BrokenArchive, WrongUse
from tar_gateway.client.plan import Plan
from tar_gateway.http.paths import shown

_BLOCK = 1024 * 1024
_LARGEST_LIST = 256 * 1024 * 1024

Reader = Callable[[int], Iterator[bytes]]
"""Return the bytes of a member."""


def sums_member(plan: Plan) -> int | None:
    """Return which member holds the checksums: the last one that is called so."""
    named = [i for i, m in enumerate(plan.members) if _is_sums(m.name)]
    return named[-1] if named else None


def check_is_verifiable(plan: Plan | None, *, is_extraction: bool) -> None:
    """Raise `WrongUse` where there is nothing to compare with, before anything is fetched."""
    if plan is None:
        raise WrongUse("this server has no checksums to verify")
    if plan.format == "zip" and not is_extraction:
        return
    if not plan.is_tar:
        raise WrongUse(f"the members of a {plan.format} can't be verified: extract it")
    if sums_member(plan) is None:
        raise WrongUse("the archive has no checksums: ask for them by checksums=sha256 in its URL")


def verify(plan: Plan, taken: Iterable[int], read: Reader, listener: Listener) -> int:
    """Compare the members with the archive's ``SHA256SUMS``; return how many are right.

    Raise `BrokenArchive` for a member that is not what it says.
    """
    index = sums_member(plan)
    assert index is not None
    if plan.members[index].size > _LARGEST_LIST:
        raise BrokenArchive("the list of checksums is too long")
    sums = _read_sums(b"".join(read(index)))
    folder = plan.members[index].name.rpartition("/")[0]
    wrong, right = [], 0
    for each in taken:
        member = plan.members[each]
        if each == index or member.is_directory:
            continue
        digest = sha256()
        for block in read(each):
            digest.update(block)
        name = member.name.removeprefix(f"{folder}/" if folder else "")
        is_right = digest.hexdigest() in {sums.get(name), sums.get(member.name)}
        listener(MemberVerified(member.name, is_right))
        right += is_right
        if not is_right:
            wrong.append(member.name)
    if wrong:
        raise BrokenArchive(
            f"{len(wrong)} of {right + len(wrong)} files do not have their checksum: "
            + ", ".join(map(shown, wrong[:10]))
        )
    return right


def blocks(fd: int, start: int = 0, length: int | None = None) -> Iterator[bytes]:
    """Return bytes of a file. Raise `OSError`."""
    left = os.fstat(fd).st_size - start if length is None else length
    while left > 0:
        block = os.pread(fd, min(left, _BLOCK), start)
        if not block:
            return
        yield block
        start, left = start + len(block), left - len(block)


def check_zip(fd: int, plan: Plan, *, contents: bool) -> None:
    """Compare a zip's directory with the plan, and with ``contents`` each file's CRC-32.

    Raise `BrokenArchive`.
    """
    with os.fdopen(os.dup(fd), "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                listed = [(i.filename.removeprefix("./"), i.file_size) for i in archive.infolist()]
                if listed != [(member.name, member.size) for member in plan.members]:
                    raise BrokenArchive("the archive is broken: it lists others than its plan")
                if contents and (wrong := archive.testzip()):
                    raise BrokenArchive(f"{shown(wrong)} does not have its checksum")
        except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
            raise BrokenArchive("the archive is broken: it is no zip") from error


def _is_sums(name: str) -> bool:
    base = name.rpartition("/")[2]
    return base == "SHA256SUMS" or (base.startswith("SHA256SUMS (") and base.endswith(")"))


def _read_sums(data: bytes) -> dict[str, str]:
    """Read lines as ``sha256sum`` writes them; a backslash before one says that it has escapes."""
    sums = {}
    for line in data.decode("utf-8", "replace").splitlines():
        is_escaped = line.startswith("\\")
        digest, mark, name = line[is_escaped:].partition("  ")
        if not mark:
            digest, mark, name = line[is_escaped:].partition(" *")
        if mark:
            sums[name.replace("\\\\", "\\") if is_escaped else name] = digest.lower()
    return sums

"""The checksums that a process remembers of members, by what proves their bytes to be the same."""

import threading
from collections import OrderedDict


class ChecksumMemory:
    """The checksums of ``capacity`` members at most; those not recalled for longest go first.

    It only saves reading: what is not remembered is read again. Safe to use from many threads.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        # The CRC-32, the SHA-256, or one behind the other: by their length.
        self._kept: OrderedDict[bytes, bytes] = OrderedDict()

    def recall(self, key: bytes) -> tuple[int | None, bytes | None]:
        """Return the CRC-32 and the SHA-256 that are remembered, `None` for each that is not."""
        with self._lock:
            kept = self._kept.pop(key, None)
            if kept is None:
                return None, None
            self._kept[key] = kept  # the last to go
        return _read(kept)

    def learn(self, key: bytes, crc: int | None, digest: bytes | None) -> None:
        """Remember a member's checksums, beside what is known of it."""
        if not self._capacity:
            return
        with self._lock:
            known = _read(self._kept.pop(key, b""))
            crc = known[0] if crc is None else crc
            digest = known[1] if digest is None else digest
            self._kept[key] = (b"" if crc is None else crc.to_bytes(4, "little")) + (digest or b"")
            if len(self._kept) > self._capacity:
                self._kept.popitem(last=False)


def _read(kept: bytes) -> tuple[int | None, bytes | None]:
    crc = int.from_bytes(kept[:4], "little") if len(kept) in {4, 36} else None
    return crc, kept[-32:] if len(kept) >= 32 else None

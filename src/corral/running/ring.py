"""The end of what a guest has said on its console, in a file of a fixed size: a number of all bytes so far, and a ring.

It is mapped, so that the guest's process writes there in the jail too, where it makes no call for it.
"""

from __future__ import annotations

import mmap
import os

SIZE = 1 << 20  # bytes that are kept
_HEAD = 8


class Ring:
    """The writer's side; the file at `path` is made anew."""

    def __init__(self, path: str) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(fd, _HEAD + SIZE)
            self._map = mmap.mmap(fd, _HEAD + SIZE)
        finally:
            os.close(fd)
        self._total = 0

    def write(self, data: bytes) -> None:
        kept = data[-SIZE:]
        at = (self._total + len(data) - len(kept)) % SIZE
        first = kept[: SIZE - at]
        self._map[_HEAD + at : _HEAD + at + len(first)] = first
        self._map[_HEAD : _HEAD + len(kept) - len(first)] = kept[len(first) :]
        self._total += len(data)
        self._map[:_HEAD] = self._total.to_bytes(_HEAD, "little")

    def close(self) -> None:
        self._map.close()


def read(path: str) -> bytes:
    """What is kept, also while it is written: the oldest may be half gone by then. Raises OSError."""
    with open(path, "rb") as file:
        content = file.read()
    total = int.from_bytes(content[:_HEAD], "little")
    ring = content[_HEAD:]
    if total <= len(ring):
        return ring[:total]
    at = total % len(ring)
    return ring[at:] + ring[:at]

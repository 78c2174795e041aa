"""What this host keeps of stores that are elsewhere: chunks, so that a next snapshot takes only those it has not, and
the snapshots that guests went on from by URL."""

from __future__ import annotations

import os

from corral.guests import cache, cache_content
from corral.store import chunks
from corral.store.place import Folder

CHUNKS, SNAPSHOTS = "chunks", "snapshots"
VARIABLE, _LIMIT = "CORRAL_CHUNKS_LIMIT", 4 << 30
MOST, MOST_BYTES = 16, 8 << 30  # of snapshots


def limit() -> int:
    """Bytes that chunks may take. Raises ConfigError."""
    from corral.config import parse_size

    text = os.environ.get(VARIABLE)
    return parse_size(text) if text else _LIMIT


class KeptChunks:
    """From any thread. Raises HostError where nothing can be kept."""

    def __init__(self) -> None:
        self._root = cache.folder(CHUNKS, "kept")
        self._limit = limit()
        self._place = Folder(self._root)
        self._grew = False

    def get(self, key: bytes, length: int) -> bytes | None:
        """A chunk that is what its name says; one that is not is removed."""
        name = chunks.name(key)
        try:
            found = chunks.unpack(self._place.read(name, chunks.MOST), key, length)
            os.utime(os.path.join(self._root, name))
            return found
        except FileNotFoundError:
            return None
        except chunks.Damaged:
            self._place.remove(name)
            return None

    def put(self, key: bytes, stored: bytes) -> None:
        self._place.write(chunks.name(key), stored)
        self._grew = True

    def make_room(self) -> None:
        """Those that were used least recently go."""
        if not self._grew:
            return
        files = self._place.files(chunks.FOLDER)
        sizes = {name: _blocks(os.path.join(self._root, name)) for name in files}
        total = sum(sizes.values())
        for name in sorted(files, key=lambda one: files[one]):
            if total <= self._limit:
                break
            self._place.remove(name)
            total -= sizes[name]


def _blocks(path: str) -> int:
    try:
        return os.stat(path).st_blocks * 512
    except FileNotFoundError:  # another process has made room
        return 0


def snapshot_folder(digest: bytes) -> str:
    return cache.folder(SNAPSHOTS, digest.hex()[:32])


def make_room_for_snapshots() -> None:
    """For one more; those in use stay."""
    left = cache_content.entries(SNAPSHOTS)
    left.sort(key=lambda entry: (cache.is_unfinished(entry.name), -os.path.getmtime(entry.path)))
    size = sum(entry.size for entry in left)
    while left and (len(left) >= MOST or size > MOST_BYTES):
        entry = left.pop()
        if cache_content.remove(entry.path):
            size -= entry.size

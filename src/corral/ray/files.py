"""Files that a job's guests need, on each node: used where they are, or fetched from the node that asks."""

from __future__ import annotations

import errno
import hashlib
import os

from corral import user_cache
from corral.errors import HostError
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_BLOCK = 64 << 10  # bytes
PIECE = 16 << 20  # bytes that go through Ray's object store at a time
FOLDER = "fleet-files"


@record(frozen=True)
class FleetFile:
    """`path` on the host that asks, what digest() gives of it, its size in bytes, and the handle of the actor that
    gives it to nodes."""

    path: str
    digest: str
    size: int
    source: Any


class FileSource:
    """An actor on the asking node: gives pieces of files to nodes that lack them. It gives those named, no other."""

    def __init__(self, paths: tuple[str, ...]) -> None:
        self._paths = paths

    def piece(self, path: str, at: int) -> tuple[int, bytes] | None:
        """Where the next bytes that are no hole begin, from `at` on, and some of them; None: there are none."""
        if path not in self._paths:
            raise HostError(f"{path!r} is no file of this job")
        with open(path, "rb") as file:
            start, end = _data(file.fileno(), at)
            return (start, os.pread(file.fileno(), min(PIECE, end - start), start)) if end > start else None


def digest(path: str) -> str:
    """SHA-256 of its size and of each block of 64 KiB that is not all zeros, with where that is: a snapshot is sparse,
    and another file system may have other holes."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        found.update(size.to_bytes(8, "little"))
        at = 0
        while at < size:
            start, end = _data(file.fileno(), at)
            if end <= start:
                break
            for at in range(start // _BLOCK * _BLOCK, end, _BLOCK):
                block = os.pread(file.fileno(), _BLOCK, at)
                if block.strip(b"\0"):
                    found.update(at.to_bytes(8, "little") + block)
            at += _BLOCK
    return found.hexdigest()


def _data(descriptor: int, at: int) -> tuple[int, int]:
    """From where to where a file has bytes that are no hole; two times `at` where it has none behind."""
    try:
        start = os.lseek(descriptor, at, os.SEEK_DATA)
        return start, os.lseek(descriptor, start, os.SEEK_HOLE)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return at, at
        raise


async def here(wanted: FleetFile) -> str:
    """Where the file is on this node, whose content was looked at. Raises HostError for one that is not as it was."""
    import asyncio

    if os.path.isfile(wanted.path) and await asyncio.to_thread(digest, wanted.path) == wanted.digest:
        return wanted.path
    target = os.path.join(user_cache.folder(FOLDER, wanted.digest[:2]), wanted.digest)
    if os.path.isfile(target) and await asyncio.to_thread(digest, target) == wanted.digest:
        return target
    await _fetch(wanted, target)
    return target


async def _fetch(wanted: FleetFile, target: str) -> None:
    import asyncio

    os.makedirs(os.path.dirname(target), 0o700, exist_ok=True)
    temporary = f"{target}.{os.getpid()}"
    try:
        with open(temporary, "xb") as file:
            at = 0
            while at < wanted.size and (piece := await wanted.source.piece.remote(wanted.path, at)):
                start, content = piece
                os.pwrite(file.fileno(), content, start)
                at = start + len(content)
            file.truncate(wanted.size)
        if await asyncio.to_thread(digest, temporary) != wanted.digest:
            raise HostError(f"{wanted.path!r} is not as it was when the job began; begin it again")
        os.replace(temporary, target)
    except OSError as error:
        raise HostError(f"cannot keep {wanted.path!r} on this node: {error.strerror}") from None
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)

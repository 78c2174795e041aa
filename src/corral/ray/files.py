"""Files that a job's guests need, on each node: used where they are, or fetched from the node that asks."""

from __future__ import annotations

import hashlib
import os

from corral import user_cache
from corral.errors import HostError
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PIECE = 16 << 20  # bytes that go through Ray's object store at a time
FOLDER = "fleet-files"


@record(frozen=True)
class FleetFile:
    """`path` on the host that asks, SHA-256 of its content, its size in bytes, and the handle of the actor that gives
    it to nodes."""

    path: str
    digest: str
    size: int
    source: Any


class FileSource:
    """An actor on the asking node: gives pieces of files to nodes that lack them. It gives those named, no other."""

    def __init__(self, paths: tuple[str, ...]) -> None:
        self._paths = paths

    def piece(self, path: str, at: int) -> bytes:
        if path not in self._paths:
            raise HostError(f"{path!r} is no file of this job")
        with open(path, "rb") as file:
            return os.pread(file.fileno(), PIECE, at)


def digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
    os.makedirs(os.path.dirname(target), 0o700, exist_ok=True)
    temporary = f"{target}.{os.getpid()}"
    found = hashlib.sha256()
    try:
        with open(temporary, "xb") as file:
            for at in range(0, wanted.size, PIECE):
                piece = await wanted.source.piece.remote(wanted.path, at)
                found.update(piece)
                file.write(piece)
        if found.hexdigest() != wanted.digest:
            raise HostError(f"{wanted.path!r} is not as it was when the job began; begin it again")
        os.replace(temporary, target)
    except OSError as error:
        raise HostError(f"cannot keep {wanted.path!r} on this node: {error.strerror}") from None
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)

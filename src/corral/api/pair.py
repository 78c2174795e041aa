"""A snapshot as Firecracker's clients name it, by two paths: the one of memory is a snapshot of Corral's, whole; the
other is a document in JSON that says which devices the guest had, and which memory goes with it."""

from __future__ import annotations

import json
import os

from corral.api.fault import Fault
from corral.errors import HostError
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FORMAT = "corral snapshot for Firecracker's API"
VERSION = 1
MOST = 1 << 20  # bytes of the document
_MAGIC, _DIGEST = b"CORRALSN", slice(16, 48)  # of a snapshot's head (snapshot/file.py)


@record(frozen=True)
class SnapshotPair:
    """`memory` is the path of Corral's snapshot; `settings` are as GET /vm/config has them, empty of one that was made
    by `corral snapshot`."""

    memory: str
    settings: dict[str, Any]


def check_place(path: str) -> None:
    """Raises Fault where something else is than a document of an earlier snapshot, or an empty file."""
    if os.path.lexists(path) and (not os.path.isfile(path) or (os.path.getsize(path) and _document(path) is None)):
        raise Fault(f"There is another file at snapshot_path, which is kept: {path}")


def write(path: str, memory: str, settings: dict[str, Any]) -> None:
    """Publishes the document. Raises HostError."""
    text = {
        "format": FORMAT,
        "version": VERSION,
        "memory": os.path.abspath(memory),
        "digest": _digest(memory),
        "block_devices": settings.get("drives", []),
        "settings": settings,
    }
    beside = f"{path}.unfinished-{os.urandom(8).hex()}"
    try:
        with open(beside, "x", encoding="utf-8") as file:
            json.dump(text, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        if os.path.lexists(beside):
            os.unlink(beside)
        raise HostError(f"cannot write {path!r}: {error.strerror}; see who may write there") from None


def read(path: str, memory: str | None) -> SnapshotPair:
    """`memory`: as the client names it. Raises Fault for what does not go together, or is none."""
    if _digest(path) is not None:
        return SnapshotPair(path, {})
    document = _document(path)
    if document is None:
        raise Fault(f"This is no snapshot of Corral's: {path}")
    found = memory or document["memory"]
    digest = _digest(found)
    if digest is None:
        raise Fault(f"This is no memory of a snapshot of Corral's: {found}")
    if digest != document["digest"]:
        raise Fault(f"The memory file is not that of this snapshot: {found}")
    return SnapshotPair(found, document["settings"])


def _digest(path: str) -> str | None:
    """By what a snapshot is known; None: it is none. Raises Fault for what cannot be read."""
    try:
        if not os.path.isfile(path):
            raise Fault(f"There is no such file: {path}")
        with open(path, "rb") as file:
            head = file.read(_DIGEST.stop)
    except (OSError, ValueError) as error:
        raise Fault(f"It cannot be read: {getattr(error, 'strerror', error)}: {path}") from None
    return head[_DIGEST].hex() if head.startswith(_MAGIC) and len(head) == _DIGEST.stop else None


def _document(path: str) -> dict[str, Any] | None:
    try:
        with open(path, "rb") as file:
            found = json.loads(file.read(MOST))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or found.get("format") != FORMAT or found.get("version") != VERSION:
        return None
    good = isinstance(found.get("memory"), str) and isinstance(found.get("settings"), dict)
    return found if good and isinstance(found.get("digest"), str) else None

"""A guest that runs in a process of its own, into a file: that process is handed the file, for it can open none."""

from __future__ import annotations

from corral.running import control, place
from corral.snapshot.file import Publishing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.running.place import Guest

PATIENCE = 120.0  # seconds


def save(guest: Guest, path: str, patience: float = PATIENCE) -> int:
    """Publishes a snapshot of it at `path`, and it goes on; returns how many bytes of RAM and layers are in it. Raises
    ConfigError for a place where something else is, HostError, GuestTimeout."""
    with Publishing(path) as fd:
        return save_into(guest, fd, patience)


def save_into(guest: Guest, fd: int, patience: float = PATIENCE) -> int:
    """The same into an empty file."""
    return int(control.ask(guest.path(place.CONTROL), "snapshot", patience, fd))

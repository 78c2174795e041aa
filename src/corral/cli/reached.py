"""A connection to a guest's agent, for a command that a person waits for."""

from __future__ import annotations

import time

from corral.agent.connection import Connection
from corral.errors import CorralError, GuestTimeout
from corral.running import control, place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.running.place import RunningGuest

SOON = 2.0  # seconds after which it is asked why nothing answers


def connected(guest: RunningGuest, until: float) -> Connection:
    """Raises AgentError, GuestTimeout: when time.monotonic() is `until`, or soon where the guest is paused."""
    try:
        return Connection(guest.path(place.VSOCK), min(until, time.monotonic() + SOON))
    except GuestTimeout:
        if _is_paused(guest):
            raise GuestTimeout(
                f"the guest {guest.name!r} is paused; corral resume {guest.name} lets it go on"
            ) from None
        if time.monotonic() >= until:
            raise
    return Connection(guest.path(place.VSOCK), until)


def _is_paused(guest: RunningGuest) -> bool:
    try:
        return control.ask(guest.path(place.CONTROL), "state", SOON) == "paused"
    except CorralError:
        return False

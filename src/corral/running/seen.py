"""A guest that has a name, as if its memory were here: read by its control socket (looking.py is the other end)."""

from __future__ import annotations

import binascii
import json
import os

from corral.errors import HostError
from corral.introspect import core_dump, core_file
from corral.introspect.subject import NAMES, Subject
from corral.memory import GuestMemoryError
from corral.running import control, place
from corral.running.looking import CORE, LOOK, MEMORY, MOST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.introspect.subject import Values
    from corral.running.place import RunningGuest

MOST_VCPUS, MOST_REGIONS = 1024, 16
PATIENCE = 120.0  # seconds, for a core file


class NamedMemory:
    """A guest's RAM, read by its control socket."""

    def __init__(self, path: str, regions: list[tuple[int, int]]) -> None:
        self._path, self.regions = path, regions

    def offset(self, gpa: int, length: int) -> int:
        at = 0
        for start, size in self.regions:
            if start <= gpa and 0 <= length <= start + size - gpa:
                return at + gpa - start
            at += size
        raise GuestMemoryError(f"{length} bytes at guest physical address {gpa:#x} are not all RAM")

    def read(self, gpa: int, length: int) -> bytes:
        """Raises GuestMemoryError, HostError, GuestTimeout."""
        self.offset(gpa, length)
        parts = []
        for at in range(gpa, gpa + length, MOST):
            size = min(MOST, gpa + length - at)
            said = control.ask(self._path, f"{MEMORY.decode()} {at} {size}")
            try:
                data = binascii.a2b_base64(said)
            except ValueError:
                data = b""
            if len(data) != size:
                raise _senseless()
            parts.append(data)
        return b"".join(parts)


def of(guest: RunningGuest) -> Subject:
    """A guest that runs, as it is at this moment; its memory is read when it is asked for. Raises HostError,
    GuestTimeout."""
    path = guest.path(place.CONTROL)
    told = _json(control.ask(path, LOOK.decode()))
    try:
        regions = [(int(start), int(size)) for start, size in told["regions"]]
        if not 0 < len(regions) <= MOST_REGIONS or not isinstance(told["kernel"], str):
            raise ValueError
    except (ValueError, TypeError, KeyError):
        raise _senseless() from None
    return Subject(NamedMemory(path, regions), _vcpus(told), told["kernel"])


def save_core(guest: RunningGuest, fd: int, at: int, patience: float = PATIENCE) -> tuple[tuple[Values, ...], int]:
    """Its RAM into the file `fd` at `at`; its registers at that moment, and how many bytes were written. Raises
    HostError, GuestTimeout."""
    told = _json(control.ask(guest.path(place.CONTROL), f"{CORE.decode()} {at}", patience, fd))
    written = told.get("written")
    if not isinstance(written, int):
        raise _senseless()
    return _vcpus(told), written


def _json(text: str) -> dict[str, Any]:
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        raise _senseless() from None
    if not isinstance(told, dict):
        raise _senseless()
    return told


def _vcpus(told: dict[str, Any]) -> tuple[Values, ...]:
    found = told.get("vcpus")
    if not isinstance(found, list) or len(found) > MOST_VCPUS:
        raise _senseless()
    try:
        return tuple({name: int(one[name]) for name in NAMES} for one in found)
    except (KeyError, TypeError, ValueError):
        raise _senseless() from None


def _senseless() -> HostError:
    return HostError("the guest's process answers what makes no sense; is it of another version of Corral?")


def write_core(guest: RunningGuest, fd: int) -> int:
    """A core file into an empty one; returns how many bytes of RAM are in it. Raises HostError, GuestTimeout,
    OSError."""
    now = of(guest)
    kernel = core_dump.kernel_of(now)
    at = len(core_file.head(now.vcpus, now.memory.regions, kernel))
    vcpus, written = save_core(guest, fd, at)
    os.pwrite(fd, core_file.head(vcpus, now.memory.regions, kernel), 0)
    return written

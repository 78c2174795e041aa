"""What a guest that has a name shows of itself to other commands, by words of its control socket (control.py): `look`,
its registers and where it has RAM; `memory`, some of it; and `core` with a descriptor, its RAM into a file. All only
read. A Seen is the other end: a guest's memory as if it were here."""

from __future__ import annotations

import binascii
import json
import os

from corral.errors import ConfigError, HostError
from corral.introspect import core_dump, core_file, subject
from corral.introspect.subject import NAMES, Subject
from corral.memory import PAGE, GuestMemoryError
from corral.running import control, place
from corral.snapshot.ram import RamJob

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.introspect.subject import Values
    from corral.machine import Machine
    from corral.running.control import Control
    from corral.running.place import RunningGuest

LOOK, MEMORY, CORE = b"look", b"memory", b"core"
MOST = 1 << 16  # bytes of memory at a time: the console waits for it
MOST_VCPUS, MOST_REGIONS = 1024, 16
PATIENCE = 120.0  # seconds, for a core file


class Looked:
    """The guest's side. `words` and `file_words` are for control.Control; their functions raise CorralError."""

    def __init__(self, machine: Machine, control: Control) -> None:
        self._machine, self._control = machine, control
        self.words = {LOOK: self._look, MEMORY: self._memory}
        self.file_words = {CORE: self._core}

    def _look(self, _: bytes) -> str:
        machine = self._machine
        return json.dumps(
            {"regions": machine.memory.regions, "vcpus": self._registers(), "kernel": machine.config.kernel}
        )

    def _registers(self) -> tuple[Values, ...]:
        self._machine.pause()
        try:
            return subject.of_vcpus(self._machine)
        finally:
            self._go_on()

    def _go_on(self) -> None:
        if not self._control.paused:
            self._machine.resume()

    def _memory(self, text: bytes) -> str:
        gpa, length = _numbers(text, 2)
        if not 0 < length <= MOST:
            raise ConfigError(f"{length} bytes of memory at a time; at least 1, at most {MOST}")
        return binascii.b2a_base64(self._machine.memory.read(gpa, length), newline=False).decode()

    def _core(self, text: bytes, fd: int) -> str:
        """The RAM into a file, at this offset. The answer is as that of `look`, of the same moment, and how many bytes
        were written."""
        (at,) = _numbers(text, 1)
        if at % PAGE:
            raise ConfigError(f"RAM begins at a multiple of {PAGE} bytes in a core file")
        machine = self._machine
        machine.pause()
        try:
            vcpus = subject.of_vcpus(machine)
            os.ftruncate(fd, at + machine.memory.size)
            written = RamJob(fd, at, machine.memory).save()
        finally:
            self._go_on()
        return json.dumps({"vcpus": vcpus, "written": written})


def _numbers(text: bytes, count: int) -> list[int]:
    words = text.split()
    if len(words) != count or not all(word.isdigit() and len(word) < 20 for word in words):
        raise ConfigError(f"{count} decimal numbers are wanted")
    return [int(word) for word in words]


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


def seen(guest: RunningGuest) -> Subject:
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
    now = seen(guest)
    kernel = core_dump.kernel_of(now)
    at = len(core_file.head(now.vcpus, now.memory.regions, kernel))
    vcpus, written = save_core(guest, fd, at)
    os.pwrite(fd, core_file.head(vcpus, now.memory.regions, kernel), 0)
    return written

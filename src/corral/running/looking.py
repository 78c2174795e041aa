"""What a guest that has a name shows of itself to other commands, by words of its control socket (control.py): `look`,
its registers and where it has RAM; `memory`, some of it; and `core` with a descriptor, its RAM into a file. All only
read. seen.py is the other end."""

from __future__ import annotations

import binascii
import json
import os

from corral.errors import ConfigError
from corral.introspect import subject
from corral.memory import PAGE
from corral.snapshot.ram import RamJob

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.introspect.subject import Values
    from corral.machine import Machine
    from corral.running.control import Control

LOOK, MEMORY, CORE = b"look", b"memory", b"core"
MOST = 1 << 16  # bytes of memory at a time: the console waits for it


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

"""A scripted machine's guest by what its kernel means (docs/research/introspection.md)."""

from __future__ import annotations

from corral.machine import Machine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.introspect.linux import Linux
    from corral.introspect.subject import Subject


class Introspected(Machine):
    """Part of ScriptedMachine (machine.py)."""

    _linux: Linux | None = None

    if TYPE_CHECKING:

        @property
        def running(self) -> bool: ...

    @property
    def linux(self) -> Linux:
        """The guest's Linux: tasks(), modules(), dmesg(), files(), sockets(), of a guest that runs or is paused."""
        if self._linux is None:
            from corral.introspect.linux import Linux

            self._linux = Linux(self._memory_alone)
        self.require_open()
        return self._linux

    def drgn(self, vmlinux: str | None = None) -> Any:
        """A drgn.Program over the guest, to be used until close(): `vm.drgn()["init_task"].comm`. `vmlinux`: a file
        with the kernel's debug information; else that of corral kernel debuginfo. Raises NotLinux, HostError."""
        from corral.introspect import drgn_program

        return drgn_program.program(self.linux.kernel, vmlinux)

    def dump(self, path: str) -> int:
        """Writes the guest to an ELF core file, for crash and drgn; it runs on if it runs. Returns how many bytes of
        RAM are in it. Raises ConfigError, HostError."""
        from corral.introspect import core_dump, subject

        self.require_open()
        ran = self.running
        self.pause()
        try:
            return core_dump.write(path, subject.Subject(self.memory, subject.of_vcpus(self), self.config.kernel))
        finally:
            if ran:
                self.resume()

    def _memory_alone(self) -> Subject:
        from corral.introspect.subject import Subject

        self.require_open()
        return Subject(self.memory, (), self.config.kernel)

"""A guest as a report looks at it: one vCPU's registers, read once, memory by its page tables, and symbols."""

from __future__ import annotations

from corral.errors import CorralError
from corral.memory import PAGE, GuestMemoryError
from corral.toolkit.page_walk import translate
from corral.toolkit.register_access import code_bits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.machine import Machine
    from corral.toolkit.symbols import Symbols

MOST_SCANNED = 1024  # bytes of the stack


class Guest:
    """The machine has stopped, or is paused, and is not closed. Nothing in its memory is believed."""

    def __init__(self, machine: Machine, index: int) -> None:
        self.machine, self.index = machine, index
        self.vcpu = machine.vcpus[index]
        self.memory = machine.memory
        self.regs, self.sregs = self.vcpu.get_regs(), self.vcpu.get_sregs()
        self.bits = code_bits(self.sregs)
        self.rip = self._linear(self.regs.rip, self.sregs.cs.base)
        self.rsp = self._linear(self.regs.rsp, self.sregs.ss.base)
        self.symbols = _symbols(machine.config.kernel)

    @property
    def was_reset(self) -> bool:
        """The registers are those of a reset: some KVM have no others to show after a triple fault."""
        return bool(self.regs.rip == 0xFFF0 and self.sregs.cs.base == 0xFFFF0000)

    @property
    def mode(self) -> str:
        if self.bits == 64:
            return "64-bit"
        if not self.sregs.cr0 & 1:
            return "real mode"
        return f"{self.bits}-bit protected"

    def name(self, address: int) -> str:
        """`function+0x1f`, "" where there is no function."""
        return self.symbols.text(address) if self.symbols and self.symbols.find(address) else ""

    def translate(self, address: int) -> int | None:
        return translate(self.memory, self.sregs, address)

    def read(self, address: int, length: int) -> bytes:
        """As many bytes as are mapped to RAM without a gap."""
        data = b""
        while len(data) < length:
            at = address + len(data)
            gpa = self.translate(at) if at < 1 << 64 else None
            if gpa is None:
                break
            try:
                data += self.memory.read(gpa, min(length - len(data), PAGE - at % PAGE))
            except GuestMemoryError:
                break
        return data

    def _linear(self, offset: int, base: int) -> int:
        return int(offset) if self.bits == 64 else int(offset + base) & 0xFFFFFFFF


def _symbols(kernel: str) -> Symbols | None:
    """A report without names is better than none."""
    from corral.toolkit.symbols import of_kernel

    try:
        return of_kernel(kernel)
    except CorralError:
        return None

"""A call that a probe tells of, while its vCPU is out of the guest."""

from __future__ import annotations

from functools import cached_property

from corral.arch.x86_64 import page_walk
from corral.debug.probes.place import ARGUMENTS
from corral.memory import PAGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.kvm.vcpu import Vcpu
    from corral.memory import GuestMemory
    from corral.native import CData

MOST_READ = 1 << 16  # bytes at a time


class Hit:
    """`time` is the host's monotonic clock, ns; `index` the vCPU's number. The registers are those at the function's
    beginning, but for RSP and RIP."""

    def __init__(self, memory: GuestMemory, vcpu: Vcpu, index: int, regs: CData, time: int) -> None:
        self.vcpu, self.index, self.regs, self.time = vcpu, index, regs, time
        self._memory = memory
        self._pages: dict[int, int | None] = {}

    @cached_property
    def sregs(self) -> CData:
        """struct kvm_sregs."""
        return self.vcpu.get_sregs()

    @property
    def arguments(self) -> tuple[int, ...]:
        """The six of registers, unsigned; a function may have fewer."""
        return tuple(int(getattr(self.regs, name)) for name in ARGUMENTS)

    def translate(self, address: int) -> int | None:
        """A guest physical address, None where there is no RAM."""
        page = address - address % PAGE
        if page not in self._pages:
            self._pages[page] = page_walk.translate(self._memory, self.sregs, page)
        gpa = self._pages[page]
        return None if gpa is None else gpa + address % PAGE

    def read(self, address: int, length: int) -> bytes:
        """As much as is there without a gap."""
        data, length = b"", min(length, MOST_READ, (1 << 64) - address)
        while len(data) < length:
            at = address + len(data)
            gpa = self.translate(at)
            if gpa is None:
                break
            data += self._memory.read(gpa, min(length - len(data), PAGE - at % PAGE))
        return data

    def u64(self, address: int) -> int:
        """0 where there is no memory."""
        return int.from_bytes(self.read(address, 8), "little")

    def string(self, address: int, most: int = 256) -> str:
        """Up to a zero, or `most` bytes; what is no UTF-8 is escaped."""
        return self.read(address, most).partition(b"\0")[0].decode("utf-8", "backslashreplace")

"""A guest as a report looks at it: one vCPU's registers, read once, memory by its page tables, and symbols."""

from __future__ import annotations

import os
from functools import lru_cache

from corral.arch.x86_64.page_walk import read, translate
from corral.debug.guest_registers import code_bits
from corral.errors import CorralError, HostError
from corral.symbols.table import UnusableSymbols, of_kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.debug.report.remains import Remains
    from corral.symbols.table import Symbols


class DeadGuest:
    """Nothing in its memory is believed.

    `symbols` is None where there are none; `no_symbols` says why when there are some that cannot be used.
    """

    def __init__(self, remains: Remains, index: int) -> None:
        vcpu = remains.vcpus[index]
        self.memory = remains.memory
        self.regs, self.sregs, self.events, self.native = vcpu.regs, vcpu.sregs, vcpu.events, vcpu.native
        self.bits = code_bits(self.sregs)
        self.rip = self._linear(self.regs.rip, self.sregs.cs.base)
        self.rsp = self._linear(self.regs.rsp, self.sregs.ss.base)
        self.symbols, self.no_symbols = _symbols(remains.kernel, _stamp(remains.kernel))

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
        return read(self.memory, self.sregs, address, length)

    def _linear(self, offset: int, base: int) -> int:
        return int(offset) if self.bits == 64 else int(offset + base) & 0xFFFFFFFF


@lru_cache(maxsize=1)  # a report on the screen, one in a file, and each vCPU's registers in it
def _symbols(kernel: str, stamp: int) -> tuple[Symbols | None, str]:
    """And why those that it has cannot be used. A report without names is better than none."""
    try:
        return of_kernel(kernel), ""
    except (UnusableSymbols, HostError) as error:
        return None, f"No names of functions: {error}"
    except CorralError:  # raw code has none
        return None, ""


def _stamp(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0

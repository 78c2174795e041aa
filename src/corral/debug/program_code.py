"""Whether code is a program's, which a pagetable KVM cannot stop in."""

from __future__ import annotations

from corral.arch.x86_64.page_walk import steps
from corral.debug.guest_registers import PAGE, native_mode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.kvm.vcpu import Vcpu
    from corral.memory import GuestMemory

_PRESENT, _USER = 1 << 0, 1 << 2


def is_programs(vcpu: Vcpu, memory: GuestMemory, address: int) -> bool:
    """By what programs' page tables let them use. Where they have none of their own, only while the vCPU is in a
    program: small kernels open all of their memory.

    The page itself need not be there yet: a guest that is paused may be about to fault for it."""
    mode, sregs = native_mode(vcpu), vcpu.get_sregs()
    in_program = mode.user if mode else sregs.cs.dpl == 3
    if in_program and sregs.cs.l and address == vcpu.get_regs().rip:
        return True
    if mode and mode.pairs:
        sregs.cr3 |= PAGE
    elif not mode and not in_program:
        return False
    entries = [step.value for step in steps(memory, sregs, address) if step.value & _PRESENT]
    return bool(entries) and all(entry & _USER for entry in entries)

"""A step where code runs natively, which no KVM delivers: where traps must lie so that the vCPU stops behind the
instruction that it is at.

Those places are where the instruction can lead to, and the handlers of the exceptions that it may raise. A program
cannot be stopped on a pagetable KVM, so a step in one, or into one, ends where it enters the kernel next.
"""

from __future__ import annotations

from functools import partial

from corral.arch.x86_64 import page_walk
from corral.debug import next_instruction
from corral.debug.guest_registers import native_mode
from corral.memory import PAGE
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.kvm.vcpu import Vcpu
    from corral.memory import GuestMemory
    from corral.native import CData

_LSTAR = 0xC0000082


@record(frozen=True)
class Step:
    """`places` are guest physical addresses, none for an instruction that leads to itself. `interrupted`: only an
    interrupt may end it."""

    places: tuple[int, ...]
    interrupted: bool


def plan(vcpu: Vcpu, memory: GuestMemory) -> Step | None:
    """None where KVM steps."""
    mode = native_mode(vcpu)
    sregs = vcpu.get_sregs()
    is_program = mode.user if mode else bool(vcpu.native.assist) and sregs.cs.dpl == 3
    if not mode and not is_program:
        return None
    regs = vcpu.get_regs()
    rip, read = int(regs.rip), partial(page_walk.read, memory, sregs)
    found = next_instruction.Next() if is_program else next_instruction.after(rip, regs, sregs, read)
    if rip in found.addresses:
        return Step((), False)
    leaves = not found.addresses
    vectors = next_instruction.VECTORS if leaves else next_instruction.EXCEPTIONS
    addresses = {*found.addresses, *next_instruction.entries(vectors, sregs, read)} - {rip}
    if leaves:
        addresses.add(vcpu.get_msr(_LSTAR))
    return Step(_mapped(addresses, sregs, memory), leaves or found.waits)


def _mapped(addresses: set[int], sregs: CData, memory: GuestMemory) -> tuple[int, ...]:
    pages = {address - address % PAGE for address in addresses}
    mapped = {page: page_walk.translate(memory, sregs, page) for page in pages}
    return tuple(gpa + address % PAGE for address in addresses if (gpa := mapped[address - address % PAGE]) is not None)

"""What a report is made of: the registers of each vCPU, memory to read, and which kernel it was.

Of a machine in this process, or sent to the process that makes the reports of one in the jail (clerk.py).
"""

from __future__ import annotations

from corral.debug.guest_registers import NativeMode, get_regs, get_sregs, native_mode
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.arch.x86_64.page_walk import Memory
    from corral.machine import Machine
    from corral.native import CData


@record(frozen=True)
class VcpuRemains:
    """struct kvm_regs, kvm_sregs and kvm_vcpu_events."""

    regs: CData
    sregs: CData
    events: CData
    native: NativeMode | None


@record(frozen=True)
class Remains:
    kernel: str  # its path
    cmdline: str
    vcpus: tuple[VcpuRemains, ...]
    memory: Memory


def of(machine: Machine) -> Remains:
    """The machine has stopped, or is paused, and is not closed until the report is made."""
    memory = machine.memory
    vcpus = tuple(
        VcpuRemains(get_regs(vcpu, memory), get_sregs(vcpu), vcpu.get_events(), native_mode(vcpu))
        for vcpu in machine.vcpus
    )
    return Remains(machine.config.kernel, machine.config.cmdline, vcpus, memory)

"""What of KVM's guest debugging a host delivers (docs/hosts.md has how that was found)."""

from __future__ import annotations

from corral.kvm.system import Kind
from corral.native import ffi, lib
from corral.record import record

_EMULATOR = b"TCGTCGTCGTCG"  # CPUID leaf 0x40000000 of QEMU's own CPU
_HYPERVISOR_LEAF = 0x40000000


@record(frozen=True)
class Delivery:
    """Steps are delivered everywhere, and what is False here is done by them."""

    execution: bool  # INT3, and debug registers for execution
    data: bool  # debug registers for loads and stores


def of_host(kind: Kind) -> Delivery:
    if kind is Kind.PAGETABLE:
        return Delivery(execution=True, data=False)
    registers = ffi.new("uint32_t[4]")
    lib.corral_host_cpuid(_HYPERVISOR_LEAF, 0, registers)
    emulated = ffi.buffer(registers)[4:16] == _EMULATOR
    return Delivery(execution=not emulated, data=not emulated)

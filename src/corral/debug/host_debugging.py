"""What of KVM's guest debugging a host delivers (docs/hosts.md has how that was found)."""

from __future__ import annotations

from corral.kvm.system import Kind
from corral.native import ffi, lib

_EMULATOR = b"TCGTCGTCGTCG"  # CPUID leaf 0x40000000 of QEMU's own CPU
_HYPERVISOR_LEAF = 0x40000000


def delivers_points(kind: Kind) -> bool:
    """Whether KVM tells of INT3 and debug registers. Where it does not, or only for some code, breakpoints are traps
    (traps.py) and what is watched lies in a page that the guest cannot write (watched_pages.py)."""
    if kind is Kind.PAGETABLE:
        return False
    registers = ffi.new("uint32_t[4]")
    lib.corral_host_cpuid(_HYPERVISOR_LEAF, 0, registers)
    return bytes(ffi.buffer(registers)[4:16]) != _EMULATOR

"""A vCPU's registers as its guest means them: what KVM tells of one that runs kernel code natively is put right
(docs/hosts.md, "What registers tell").

There KVM may show the selectors of CPL 3 for kernel code, and an interrupt flag that is not the guest's: that is a byte
in its memory. The vCPU is out of the guest.
"""

from __future__ import annotations

from corral.arch.x86_64.page_walk import EFER_LMA
from corral.memory import GuestMemoryError
from corral.native import CData, ffi, lib
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.kvm.vcpu import Vcpu
    from corral.memory import GuestMemory

PAGE = 4096
_IF = 1 << 9
_STAR = 0xC0000081
_CS, _SS = 0x10, 0x18  # of a kernel that has set no STAR


@record(frozen=True)
class NativeMode:
    """Of a vCPU whose kernel code runs natively: whether it is in a program, whether programs run on the second of a
    pair of PGDs, and the guest physical address of the byte that is the kernel's interrupt flag."""

    HEX = ("interrupt_flag",)

    user: bool
    pairs: bool
    interrupt_flag: int | None


def native_mode(vcpu: Vcpu) -> NativeMode | None:
    """None where kernel code is interpreted, or this KVM is of another kind."""
    value = vcpu.held(lib.corral_native_mode)
    if not value:
        return None
    flag = value & lib.CORRAL_NATIVE_PAGE if value & lib.CORRAL_NATIVE_IF else None
    return NativeMode(bool(value & lib.CORRAL_NATIVE_USER), bool(value & lib.CORRAL_NATIVE_PAIRS), flag)


def get_regs(vcpu: Vcpu, memory: GuestMemory) -> CData:
    """struct kvm_regs."""
    regs = vcpu.get_regs()
    flag = _interrupt_flag(vcpu, memory)
    if flag is not None:
        regs.rflags = regs.rflags & ~_IF | (_IF if flag[0] else 0)
    return regs


def set_regs(vcpu: Vcpu, memory: GuestMemory, regs: CData) -> None:
    """What get_regs() gave, with changes."""
    flag = _interrupt_flag(vcpu, memory)
    if flag is not None:
        flag[0] = bool(regs.rflags & _IF)
    vcpu.set_regs(regs)


def _interrupt_flag(vcpu: Vcpu, memory: GuestMemory) -> memoryview | None:
    """The byte; None where KVM knows the flag, as it does of programs."""
    mode = native_mode(vcpu)
    if mode is None or mode.user or mode.interrupt_flag is None:
        return None
    try:
        return memory.view(mode.interrupt_flag, 1)
    except GuestMemoryError:  # a guest may name any page
        return None


def get_sregs(vcpu: Vcpu) -> CData:
    """struct kvm_sregs."""
    sregs = vcpu.get_sregs()
    mode = native_mode(vcpu)
    if mode and not mode.user and (sregs.cs.dpl or sregs.ss.dpl):
        star = vcpu.get_msr(_STAR) >> 32 & 0xFFFC
        sregs.cs.selector, sregs.cs.dpl = star or _CS, 0
        sregs.ss.selector, sregs.ss.dpl = (star + 8 if star else _SS), 0
    return sregs


def set_sregs(vcpu: Vcpu, sregs: CData) -> None:
    """What get_sregs() gave, with changes. KVM keeps its own CS and SS where those were not changed."""
    shown, kept = get_sregs(vcpu), vcpu.get_sregs()
    for name in ("cs", "ss"):
        if ffi.buffer(ffi.addressof(sregs, name))[:] == ffi.buffer(ffi.addressof(shown, name))[:]:
            setattr(sregs, name, getattr(kept, name))
    vcpu.set_sregs(sregs)


def other_pgd(cr3: int, mode: NativeMode | None) -> int | None:
    """The other one of a pair of PGDs; None where a vCPU has one."""
    return cr3 ^ PAGE if mode and mode.pairs else None


def code_bits(sregs: CData) -> int:
    """16, 32 or 64, by a struct kvm_sregs."""
    if sregs.cs.l and sregs.efer & EFER_LMA:
        return 64
    return 32 if sregs.cr0 & 1 and sregs.cs.db else 16

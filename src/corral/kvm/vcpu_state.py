"""All that KVM keeps of a vCPU, as a value: read from one, written to another. Most parts are structures of
<linux/kvm.h>, as bytes (api.rst, section 4)."""

from __future__ import annotations

from corral.errors import KvmError
from corral.native import ffi, ioctl, lib
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.kvm.system import System
    from corral.kvm.vcpu import Vcpu

TSC, TSC_DEADLINE = 0x10, 0x6E0
MOST_EXITS = 8192  # that one instruction leads to: its operands, a byte each
RUNNABLE, HALTED = 0, 3  # of KVM_GET_MP_STATE


@record(frozen=True)
class VcpuState:
    """`msrs` are (index, value), in KVM's order. `native` is the MSR by which a guest's kernel runs natively on a
    pagetable KVM, 0 where it does not: the guest alone can write that (docs/native.md)."""

    regs: bytes
    sregs: bytes
    xsave: bytes
    xcrs: bytes
    debugregs: bytes
    lapic: bytes
    events: bytes
    mp_state: int
    msrs: tuple[tuple[int, int], ...]
    native: int


# Parts that are a structure each, and the ioctls' names.
_STRUCTURES = {
    "regs": ("struct kvm_regs *", "REGS"),
    "sregs": ("struct kvm_sregs *", "SREGS"),
    "xsave": ("struct kvm_xsave *", "XSAVE"),
    "xcrs": ("struct kvm_xcrs *", "XCRS"),
    "debugregs": ("struct kvm_debugregs *", "DEBUGREGS"),
    "lapic": ("struct kvm_lapic_state *", "LAPIC"),
    "events": ("struct kvm_vcpu_events *", "VCPU_EVENTS"),
}


def save(vcpu: Vcpu, msrs: tuple[int, ...]) -> VcpuState:
    """Of a vCPU that does not run. `msrs` are those to be kept, where this vCPU has them. Raises KvmError."""
    values = {name: _get(vcpu, *how) for name, how in _STRUCTURES.items()}
    native = int(vcpu.held(lib.corral_native_mode))
    return VcpuState(**values, mp_state=_mp_state(vcpu), msrs=_get_msrs(vcpu, msrs), native=native)


def is_halted(vcpu: Vcpu) -> bool:
    """Whether it waits for an interrupt."""
    return _mp_state(vcpu) == HALTED


def _mp_state(vcpu: Vcpu) -> int:
    state = ffi.new("struct kvm_mp_state *")
    ioctl(vcpu.fd, "KVM_GET_MP_STATE", state)
    return int(state.mp_state)


def set_part(vcpu: Vcpu, name: str, content: bytes) -> None:
    """One of the parts that are structures. Raises KvmError; ValueError for bytes of another length."""
    kind, what = _STRUCTURES[name]
    value = ffi.new(kind)
    place = ffi.buffer(value)
    if len(content) != len(place):
        raise ValueError(f"{name}: {len(content)} bytes, not {len(place)}")
    place[:] = content
    ioctl(vcpu.fd, f"KVM_SET_{what}", value)


def set_mp_state(vcpu: Vcpu, state: int) -> None:
    ioctl(vcpu.fd, "KVM_SET_MP_STATE", ffi.new("struct kvm_mp_state *", {"mp_state": state}))


def restore(vcpu: Vcpu, state: VcpuState) -> None:
    """What follows another: a local APIC's timer needs its MSRs before its deadline, and events come last. The native
    mode is not set. Raises KvmError, ValueError."""
    for name in ("regs", "sregs", "xsave", "xcrs", "debugregs", "lapic"):
        set_part(vcpu, name, getattr(state, name))
    vcpu.set_msrs({index: value for index, value in state.msrs if index != TSC_DEADLINE})
    vcpu.set_msrs({index: value for index, value in state.msrs if index == TSC_DEADLINE})
    set_part(vcpu, "events", state.events)
    set_mp_state(vcpu, state.mp_state)


def msrs_to_keep(system: System, tsc: bool) -> tuple[int, ...]:
    """Those that this KVM says make up a vCPU's state; the TSC where it can be set."""
    room = ffi.new("struct kvm_msr_list *", {"indices": 1024})
    room.nmsrs = 1024
    ioctl(system.fd, "KVM_GET_MSR_INDEX_LIST", room)
    return tuple(index for index in room.indices[0 : room.nmsrs] if tsc or index != TSC)


def _get(vcpu: Vcpu, kind: str, what: str) -> bytes:
    value = ffi.new(kind)
    ioctl(vcpu.fd, f"KVM_GET_{what}", value)
    return bytes(ffi.buffer(value))


def _get_msrs(vcpu: Vcpu, wanted: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """KVM stops at the first that this vCPU has not (api.rst, KVM_GET_MSRS); that one is left out."""
    found: list[tuple[int, int]] = []
    while wanted:
        msrs = ffi.new("struct kvm_msrs *", {"entries": len(wanted)})
        msrs.nmsrs = len(wanted)
        for entry, index in zip(msrs.entries, wanted, strict=False):
            entry.index = index
        done = ioctl(vcpu.fd, "KVM_GET_MSRS", msrs)
        found += [(msrs.entries[i].index, msrs.entries[i].data) for i in range(done)]
        wanted = wanted[done + 1 :]
    return tuple(found)


def complete(vcpu: Vcpu) -> bool:
    """Has KVM end what it has begun for the last exit. False: that led to another exit, so the vCPU must run on before
    it can be saved. Raises KvmError."""
    from errno import EAGAIN

    result = int(vcpu.held(lib.corral_vcpu_complete))
    if result < 0 and result != -EAGAIN:
        raise KvmError("KVM_RUN", -result, "")
    return result == 0


def abandon(vcpu: Vcpu) -> None:
    """complete() for a vCPU whose state is given up: what the last exit led to is as well. Raises KvmError."""
    for _ in range(MOST_EXITS):
        vcpu.native.at_hand = False
        if complete(vcpu):
            break
    vcpu.native.at_hand = vcpu.native.unfinished = False

"""Native supervisor mode on a vCPU that is restored: the guest alone can write the MSR that switches it on, so the vCPU
runs four bytes of ours first, in the guest's own address space, and gets its registers then (docs/snapshot.md). KVM
knows from what the guest does whether a program runs, not from registers: to it the vCPU returns by the kernel's IRETQ.
"""

from __future__ import annotations

import struct

from corral.arch.x86_64 import page_walk
from corral.errors import BootError
from corral.kvm import vcpu_state
from corral.memory import PAGE
from corral.native import ffi, lib
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.kvm.vcpu import Vcpu
    from corral.kvm.vcpu_state import VcpuState
    from corral.memory import GuestMemory
    from corral.native import CData

LSTAR = 0xC0000082  # where a kernel's SYSCALL enters: kernel code that is mapped whatever runs
ALLOWED, PENDING = 0, 1  # bytes of the shared page: interrupts may come; one is held back
FLAGS = 0x3FF  # of the MSR's value, those that a guest sets
KERNEL_GS_BASE = 0xC0000102  # the program's while the kernel runs, and the other way round: KVM exchanges them
RSP0 = 4  # in the TSS: where the stack begins when a program is interrupted; nothing is on it while one runs
IRETQ = b"\x48\xcf"
IRETQ_REACH = 2 * PAGE  # from LSTAR on
FRAME = struct.Struct("<5Q")  # RIP, CS, RFLAGS, RSP, SS
# What programs run with, and the selector that stands for it where the kernel returns to one (docs/native.md).
PROGRAM_STACK, RETURN_STACK = 0x2B, 0x3B
CODE = int(lib.CORRAL_NATIVE_SWITCH_CODE).to_bytes(4, "little")
RFLAGS_FIXED = 1 << 1


@record(frozen=True)
class _Segment:
    selector: int
    type: int
    db: int
    l: int  # noqa: E741  (as KVM calls it)


# What KVM takes the guest's kernel for, whatever selectors it runs with.
_CODE, _STACK = _Segment(0x10, 11, 0, 1), _Segment(0x18, 3, 1, 0)


def switch_on(vcpu: Vcpu, memory: GuestMemory, state: VcpuState) -> VcpuState:
    """Leaves the vCPU in native mode, with registers of no meaning. Returns the state that it is to get then. Raises
    BootError where the guest's tables do not map its own kernel, KvmError."""
    sregs = ffi.new("struct kvm_sregs *")
    place = ffi.buffer(sregs)
    if len(state.sregs) != len(place):
        raise ValueError(f"sregs: {len(state.sregs)} bytes, not {len(place)}")
    place[:] = state.sregs
    runs_program = bool(state.native & lib.CORRAL_NATIVE_USER)
    if runs_program and state.native & lib.CORRAL_NATIVE_PAIRS:
        sregs.cr3 &= ~PAGE  # programs run on the second of a pair
    kernel = _in_kernel(sregs)
    quiet = _without_interrupt(kernel)

    entry = dict(state.msrs).get(LSTAR, 0)
    gpa = page_walk.translate(memory, sregs, entry)
    if gpa is None and not runs_program:  # early in its boot the kernel has no system calls yet
        entry = _rip(state) & -PAGE
        gpa = page_walk.translate(memory, sregs, entry)
    if gpa is None or gpa % PAGE > PAGE - len(CODE):
        raise BootError("the guest's page tables do not map its kernel; the snapshot is damaged")
    code = memory.view(gpa, len(CODE))
    page = memory.view(state.native & lib.CORRAL_NATIVE_PAGE, PENDING + 1)
    before, allows_interrupts = bytes(code), page[ALLOWED]
    code[:], page[ALLOWED] = CODE, 0
    try:
        value = state.native & (lib.CORRAL_NATIVE_PAGE | FLAGS)
        _run(vcpu, quiet, entry, value)
    finally:
        code[:], page[ALLOWED] = before, allows_interrupts
    page[PENDING] = 1  # KVM need not tell again of an interrupt that it held back: the kernel asks for it
    values = {name: getattr(state, name) for name in type(state).__annotations__}
    if runs_program:
        page[ALLOWED] = 0  # until the return, as in the kernel's own way there
        values |= _returning(memory, sregs, state, entry)
    else:
        values["sregs"] = kernel
    if state.mp_state == vcpu_state.HALTED:  # Linux looks around after HLT, and halts again
        values["mp_state"] = vcpu_state.RUNNABLE
    return type(state)(**values)


def _rip(state: VcpuState) -> int:
    regs = ffi.new("struct kvm_regs *")
    ffi.buffer(regs)[:] = state.regs
    return int(regs.rip)


def _returning(memory: GuestMemory, sregs: CData, state: VcpuState, entry: int) -> dict[str, object]:
    """The parts of a vCPU that is about to return to the program that `state` runs. `sregs` are those of its kernel; an
    IRETQ is looked for from `entry` on. Raises BootError where there is none, or no stack."""
    place = page_walk.read(memory, sregs, entry, IRETQ_REACH).find(IRETQ)
    top = page_walk.read(memory, sregs, sregs.tr.base + RSP0, 8)
    stack = (int.from_bytes(top, "little") - FRAME.size) % (1 << 64)
    gpa = page_walk.translate(memory, sregs, stack)
    if place < 0 or len(top) < 8 or gpa is None or gpa % PAGE > PAGE - FRAME.size:
        raise BootError("the guest's kernel has no way back to its program; the snapshot is damaged")
    program = ffi.new("struct kvm_sregs *")
    ffi.buffer(program)[:] = state.sregs
    regs = ffi.new("struct kvm_regs *")
    ffi.buffer(regs)[:] = state.regs
    segment = RETURN_STACK if program.ss.selector == PROGRAM_STACK else program.ss.selector
    memory.write(gpa, FRAME.pack(regs.rip, program.cs.selector, regs.rflags, regs.rsp, segment))
    regs.rip, regs.rsp, regs.rflags = entry + place, stack, RFLAGS_FIXED
    msrs = dict(state.msrs)
    sregs.gs.base, msrs[KERNEL_GS_BASE] = msrs.get(KERNEL_GS_BASE, 0), program.gs.base
    return {"regs": bytes(ffi.buffer(regs)), "sregs": bytes(ffi.buffer(sregs)), "msrs": tuple(msrs.items())}


def _run(vcpu: Vcpu, sregs: bytes, rip: int, value: int) -> None:
    regs = ffi.new("struct kvm_regs *")
    regs.rax, regs.rdx, regs.rcx = value & 0xFFFFFFFF, value >> 32, lib.CORRAL_MSR_NATIVE
    regs.rip, regs.rflags = rip, RFLAGS_FIXED
    vcpu_state.set_mp_state(vcpu, vcpu_state.RUNNABLE)
    vcpu_state.set_part(vcpu, "sregs", sregs)
    vcpu.set_regs(regs)
    result = int(vcpu.held(lib.corral_native_switch))
    if result == 0:
        return
    why = f"{-result}, exit {vcpu.run_page.exit_reason} at {vcpu.get_regs().rip:#x}"
    raise BootError(f"the guest's kernel cannot be put back into native mode ({why}); boot it anew")


def _without_interrupt(sregs: bytes) -> bytes:
    """The same with none on its way: KVM would deliver it first, whatever the flags say, and the guest's kernel run."""
    copy = ffi.new("struct kvm_sregs *")
    ffi.buffer(copy)[:] = sregs
    ffi.memmove(copy.interrupt_bitmap, bytes(ffi.sizeof(copy.interrupt_bitmap)), ffi.sizeof(copy.interrupt_bitmap))
    return bytes(ffi.buffer(copy))


def _in_kernel(sregs: CData) -> bytes:
    """The same at CPL 0. KVM would show, and take, the selectors of CPL 3 that the processor runs the kernel with."""
    for segment, wanted in ((sregs.cs, _CODE), (sregs.ss, _STACK)):
        segment.base, segment.limit = 0, 0xFFFFFFFF
        segment.selector, segment.type, segment.db, segment.l = wanted.selector, wanted.type, wanted.db, wanted.l
        segment.present, segment.dpl, segment.s, segment.g, segment.unusable = 1, 0, 1, 1, 0
    return bytes(ffi.buffer(sregs))

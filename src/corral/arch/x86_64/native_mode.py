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
OUT = CODE[2:]
HIGHEST = 15  # of CR8: no interrupt is above it
GATE = struct.Struct("<HHHHI4x")  # of an IDT: offset's low part, selector, type, the rest of the offset
PAGE_FAULT = 14
NOWHERE = 0x1000 - 16  # a linear address that no program has mapped
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
    sregs, runs_program = _of_kernel(state), bool(state.native & lib.CORRAL_NATIVE_USER)
    entry = _entry(memory, sregs, state, runs_program)
    _execute(vcpu, memory, sregs, state, entry, state.native & (lib.CORRAL_NATIVE_PAGE | FLAGS))
    return _entered(memory, sregs, state, entry, runs_program)


def prepare_to_go_back(vcpu: Vcpu, memory: GuestMemory, state: VcpuState) -> None:
    """Before the memory of a vCPU that has run is that of `state` again: has it leave its program, if it is to be in
    its kernel. Raises BootError where the guest's tables do not lead there, KvmError."""
    now = int(vcpu.held(lib.corral_native_mode))
    if now & lib.CORRAL_NATIVE_USER and not (_is_same_mode(now, state) and state.native & lib.CORRAL_NATIVE_USER):
        _leave_program(vcpu, memory, bool(now & lib.CORRAL_NATIVE_PAIRS))


def switch_back(vcpu: Vcpu, memory: GuestMemory, state: VcpuState) -> VcpuState:
    """switch_on() for a vCPU that has run, after prepare_to_go_back(), with the memory of `state`; also for one without
    the mode."""
    now = int(vcpu.held(lib.corral_native_mode))
    if not now and not state.native:
        return state
    if not state.native:
        raise BootError("the guest's kernel runs natively by now, and did not at the checkpoint; take one later")
    runs_program = bool(state.native & lib.CORRAL_NATIVE_USER)
    if now & lib.CORRAL_NATIVE_USER:
        memory.view(state.native & lib.CORRAL_NATIVE_PAGE, PENDING + 1)[PENDING] = 1
        return state
    sregs = _of_kernel(state)
    entry = _entry(memory, sregs, state, runs_program)
    if not _is_same_mode(now, state):
        _execute(vcpu, memory, sregs, state, entry, state.native & (lib.CORRAL_NATIVE_PAGE | FLAGS))
    return _entered(memory, sregs, state, entry, runs_program)


def _is_same_mode(now: int, state: VcpuState) -> bool:
    """But for what KVM adds: that a program runs."""
    return (now ^ state.native) & (lib.CORRAL_NATIVE_PAGE | FLAGS) == 0


def _of_kernel(state: VcpuState) -> CData:
    """The registers of `state`, with the page tables of its kernel."""
    sregs = ffi.new("struct kvm_sregs *")
    place = ffi.buffer(sregs)
    if len(state.sregs) != len(place):
        raise ValueError(f"sregs: {len(state.sregs)} bytes, not {len(place)}")
    place[:] = state.sregs
    if state.native & lib.CORRAL_NATIVE_USER and state.native & lib.CORRAL_NATIVE_PAIRS:
        sregs.cr3 &= ~PAGE  # programs run on the second of a pair
    return sregs


def _entry(memory: GuestMemory, sregs: CData, state: VcpuState, runs_program: bool) -> int:
    """Kernel code that is mapped, with room for ours in its page. Raises BootError."""
    entry = dict(state.msrs).get(LSTAR, 0)
    gpa = page_walk.translate(memory, sregs, entry)
    if gpa is None and not runs_program:  # early in its boot the kernel has no system calls yet
        entry = _rip(state) & -PAGE
        gpa = page_walk.translate(memory, sregs, entry)
    if gpa is None or gpa % PAGE > PAGE - len(CODE):
        raise BootError("the guest's page tables do not map its kernel; the snapshot is damaged")
    return entry


def _execute(vcpu: Vcpu, memory: GuestMemory, sregs: CData, state: VcpuState, entry: int, value: int) -> None:
    """WRMSR of the mode by the vCPU, in code of ours at `entry`, and no interrupt meanwhile."""
    gpa = page_walk.translate(memory, sregs, entry)
    assert gpa is not None
    code, page = memory.view(gpa, len(CODE)), memory.view(state.native & lib.CORRAL_NATIVE_PAGE, PENDING + 1)
    before, allows_interrupts = bytes(code), page[ALLOWED]
    regs = ffi.new("struct kvm_regs *")
    regs.rax, regs.rdx, regs.rcx = value & 0xFFFFFFFF, value >> 32, lib.CORRAL_MSR_NATIVE
    kernel = ffi.new("struct kvm_sregs *")
    ffi.buffer(kernel)[:] = ffi.buffer(sregs)[:]
    code[:], page[ALLOWED] = CODE, 0
    try:
        _run(vcpu, _without_interrupt(_in_kernel(kernel)), entry, regs)
    finally:
        code[:], page[ALLOWED] = before, allows_interrupts


def _leave_program(vcpu: Vcpu, memory: GuestMemory, pairs: bool) -> None:
    """A page fault of the program, whose handler begins with an exit meanwhile. Interrupts wait, for the task's
    priority is the highest."""
    sregs = vcpu.get_sregs()
    kernel = ffi.new("struct kvm_sregs *")
    ffi.buffer(kernel)[:] = ffi.buffer(sregs)[:]
    if pairs:
        kernel.cr3 &= ~PAGE
    low, _, _, middle, high = GATE.unpack(
        page_walk.read(memory, kernel, sregs.idt.base + PAGE_FAULT * GATE.size, GATE.size).ljust(GATE.size, b"\0")
    )
    gpa = page_walk.translate(memory, kernel, low | middle << 16 | high << 32)
    if gpa is None or gpa % PAGE > PAGE - len(OUT):
        raise BootError("the guest's kernel has no handler of page faults: it cannot be brought back from its program")
    code = memory.view(gpa, len(OUT))
    before = bytes(code)
    sregs.cr8 = HIGHEST
    code[:] = OUT
    try:
        _run(vcpu, _without_interrupt(bytes(ffi.buffer(sregs))), NOWHERE, ffi.new("struct kvm_regs *"))
    finally:
        code[:] = before


def _entered(memory: GuestMemory, sregs: CData, state: VcpuState, entry: int, runs_program: bool) -> VcpuState:
    """What a vCPU gets that is in native mode, in its kernel."""
    page = memory.view(state.native & lib.CORRAL_NATIVE_PAGE, PENDING + 1)
    page[PENDING] = 1  # KVM need not tell again of an interrupt that it held back: the kernel asks for it
    values = {name: getattr(state, name) for name in type(state).__annotations__}
    if runs_program:
        page[ALLOWED] = 0  # until the return, as in the kernel's own way there
        _in_kernel(sregs)
        values |= _returning(memory, sregs, state, entry)
    else:
        values["sregs"] = _in_kernel(sregs)
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


def _run(vcpu: Vcpu, sregs: bytes, rip: int, regs: CData) -> None:
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

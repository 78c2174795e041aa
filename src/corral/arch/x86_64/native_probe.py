"""The guest that tests native supervisor mode (csrc/vcpu/native_probe.S), in the smallest VM that it can run in."""

from __future__ import annotations

import mmap
import struct

from corral.arch.x86_64 import registers
from corral.errors import HostError
from corral.kvm.system import System
from corral.native import check, ffi, lib
from corral.startup.record import record
from corral.startup.threads import allocate_lock, start_new_thread
from corral.startup.undo import Undo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.kvm.vcpu import Vcpu

# What each check asks for.
REQUIREMENTS = {
    lib.CORRAL_PROBE_SIGNATURE: "an MSR says that KVM has the mode",
    lib.CORRAL_PROBE_SWITCH: "kernel code runs at the CPU's CPL 3 once the mode is switched on",
    lib.CORRAL_PROBE_RATE: "kernel code runs at the CPU's speed",
    lib.CORRAL_PROBE_GS_BASE: "kernel code exchanges GS's base by RDGSBASE and WRGSBASE",
    lib.CORRAL_PROBE_KERNEL_FAULT: "a page fault of kernel code comes to the kernel as such",
    lib.CORRAL_PROBE_KERNEL_IRETQ: "IRETQ from kernel code to kernel code leaves the interrupt flag alone",
    lib.CORRAL_PROBE_HELD: "an interrupt is held back, and pending, while the interrupt flag is 0",
    lib.CORRAL_PROBE_DELIVERED: "an interrupt that was held back comes with STI",
    lib.CORRAL_PROBE_TAKEN: "an interrupt comes while the interrupt flag is 1",
    lib.CORRAL_PROBE_HALT: "a timer's interrupt ends HLT",
    lib.CORRAL_PROBE_IRETQ: "IRETQ leads to user code, and SYSCALL back",
    lib.CORRAL_PROBE_READ: "user code that reads the kernel's memory takes a page fault",
    lib.CORRAL_PROBE_SYSRETQ: "SYSRETQ leads to user code, and SYSCALL back",
    lib.CORRAL_PROBE_WRITE: "user code that writes the page shared with KVM takes a page fault",
    lib.CORRAL_PROBE_FETCH: "user code that jumps into the kernel takes a page fault",
    lib.CORRAL_PROBE_PRIVILEGED: "user code that executes a privileged instruction is refused",
    lib.CORRAL_PROBE_FORGED_IRETQ: "user code that returns to the kernel's segments by IRETQ is refused",
    lib.CORRAL_PROBE_USER_PAGE: "user code that writes a page made read-only takes a page fault",
    lib.CORRAL_PROBE_ADDRESS_SPACE: "a new CR3 changes what user code sees",
    lib.CORRAL_PROBE_IRETQ_PENDING: "an interrupt that was held back comes after IRETQ to user code",
    lib.CORRAL_PROBE_SYSRETQ_PENDING: "an interrupt that was held back comes after SYSRETQ",
    lib.CORRAL_PROBE_GS_EXCHANGE: "GS's base is exchanged on each way between kernel and user code",
    lib.CORRAL_PROBE_OFF: "kernel code is at CPL 0 again once the mode is switched off",
}

LIMIT = 1.0  # seconds; it takes less than one millisecond
# What it needs of CPUID: MSRs, CX8, an APIC, x2APIC; SYSCALL, NX, long mode (SDM 2A, APM 3). All that KVM supports
# takes a third of a millisecond to ask for.
_CPUID = [
    (0, 0, 0, 1, 0, 0, 0),
    (1, 0, 0, 0, 0, 1 << 21, 1 << 5 | 1 << 6 | 1 << 8 | 1 << 9),
    (0x80000000, 0, 0, 0x80000001, 0, 0, 0),
    (0x80000001, 0, 0, 0, 0, 0, 1 << 11 | 1 << 20 | 1 << 29),
]
_X2APIC = 0xFEE00000 | 1 << 11 | 1 << 10 | 1 << 8  # APIC_BASE: enabled, x2APIC, boot processor (SDM 3A, 11.12.1)
_IOAPIC_PINS = 24


@record(frozen=True)
class Finding:
    """`check`: the one that failed, or CORRAL_PROBE_PASSED; `seen`: the word that it saw. `end` is empty when the guest
    came to its own end; else it says what happened to it in that check."""

    check: int
    seen: int
    end: str = ""

    @property
    def passed(self) -> bool:
        return self.check == lib.CORRAL_PROBE_PASSED and not self.end

    @property
    def sentence(self) -> str:
        """What is wrong."""
        if self.check == lib.CORRAL_PROBE_SIGNATURE and not self.end:
            return "this KVM has no native supervisor mode"
        how = self.end or f"saw {self.seen:#x}, not {expected(self.check):#x}"
        what = REQUIREMENTS.get(self.check, "its guest runs")
        return f"native supervisor mode fails the test that {what} (it {how})"


def image() -> bytes:
    """The guest's memory at its start."""
    return bytes(ffi.buffer(lib.corral_native_probe))


def expected(number: int) -> int:
    """What check `number` must see."""
    return _word(image(), lib.CORRAL_PROBE_EXPECTED + 8 * number)


def run(content: bytes | None = None, limit: float = LIMIT) -> Finding:
    """Runs it, or another guest in its place, for `limit` seconds at most. Raises HostError or OSError where that VM
    cannot be made."""
    undo = Undo()
    try:
        system = System()
        undo.push(system.close)
        vm = system.create_vm()
        undo.push(vm.close)
        memory = mmap.mmap(-1, lib.CORRAL_PROBE_SIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        undo.push(memory.close)
        memory[:] = image() if content is None else content
        pointer = ffi.from_buffer(memory)
        undo.push(ffi.release, pointer)
        # Before the local APIC: what that registers would have the slot wait for the host's kernel.
        vm.set_memory_slot(0, 0, len(memory), int(ffi.cast("uintptr_t", pointer)))
        vm.enable_capability(lib.KVM_CAP_SPLIT_IRQCHIP, _IOAPIC_PINS)
        vcpu = vm.create_vcpu(0, ffi.new("struct corral_ram *"))
        undo.push(vcpu.close)
        _prepare(vcpu)
        end = _run(vcpu, limit)
        number, seen = _word(memory, lib.CORRAL_PROBE_CHECK), _word(memory, lib.CORRAL_PROBE_SEEN)
        if number > lib.CORRAL_PROBE_OFF:
            return Finding(lib.CORRAL_PROBE_PASSED, seen, end or f"told of check {number}")
        return Finding(number, seen, end)
    finally:
        undo.run()


def _prepare(vcpu: Vcpu) -> None:
    """64-bit mode, as csrc/vcpu/native_probe.h wants it; the guest loads its descriptor tables itself."""
    vcpu.set_cpuid(_CPUID)
    sregs = vcpu.get_sregs()
    selector = registers.CODE_SELECTOR_64
    registers.load_segment(sregs.cs, selector, registers.CODE_64)
    for segment in (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss):
        registers.load_segment(segment, selector + 8, registers.DATA)
    sregs.cr3 = lib.CORRAL_PROBE_CR3
    sregs.cr4 = registers.CR4_PAE
    sregs.cr0 = registers.CR0_PE | registers.CR0_ET | registers.CR0_NE | registers.CR0_WP | registers.CR0_PG
    sregs.efer = registers.EFER_SCE | registers.EFER_LME | registers.EFER_LMA | registers.EFER_NXE
    sregs.apic_base = _X2APIC
    vcpu.set_sregs(sregs)
    regs = vcpu.get_regs()
    regs.rip = lib.CORRAL_PROBE_RIP
    regs.rflags = registers.RFLAGS_FIXED
    vcpu.set_regs(regs)


def _run(vcpu: Vcpu, limit: float) -> str:
    """Runs it until its OUT, and returns ""; or else what happened to it."""
    check("sigaction", lib.corral_kick_init())
    running, deciding = allocate_lock(), allocate_lock()
    is_over = is_late = False

    def watch() -> None:
        nonlocal is_late
        if running.acquire(timeout=limit):
            return
        with deciding:
            if not is_over:  # then the vCPU is there for as long as this lock is held
                is_late = True
                vcpu.kick()

    running.acquire()
    try:
        start_new_thread(watch, ())
    except RuntimeError as error:
        raise HostError("no thread for the self-test: see ulimit -u") from error
    try:
        while not vcpu.run():
            if is_late:  # else it was a signal for this process
                return "hung"
    finally:
        with deciding:
            is_over = True
        running.release()
    run = vcpu.run_page
    if run.exit_reason == lib.KVM_EXIT_IO and run.io.port == lib.CORRAL_PROBE_PORT:
        return ""
    return f"ended with KVM's exit {run.exit_reason}"


def _word(memory: bytes | mmap.mmap, address: int) -> int:
    return int(struct.unpack_from("<Q", memory, address)[0])

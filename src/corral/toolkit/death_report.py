"""One screen about a guest that died: why, where, with which registers, and the instructions around it."""

from __future__ import annotations

import textwrap

from corral.exits import Cause
from corral.toolkit.page_walk import translate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.kvm.vcpu import Vcpu
    from corral.machine import Machine, Outcome
    from corral.memory import GuestMemory
    from corral.native import CData

EXPLANATIONS = {
    Cause.TRIPLE_FAULT: "An exception could not be delivered, nor the double fault after it. Most often the guest's "
    "stack or interrupt table was not mapped, or it jumped to where no code is.",
    Cause.EMULATION: "This KVM interprets kernel code and does not know this instruction; Corral does not complete it "
    "either (docs/assist.md tells what it completes).",
    Cause.FAIL_ENTRY: "The CPU refused the guest's state; a bug in Corral or in KVM, so please report it.",
    Cause.INTERNAL_ERROR: "KVM gave up; its kernel log (dmesg) may tell more.",
    Cause.UNKNOWN_EXIT: "This version of Corral has no handler for the exit.",
}

_ROWS = (
    ("rip", "rflags", "rsp", "rbp"),
    ("rax", "rbx", "rcx", "rdx"),
    ("rsi", "rdi", "r8", "r9"),
    ("r10", "r11", "r12", "r13"),
    ("r14", "r15"),
)
_CONTROL = ("cr0", "cr2", "cr3", "cr4", "efer")
_BYTES_SHOWN, _INSTRUCTIONS_SHOWN = 24, 5
_LINES_SHOWN, _LINE_WIDTH = 6, 110


def text(machine: Machine, outcome: Outcome, console: bytes = b"") -> str:
    """The report. The machine has stopped and is not closed; `console` is what it said last, if that is not on the
    screen already."""
    vcpu = machine.vcpus[outcome.vcpu]
    cause = outcome.cause or Cause.UNKNOWN_EXIT
    detail = f" ({outcome.detail})" if outcome.detail else ""
    lines = [f"corral: the guest died: {cause.value}{detail}, on vCPU {outcome.vcpu}"]
    if cause in EXPLANATIONS:
        lines += textwrap.wrap(EXPLANATIONS[cause], 100)
    if cause is Cause.TRIPLE_FAULT:
        # KVM may have reset the vCPU already: what it then shows is not the state that failed.
        lines.append("The registers may be those after the reset that a triple fault is.")
    regs, sregs = vcpu.get_regs(), vcpu.get_sregs()
    lines.append("")
    lines += ["  ".join(f"{name:>6} {getattr(regs, name):016x}" for name in row) for row in _ROWS]
    lines.append("  ".join(f"{name:>6} {getattr(sregs, name):x}" for name in _CONTROL))
    segments = ((name, getattr(sregs, name)) for name in ("cs", "ss", "ds", "es", "fs", "gs"))
    lines.append("  ".join(f"{name:>2} {segment.selector:04x}:{segment.base:x}" for name, segment in segments))
    lines.append(f"CPL {sregs.cs.dpl}, {_mode(sregs)}")
    lines += ["", *_instructions(vcpu, machine.memory)]
    if last := _last_lines(console):
        lines += ["", "The last it said:", *last]
    return "\n".join(lines)


def _last_lines(console: bytes) -> list[str]:
    """Printable: a guest's escape sequences do nothing to the reader's terminal."""
    lines = console.decode("ascii", "replace").replace("\r", "").split("\n")
    shown = ["".join(c if c.isprintable() else "." for c in line) for line in lines if line.strip()]
    return [f"  {line[:_LINE_WIDTH]}" for line in shown[-_LINES_SHOWN:]]


def _mode(sregs: CData) -> str:
    if sregs.cs.l and sregs.efer >> 10 & 1:
        return "64-bit"
    if sregs.cr0 & 1:
        return "32-bit protected" if sregs.cs.db else "16-bit protected"
    return "real mode"


def _instructions(vcpu: Vcpu, memory: GuestMemory) -> list[str]:
    import capstone

    regs, sregs = vcpu.get_regs(), vcpu.get_sregs()
    linear = regs.rip if sregs.cs.l else (sregs.cs.base + regs.rip) & 0xFFFFFFFF
    code = _code(memory, sregs, linear)
    if not code:
        return [f"{linear:#x} is not mapped to guest memory: there are no instructions to show."]
    bits = {"64-bit": capstone.CS_MODE_64, "32-bit protected": capstone.CS_MODE_32}
    disassembler = capstone.Cs(capstone.CS_ARCH_X86, bits.get(_mode(sregs), capstone.CS_MODE_16))
    lines = []
    for found in disassembler.disasm(code, linear, count=_INSTRUCTIONS_SHOWN):
        arrow = "->" if found.address == linear else "  "
        line = f"{arrow} {found.address:16x}  {found.bytes.hex(' '):<32} {found.mnemonic} {found.op_str}"
        lines.append(line.rstrip())
    return lines or [f"-> {linear:16x}  {code.hex(' ')}  (no instruction that capstone knows)"]


def _code(memory: GuestMemory, sregs: CData, linear: int) -> bytes:
    """Bytes at RIP as far as they are mapped, up to a line's worth."""
    code = b""
    for address in range(linear, linear + _BYTES_SHOWN):
        gpa = translate(memory, sregs, address)
        if gpa is None:
            break
        code += memory.read(gpa, 1)
    return code

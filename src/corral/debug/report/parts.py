"""Parts of reports: registers, code, page walks, interrupt table, stack, exits, console."""

from __future__ import annotations

from corral.arch.x86_64.page_walk import ADDRESS, steps
from corral.debug.disassembly import LONGEST_INSTRUCTION, disassemble, listing
from corral.debug.guest_registers import other_pgd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from corral.debug.disassembly import Instruction
    from corral.debug.report.guest import DeadGuest
    from corral.observe.exit_trace import TracedExit

_ROWS = (
    ("rip", "rflags", "rsp", "rbp"),
    ("rax", "rbx", "rcx", "rdx"),
    ("rsi", "rdi", "r8", "r9"),
    ("r10", "r11", "r12", "r13"),
    ("r14", "r15"),
)
_CONTROL = ("cr0", "cr2", "cr3", "cr4", "efer")
_BEFORE = 48  # bytes of code before RIP that are looked at
_LINE_WIDTH = 110
EXCEPTIONS = {0: "#DE", 1: "#DB", 3: "#BP", 6: "#UD", 8: "#DF", 10: "#TS", 11: "#NP", 12: "#SS", 13: "#GP", 14: "#PF"}
_MOST_WORDS = 128  # of the stack
_GATES = {0xE: "interrupt gate", 0xF: "trap gate", 0x5: "task gate"}


def registers(guest: DeadGuest) -> list[str]:
    regs, sregs = guest.regs, guest.sregs
    lines = ["  ".join(f"{name:>6} {getattr(regs, name):016x}" for name in row) for row in _ROWS]
    lines.append("  ".join(f"{name:>6} {getattr(sregs, name):x}" for name in _CONTROL))
    segments = ((name, getattr(sregs, name)) for name in ("cs", "ss", "ds", "es", "fs", "gs"))
    lines.append("  ".join(f"{name:>2} {segment.selector:04x}:{segment.base:x}" for name, segment in segments))
    lines.append(f"CPL {sregs.cs.dpl}, {guest.mode}" + (", a kernel that runs natively" if guest.native else ""))
    return lines + pgd(guest)


def pgd(guest: DeadGuest) -> list[str]:
    """Of a pair, which one CR3 is."""
    other = other_pgd(guest.sregs.cr3, guest.native)
    if other is None:
        return []
    own, others = sorted(("the kernel's", "the programs'"), reverse=bool(guest.sregs.cr3 > other))
    return [f"CR3 is {own} PGD of a pair; {others} is at {other & ADDRESS:#x}"]


def tables(guest: DeadGuest) -> list[str]:
    sregs = guest.sregs
    lines = [
        f"{name} {table.base:#x}, limit {table.limit:#x}" for name, table in (("GDT", sregs.gdt), ("IDT", sregs.idt))
    ]
    return [*lines, f"task {sregs.tr.selector:#x}:{sregs.tr.base:x}, limit {sregs.tr.limit:#x}"]


def code(guest: DeadGuest, after: int, before: int = 0) -> list[str]:
    """So many instructions from RIP on, and `before` it where a way to read them ends at RIP."""
    data = guest.read(guest.rip, after * LONGEST_INSTRUCTION)
    if not data:
        return [f"{guest.rip:#x} is not mapped to guest memory: there are no instructions to show."]
    shown = list(disassemble(data, guest.rip, guest.bits, guest.symbols))[:after]
    earlier = _instructions_before(guest)[-before:] if before else []
    text = listing([*earlier, *shown], with_code=True, mark=guest.rip).splitlines()
    if name := guest.name(guest.rip):
        text.insert(0, f"in {name}:")
    return text


def _instructions_before(guest: DeadGuest) -> list[Instruction]:
    """Instructions have no beginning that shows: the longest run of real ones that ends at RIP is taken."""
    start = max(0, guest.rip - _BEFORE)
    if guest.symbols and (found := guest.symbols.find(guest.rip)):
        start = max(start, guest.rip - found[1])
    for at in range(start, guest.rip):
        data = guest.read(at, guest.rip - at)
        if len(data) < guest.rip - at:
            continue
        run = list(disassemble(data, at, guest.bits, guest.symbols))
        if not any(one.text.startswith(".byte") for one in run):
            return run
    return []


def page_walk(guest: DeadGuest, what: str, address: int) -> list[str]:
    gpa = guest.translate(address)
    where = f"guest physical {gpa:#x}" if gpa is not None else "not mapped to RAM"
    lines = [f"{what} {address:#x}: {where}"]
    for step in steps(guest.memory, guest.sregs, address):
        flags = _flags(step.value)
        lines.append(f"  {step.table:<4} at {step.gpa:#x}: {step.value:#018x}  {flags}")
    return lines


def _flags(entry: int) -> str:
    if not entry & 1:
        return "not present"
    names = ((1, "write"), (2, "user"), (5, "accessed"), (6, "dirty"), (7, "large"), (63, "no execute"))
    return " ".join(name for bit, name in names if entry >> bit & 1) or "read only"


def interrupt_table(guest: DeadGuest) -> list[str]:
    """The entries of the exceptions that guests die of, and of the one that is about to be delivered."""
    events = guest.events
    current = int(events.exception.nr) if events.exception.injected or events.exception.pending else None
    lines = []
    for vector in sorted({6, 8, 13, 14} | ({current} if current is not None else set())):
        mark = "-> " if vector == current else "   "
        lines.append(f"{mark}{vector:3} {EXCEPTIONS.get(vector, ''):4} {_gate(guest, vector)}")
    return lines


def _gate(guest: DeadGuest, vector: int) -> str:
    size = 16 if guest.bits == 64 else 8 if guest.sregs.cr0 & 1 else 4
    if (vector + 1) * size - 1 > guest.sregs.idt.limit:
        return "beyond the limit of the interrupt table"
    raw = guest.read(int(guest.sregs.idt.base) + vector * size, size)
    if len(raw) < size:
        return "not mapped to RAM"
    if size == 4:
        return f"{int.from_bytes(raw[2:4], 'little'):#x}:{int.from_bytes(raw[:2], 'little'):#x}"
    offset = int.from_bytes(raw[:2], "little") | int.from_bytes(raw[6:8], "little") << 16
    if size == 16:
        offset |= int.from_bytes(raw[8:12], "little") << 32
    if not raw[5] & 0x80:
        return "not present"
    kind = _GATES.get(raw[5] & 0xF, f"type {raw[5] & 0xF:#x}")
    stack = f", stack {raw[4] & 7} of the task" if size == 16 and raw[4] & 7 else ""
    name = guest.name(offset)
    mapped = "" if guest.translate(offset) is not None else ", which is not mapped to RAM"
    return f"{kind} to {int.from_bytes(raw[2:4], 'little'):#x}:{offset:#x} {name}{stack}{mapped}".rstrip()


def backtrace(guest: DeadGuest) -> list[str]:
    """Who called, and what on the stack are addresses of code."""
    from corral.observe.unwind import Unwinder

    width = 8 if guest.bits == 64 else 4
    content = guest.read(guest.rsp, _MOST_WORDS * width)
    if not content:
        return [f"the stack at {guest.rsp:#x} is not mapped to guest memory"]
    lines = []
    if guest.symbols and width == 8:
        found, guessed = Unwinder(guest.symbols, guest.read).stack(guest.rip, guest.rsp, guest.regs.rbp, content)
        how = "by return addresses on its stack that fit" if guessed else "by frame pointers"
        lines += [f"called, {how}:", *(f"  {address:016x}  {guest.name(address)}" for address in found), ""]
    lines.append("the stack:")
    for at in range(0, len(content) - width + 1, width):
        word = int.from_bytes(content[at : at + width], "little")
        name = guest.name(word)
        if name or at < 16 * width:
            lines.append(f"  {guest.rsp + at:#x}: {word:0{width * 2}x}  {name}".rstrip())
    return lines


def exits(last: Iterable[TracedExit], guest: DeadGuest) -> list[str]:
    from corral.observe.trace_files import title

    rows = list(last)
    lines = []
    for exit in rows:
        value = f" = {exit.value:#x}" if exit.size else ""
        before = (exit.time - rows[-1].time) / 1e6
        where = guest.name(exit.rip) or f"{exit.rip:#x}"
        lines.append(f"{before:12.3f} ms  vcpu{exit.vcpu} {title(exit)}{value} at {where}, by {exit.by}")
    return lines or ["none were recorded"]


def console(said: bytes, lines: int) -> list[str]:
    """Printable: a guest's escape sequences do nothing to the reader's terminal."""
    text = said.decode("ascii", "replace").replace("\r", "").split("\n")
    shown = ["".join(c if c.isprintable() else "." for c in line) for line in text if line.strip()]
    return [f"  {line[:_LINE_WIDTH]}" for line in shown[-lines:]]

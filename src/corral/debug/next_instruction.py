"""Where a vCPU in 64-bit mode can be after one instruction: for steps that no KVM delivers."""

from __future__ import annotations

import struct

import capstone
from capstone import x86

from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from corral.native import CData

    Read = Callable[[int, int], bytes]  # linear address and length; as many bytes as are mapped

LONGEST = 15  # bytes of an instruction
EXCEPTIONS = (*range(2), *range(3, 18), *range(19, 32))  # without NMI and machine check, which come by themselves
VECTORS = range(256)
_GATE = struct.Struct("<HHBBHII")  # offset 0 to 15, selector, stack, type, offset 16 to 31, offset 32 to 63, nothing
_PRESENT = 0x80
# CS and SS of programs in Linux' own GDT. An IRETQ with both the processor does by itself, at CPL 3; a guest whose
# kernel runs there returns to its kernel so, and to its programs with a selector that the processor refuses.
_HOST_CS, _HOST_SS = 0x33, 0x2B
_UPPER_HALF, _MASK = 1 << 63, (1 << 64) - 1
_IRET = (x86.X86_INS_IRET, x86.X86_INS_IRETD, x86.X86_INS_IRETQ)
_SYSRET = (x86.X86_INS_SYSRET, x86.X86_INS_SYSRETQ, x86.X86_INS_SYSEXIT, x86.X86_INS_SYSEXITQ)
_RET = (x86.X86_INS_RET, x86.X86_INS_RETF, x86.X86_INS_RETFQ)
_WITH_TARGET = (x86.X86_INS_JMP, x86.X86_INS_CALL)


@record(frozen=True)
class Next:
    """`addresses` are where the code may go on; none when a program does, or the bytes are no instruction. `waits`: it
    is over only when an interrupt comes."""

    addresses: tuple[int, ...] = ()
    waits: bool = False


def after(rip: int, regs: CData, sregs: CData, read: Read) -> Next:
    """Of the kernel's instruction at RIP, if it does not fault. An instruction that goes to itself is followed by what
    is behind it."""
    engine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    engine.detail = True
    found = next(engine.disasm(read(rip, LONGEST), rip, 1), None)
    if found is None:
        return Next()
    behind = rip + found.size
    if found.id in _IRET:
        return Next(_of_frame(read(regs.rsp, 40)))
    if found.id in _SYSRET:
        return Next()
    if found.id in _RET:
        return Next(_word(read(regs.rsp, 8)))
    if found.id in _WITH_TARGET:
        return Next(_target(found, regs, sregs, read))
    if found.group(x86.X86_GRP_JUMP):
        return Next(tuple({found.operands[0].imm & _MASK, behind} - {rip}))
    return Next((behind,), found.id == x86.X86_INS_HLT)


def entries(vectors: Iterable[int], sregs: CData, read: Read) -> set[int]:
    """Handlers of these vectors, by the interrupt table."""
    table = read(sregs.idt.base, min(sregs.idt.limit + 1, len(VECTORS) * _GATE.size))
    found = set()
    for vector in vectors:
        if (vector + 1) * _GATE.size <= len(table):
            low, _, _, kind, middle, high, _ = _GATE.unpack_from(table, vector * _GATE.size)
            if kind & _PRESENT:
                found.add(low | middle << 16 | high << 32)
    return found


def length_of(code: bytes) -> int:
    """Of the first instruction; 0 when it is none."""
    engine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    return next((size for _, size, _, _ in engine.disasm_lite(code, 0, 1)), 0)


def _of_frame(frame: bytes) -> tuple[int, ...]:
    if len(frame) < 40:
        return ()
    rip, cs, _, _, ss = struct.unpack("<5Q", frame)
    to_kernel = rip >= _UPPER_HALF or (cs, ss) == (_HOST_CS, _HOST_SS) or not cs & 3
    return (rip,) if to_kernel else ()


def _target(found: Any, regs: CData, sregs: CData, read: Read) -> tuple[int, ...]:
    operand = found.operands[0]
    if operand.type == x86.X86_OP_IMM:
        return (operand.imm & _MASK,)
    if operand.type == x86.X86_OP_REG:
        return (int(getattr(regs, found.reg_name(operand.reg))),)
    memory = operand.mem
    address = memory.disp
    if memory.base:
        base = found.reg_name(memory.base)
        address += found.address + found.size if base == "rip" else getattr(regs, base)
    if memory.index:
        address += getattr(regs, found.reg_name(memory.index)) * memory.scale
    if memory.segment in (x86.X86_REG_FS, x86.X86_REG_GS):
        address += getattr(sregs, found.reg_name(memory.segment)).base
    return _word(read(address & _MASK, 8))


def _word(data: bytes) -> tuple[int, ...]:
    return struct.unpack("<Q", data) if len(data) == 8 else ()

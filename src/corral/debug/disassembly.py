"""Machine code as text: Intel's or AT&T's way, with the names of what is called, jumped to and referred to."""

from __future__ import annotations

from itertools import islice

import capstone
from capstone import x86

from corral.errors import ConfigError
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from corral.symbols.table import Symbols

_MODES = {16: capstone.CS_MODE_16, 32: capstone.CS_MODE_32, 64: capstone.CS_MODE_64}

LONGEST = 64 << 10  # bytes of a function, or what has no end that is known
LONGEST_INSTRUCTION = 15  # bytes
SOME = 16  # instructions, where no function is


@record(frozen=True)
class Instruction:
    """`label`: the name of the function that begins here. `note`: what it refers to. What is no instruction is `.byte`,
    a byte each."""

    HEX = ("address",)

    address: int
    code: bytes
    text: str
    label: str = ""
    note: str = ""

    def __str__(self) -> str:
        return f"{self.address:16x}  {self.text}" + (f"  # {self.note}" if self.note else "")


def disassemble(
    code: bytes, address: int, bits: int = 64, symbols: Symbols | None = None, att: bool = False
) -> Iterator[Instruction]:
    """All of `code`, which lies at the linear `address`; `bits` is the mode of the CPU: 16, 32 or 64."""
    engine = capstone.Cs(capstone.CS_ARCH_X86, _MODES[bits])
    engine.detail = True
    if att:
        engine.syntax = capstone.CS_OPT_SYNTAX_ATT
    at = 0
    while at < len(code):
        for found in engine.disasm(code[at:], address + at):
            text = f"{found.mnemonic} {found.op_str}".rstrip()
            yield Instruction(
                found.address, bytes(found.bytes), text, _label(found.address, symbols), _note(found, symbols)
            )
            at += found.size
        if at < len(code):
            yield Instruction(address + at, code[at : at + 1], f".byte {code[at]:#04x}", _label(address + at, symbols))
            at += 1


class Listing:
    """Pieces of code in some memory. `read(address, length)` gives as many bytes as there are."""

    def __init__(
        self, read: Callable[[int, int], bytes], bits: int = 64, symbols: Symbols | None = None, att: bool = False
    ) -> None:
        self._read, self._bits, self._symbols, self._att = read, bits, symbols, att

    def instructions(self, start: int, end: int | None = None, count: int | None = None) -> list[Instruction]:
        """From `start` to `end`, or `count`; without either to the end of the function, or some where that is not
        known. Raises ConfigError where nothing can be read."""
        if end is None and count is None:
            end = self._symbols.end(start) if self._symbols else None
            count = SOME if end is None else None
        length = min(LONGEST if end is None else end - start, LONGEST if count is None else count * LONGEST_INSTRUCTION)
        code = self._read(start, min(length, LONGEST))
        if not code:
            raise ConfigError(f"{start:#x} is not mapped to memory: there is no code to show")
        return list(islice(disassemble(code, start, self._bits, self._symbols, self._att), count))


def listing(instructions: Iterable[Instruction], with_code: bool = False, mark: int | None = None) -> str:
    """Lines; `with_code`: the bytes too. `mark`: an arrow at the instruction of this address."""
    lines: list[str] = []
    for one in instructions:
        if one.label:
            lines += [""] * bool(lines) + [f"{one.label}:"]
        arrow = "" if mark is None else "-> " if one.address == mark else "   "
        code = f"  {one.code.hex(' '):<30}" if with_code else ""
        note = f"  # {one.note}" if one.note else ""
        lines.append(f"{arrow}{one.address:16x}{code}  {one.text}{note}")
    return "\n".join(lines)


def _label(address: int, symbols: Symbols | None) -> str:
    found = symbols.find(address) if symbols else None
    return found[0] if found and found[1] == 0 else ""


def _note(found: capstone.CsInsn, symbols: Symbols | None) -> str:
    """The name of a branch's target, or of the variable or function whose address is in the instruction."""
    if not symbols:
        return ""
    for operand in found.operands:
        if operand.type == x86.X86_OP_IMM:
            address = operand.imm & (1 << 64) - 1
        elif operand.type == x86.X86_OP_MEM and operand.mem.base == x86.X86_REG_RIP:
            address = found.address + found.size + operand.mem.disp & (1 << 64) - 1
        elif operand.type == x86.X86_OP_MEM and not (operand.mem.base or operand.mem.index or operand.mem.segment):
            address = operand.mem.disp & (1 << 64) - 1
        else:
            continue
        if name := symbols.near(address):
            return name
    return ""

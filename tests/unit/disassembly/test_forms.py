"""The table of forms against an independent disassembler, which cannot be loaded beside a sanitizer."""

from __future__ import annotations

import dataclasses
import random

import capstone
import pytest
from capstone import x86

from corral.native import lib
from tests.support.instructions import EVEX, Opcode, assemble, decode, opcodes

ALL = list(opcodes())
STACK = {"rsp", "esp", "sp", "spl"}
SYSTEM = {
    capstone.CS_GRP_JUMP,
    capstone.CS_GRP_CALL,
    capstone.CS_GRP_RET,
    capstone.CS_GRP_INT,
    capstone.CS_GRP_IRET,
    capstone.CS_GRP_PRIVILEGE,
}
OPERANDS_IN_REGISTERS = lib.CORRAL_GENERAL_REG | lib.CORRAL_GENERAL_RM | lib.CORRAL_GENERAL_VVVV


@pytest.fixture(scope="module")
def disassembler() -> capstone.Cs:
    disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    disassembler.detail = True
    return disassembler


@pytest.mark.parametrize("map_", range(4))
def test_the_table_agrees_with_a_disassembler(disassembler: capstone.Cs, map_: int) -> None:
    rng = random.Random(map_)
    known = 0
    for opcode in ALL:
        if opcode.map != map_:
            continue
        any_register = dataclasses.replace(opcode, flags=opcode.flags & ~OPERANDS_IN_REGISTERS)
        for n in range(16):
            made = assemble(rng, any_register, bool(n & 1), 0x5000, 0x4000)
            for instruction in disassembler.disasm(made.code, 0x4000, 1):
                check(opcode, made.code, made.memory, instruction)
                known += 1
    assert known > 200


def check(opcode: Opcode, code: bytes, memory: bool, instruction: capstone.CsInsn) -> None:
    """Length, displacement; one memory operand at most, and that encoded; nothing of the system; nothing in RSP."""
    what = f"{opcode}: {code.hex()} {instruction.mnemonic} {instruction.op_str}"
    ours = decode(code + bytes(4))
    assert ours is not None, what
    assert ours.length == instruction.size == len(code), what
    operands = [operand for operand in instruction.operands if operand.type == x86.X86_OP_MEM]
    assert len(operands) <= memory, what
    for operand in operands:
        relative = operand.mem.base == x86.X86_REG_RIP
        if opcode.encoding == EVEX and code[3] & 0x60 == 0x60:
            continue  # a vector length that no CPU has
        assert ours.address == (operand.mem.disp + (len(code) if relative else 0)) % 2**64, what
    assert opcode.has(lib.CORRAL_OPMASK) == (instruction.mnemonic[0] == "k"), what
    assert all(operand.size <= 108 for operand in operands), what
    assert not SYSTEM & set(instruction.groups), what
    registers = {instruction.reg_name(register) for group in instruction.regs_access() for register in group}
    assert not registers & {"cs", "ds", "es", "fs", "gs", "cr0"}, what
    if registers & STACK and not memory:
        assert not lib.corral_runs_natively(ours), what

"""Machine code for every form that csrc/assist/forms.c knows, with random operands."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from corral.native import CData, ffi, lib
from tests.support.native_cpu import ORDER

LEGACY, VEX, EVEX = 1, 2, 4
PREFIXES = (b"", b"\x66", b"\xf3", b"\xf2")
GENERAL = ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{n}" for n in range(8, 16))]
RSP = 4
OTHERS = [number for number in range(16) if number != RSP]


@dataclass(frozen=True)
class Opcode:
    """One opcode of a form: what a decoder needs to tell it from others."""

    encoding: int
    map: int
    byte: int
    prefix: int
    member: int | None  # of a group; None: ModRM.reg is an operand
    flags: int
    row: tuple[int, ...]  # the form, so that tests can count them

    def has(self, flag: int) -> bool:
        return bool(self.flags & flag)

    def __str__(self) -> str:
        encoding = {LEGACY: "", VEX: "vex ", EVEX: "evex "}[self.encoding]
        member = "" if self.member is None else f" /{self.member}"
        return f"{encoding}{PREFIXES[self.prefix].hex()} {self.map}:{self.byte:02x}{member}"


def row_of(form: CData) -> tuple[int, ...]:
    return (form.encodings, form.first, form.last, form.prefixes, form.members, form.flags)


def opcodes() -> Iterator[Opcode]:
    """All that runs natively."""
    for encoding in (LEGACY, VEX, EVEX):
        for number in range(4 << 8):
            for prefix in range(4):
                yield from _members(encoding, number, prefix)


def _members(encoding: int, number: int, prefix: int) -> Iterator[Opcode]:
    seen = set()
    for member in range(8):
        for mod in (0, 0xC0):
            form = lib.corral_form_of(encoding, number, prefix, mod | member << 3)
            if form == ffi.NULL or not form.flags & lib.CORRAL_NATIVE:
                continue
            grouped = number >> 8 == 0 or form.members or number in (0x171, 0x172, 0x173, 0x2F3)
            which = member if grouped and not form.flags & lib.CORRAL_NO_MODRM else None
            if (which, row_of(form)) not in seen:
                seen.add((which, row_of(form)))
                map_, byte = number >> 8, number & 0xFF
                yield Opcode(encoding, map_, byte, prefix, which, form.flags, row_of(form))


def decode(code: bytes) -> CData | None:
    """None: it is not known."""
    regs, sregs = ffi.new("struct kvm_regs *"), ffi.new("struct kvm_sregs *")
    sregs.cs.l = 1
    instruction = ffi.new("struct corral_instruction *")
    return instruction if lib.corral_decode(instruction, code, len(code), regs, sregs) else None


@dataclass
class Instruction:
    code: bytes
    memory: bool
    registers: dict[str, int] = field(default_factory=dict)  # that its address is made of
    scaled: bool = False  # with a displacement of 8 bits that counts in more than bytes


def assemble(rng: random.Random, opcode: Opcode, memory: bool, target: int, rip: int) -> Instruction:
    """One instruction of `opcode`; its memory operand, if it has one, is at `target`. No operand is in RSP."""
    wide, r, x, b = (rng.randrange(2) for _ in range(4))
    vvvv = rng.choice([0, rng.choice(OTHERS)])  # 0 stands for none too
    length, masked = rng.randrange(4 if opcode.encoding == EVEX else 2), rng.random() < 0.5
    zeroing, broadcast = masked and rng.random() < 0.3, rng.random() < 0.2
    mask, high_r, high_v = rng.randrange(1, 8) if masked else 0, rng.randrange(2), rng.randrange(2)
    if vvvv == 0:
        high_v = 0
    if opcode.encoding == LEGACY and rng.random() < 0.3:
        wide = r = x = b = 0
    reg = rng.randrange(8) if opcode.member is None else opcode.member
    if opcode.has(lib.CORRAL_GENERAL_REG) and reg | r << 3 == RSP:
        reg = 5
    if opcode.has(lib.CORRAL_GENERAL_REG):
        high_r = 0
    rm = rng.randrange(8)
    if opcode.has(lib.CORRAL_GENERAL_RM) and rm | b << 3 == RSP:
        rm = 6
    scale = 1
    if opcode.encoding == EVEX:
        scale = (8 if wide else 4) if broadcast else 16 << length
        if not opcode.has(lib.CORRAL_FULL):
            scale = 0

    head = _head(opcode, wide, r, x, b, vvvv, length)
    if opcode.encoding == EVEX:
        high = ((high_r ^ 1) << 4) | opcode.map
        head[1] = head[1] & 0xE0 | high
        head.append(zeroing << 7 | (length & 3) << 5 | broadcast << 4 | (high_v ^ 1) << 3 | mask)
    if opcode.encoding == LEGACY:
        rex = 0x40 | wide << 3 | r << 2 | x << 1 | b
        tail = b"" if opcode.map == 0 else (b"\x0f", b"\x0f\x38", b"\x0f\x3a")[opcode.map - 1]
        second = b"\x66" if opcode.prefix > 1 and opcode.has(lib.CORRAL_NO_STATE) and rng.random() < 0.3 else b""
        before = second + PREFIXES[opcode.prefix] + (bytes([rex]) if rex != 0x40 or rng.random() < 0.2 else b"") + tail
    else:
        before = bytes(head)
    before += bytes([opcode.byte])
    immediate = b""
    if opcode.map == 3 or opcode.has(lib.CORRAL_IMMEDIATE):
        immediate = rng.randbytes(1)
    if opcode.has(lib.CORRAL_NO_MODRM):
        return Instruction(before + immediate, False)
    if not memory or opcode.has(lib.CORRAL_REGISTER):
        return Instruction(before + bytes([0xC0 | reg << 3 | rm]) + immediate, False)
    operand, registers = _address(rng, reg, x, b, scale, target, rip + len(before), len(immediate))
    scaled = opcode.encoding == EVEX and operand[0] >> 6 == 1
    return Instruction(before + operand + immediate, True, registers, scaled)


def _head(opcode: Opcode, wide: int, r: int, x: int, b: int, vvvv: int, length: int) -> bytearray:
    inverted = (r ^ 1) << 7 | (x ^ 1) << 6 | (b ^ 1) << 5 | opcode.map
    fields = wide << 7 | (vvvv ^ 15) << 3 | opcode.prefix
    if opcode.encoding == EVEX:
        return bytearray([0x62, inverted, fields | 4])
    fields |= (length & 1) << 2
    if not (x or b or wide) and opcode.map == 1:
        return bytearray([0xC5, fields & 0x7F | (r ^ 1) << 7])
    return bytearray([0xC4, inverted, fields])


def _address(
    rng: random.Random, reg: int, x: int, b: int, scale: int, target: int, at: int, behind: int
) -> tuple[bytes, dict[str, int]]:
    """ModRM, SIB and displacement, and what the registers in it must be."""
    kind = rng.choice(["relative", "base", "sib", "sib"])
    if kind == "relative":
        displacement = target - (at + 5 + behind)
        return bytes([reg << 3 | 5]) + displacement.to_bytes(4, "little", signed=True), {}
    mod = rng.choice([0, 1, 2] if scale else [0, 2])
    short = rng.randrange(-128, 128)
    displacement = {0: 0, 1: short * scale, 2: rng.randrange(-(2**31), 2**31)}[mod]
    encoded = {0: b"", 1: short.to_bytes(1, "little", signed=True), 2: displacement.to_bytes(4, "little", signed=True)}
    base = rng.choice([0, 1, 2, 3, 6, 7])
    if kind == "base":
        register = GENERAL[base | b << 3]
        return bytes([mod << 6 | reg << 3 | base]) + encoded[mod], {register: (target - displacement) % 2**64}
    index = rng.choice([number for number in range(8) if number != base and (number != RSP or x)])
    factor = rng.randrange(4)
    sib = bytes([factor << 6 | index << 3 | base])
    indexing, register = GENERAL[index | x << 3], GENERAL[base | b << 3]
    value = rng.getrandbits(64)
    rest = (target - displacement - (value << factor)) % 2**64
    return bytes([mod << 6 | reg << 3 | 4]) + sib + encoded[mod], {indexing: value, register: rest}


assert sorted(ORDER) == sorted(GENERAL)

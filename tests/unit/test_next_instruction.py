"""Where code goes on, by the instruction that it is at."""

from __future__ import annotations

import struct

import pytest

from corral.debug.next_instruction import Next, after, entries, length_of
from corral.native import CData, ffi

RIP, DATA, STACK = 0xFFFFFFFF81000000, 0x2000, 0x3000
KERNEL, USER = 0xFFFFFFFF81234567, 0x401000
HOST_CS, HOST_SS, GUESTS_SS, KERNEL_CS = 0x33, 0x2B, 0x3B, 0x10


def state() -> tuple[CData, CData]:
    regs, sregs = ffi.new("struct kvm_regs *"), ffi.new("struct kvm_sregs *")
    regs.rip, regs.rsp, regs.rax, regs.rcx, regs.r11 = RIP, STACK, DATA, 2, KERNEL
    sregs.gs.base = DATA
    return regs, sregs


def of(code: str, stack: tuple[int, ...] = (), data: tuple[int, ...] = ()) -> Next:
    """Of code at RIP, with words at RSP and at DATA."""
    areas = {RIP: bytes.fromhex(code), STACK: struct.pack(f"<{len(stack)}Q", *stack)}
    areas[DATA] = struct.pack(f"<{len(data)}Q", *data)

    def read(address: int, length: int) -> bytes:
        for start, content in areas.items():
            if start <= address < start + len(content):
                return content[address - start :][:length]
        return b""

    return after(RIP, *state(), read)


@pytest.mark.parametrize(
    ("code", "places"),
    [
        ("90", [RIP + 1]),
        ("0f30", [RIP + 2]),  # WRMSR
        ("f3aa", [RIP + 2]),  # REP STOSB
        ("e810000000", [RIP + 0x15]),  # CALL
        ("eb10", [RIP + 0x12]),  # JMP
        ("e9fbffffff", [RIP]),  # JMP to itself
        ("7410", [RIP + 0x12, RIP + 2]),  # JE
        ("0f8400010000", [RIP + 0x106, RIP + 6]),
        ("e2fe", [RIP + 2]),  # LOOP to itself
        ("e3f0", [RIP - 14, RIP + 2]),  # JRCXZ
        ("41ffe3", [KERNEL]),  # JMP R11
        ("ffd0", [DATA]),  # CALL RAX
        ("3effe0", [DATA]),  # NOTRACK JMP RAX
    ],
)
def test_code_and_registers_tell(code: str, places: list[int]) -> None:
    found = of(code)
    assert (sorted(found.addresses), found.waits) == (sorted(places), False)


@pytest.mark.parametrize(
    ("code", "place"),
    [
        ("ff20", 1),  # JMP [RAX]
        ("ff6010", 3),  # JMP [RAX + 16]
        ("ff24c8", 3),  # JMP [RAX + RCX * 8]
        ("ff14cd08200000", 4),  # CALL [RCX * 8 + DATA + 8]
        ("65ff142508000000", 2),  # CALL GS:[8]
    ],
)
def test_memory_tells(code: str, place: int) -> None:
    assert of(code, data=(1, 2, 3, 4)).addresses == (place,)


def test_memory_that_rip_finds() -> None:
    regs, sregs = state()
    code = {RIP: bytes.fromhex("ff2510000000")}  # JMP [RIP + 16]
    found = after(RIP, regs, sregs, lambda at, length: code.get(at, struct.pack("<Q", at)))
    assert found.addresses == (RIP + 6 + 16,)


@pytest.mark.parametrize("code", ["c3", "c20800", "f3c3"])
def test_a_return(code: str) -> None:
    assert of(code, stack=(KERNEL,)).addresses == (KERNEL,)
    assert of(code).addresses == (), "its stack is not there"


@pytest.mark.parametrize(
    ("frame", "places"),
    [
        ((KERNEL, KERNEL_CS, 2, STACK, 0), (KERNEL,)),
        ((KERNEL, HOST_CS, 2, STACK, HOST_SS), (KERNEL,)),  # natively
        ((USER, HOST_CS, 2, STACK, HOST_SS), (USER,)),  # of a kernel in the lower half, which this must be
        ((USER, HOST_CS, 2, STACK, GUESTS_SS), ()),
        ((USER,), ()),
    ],
)
def test_iretq(frame: tuple[int, ...], places: tuple[int, ...]) -> None:
    assert of("48cf", stack=frame).addresses == places


def test_what_ends_in_a_program_or_in_nothing() -> None:
    assert of("480f07") == Next()  # SYSRETQ
    assert of("06") == Next()  # no instruction
    assert of("") == Next()


def test_hlt_waits() -> None:
    assert of("f4") == Next((RIP + 1,), True)


def test_handlers_by_the_interrupt_table() -> None:
    sregs = ffi.new("struct kvm_sregs *")
    sregs.idt.base, sregs.idt.limit = DATA, 3 * 16 - 1
    gate = struct.Struct("<HHBBHII")
    present = gate.pack(KERNEL & 0xFFFF, KERNEL_CS, 1, 0x8E, KERNEL >> 16 & 0xFFFF, KERNEL >> 32, 0)
    table = {DATA: present + bytes(16) + present}
    assert entries(range(256), sregs, lambda at, length: table[at][:length]) == {KERNEL}
    assert entries([1, 200], sregs, lambda at, length: table[at][:length]) == set()
    assert entries(range(256), sregs, lambda at, length: b"") == set()


def test_lengths() -> None:
    assert [length_of(bytes.fromhex(code)) for code in ("90", "488b4018", "06", "")] == [1, 4, 0, 0]

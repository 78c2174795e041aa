"""INT n, INT3, INTO and INT1 from CPL 3 in each mode: by a gate that is open to them, else #GP (SDM 2A, INT n)."""

from __future__ import annotations

import subprocess
import sys

import pytest

from corral.kvm.system import Kind, host_kind
from tests.support.tiny_guests import flat

USER = 0x201000  # where the instructions are
CODE_64, CODE_32 = 0x1B, 0x3B
OPEN, CLOSED = 0xEE, 0x8E
GP, UD = 13, 6
OVERFLOW = "mov $0x7fffffff,%eax;.byte 0x83,0xc0,0x01;"  # 8 bytes; the carry stays clear

# Instructions, the vector that they name, how far on the frame's address is.
INTERRUPTS = [("int $0x80", 0x80, 2), ("int $0x20", 0x20, 2), ("int $0xff", 0xFF, 2), ("nop;int $0x81", 0x81, 3)]
OF_32_BITS = [*INTERRUPTS, ("int3", 3, 1), (".byte 0xcd,3", 3, 2), (OVERFLOW + ".byte 0xce", 4, 9)]


def run(name: str, mode: str, instructions: str, **defines: int | str) -> list[int]:
    """The words that the guest prints."""
    bits = 64 if mode == "long" else 32
    kernel = flat(name, 0x200000, bits, INSTRUCTIONS=instructions, **defines)
    command = [sys.executable, "-m", "corral", "boot", str(kernel), "--flat", f"{mode}@0x200000"]
    command += ["--debug-exit", "0xf4", "--timeout", "20"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stderr) == (33, "")
    return [int(word, 16) for word in done.stdout.split()]


def in_long_mode(instructions: str, code: int = CODE_64, gates: int = OPEN, **defines: int) -> list[int]:
    return run("user_interrupt", "long", instructions, CODE_3=code, GATES=gates, **defines)


@pytest.mark.parametrize(("instructions", "vector", "length"), [*INTERRUPTS, ("int3", 3, 1)])
def test_64_bit_code_through_an_open_gate(instructions: str, vector: int, length: int) -> None:
    assert in_long_mode(instructions) == [vector, USER + length, CODE_64, 2, 0x260000]


@pytest.mark.parametrize(("instructions", "vector", "length"), INTERRUPTS)
def test_64_bit_code_through_a_gate_that_is_closed_to_it(instructions: str, vector: int, length: int) -> None:
    words = in_long_mode(instructions, gates=CLOSED)
    assert words[:4] == [GP, vector << 3 | 2, USER + length - 2, CODE_64]


@pytest.mark.parametrize(("instructions", "vector", "length"), OF_32_BITS)
def test_32_bit_code_of_long_mode(instructions: str, vector: int, length: int) -> None:
    words = in_long_mode(instructions, CODE_32)
    assert words[:3] == [vector, USER + length, CODE_32]
    assert words[4] == 0x260000
    if instructions != "nop;int $0x81":
        start = USER + (8 if vector == 4 else 0)
        assert in_long_mode(instructions, CODE_32, CLOSED)[:4] == [GP, vector << 3 | 2, start, CODE_32]


@pytest.mark.parametrize("level", [0, 3])
@pytest.mark.parametrize(("instructions", "vector", "length"), OF_32_BITS)
def test_protected_mode(instructions: str, vector: int, length: int, level: int) -> None:
    words = run("interrupt_32", "protected", instructions, LEVEL=level, GATES=OPEN)
    assert words[:3] == [vector, USER + length, 0x1B if level else 8]
    if level:
        assert words[4] == 0x260000
        words = run("interrupt_32", "protected", instructions, LEVEL=level, GATES=CLOSED)
        assert words[:2] == [GP, vector << 3 | 2]


@pytest.mark.parametrize("code", [CODE_64, CODE_32])
def test_int1_asks_no_gate(code: int) -> None:
    assert in_long_mode(".byte 0xf1", code, CLOSED)[0] == 1


@pytest.mark.parametrize("code", [CODE_64, CODE_32])
def test_what_is_invalid_stays_so(code: int) -> None:
    assert in_long_mode("ud2", code)[:3] == [UD, USER, code]
    assert in_long_mode(".byte 0x0f,0x04", code)[:3] == [UD, USER, code]


def test_into_without_an_overflow_goes_on() -> None:
    assert in_long_mode("xor %eax,%eax;.byte 0xce;ud2", CODE_32)[:2] == [UD, USER + 3]
    assert in_long_mode(".byte 0xce")[:2] == [UD, USER]  # 64-bit code has none


def test_32_bit_code_computes() -> None:
    """Such code is interpreted on a pagetable KVM, with the assist."""
    words = in_long_mode("mov $0xff,%ebx;popcnt %ebx,%eax;cmp $8,%eax;jne .;int $0x80", CODE_32)
    assert words[:2] == [0x80, USER + 16]


@pytest.mark.parametrize("way", ["EARLY", "ABSENT"])
def test_the_table_may_be_filled_later_or_in_part(way: str) -> None:
    assert in_long_mode("int $0x80", **{way: 1})[:2] == [0x80, USER + 2]
    assert in_long_mode("int $0x80", gates=CLOSED, **{way: 1})[:2] == [GP, 0x80 << 3 | 2]


def test_a_handler_that_begins_with_clac_needs_no_lidt_in_sight() -> None:
    """As Linux's does."""
    assert in_long_mode("int $0x80", CLAC=1, HIDDEN=1)[:2] == [0x80, USER + 2]


@pytest.mark.skipif(host_kind() is not Kind.PAGETABLE, reason="a CPU does it by itself")
def test_an_lidt_that_nothing_tells_of_is_a_limit() -> None:
    """docs/hosts.md names it. When this fails, that can go."""
    assert in_long_mode("int $0x80", HIDDEN=1)[0] == UD


@pytest.mark.parametrize(
    ("frame", "level", "error"),
    [
        ("push $2;push $0x1000;push $0", 0, 0x1000),  # behind the table
        ("push $2;push $0x10;push $0", 0, 0x10),  # data
        ("push $2;push $0;push $0", 0, 0),
        ("push $2;push $8;push $0", 3, 8),  # inwards
        ("push $0x10;push $0;push $2;push $0x1b;push $0", 0, 0x10),  # a stack of another level
    ],
)
def test_iret_to_what_cannot_be_is_a_protection_fault(frame: str, level: int, error: int) -> None:
    words = run("interrupt_32", "protected", frame + ";iret", LEVEL=level, GATES=OPEN)
    assert words[:2] == [GP, error]

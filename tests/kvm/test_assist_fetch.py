"""Where an instruction's bytes come from that Corral completes: KVM's end with a page, the rest are the guest's."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

import pytest

from corral.config import MachineConfig
from corral.machine import Machine
from corral.native import CData, lib
from tests.support.tiny_guests import tiny_guest

PAGE = 0x1000
TABLES, FIRST, SECOND = 0x10000, 0x20000, 0x21000  # guest physical
CODE = 0x40000000  # linear
PRESENT, WRITE, USER, NO_EXECUTE = 1, 2, 4, 1 << 63
PG, PAE, SMEP, LONG, NXE = 1 << 31, 1 << 5, 1 << 20, 0x500, 1 << 11
GP, PF = 13, 14
POPCNT = bytes.fromhex("f30fb8c3")  # popcnt eax, ebx
WHOLE = [
    POPCNT,
    bytes.fromhex("f30fb80425") + struct.pack("<I", CODE),  # popcnt eax, [CODE]
    bytes.fromhex("66660fae3c25") + struct.pack("<I", CODE),  # clflushopt [CODE]
    bytes.fromhex("0f01ca"),  # clac
    bytes.fromhex("c5fd6f0425") + struct.pack("<I", CODE),  # vmovdqa ymm0, [CODE]
]


class Guest:
    """64-bit code on two pages, of which the second is mapped as a test wants."""

    def __init__(self, machine: Machine) -> None:
        vcpu = machine.vcpus[0]
        vcpu.assist()
        self.vcpu: CData = vcpu.native
        self.memory = machine.memory
        state = lib.corral_assist_state(self.vcpu)
        self.regs, self.sregs, self.events = state.regs, state.sregs, state.events
        self.sregs.cs.l = 1
        self.sregs.cr0, self.sregs.cr3, self.sregs.cr4 = PG | 1, TABLES, PAE | 1 << 9 | 1 << 18
        self.sregs.efer = LONG | NXE
        self.regs.rflags = 2
        for level, shift in enumerate((39, 30, 21)):
            entry = struct.pack("<Q", TABLES + (level + 1) * PAGE | PRESENT | WRITE | USER)
            self.memory.write(TABLES + level * PAGE + (CODE >> shift & 511) * 8, entry)
        self.map(PRESENT | USER)

    def map(self, second: int) -> None:
        entries = struct.pack("<2Q", FIRST | PRESENT | USER, SECOND | second if second else 0)
        self.memory.write(TABLES + 3 * PAGE + (CODE >> 12 & 511) * 8, entries)

    def complete(self, code: bytes, before: int) -> int:
        """`code`, of which that much is on the first page and known; the rest is in memory."""
        self.regs.rip = CODE + PAGE - before
        self.memory.write(FIRST + PAGE - before, code[:before])
        self.memory.write(SECOND, code[before:] + bytes(16))
        self.events.exception.injected = 0
        return int(lib.corral_assist_complete(self.vcpu, code[:before], before))

    def fault(self) -> tuple[int, int, int] | None:
        """Vector, error code and CR2 of what is delivered."""
        e = self.events.exception
        return (e.nr, e.error_code, self.sregs.cr2) if e.injected else None


@pytest.fixture
def guest() -> Iterator[Guest]:
    with Machine(MachineConfig(kernel=str(tiny_guest("hello")), memory=16 << 20)) as machine:
        yield Guest(machine)


@pytest.mark.parametrize("code", WHOLE, ids=bytes.hex)
def test_the_rest_is_on_the_next_page(guest: Guest, code: bytes) -> None:
    for before in range(1, len(code) + 1):
        assert guest.complete(code, before) == 1
        # AVX is off: vmovdqa is an invalid opcode, which is a fault.
        went_on = 0 if code[0] == 0xC5 else len(code)
        assert guest.regs.rip == CODE + PAGE - before + went_on, before
        assert guest.fault() == (None if went_on else (6, 0, 0))


@pytest.mark.parametrize("code", WHOLE[:4], ids=bytes.hex)
def test_nothing_behind_an_instruction_is_asked_for(guest: Guest, code: bytes) -> None:
    guest.map(0)
    assert guest.complete(code, len(code)) == 1
    assert guest.fault() is None


@pytest.mark.parametrize(
    ("second", "cpl", "features", "error"),
    [
        (0, 0, 0, 0x10),
        (PRESENT | NO_EXECUTE, 0, 0, 0x11),
        (0, 3, 0, 0x14),
        (PRESENT, 3, 0, 0x15),
        (PRESENT | USER | NO_EXECUTE, 3, 0, 0x15),
        (PRESENT | USER, 0, SMEP, 0x11),
    ],
)
def test_a_page_that_cannot_be_fetched_from_faults(
    guest: Guest, second: int, cpl: int, features: int, error: int
) -> None:
    guest.map(second)
    guest.sregs.cs.dpl = cpl
    guest.sregs.cr4 |= features
    for before in range(1, len(POPCNT)):
        assert guest.complete(POPCNT, before) == 1
        assert guest.fault() == (PF, error, CODE + PAGE)
        assert guest.regs.rip == CODE + PAGE - before


def test_without_no_execute_a_fetch_faults_as_a_read_does(guest: Guest) -> None:
    guest.sregs.efer = LONG
    guest.map(0)
    assert guest.complete(POPCNT, 2) == 1
    assert guest.fault() == (PF, 0, CODE + PAGE)
    guest.map(PRESENT | USER)
    assert guest.complete(POPCNT, 2) == 1
    assert guest.fault() is None


def test_an_instruction_of_more_than_15_bytes_is_a_protection_fault(guest: Guest) -> None:
    code = b"\x66" * 12 + POPCNT
    for before in range(1, 15):
        assert guest.complete(code, before) == 1
        assert guest.fault() == (GP, 0, 0)


def test_what_is_unknown_stays_so_at_the_end_of_a_page(guest: Guest) -> None:
    guest.map(0)
    for code in (b"\x0f\x05", b"\xf4", b"\x90"):
        assert guest.complete(code, len(code)) == 0


def test_any_bytes_on_two_pages_get_an_answer(guest: Guest) -> None:
    rng = random.Random(1)
    for _ in range(3000):
        guest.map(rng.choice([0, PRESENT | USER]))
        assert guest.complete(rng.choice([b"", b"\x0f", b"\xf3\x0f", b"\xc5"]) + rng.randbytes(15), 1) in (0, 1)
        guest.sregs.cs.l = rng.choice([0, 1])
        guest.sregs.cs.db = 1

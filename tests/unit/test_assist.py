"""Completed instructions against the real CPU, on random operands and states; and everything hostile."""

from __future__ import annotations

import ctypes
import random
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.memory import GuestMemory
from corral.native import CData, ffi, lib
from tests.support import native_cpu
from tests.support.xstate import FEATURES, SIZE, XCR0, random_state

CPU = native_cpu.load()
RAM = 1 << 20
OPERAND = 0x8000
ARITHMETIC = 0x8D5  # CF, PF, AF, ZF, SF, OF
ZF, CF, AC = 1 << 6, 1 << 0, 1 << 18
GENERAL = ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{n}" for n in range(8, 16))]
U64 = st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1]))

RANDOM = st.integers(0, 2**32).map(random.Random)  # kilobytes of state from one number


class Guest:
    """A vCPU without KVM: registers, RAM with paging off, 64-bit code at CPL 0."""

    def __init__(self) -> None:
        self.memory = GuestMemory(RAM)
        self.page = ffi.new("struct kvm_run *")
        self.assist = ffi.gc(lib.corral_assist_create(), lib.corral_assist_destroy)
        self.vcpu = ffi.new("struct corral_vcpu *")
        self.vcpu.fd = -1
        self.vcpu.run, self.vcpu.ram, self.vcpu.assist = self.page, self.memory.native, self.assist
        state = lib.corral_assist_state(self.vcpu)
        self.regs: CData = state.regs
        self.sregs: CData = state.sregs
        self.sregs.cs.l = 1

    def complete(self, code: bytes) -> int:
        return lib.corral_assist_complete(self.vcpu, code, len(code))


@pytest.fixture(scope="module")
def guest() -> Guest:
    return Guest()


def fill(guest: Guest, values: list[int], rip: int = 0x1000, rflags: int = 2) -> None:
    for name, value in zip(GENERAL, values, strict=True):
        setattr(guest.regs, name, value)
    guest.regs.rip, guest.regs.rflags = rip, rflags


REGISTERS = st.lists(U64, min_size=16, max_size=16)
OPERAND_REGISTERS = st.sampled_from([number for number in range(16) if number != 4])  # RSP is not completed


@given(REGISTERS, OPERAND_REGISTERS, OPERAND_REGISTERS, st.sampled_from([2, 4, 8]), st.integers(0, 0xFFF))
def test_popcnt_of_a_register(guest: Guest, values: list[int], to: int, of: int, size: int, flags: int) -> None:
    fill(guest, values, rflags=flags | 2)
    rex = 0x40 | (8 if size == 8 else 0) | (to >> 3) << 2 | of >> 3
    code = (b"\x66" if size == 2 else b"") + bytes([0xF3, rex, 0x0F, 0xB8, 0xC0 | (to & 7) << 3 | of & 7])
    assert guest.complete(code + b"\x90" * 4) == 1
    native_flags = ctypes.c_uint64()
    value = values[of] & (2 ** (8 * size) - 1)
    result = CPU.native_popcnt(ctypes.c_uint64(value), size, ctypes.byref(native_flags))
    expected = values[to] & ~0xFFFF | result if size == 2 else result
    assert getattr(guest.regs, GENERAL[to]) == expected
    assert guest.regs.rflags & ARITHMETIC == native_flags.value & ARITHMETIC
    assert guest.regs.rip == 0x1000 + len(code)


@given(REGISTERS, st.binary(min_size=16, max_size=16), st.booleans(), st.booleans())
def test_cmpxchg(guest: Guest, values: list[int], operand: bytes, wide: bool, equal: bool) -> None:
    values[6] = OPERAND  # RSI
    size = 16 if wide else 8
    if equal:
        low, high = struct.unpack("<QQ" if wide else "<II", operand[:size])
        values[0], values[2] = low, high
    fill(guest, values)
    guest.memory.write(OPERAND, operand)
    code = (b"\xf0\x48" if wide else b"\xf0") + b"\x0f\xc7\x0e"  # lock cmpxchg8b/16b [rsi]
    assert guest.complete(code) == 1

    raw = ctypes.create_string_buffer(48)
    aligned = (ctypes.addressof(raw) + 15) & ~15
    ctypes.memmove(aligned, operand, 16)
    registers = (ctypes.c_uint64 * 4)(values[0], values[2], values[3], values[1])
    flags = CPU.native_cmpxchg(ctypes.c_void_p(aligned), registers, int(wide))
    assert guest.memory.read(OPERAND, 16) == ctypes.string_at(aligned, 16)
    assert [guest.regs.rax, guest.regs.rdx] == [registers[0], registers[1]]
    assert guest.regs.rflags & ZF == flags & ZF


@given(REGISTERS, OPERAND_REGISTERS, st.booleans(), st.sampled_from([2, 4, 8]))
def test_random_numbers(guest: Guest, values: list[int], to: int, seed: bool, size: int) -> None:
    fill(guest, values, rflags=2 | ARITHMETIC)
    rex = 0x40 | (8 if size == 8 else 0) | to >> 3
    modrm = (0xF8 if seed else 0xF0) | to & 7
    assert guest.complete((b"\x66" if size == 2 else b"") + bytes([rex, 0x0F, 0xC7, modrm])) == 1
    assert guest.regs.rflags & ARITHMETIC in (0, CF)
    after = getattr(guest.regs, GENERAL[to])
    if size == 4:
        assert after < 2**32
    if size == 2:
        assert after & ~0xFFFF == values[to] & ~0xFFFF


def test_random_numbers_differ(guest: Guest) -> None:
    seen = set()
    for _ in range(20):
        fill(guest, [0] * 16)
        assert guest.complete(bytes.fromhex("480fc7f0")) == 1
        seen.add(guest.regs.rax)
    assert len(seen) == 20


def test_clac_and_stac(guest: Guest) -> None:
    fill(guest, [0] * 16)
    assert guest.complete(bytes.fromhex("0f01cb")) == 1
    assert guest.regs.rflags & AC
    assert guest.complete(bytes.fromhex("0f01ca")) == 1
    assert not guest.regs.rflags & AC
    assert guest.regs.rip == 0x1006


@pytest.mark.parametrize("code", ["0faee8", "0faef0", "0faef8", "0f01e8", "660fae36", "0fae3e"])
def test_barriers_only_go_on(guest: Guest, code: str) -> None:
    """LFENCE, MFENCE, SFENCE, SERIALIZE, CLWB [rsi], CLFLUSH [rsi]."""
    before = [random.getrandbits(64) for _ in range(16)]
    fill(guest, before)
    assert guest.complete(bytes.fromhex(code)) == 1
    assert [getattr(guest.regs, name) for name in GENERAL] == before
    assert guest.regs.rip == 0x1000 + len(code) // 2


# Extended state.


def masks() -> st.SearchStrategy[int]:
    return st.integers(0, 2**64 - 1).map(lambda value: value & sum(1 << bit for bit in FEATURES))


def kvm_view(state: bytearray) -> bytearray:
    """What KVM_GET_XSAVE would give for a CPU that has loaded `state`: the CPU's own standard save of it."""
    area = (ctypes.c_uint8 * SIZE)()
    CPU.native_xsave(bytes(state), area, ctypes.c_uint64(XCR0), ctypes.c_char(b"s"))
    return bytearray(area)


def assert_equal_unless_interrupted(compute: Callable[[], tuple[bytes, bytes]]) -> None:
    """A CPU may call a component that is in its initial state in use after a context switch (SDM 1, 13.6: XINUSE), and
    one can come at any time; but not three times in a row in these few instructions."""
    attempts = [compute() for _ in range(3)]
    assert any(ours == the_cpus for ours, the_cpus in attempts), "ours is not the CPU's"


@given(RANDOM, masks(), masks(), st.sampled_from("soc"))
def test_saving_agrees_with_the_cpu(rng: random.Random, in_use: int, requested: int, operation: str) -> None:
    state = random_state(rng, in_use)
    before = rng.randbytes(SIZE)
    compacted = operation == "c"
    size = lib.corral_xsave_size(requested, compacted)

    def ours_and_the_cpus() -> tuple[bytes, bytes]:
        seen = kvm_view(state)
        native = (ctypes.c_uint8 * SIZE)(*before)
        CPU.native_xsave(bytes(state), native, ctypes.c_uint64(requested), ctypes.c_char(operation.encode()))
        ours = ffi.new("uint8_t[]", before)
        lib.corral_xsave_put(bytes(seen), ours, requested, compacted, operation != "s")
        return bytes(ffi.buffer(ours, SIZE)), bytes(native)[:size] + before[size:]

    assert_equal_unless_interrupted(ours_and_the_cpus)


@given(RANDOM, masks(), masks(), masks(), st.booleans())
def test_restoring_agrees_with_the_cpu(
    rng: random.Random, in_use: int, saved: int, requested: int, compacted: bool
) -> None:
    """What the CPU saved is restored over another state, by the CPU and by us."""
    area = (ctypes.c_uint8 * SIZE)()
    operation = ctypes.c_char(b"c" if compacted else b"s")
    CPU.native_xsave(bytes(random_state(rng, in_use)), area, ctypes.c_uint64(saved), operation)
    other = random_state(rng, rng.getrandbits(8) & sum(1 << bit for bit in FEATURES))

    def ours_and_the_cpus() -> tuple[bytes, bytes]:
        native = (ctypes.c_uint8 * SIZE)(*other)
        CPU.native_xrstor(native, area, ctypes.c_uint64(requested))
        ours = ffi.new("uint8_t[]", bytes(kvm_view(other)))
        assert lib.corral_xsave_take(ours, bytes(area), requested, XCR0, False)
        return bytes(kvm_view(bytearray(ffi.buffer(ours, SIZE)))), bytes(native)

    assert_equal_unless_interrupted(ours_and_the_cpus)


@pytest.mark.parametrize(
    ("where", "value"),
    [(512, 1 << 62), (520, 1), (520, 1 << 63 | 1 << 62), (528, 1)],
    ids=["component that is not enabled", "XCOMP_BV without its format bit", "too many components", "reserved"],
)
def test_headers_that_fault(where: int, value: int) -> None:
    area = random_state(random.Random(1), 3)
    area[where : where + 8] = value.to_bytes(8, "little")
    state = ffi.new("uint8_t[]", bytes(SIZE))
    assert not lib.corral_xsave_take(state, bytes(area), XCR0, XCR0, False)


def test_mxcsr_with_reserved_bits_faults() -> None:
    area = random_state(random.Random(1), 3)
    area[24:28] = (1 << 31).to_bytes(4, "little")
    assert not lib.corral_xsave_take(ffi.new("uint8_t[]", SIZE), bytes(area), 3, XCR0, False)


TILE_DATA = 1 << 18  # of AMX: 8 KiB at 2816 in the standard format, past the end of the 4 KiB that KVM's state has


@pytest.mark.parametrize("xcomp_bv", [0, 1 << 63 | 1, 1 << 63 | 7, 1 << 63 | TILE_DATA | 1])
@pytest.mark.parametrize("only_compacted", [False, True])
def test_a_component_that_the_state_has_no_room_for_is_refused(xcomp_bv: int, only_compacted: bool) -> None:
    """Also one that is requested and that XCOMP_BV lacks: it would get its initial value."""
    area, state = bytearray(SIZE), ffi.new("uint8_t[]", b"\xa5" * SIZE)
    struct.pack_into("<QQ", area, 512, 1, xcomp_bv)
    enabled = 3 << 17 | 7
    assert not lib.corral_xsave_take(state, bytes(area), TILE_DATA | 7, enabled, only_compacted)
    assert bytes(ffi.buffer(state))[:SIZE] == b"\xa5" * SIZE
    for compacted in (False, True):
        lib.corral_xsave_put(bytes(SIZE), state, TILE_DATA | 7, compacted, False)
    assert bytes(ffi.buffer(state))[:SIZE] == b"\xa5" * SIZE


# A hostile guest: any bytes, any registers, tables that point anywhere. Nothing may be read or written outside RAM
# (the sanitizer build watches), and nothing but an answer may come back.


@given(st.binary(max_size=16), REGISTERS, RANDOM, st.booleans())
def test_any_bytes_get_an_answer(
    guest: Guest, code: bytes, values: list[int], rng: random.Random, paging: bool
) -> None:
    fill(guest, values, rip=rng.getrandbits(64), rflags=rng.getrandbits(32))
    guest.sregs.fs.base, guest.sregs.gs.base = rng.getrandbits(64), rng.getrandbits(64)
    guest.sregs.cs.dpl = rng.choice([0, 3])
    guest.sregs.cr0 = 0x80000001 if paging else 1
    guest.sregs.cr3, guest.sregs.cr4, guest.sregs.efer = rng.getrandbits(64), rng.getrandbits(24), 0x500
    try:
        assert guest.complete(code) <= 1
        opcode = rng.choice([b"\x0f\xc7", b"\x0f\xae", b"\xf3\x0f\xb8", b"\x48\x0f\xc7", b"\x0f\x01"])
        assert guest.complete(opcode + rng.randbytes(8)) <= 1
    finally:
        guest.sregs.cs.dpl = guest.sregs.cr0 = 0
        guest.sregs.fs.base = guest.sregs.gs.base = 0


@given(RANDOM)
def test_page_tables_of_garbage(guest: Guest, rng: random.Random) -> None:
    """Tables that point at themselves, at each other, outside RAM; operands across pages."""
    for table in (0x10000, 0x11000, 0x12000):
        entries = (
            rng.choice([0x10000, 0x11000, RAM, rng.getrandbits(52)]) & ~0xFFF | rng.randrange(256) for _ in range(512)
        )
        guest.memory.write(table, struct.pack("<512Q", *entries))
    guest.sregs.cr0, guest.sregs.cr3, guest.sregs.efer, guest.sregs.cr4 = 0x80010001, 0x10000, 0x500, 0
    try:
        fill(guest, [rng.getrandbits(64) for _ in range(16)])
        for code in ("f3480fb806", "480fc70e", "0fae16", "0fc726", "0fae2e"):
            assert guest.complete(bytes.fromhex(code)) <= 1
    finally:
        guest.sregs.cr0 = 0


@given(RANDOM)
def test_tables_and_frames_of_garbage(guest: Guest, rng: random.Random) -> None:
    """Gates, segments and stacks anywhere; software interrupts, IRET, LIDT, and a #UD that is to be taken back."""
    sregs = guest.sregs
    fill(guest, [rng.getrandbits(64) for _ in range(16)], rip=rng.randrange(RAM), rflags=rng.getrandbits(32))
    guest.memory.write(0x10000, rng.randbytes(0x2000))
    for table in (sregs.idt, sregs.gdt, sregs.ldt):
        table.base = rng.choice([0x10000, RAM - 8, rng.getrandbits(64)])
        table.limit = rng.choice([0, 7, 0xFFFF])
    guest.regs.rsp = rng.choice([0x10000, 0x11FF0, RAM - 8, rng.getrandbits(64)])
    sregs.cr0, sregs.efer = rng.choice([0, 1]), rng.choice([0, 0x500])
    sregs.cs.l, sregs.cs.db, sregs.ss.db = rng.choice([0, 1]), 1, 1
    sregs.cs.dpl = rng.choice([0, 3])
    try:
        for code in ("cc", "cd80", "ce", "cf", "f1", "66cf", "0f011e", "660f011e"):
            assert guest.complete(bytes.fromhex(code)) <= 1
        sregs.cs.dpl, sregs.cs.l = 0, 1
        rip = guest.regs.rip = rng.randrange(RAM)
        sregs.idt.base, sregs.idt.limit, size = 0x12000, 0xFFF, 16 if sregs.efer else 8
        gate = struct.pack("<HHHHQ", rip & 0xFFFF, 8, 0x8E00, rip >> 16, 0)
        guest.memory.write(0x12000 + 6 * size, gate[:size])
        guest.regs.rsp = rng.choice([0x10000, RAM - 16])
        before = guest.regs.rsp
        assert guest.complete(bytes.fromhex("0f01ca")) <= 1
        assert guest.regs.rsp == before or sregs.cs.dpl == 3
    finally:
        sregs.cr0 = sregs.efer = sregs.cs.dpl = sregs.cs.db = 0
        sregs.cs.l = 1


def test_an_operand_outside_ram_is_not_completed(guest: Guest) -> None:
    for address in (RAM, RAM - 8, 0xFFFFFFFF, 0xD0000000):
        fill(guest, [0] * 16)
        guest.regs.rsi = address & ~0xF if address != RAM - 8 else address
        assert guest.complete(bytes.fromhex("f3480fb806")) == (1 if address == RAM - 8 else 0)

"""Instructions that the host's CPU completes, on a vCPU's state and memory, against that CPU itself."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.native import ffi, lib
from tests.support.assisted import ARITHMETIC, EM, MP, OSFXSR, OSXSAVE, PG, SET_XSAVE, TS, TSD, VECTORS, Pair
from tests.support.instructions import EVEX, Instruction, Opcode, assemble, opcodes
from tests.support.native_cpu import ORDER, PAGE, XSAVE
from tests.support.xstate import component, random_state

ALL = list(opcodes())
UD, NM, GP = 6, 7, 13
RANDOM_BITS = {(1, 0xC7)}  # RDRAND and RDSEED, which are not to be compared


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.close()


def numbers(rng: random.Random, size: int) -> bytes:
    """Rather than noise: denormals, infinities, NaNs, small integers."""
    values = [0, 1, 0x3F800000, 0x7F800000, 0x7FC00000, 0x7FF0000000000000, 0x3FF0000000000000, 0x80000001]
    return b"".join(rng.choice(values).to_bytes(8, "little") for _ in range(size // 8))


def data(rng: random.Random) -> bytes:
    return numbers(rng, 2 * PAGE) if rng.random() < 0.2 else rng.randbytes(2 * PAGE)


def state(rng: random.Random) -> bytearray:
    """Registers of all sorts; now and then with exceptions that are not masked, or are pending already."""
    in_use = rng.choice([VECTORS, VECTORS, rng.getrandbits(8) & VECTORS])
    area = random_state(rng, in_use)
    if rng.random() < 0.3:
        area[160:416] = numbers(rng, 256)
    mxcsr = rng.choice([0x1F80, 0x1F80, rng.getrandbits(16)])
    area[24:28] = mxcsr.to_bytes(4, "little")
    if rng.random() < 0.3:
        control, status = 0x40 | rng.getrandbits(12) & 0xF3F, rng.getrandbits(15) & 0x7F7F
        pending = status & ~control & 0x3F
        area[0:2] = control.to_bytes(2, "little")
        area[2:4] = (status | (0x8080 if pending else 0)).to_bytes(2, "little")
    return area


def target(rng: random.Random, pair: Pair) -> int:
    """An operand's address: somewhere, aligned, across two pages, or across the ends of what is there."""
    edge = rng.choice([-64, -63, -33, -17, -16, -9, -8, -7, -4, -2, -1, 0])
    return pair.real.data + rng.choice(
        [rng.randrange(PAGE - 128), rng.randrange(PAGE // 64) * 64, PAGE + edge, PAGE + edge, 2 * PAGE + edge, edge]
    )


def compare(
    pair: Pair, opcode: Opcode, seed: int, wanted: Callable[[Instruction], bool] = lambda _: True
) -> int | None:
    """Runs one instruction of it both ways; the vector that it raised, None when it went on, UD when not wanted."""
    rng = random.Random(f"{opcode} {seed}")
    at = rng.randrange(PAGE - 64)
    memory = rng.random() < 0.5
    instruction = assemble(rng, opcode, memory, target(rng, pair), pair.real.place(at))
    if not wanted(instruction):
        return UD
    regs = {name: rng.getrandbits(64) for name in ORDER} | instruction.registers
    rflags = 0x202 | rng.getrandbits(12) & ARITHMETIC
    ours, real = pair.run(instruction.code, at, regs, rflags, state(rng), data(rng))
    what = f"{opcode}: {instruction.code.hex()} (seed {seed})"
    assert ours is not None, what
    if (opcode.map, opcode.byte) in RANDOM_BITS:
        assert (ours.vector, ours.went_on) == (real.vector, real.went_on)
        return real.vector
    assert ours == real, what
    return real.vector


def test_every_form_agrees_with_the_cpu(pair: Pair) -> None:
    """Each opcode a few times; each row of the table goes on at least once, on a CPU that has all of them."""
    went_on = set()
    for seed in range(40):
        for opcode in ALL:
            if (seed < 8 or opcode.row not in went_on) and compare(pair, opcode, seed) is None:
                went_on.add(opcode.row)
    if {"avx512_vbmi2", "avx512_bf16", "vaes", "gfni", "sha_ni", "movbe", "adx"} <= cpu_flags():
        assert {opcode.row for opcode in ALL} == went_on


def cpu_flags() -> set[str]:
    return set(next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if "flags" in line).split())


def test_every_scaled_displacement_agrees_with_the_cpu(pair: Pair) -> None:
    settled = 0
    for opcode in ALL:
        if opcode.encoding == EVEX and opcode.has(lib.CORRAL_FULL):
            settled += any(compare(pair, opcode, seed, lambda made: made.scaled) != UD for seed in range(200))
    assert settled > 100 or VECTORS != 0xE7


@given(st.sampled_from(ALL), st.integers(0, 2**64))
def test_any_form_agrees_with_the_cpu(pair: Pair, opcode: Opcode, seed: int) -> None:
    compare(pair, opcode, seed)


def test_the_table_has_no_row_that_nothing_reaches() -> None:
    table = Path(__file__).resolve().parents[2] / "csrc" / "assist" / "forms.c"
    rows = re.findall(r"^    \{[LVE].*\},", table.read_text(), re.MULTILINE)
    natively = [row for row in rows if "HERE" not in row and "ABSENT" not in row]
    assert len({(opcode.map, opcode.row) for opcode in ALL}) == len(natively)


VMASKMOVPS = {"load": "c4e2752c06", "store": "c4e2752e16"}  # vmaskmovps ymm0, ymm1, [rsi]; [rsi], ymm1, ymm2


@pytest.mark.skipif(not VECTORS & 4, reason="no AVX")
@pytest.mark.parametrize("operation", VMASKMOVPS)
@pytest.mark.parametrize("offset", [-16, 2 * PAGE - 16, 2 * PAGE - 32, 2 * PAGE, -32, -31])
def test_what_a_mask_spares_does_not_fault(pair: Pair, operation: str, offset: int) -> None:
    """The half that is accessed is there, or the other one, or none."""
    rng = random.Random(offset)
    area = random_state(rng, VECTORS)
    area[160 + 16 : 160 + 32] = bytes(16)
    upper, _ = component(2)
    area[upper + 16 : upper + 32] = b"\xff" * 16
    regs = dict.fromkeys(ORDER, 0) | {"rsi": pair.real.data + offset}
    ours, real = pair.run(bytes.fromhex(VMASKMOVPS[operation]), 0, regs, 0x202, area, rng.randbytes(2 * PAGE))
    assert ours == real
    assert ours.vector == (None if offset in (-16, 2 * PAGE - 32) else 14)


def raised(pair: Pair, code: str, **regs: int) -> int | None:
    """The vector that an instruction raises; -1: it is not completed."""
    for name in ORDER:
        setattr(pair.regs, name, regs.get(name, pair.real.data))
    pair.events.exception.injected = 0
    pair.regs.rip = 0x1000
    result = pair.complete(bytes.fromhex(code))
    if result == 0:
        return -1
    return int(pair.events.exception.nr) if pair.events.exception.injected else None


X87, FWAIT, MMX, SSE, AVX, AVX512, OPMASK, BMI, CRC32 = (
    "d9e8",  # fld1
    "9b",
    "0fefc0",  # pxor mm0, mm0
    "660fefc0",  # pxor xmm0, xmm0
    "c5f9efc0",  # vpxor xmm0, xmm0, xmm0
    "62f17d48efc0",  # vpxord zmm0, zmm0, zmm0
    "c5f893c0",  # kmovw eax, k0
    "c4e278f3c8",  # blsr eax, eax
    "f20f38f1c0",  # crc32 eax, eax
)
EVERYTHING = (X87, FWAIT, MMX, SSE, AVX, AVX512, OPMASK, BMI, CRC32)


@pytest.mark.parametrize(
    ("cr0", "cr4", "xcr0", "vectors"),
    [
        (0, 0, 0xE7, [None] * 9),
        (TS, 0, 0xE7, [NM, NM, NM, NM, NM, NM, NM, None, None]),
        (EM, 0, 0xE7, [NM, None, UD, UD, None, None, None, None, None]),
        (0, OSFXSR, 0xE7, [None, None, None, UD, None, None, None, None, None]),
        (0, OSXSAVE, 0xE7, [None, None, None, None, UD, UD, UD, None, None]),
        (0, 0, 0x07, [None, None, None, None, None, UD, UD, None, None]),
        (0, 0, 0x03, [None, None, None, None, UD, UD, UD, None, None]),
        (TS | MP, 0, 0xE7, [NM, None, NM, NM, NM, NM, NM, None, None]),
    ],
)
def test_what_the_guest_has_not_enabled(pair: Pair, cr0: int, cr4: int, xcr0: int, vectors: list[int | None]) -> None:
    """`cr0` and `cr4` are what differs from a system that uses all there is."""
    if VECTORS != 0xE7:
        pytest.skip("no AVX-512")
    pair.enable(xcr0)
    pair.sregs.cr0 ^= cr0
    pair.sregs.cr4 ^= cr4
    try:
        assert [raised(pair, code) for code in EVERYTHING] == vectors
    finally:
        pair.calm()
        pair.enable(VECTORS)


def test_an_operand_in_rsp_is_not_completed(pair: Pair) -> None:
    """The host's stack is in RSP while the instruction runs."""
    for code in ("f30fb8e0", "f30fb8c4", "c4e2d8f2c0", "660f7ec4", "f2480f2dE0", "0fc7f4", "c4e1f893e0"):
        assert raised(pair, code) == -1, code
    assert raised(pair, "f30fb80424") is None  # popcnt eax, [rsp]
    assert raised(pair, "660f7ee4", rsp=1) == -1
    assert raised(pair, "660f6fe0") is None  # an XMM register of that number


def test_time_stamp(pair: Pair) -> None:
    """RDTSCP: TSC goes on, and TSC_AUX is what the guest has set."""
    stamps = []
    for _ in range(3):
        assert raised(pair, "0f01f9") is None
        assert (pair.regs.rip, pair.regs.rcx) == (0x1003, 0)
        stamps.append(pair.regs.rdx << 32 | pair.regs.rax)
    assert stamps == sorted(set(stamps))
    pair.sregs.cs.dpl, pair.sregs.cr4 = 3, pair.sregs.cr4 | TSD
    assert raised(pair, "0f01f9") == GP
    pair.calm()


def test_signals_while_an_instruction_runs(pair: Pair) -> None:
    """They find the host's stack and leave the guest's state."""
    arrived = []
    before = signal.signal(signal.SIGALRM, lambda *_: arrived.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    try:
        for seed in range(2000):
            compare(pair, ALL[seed * 7919 % len(ALL)], seed)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(arrived) > 100


def test_thirty_two_bit_code(pair: Pair) -> None:
    """SSE with flat segments; no VEX, whose bits mean less there, and no segments with a base."""
    pair.sregs.cs.l, pair.sregs.cs.db = 0, 1
    segments = (pair.sregs.cs, pair.sregs.ds, pair.sregs.es, pair.sregs.ss)
    before = pair.sregs.cr0
    pair.sregs.cr0 &= ~PG
    for segment in segments:
        segment.base, segment.limit = 0, 0xFFFFFFFF
    try:
        assert raised(pair, "660f6f00", rax=0x10000) is None  # movdqa xmm0, [eax]
        assert raised(pair, AVX) == -1
        pair.sregs.ds.base = 16
        assert raised(pair, "660f6f00", rax=0x10000) == -1
    finally:
        pair.sregs.ds.base = 0
        pair.sregs.cr0 = before
        pair.calm()


def test_state_that_the_cpu_refuses_is_not_the_guests_fault(pair: Pair) -> None:
    """Should KVM ever give such a one: the instruction is not completed, and the process lives."""
    trampoline = lib.corral_trampoline_create()
    instruction, fault = ffi.new("struct corral_instruction *"), ffi.new("struct corral_cpu_fault *")
    code = bytes.fromhex(SSE)
    assert lib.corral_decode(instruction, code, len(code), ffi.addressof(pair.regs), ffi.addressof(pair.sregs))
    window = lib.corral_trampoline_window(trampoline, 0, True, True)
    area = lib.corral_trampoline_xsave(trampoline)
    for mxcsr, vector in ((1 << 31, lib.CORRAL_STATE_REFUSED), (0x1F80, 0)):
        ffi.memmove(area, bytes(random_state(random.Random(1), VECTORS)), XSAVE)
        ffi.memmove(area + 24, mxcsr.to_bytes(4, "little"), 4)
        assert lib.corral_trampoline_run(trampoline, instruction, window, VECTORS, fault) == (not vector)
        assert fault.vector == vector
    lib.corral_trampoline_destroy(trampoline)


def hostile(pair: Pair, rng: random.Random, times: int) -> int:
    """Instructions of random bytes, half of them after the first bytes of something known. How many were completed."""
    completed = 0
    for _ in range(times):
        assert lib.corral_ioctl(pair.vcpu.fd, SET_XSAVE, ffi.from_buffer(state(rng))) == 0
        edges = [0, rng.getrandbits(64), pair.real.data + rng.randrange(-64, 2 * PAGE), 2**63, 2**47 - 3, 2**64 - 5]
        for name in ORDER:
            setattr(pair.regs, name, rng.choice(edges))
        pair.regs.rip, pair.regs.rflags = rng.choice(edges), rng.getrandbits(22)
        code = rng.randbytes(15)
        if rng.random() < 0.8:
            opcode = rng.choice(ALL)
            code = assemble(rng, opcode, True, pair.real.data, pair.real.place(0)).code[: rng.randrange(2, 8)] + code
        result = pair.complete(code[:15])
        assert result in (0, 1)
        completed += result
    return completed


def test_hostile_bytes_and_registers_do_nothing_to_the_process() -> None:
    here = Path(__file__)
    code = f"from {__name__} import *; print(hostile(Pair(), random.Random({random.getrandbits(32)}), 20000))"
    child = subprocess.run([sys.executable, "-c", code], cwd=here.parents[2], capture_output=True, text=True)
    assert child.returncode == 0, f"{code}\n{child.stderr}"
    assert int(child.stdout) > 2000

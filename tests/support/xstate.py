"""Random XSAVE areas that XRSTOR accepts, with the components that this CPU and this kernel have enabled."""

from __future__ import annotations

import random

from corral.native import ffi, lib
from tests.support import native_cpu

LEGACY, HEADER, SIZE = 512, 64, 4096
XCR0 = native_cpu.load().native_xcr0()
FEATURES = [bit for bit in range(63) if XCR0 >> bit & 1 and bit < 9]


def component(bit: int) -> tuple[int, int]:
    """Offset and size in the standard format."""
    registers = ffi.new("uint32_t[4]")
    lib.corral_host_cpuid(0xD, bit, registers)
    return registers[1], registers[0]


def random_state(rng: random.Random, in_use: int) -> bytearray:
    """A standard-format area with the components of `in_use` in use.

    The x87 instruction pointers are zero, since whether they are saved without a pending exception differs between
    makes of CPUs.
    """
    area = bytearray(SIZE)
    area[0:2] = (0x037F).to_bytes(2, "little")
    area[24:28] = (0x1F80 | rng.choice([0, 1, 0x20])).to_bytes(4, "little")
    for register in range(8):  # ten bytes each; the rest of the sixteen is reserved
        area[32 + 16 * register : 42 + 16 * register] = rng.randbytes(10)
    area[4] = rng.randrange(256)  # tags
    area[160:416] = rng.randbytes(256)
    for bit in FEATURES[2:]:
        offset, size = component(bit)
        area[offset : offset + size] = rng.randbytes(size)
    area[LEGACY : LEGACY + 8] = in_use.to_bytes(8, "little")
    return area

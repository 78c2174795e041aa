"""A guest's memory as Linux would have it, made by hand."""

from __future__ import annotations

from corral.introspect.kernel import KERNEL_MAP, GuestKernel
from corral.memory import GuestMemory
from corral.symbols.table import Symbols

BASE = 0x100000  # of the kernel, in guest physical memory
SYMBOLS = {
    "_text": 0,
    "linux_banner": 0x1000,
    "prb": 0x1100,
    "modules": 0x1200,
    "init_top_pgt": 0x2000,
    "__start_notes": 0x3000,
    "__stop_notes": 0x3024,
    "_end": 0x80000,
}


def address(name: str) -> int:
    return KERNEL_MAP + BASE + SYMBOLS[name]


def memory() -> GuestMemory:
    ram = GuestMemory(4 << 20)
    ram.write(BASE + SYMBOLS["linux_banner"], b"Linux version 6.1.0-made (by hand) #1\0")
    return ram


def kernel(ram: GuestMemory) -> GuestKernel:
    rows = [(KERNEL_MAP + BASE + offset, "T", name) for name, offset in SYMBOLS.items()]
    return GuestKernel(ram, Symbols(rows, "made by hand"))


def direct(gpa: int) -> int:
    """The address of the direct map."""
    return 0xFFFF888000000000 + gpa

"""Snapshots of a tiny guest, for stores."""

from __future__ import annotations

from pathlib import Path

import corral
from corral.boot.payload import parse_flat
from tests.support.tiny_guests import flat

MEMORY, COUNTER, DATA = 16 << 20, 0x300000, 0x400000
LONG = 60.0


def tiny() -> corral.Machine:
    """A guest whose program counts at COUNTER."""
    count = f"8: incl {COUNTER:#x}; jmp 8b"
    kernel = flat("user_interrupt", 0x200000, 64, INSTRUCTIONS=count, CODE_3=0x1B, GATES=0xEE)
    config = corral.MachineConfig(str(kernel), memory=MEMORY, flat=parse_flat("long@0x200000"), debug_exit=0xF4)
    return corral.Machine(config)


def family(folder: Path, data: bytes) -> tuple[Path, Path]:
    """A snapshot with `data` at DATA, and one on it as its parent, with the first byte of `data` changed."""
    parent, child = folder / "parent.snapshot", folder / "child.snapshot"
    with tiny() as vm:
        vm.run_until(condition=lambda vm: vm.phys[COUNTER].u32 > 0, timeout=LONG)
        vm.phys.write(DATA, data)
        vm.snapshot(str(parent))
        vm.phys.write(DATA, bytes([data[0] ^ 1]))
        vm.snapshot(str(child), parent=str(parent))
    return parent, child


def goes_on(path: str) -> bytes:
    """The byte at DATA of a guest that goes on from there, whose program counts."""
    with corral.restore(path) as vm:
        before = vm.phys[COUNTER].u32
        vm.run_until(condition=lambda vm: vm.phys[COUNTER].u32 != before, timeout=LONG)
        return bytes(vm.phys.read(DATA, 1))

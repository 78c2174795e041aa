"""A vCPU whose instructions Corral completes, beside the real CPU, on the same registers, state and memory.

The guest's page tables give its memory the addresses of the reference's. KVM keeps the vCPU's extended state and never
runs it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from corral.config import MachineConfig
from corral.machine import Machine
from corral.native import CData, ffi, lib
from tests.support.native_cpu import ORDER, PAGE, XSAVE, RealCpu
from tests.support.tiny_guests import tiny_guest
from tests.support.xstate import FEATURES, LEGACY, XCR0, component

MP, EM, TS, NE, WP, PG = 1 << 1, 1 << 2, 1 << 3, 1 << 5, 1 << 16, 1 << 31
TSD, PAE, OSFXSR, OSXMMEXCPT, OSXSAVE = 1 << 2, 1 << 5, 1 << 9, 1 << 10, 1 << 18
ARITHMETIC = 0x8D5
VECTORS = sum(1 << bit for bit in FEATURES if bit < 8)
GET_XSAVE, SET_XSAVE = 0x9000AEA4, 0x5000AEA5
TABLES, DATA = 0x1000, 0x10000


@dataclass
class After:
    """What an instruction leaves."""

    vector: int | None  # that it raised
    address: int | None  # of the page fault
    regs: dict[str, int]
    rflags: int
    went_on: int  # how far RIP has moved
    xsave: bytes
    data: bytes


class Pair:
    """The two of them. `run` gives what each makes of an instruction; None: Corral does not complete it."""

    def __init__(self) -> None:
        self.real = RealCpu()
        self._machine = Machine(MachineConfig(kernel=str(tiny_guest("hello")), memory=16 << 20))
        vcpu = self._machine.vcpus[0]
        vcpu.assist()
        self.vcpu: CData = vcpu.native
        state = lib.corral_assist_state(self.vcpu)
        self.regs, self.sregs, self.events = state.regs, state.sregs, state.events
        self._area = ffi.new("uint8_t[]", XSAVE)
        self.calm()
        self._map(self.real.data, DATA)
        self._map(self.real.data + PAGE, DATA + PAGE)
        self.enable(VECTORS)

    def close(self) -> None:
        self._machine.close()

    def calm(self) -> None:
        """64-bit code at CPL 0 of a system that uses all there is."""
        self.sregs.cs.l, self.sregs.cs.dpl = 1, 0
        self.sregs.cr0, self.sregs.cr3, self.sregs.efer = PG | WP | NE | MP | 1, TABLES, 0x500
        self.sregs.cr4 = PAE | OSFXSR | OSXMMEXCPT | OSXSAVE

    def enable(self, features: int) -> None:
        """XCR0."""
        self.regs.rax, self.regs.rdx, self.regs.rcx = features & 0xFFFFFFFF, features >> 32, 0
        assert self.complete(bytes.fromhex("0f01d1")) == 1

    def complete(self, code: bytes) -> int:
        return int(lib.corral_assist_complete(self.vcpu, code, len(code)))

    def _map(self, linear: int, gpa: int) -> None:
        memory, table = self._machine.memory, TABLES
        for level, shift in enumerate((39, 30, 21, 12)):
            slot = table + (linear >> shift & 511) * 8
            (entry,) = struct.unpack("<Q", memory.read(slot, 8))
            if not entry:
                entry = (gpa if shift == 12 else TABLES + (level + 1) * PAGE) | 3
                memory.write(slot, struct.pack("<Q", entry))
            table = entry & ~0xFFF

    def run(
        self, code: bytes, at: int, regs: dict[str, int], rflags: int, xsave: bytearray, data: bytes
    ) -> tuple[After | None, After]:
        assert lib.corral_ioctl(self.vcpu.fd, SET_XSAVE, ffi.from_buffer(xsave)) == 0
        start = self.xsave()  # as KVM has taken it
        ours = self._ours(code, at, regs, rflags, data)
        state, data_after = self.real.run(code, at, regs, rflags, VECTORS, start, data)
        after = {name: int(state.regs[number]) for number, name in enumerate(ORDER)}
        after["rsp"] = (after["rsp"] + regs["rsp"]) % 2**64
        vector = state.vector or None
        address = int(state.address) if vector == 14 else None
        moved = 0 if vector else len(code)
        return ours, After(
            vector, address, after, state.rflags & ARITHMETIC, moved, normal(bytes(state.xsave)), data_after
        )

    def _ours(self, code: bytes, at: int, regs: dict[str, int], rflags: int, data: bytes) -> After | None:
        memory, rip = self._machine.memory, self.real.place(at)
        for name, value in regs.items():
            setattr(self.regs, name, value)
        self.regs.rip, self.regs.rflags = rip, rflags
        self.events.exception.injected = 0
        memory.write(DATA, data)
        self.sregs.cr2 = 0
        result = self.complete(code)
        assert result in (0, 1), result
        if not result:
            return None
        vector = self.events.exception.nr if self.events.exception.injected else None
        after = {name: int(getattr(self.regs, name)) for name in ORDER}
        return After(
            vector,
            self.sregs.cr2 if vector == 14 else None,
            after,
            self.regs.rflags & ARITHMETIC,
            self.regs.rip - rip,
            normal(self.xsave()),
            memory.read(DATA, 2 * PAGE),
        )

    def xsave(self) -> bytes:
        assert lib.corral_ioctl(self.vcpu.fd, GET_XSAVE, self._area) == 0
        return bytes(ffi.buffer(self._area))


def normal(xsave: bytes) -> bytes:
    """The components that are compared, those that are not in use with their initial values."""
    in_use = int.from_bytes(xsave[LEGACY : LEGACY + 8], "little")
    x87 = xsave[0:24] + xsave[32:160] if in_use & 1 else (0x37F).to_bytes(24, "little") + bytes(128)
    parts = [x87, xsave[24:28], xsave[160:416] if in_use & 2 else bytes(256)]
    for bit in FEATURES[2:]:
        offset, size = component(bit)
        parts.append(xsave[offset : offset + size] if in_use >> bit & 1 else bytes(size))
    return b"".join(parts)


assert XCR0 & 3 == 3

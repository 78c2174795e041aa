"""The registers of a PC's text screen, which is not shown: small systems keep its cursor in them.

Source: IBM VGA technical reference, "CRT Controller Registers" and "Input Status Register 1".
"""

from __future__ import annotations

from corral.arch.x86_64 import layout
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.core.bus import Bus

INDEX, DATA, INPUT_STATUS = 0, 1, 6  # offsets from 0x3D4
RETRACE = 0x09  # of the input status: display off, and vertical retrace

# As a BIOS leaves them for 80 by 25 characters: the cursor in the upper left corner.
MODE_3 = bytes.fromhex("5f4f50825581bf1f004f0d0e000000009c8e8f281f96b9a3ff")


@record(frozen=True)
class CrtState:
    """`registers` are those of MODE_3, by index."""

    index: int
    registers: bytes
    retrace: int


class CrtController:
    """Ports 0x3D4 (index) and 0x3D5 (data), which one write of two bytes may set together, and 0x3DA, whose retrace
    comes and goes with each look at it."""

    def __init__(self) -> None:
        self._index = 0
        self._registers = bytearray(MODE_3)
        self._retrace = 0

    def save(self) -> CrtState:
        return CrtState(self._index, bytes(self._registers), self._retrace)

    def restore(self, state: CrtState) -> None:
        """Raises ValueError for a state that it cannot have."""
        if len(state.registers) != len(MODE_3):
            raise ValueError(f"{len(state.registers)} registers of a screen")
        self._index, self._retrace = state.index & 0xFF, state.retrace & RETRACE
        self._registers[:] = state.registers

    def read(self, offset: int, size: int) -> int:
        if offset == INPUT_STATUS:
            self._retrace ^= RETRACE
            return self._retrace
        if offset == INDEX:
            return self._index | self._register() << 8
        return self._register()

    def write(self, offset: int, size: int, value: int) -> None:
        if offset == INDEX:
            self._index = value & 0xFF
        if (offset == DATA or (offset == INDEX and size > 1)) and self._index < len(self._registers):
            self._registers[self._index] = value >> 8 * (DATA - offset) & 0xFF

    def _register(self) -> int:
        return self._registers[self._index] if self._index < len(self._registers) else 0


def connect(ports: Bus) -> CrtController:
    """Puts one at its ports."""
    screen = CrtController()
    for first, last in layout.CRT_PORTS:
        ports.claim(first, last, screen, first - layout.CRT_PORTS[0][0], owner="the text screen")
    return screen

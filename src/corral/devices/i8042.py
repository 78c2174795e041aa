"""The keyboard controller, as far as a machine without keyboard needs it: its reset line."""

from __future__ import annotations

from corral.exits import Cause, GuestEnded

COMMAND_OFFSET = 4  # 0x64, of a range that begins at 0x60
PULSE_RESET = 0xFE


class I8042:
    """Ports 0x60 to 0x64. Status is "no data, ready for a command", so that a driver's wait ends at once."""

    def read(self, offset: int, size: int) -> int:
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        if offset == COMMAND_OFFSET and value & 0xFF == PULSE_RESET:
            raise GuestEnded(Cause.RESET)

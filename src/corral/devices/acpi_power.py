"""The registers of hardware-reduced ACPI that end a machine (ACPI 6.4, sections 4.8.3.6 and 4.8.3.7): three ports."""

from __future__ import annotations

from corral.exits import Cause, GuestEnded

# Offsets, and what the tables tell a guest to write there.
SLEEP_CONTROL, SLEEP_STATUS, RESET = 0, 1, 2
POWER_OFF = 5  # the sleep type of _S5, of three bits
RESET_VALUE = 1

SLEEP_TYPE_SHIFT, SLEEP_TYPE_MASK, SLEEP_ENABLE = 2, 7, 1 << 5  # of sleep control


class AcpiPower:
    """Raises GuestEnded when the guest powers off or resets. It never wakes from a sleep, so the status is zero."""

    def read(self, offset: int, size: int) -> int:
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        if offset == RESET and value == RESET_VALUE:
            raise GuestEnded(Cause.RESET)
        sleep_type = value >> SLEEP_TYPE_SHIFT & SLEEP_TYPE_MASK
        if offset == SLEEP_CONTROL and value & SLEEP_ENABLE and sleep_type == POWER_OFF:
            raise GuestEnded(Cause.POWER_OFF)

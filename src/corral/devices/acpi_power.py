"""The registers of hardware-reduced ACPI that end a machine (ACPI 6.4, sections 4.8.3.6 and 4.8.3.7): three ports."""

from __future__ import annotations

from corral.arch.x86_64.layout import POWER_OFF, RESET, RESET_VALUE, SLEEP_CONTROL
from corral.core.exits import Cause, GuestEnded

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

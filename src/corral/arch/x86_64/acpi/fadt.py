"""FADT, the fixed hardware that there is: registers to power off and to reset (ACPI 6.4, section 5.2.9)."""

from __future__ import annotations

import struct

from corral.arch.x86_64 import layout
from corral.arch.x86_64.acpi.table import HEADER_SIZE, table
from corral.arch.x86_64.layout import RESET, RESET_VALUE, SLEEP_CONTROL, SLEEP_STATUS
from corral.arch.x86_64.records import Record, u8, u16, u32, u64

_REVISION, _MINOR = 6, 4

# Flags (table 5.10).
WBINVD, C1_ON_ALL = 1 << 0, 1 << 2
NO_FIXED_BUTTONS = 1 << 4 | 1 << 5  # to power off and to sleep; the DSDT has one to power off
RESET_REGISTER = 1 << 10
HARDWARE_REDUCED = 1 << 20

# IAPC_BOOT_ARCH (table 5.11). The clock in CMOS and the keyboard controller's reset line are there to be used,
# but drivers shall not probe them: kvmclock has the time, and there is no keyboard.
NO_VGA, NO_MSI, NO_ASPM, NO_CMOS_CLOCK = 1 << 2, 1 << 3, 1 << 4, 1 << 5

_LATENCY_UNSUPPORTED_C2, _LATENCY_UNSUPPORTED_C3 = 101, 1001  # microseconds: above what the states may take

# Generic address structure (table 5.1): space, bits, first bit, access size, address.
_GAS = struct.Struct("<BBBBQ")
_SYSTEM_IO, _BYTE_ACCESS = 1, 1


class Fadt(Record):
    """The fields that are not zero, at their offsets from the table's start."""

    SIZE = 276
    __slots__ = ()

    dsdt = u32(40)
    p_level2_latency = u16(96)
    p_level3_latency = u16(98)
    boot_architecture = u16(109)
    flags = u32(112)
    reset_value = u8(128)
    minor_version = u8(131)
    x_dsdt = u64(140)
    hypervisor = u64(268)


_RESET_REGISTER_AT, _SLEEP_CONTROL_AT, _SLEEP_STATUS_AT = 116, 244, 256


def build(dsdt: int) -> bytes:
    """The fixed ACPI description table, with the DSDT at guest physical address `dsdt`."""
    fadt = Fadt()
    fadt.p_level2_latency, fadt.p_level3_latency = _LATENCY_UNSUPPORTED_C2, _LATENCY_UNSUPPORTED_C3
    fadt.boot_architecture = NO_VGA | NO_MSI | NO_ASPM | NO_CMOS_CLOCK
    fadt.flags = WBINVD | C1_ON_ALL | NO_FIXED_BUTTONS | RESET_REGISTER | HARDWARE_REDUCED
    fadt.reset_value = RESET_VALUE
    fadt.minor_version = _MINOR
    fadt.dsdt = fadt.x_dsdt = dsdt  # SeaBIOS knows the old field alone
    fadt.hypervisor = int.from_bytes(b"Corral\0\0", "little")
    first = layout.ACPI_POWER_PORTS[0]
    for at, register in (
        (_RESET_REGISTER_AT, RESET),
        (_SLEEP_CONTROL_AT, SLEEP_CONTROL),
        (_SLEEP_STATUS_AT, SLEEP_STATUS),
    ):
        _GAS.pack_into(fadt.data, at, _SYSTEM_IO, 8, 0, _BYTE_ACCESS, first + register)
    return table(b"FACP", _REVISION, bytes(fadt.data[HEADER_SIZE:]))

"""DSDT: the devices that a kernel cannot find by itself, and the value that powers off (ACPI 6.4, section 5.2.11.1)."""

from __future__ import annotations

from corral.arch.x86_64 import layout
from corral.arch.x86_64.acpi import aml
from corral.arch.x86_64.acpi.table import table
from corral.arch.x86_64.layout import POWER_OFF

_REVISION = 2  # integers have 64 bits


def build(devices: int) -> bytes:
    """The differentiated system description table, with the first `devices` of layout.VIRTIO_GSIS."""
    bus = aml.scope("\\_SB", _serial_port(), *_power_button(), *(_virtio(index) for index in range(devices)))
    # _S5: the sleep type that stands for "off"; the other elements are of fixed hardware (section 7.4.2.6).
    off = aml.name("\\_S5", aml.package(aml.integer(POWER_OFF), *[aml.integer(0)] * 3))
    return table(b"DSDT", _REVISION, bus + off)


def _serial_port() -> bytes:
    return aml.device(
        "COM1",
        aml.name("_HID", aml.eisa_id("PNP0501")),  # a 16550A
        aml.name("_UID", aml.integer(1)),
        aml.name("_CRS", aml.resources(aml.io(*layout.COM1_PORTS), aml.edge_interrupt(layout.COM1_GSI))),
    )


def _power_button() -> tuple[bytes, bytes]:
    """A button, and the generic event device whose interrupt says that it was pressed (sections 4.8.3.3 and 5.6.9)."""
    pressed = 0x80
    button = aml.device("PWRB", aml.name("_HID", aml.eisa_id("PNP0C0C")), aml.name("_UID", aml.integer(0)))
    events = aml.device(
        "GED0",
        aml.name("_HID", aml.string("ACPI0013")),
        aml.name("_UID", aml.integer(0)),
        aml.name("_CRS", aml.resources(aml.edge_interrupt(layout.POWER_BUTTON_GSI))),
        aml.method("_EVT", 1, aml.notify("PWRB", pressed)),
    )
    return button, events


def _virtio(index: int) -> bytes:
    """A device of the MMIO transport: the id is Linux's (drivers/virtio/virtio_mmio.c) and everybody's since."""
    registers = aml.memory(layout.virtio_mmio(index), layout.PAGE_SIZE)
    return aml.device(
        f"VM{index:02X}",
        aml.name("_HID", aml.string("LNRO0005")),
        aml.name("_UID", aml.integer(index)),
        aml.name("_CCA", aml.integer(1)),  # it sees memory as processors do, caches included
        aml.name("_CRS", aml.resources(registers, aml.edge_interrupt(layout.VIRTIO_GSIS[index]))),
    )

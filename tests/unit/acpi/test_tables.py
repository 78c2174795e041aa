"""The tables against their layout in ACPI 6.4, chapter 5, and the registers that they name against the device."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.arch.x86_64 import acpi, layout
from corral.arch.x86_64.acpi.topology import Topology
from corral.config import MOST_DISKS
from corral.core.exits import Cause, GuestEnded
from corral.devices.acpi_power import AcpiPower
from corral.errors import ConfigError
from corral.memory import GuestMemory
from tests.unit.acpi.topologies import found, topologies

NODES_3 = Topology(
    ((0, 0), (1, 1), (300, 2)),
    ((0, 1 << 30, 0), (4 << 30, 5 << 30, 1)),
    ((10, 20, 30), (21, 10, 31), (22, 32, 10)),
)


def structures(table: bytes, at: int) -> list[bytes]:
    """The entries of a MADT or SRAT: a type and a length in a byte each, and the rest."""
    entries = []
    while at < len(table):
        entries.append(table[at : at + table[at + 1]])
        at += table[at + 1]
    assert at == len(table)
    return entries


@given(topologies(), st.integers(0, MOST_DISKS))
def test_checksums_lengths_and_places(guest: tuple[list[int], Topology], disks: int) -> None:
    apic_ids, topology = guest
    tables = acpi.build(apic_ids, disks, topology)
    free = layout.ACPI_TABLES
    for address, table in tables.items():
        assert address >= free
        free = address + len(table)
        assert sum(table) % 256 == 0
    assert free <= layout.ACPI_TABLES_END
    rsdp = tables[layout.ACPI_TABLES]
    assert (rsdp[:8], sum(rsdp[:20]) % 256, len(rsdp)) == (b"RSD PTR ", 0, 36)
    for table in found(tables).values():
        assert struct.unpack_from("<I", table, 4) == (len(table),)


def test_tables_are_where_a_guest_looks() -> None:
    memory = GuestMemory(1 << 20)
    assert acpi.write(memory, range(4), 1) == layout.ACPI_TABLES
    assert 0xE0000 <= layout.ACPI_TABLES < 0x100000
    assert layout.ACPI_TABLES % 16 == 0
    assert memory.read(layout.ACPI_TABLES, 8) == b"RSD PTR "
    memory.close()


def test_what_does_not_fit_is_refused() -> None:
    nodes = 260
    far = tuple(tuple(10 if a == b else 20 for b in range(nodes)) for a in range(nodes))
    with pytest.raises(ConfigError, match="do not fit"):
        acpi.build(range(64), 1, Topology(((0, 0),), ((0, 1 << 30, 0),), far))


def test_without_nodes_there_are_no_tables_of_them() -> None:
    assert set(found(acpi.build(range(2), 0))) == {"XSDT", "FACP", "APIC", "DSDT"}
    assert set(found(acpi.build([0, 1, 300], 0, NODES_3))) >= {"SRAT", "SLIT"}


@pytest.mark.parametrize("cpus", [1, 4, 64])
def test_the_madt_has_every_processor_and_the_ioapic(cpus: int) -> None:
    entries = structures(found(acpi.build(range(cpus), 0))["APIC"], 44)
    local = [struct.unpack("<BBI", entry[2:]) for entry in entries if entry[0] == 0]
    assert local == [(index, index, 1) for index in range(cpus)]  # UID, APIC id, enabled
    (ioapic,) = (entry for entry in entries if entry[0] == 1)
    assert struct.unpack_from("<II", ioapic, 4) == (layout.IOAPIC, 0)
    assert not any(entry[0] == 2 for entry in entries), "overrides: the pins are as they are without"


def test_ids_from_255_on_are_x2apic_ids() -> None:
    entries = structures(found(acpi.build([0, 254, 255, 1000], 0))["APIC"], 44)
    assert [entry[3] for entry in entries if entry[0] == 0] == [0, 254]
    assert [struct.unpack("<III", entry[4:]) for entry in entries if entry[0] == 9] == [(255, 1, 2), (1000, 1, 3)]
    assert {4, 10} <= {entry[0] for entry in entries}, "NMI on LINT1, for both kinds"


def test_the_srat_and_the_slit() -> None:
    tables = found(acpi.build([0, 1, 300], 0, NODES_3))
    entries = structures(tables["SRAT"], 48)
    assert [(entry[2], entry[3]) for entry in entries if entry[0] == 0] == [(0, 0), (1, 1)]
    assert [struct.unpack_from("<III", entry, 4) for entry in entries if entry[0] == 2] == [(2, 300, 1)]
    memory = [struct.unpack_from("<IxxQQxxxxI", entry, 2) for entry in entries if entry[0] == 1]
    assert memory == [(0, 0, 1 << 30, 1), (1, 4 << 30, 5 << 30, 1)]
    assert tables["SLIT"][36:] == struct.pack("<Q", 3) + bytes([10, 20, 30, 21, 10, 31, 22, 32, 10])


@pytest.mark.parametrize(
    ("cpus", "distances"),
    [
        (((0, 0),), ((10, 20),)),  # a row is too long, or one is missing
        (((0, 0),), ((11,),)),
        (((0, 0),), ((10, 10), (20, 10))),
        (((0, 0),), ((10, 256), (20, 10))),
        (((0, 1),), ((10,),)),
    ],
)
def test_nodes_that_cannot_be_are_refused(
    cpus: tuple[tuple[int, int], ...], distances: tuple[tuple[int, ...], ...]
) -> None:
    with pytest.raises(ConfigError, match="NUMA node"):
        Topology(cpus, (), distances)


def ports(fadt: bytes) -> dict[str, int]:
    """The registers that end the machine, as the generic addresses in the FADT have them."""
    named = {}
    for name, at in (("reset", 116), ("control", 244), ("status", 256)):
        space, bits, offset, access, address = struct.unpack_from("<BBBBQ", fadt, at)
        assert (space, bits, offset, access) == (1, 8, 0, 1), "one byte of system I/O"
        named[name] = address
    return named


def write(port: int, value: int) -> None:
    AcpiPower().write(port - layout.ACPI_POWER_PORTS[0], 1, value)


def test_what_the_tables_say_ends_the_machine() -> None:
    fadt = found(acpi.build(range(1), 0))["FACP"]
    registers = ports(fadt)
    (flags,) = struct.unpack_from("<I", fadt, 112)
    assert flags >> 20 & 1, "hardware-reduced"
    assert flags >> 10 & 1, "the reset register counts"
    assert set(registers.values()) == set(range(layout.ACPI_POWER_PORTS[0], layout.ACPI_POWER_PORTS[1] + 1))
    with pytest.raises(GuestEnded) as ended:
        write(registers["reset"], fadt[128])
    assert ended.value.cause is Cause.RESET
    dsdt = found(acpi.build(range(1), 0))["DSDT"]
    at = dsdt.index(b"_S5_") + 4
    assert dsdt[at] == 0x12, "a package"
    assert dsdt[at + 3] == 0x0A, "whose first element is a byte"
    with pytest.raises(GuestEnded) as ended:
        write(registers["control"], dsdt[at + 4] << 2 | 1 << 5)
    assert ended.value.cause is Cause.POWER_OFF


def test_other_writes_end_nothing() -> None:
    registers = ports(found(acpi.build(range(1), 0))["FACP"])
    power_off = 5 << 2 | 1 << 5
    ending = {(registers["reset"], 1), *((registers["control"], power_off | rest) for rest in (0, 1, 2, 3))}
    ending |= {
        (port, value | high) for port, value in ending for high in (0x40, 0x80, 0xC0) if port != registers["reset"]
    }
    for port in registers.values():
        for value in range(256):
            if (port, value) not in ending:
                write(port, value)
    assert AcpiPower().read(1, 1) == 0

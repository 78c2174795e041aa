"""ACPI: what a kernel is told of its processors, its devices, its memory's nodes and its way to power off.

Hardware-reduced ACPI (ACPI 6.4, section 4.1): no fixed registers, no SCI, no legacy mode. Of what a PC has there remain
a sleep control and a reset register (corral.devices.acpi_power). write() puts all tables into the BIOS area, where an
operating system that is not told their address looks for them (section 5.2.5.1).

There is no PPTT: Linux reads it on arm64, riscv and loongarch; on x86 caches and cores come from CPUID (cpuid.py). Nor
is there an HMAT: no memory here differs from other memory in anything but its distance, which the SLIT has.
"""

from __future__ import annotations

from corral.arch.x86_64 import layout
from corral.arch.x86_64.acpi import dsdt, fadt, madt, root
from corral.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from corral.arch.x86_64.acpi.topology import Topology
    from corral.memory import GuestMemory

_ALIGNMENT = 16  # of the RSDP, which is searched for at such addresses; the other tables may lie anywhere


def build(
    apic_ids: Sequence[int], devices: int, topology: Topology | None = None, at: int = layout.ACPI_TABLES
) -> dict[int, bytes]:
    """Each table by its guest physical address; the first one, at `at`, is the RSDP.

    `apic_ids` has the bootstrap processor first. Without `topology` a guest has no NUMA nodes. Raises ConfigError when
    there is no room for so many tables.
    """
    placed: dict[int, bytes] = {}
    free = at + _aligned(root.RSDP_SIZE)

    def place(table: bytes) -> int:
        nonlocal free
        address, free = free, free + _aligned(len(table))
        placed[address] = table
        return address

    differentiated = place(dsdt.build(devices))
    listed = [fadt.build(differentiated), madt.build(apic_ids)]
    if topology is not None:
        from corral.arch.x86_64.acpi import affinity

        listed += [affinity.srat(topology), affinity.slit(topology)]
    pointer = root.rsdp(place(root.xsdt([place(table) for table in listed])))
    if free - at > layout.ACPI_TABLES_END - layout.ACPI_TABLES:
        raise ConfigError(f"ACPI tables of {free - at} bytes do not fit; fewer CPUs or nodes do")
    return {at: pointer, **placed}


def write(
    memory: GuestMemory,
    apic_ids: Sequence[int],
    devices: int,
    topology: Topology | None = None,
    at: int = layout.ACPI_TABLES,
) -> int:
    """build() into guest memory. Returns the RSDP's address, for the boot protocol. Raises ConfigError."""
    tables = build(apic_ids, devices, topology, at)
    for address, table in tables.items():
        memory.write(address, table)
    return at


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT

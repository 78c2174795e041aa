"""SRAT and SLIT: which node processors and memory belong to, and how far nodes are from each other (ACPI 6.4, sections
5.2.16 and 5.2.17)."""

from __future__ import annotations

import struct

from corral.arch.x86_64.acpi.madt import FIRST_X2APIC_ID
from corral.arch.x86_64.acpi.table import table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.arch.x86_64.acpi.topology import Topology

_SRAT_REVISION, _SLIT_REVISION = 3, 1
_LOCAL_APIC, _MEMORY, _LOCAL_X2APIC = 0, 1, 2  # types of structures (table 5.57)
_ENABLED = 1 << 0

_SRAT_FIXED = struct.Struct("<I8x")  # 1, for compatibility; reserved
_APIC_ENTRY = struct.Struct("<BBBBIBBHI")  # node's low byte, APIC id, flags, SAPIC, node's other bytes, clock domain
_MEMORY_ENTRY = struct.Struct("<BBI2xQQ4xI8x")
_X2APIC_ENTRY = struct.Struct("<BB2xIIII4x")


def srat(topology: Topology) -> bytes:
    """The system resource affinity table."""
    processors = [_processor(apic_id, node) for apic_id, node in topology.cpus]
    memory = [
        _MEMORY_ENTRY.pack(_MEMORY, _MEMORY_ENTRY.size, node, start, size, _ENABLED)
        for start, size, node in topology.memory
    ]
    return table(b"SRAT", _SRAT_REVISION, _SRAT_FIXED.pack(1) + b"".join(processors + memory))


def slit(topology: Topology) -> bytes:
    """The system locality distance information table."""
    nodes = len(topology.distances)
    matrix = b"".join(bytes(row) for row in topology.distances)
    return table(b"SLIT", _SLIT_REVISION, struct.pack("<Q", nodes) + matrix)


def _processor(apic_id: int, node: int) -> bytes:
    if apic_id < FIRST_X2APIC_ID:
        low, middle, high = node & 0xFF, node >> 8 & 0xFF, node >> 16
        return _APIC_ENTRY.pack(_LOCAL_APIC, _APIC_ENTRY.size, low, apic_id, _ENABLED, 0, middle, high, 0)
    return _X2APIC_ENTRY.pack(_LOCAL_X2APIC, _X2APIC_ENTRY.size, node, apic_id, _ENABLED, 0)

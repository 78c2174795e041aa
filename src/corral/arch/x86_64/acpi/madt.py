"""MADT, the processors and the IOAPIC (ACPI 6.4, section 5.2.12).

No interrupt source override: each ISA interrupt is on the IOAPIC's pin of its number, active high and edge, which is
what a table without overrides says. Lines of virtio devices have their trigger in the DSDT.
"""

from __future__ import annotations

import struct

from corral.arch.x86_64 import layout
from corral.arch.x86_64.acpi.table import table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_REVISION = 5
FIRST_X2APIC_ID = 255  # ids of 8 bits end there, with the one that means all

# Types of structures (table 5.21).
_LOCAL_APIC, _IOAPIC, _LOCAL_APIC_NMI, _LOCAL_X2APIC, _LOCAL_X2APIC_NMI = 0, 1, 4, 9, 10

_ENABLED = 1 << 0
_LINT1 = 1
_AS_THE_BUS = 0  # MPS INTI flags: polarity and trigger of the bus
_ALL, _ALL_X2 = 0xFF, 0xFFFFFFFF  # processor UIDs
_IOAPIC_ID = 0  # KVM's own; an IOAPIC on the system bus shares no numbers with local APICs

_FIXED = struct.Struct("<II")  # local APIC address, flags
_LOCAL_APIC_ENTRY = struct.Struct("<BBBBI")
_IOAPIC_ENTRY = struct.Struct("<BBBBII")
_LOCAL_APIC_NMI_ENTRY = struct.Struct("<BBBHB")
_X2APIC_ENTRY = struct.Struct("<BBHIII")
_X2APIC_NMI_ENTRY = struct.Struct("<BBHIB3x")


def build(apic_ids: Sequence[int]) -> bytes:
    """The multiple APIC description table; a processor's UID is its place in `apic_ids`, the bootstrap one's first."""
    processors = [_processor(uid, apic_id) for uid, apic_id in enumerate(apic_ids)]
    ioapic = _IOAPIC_ENTRY.pack(_IOAPIC, _IOAPIC_ENTRY.size, _IOAPIC_ID, 0, layout.IOAPIC, 0)
    nmi = _LOCAL_APIC_NMI_ENTRY.pack(_LOCAL_APIC_NMI, _LOCAL_APIC_NMI_ENTRY.size, _ALL, _AS_THE_BUS, _LINT1)
    if max(apic_ids) >= FIRST_X2APIC_ID:
        nmi += _X2APIC_NMI_ENTRY.pack(_LOCAL_X2APIC_NMI, _X2APIC_NMI_ENTRY.size, _AS_THE_BUS, _ALL_X2, _LINT1)
    no_8259 = 0  # flags: hardware-reduced, so a guest is not to mask the pair that KVM has
    return table(b"APIC", _REVISION, _FIXED.pack(layout.LOCAL_APIC, no_8259) + b"".join(processors) + ioapic + nmi)


def _processor(uid: int, apic_id: int) -> bytes:
    if apic_id < FIRST_X2APIC_ID:
        return _LOCAL_APIC_ENTRY.pack(_LOCAL_APIC, _LOCAL_APIC_ENTRY.size, uid, apic_id, _ENABLED)
    return _X2APIC_ENTRY.pack(_LOCAL_X2APIC, _X2APIC_ENTRY.size, 0, apic_id, _ENABLED, uid)

"""The MP table: tells a guest without ACPI its processors, its IOAPIC and the pin of each ISA interrupt.

Source: Intel MultiProcessor Specification 1.4, chapter 4; the pins as KVM's default routing has them
(Documentation/virt/kvm/api.rst, KVM_CREATE_IRQCHIP): GSI n is pin n, the timer on pin 0 included.
"""

from __future__ import annotations

import struct

from corral.arch.x86_64 import layout
from corral.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from corral.memory import GuestMemory

MAX_CPUS = 254  # xAPIC ids are 8 bits; 255 is the broadcast, one is left to the IOAPIC

_ALL_LOCAL_APICS = 0xFF
_LOCAL_APIC_VERSION = 0x14
_IOAPIC_VERSION = 0x11
_IOAPIC_PINS = 24
_CASCADE = 2  # the second 8259 hangs on this line: no device can have it
_ISA_BUS = 0

# Types of entries (section 4.3).
_PROCESSOR, _BUS, _IOAPIC, _IO_INTERRUPT, _LOCAL_INTERRUPT = range(5)
# Types of interrupts (table 4-11).
_INT, _NMI, _SMI, _EXTINT = range(4)

_CPU_ENABLED = 1 << 0
_CPU_BOOTSTRAP = 1 << 1
_CPU_FEATURES = 1 << 9 | 1 << 0  # CPUID.1:EDX: APIC, FPU; guests ask CPUID for the rest
_IOAPIC_ENABLED = 1 << 0
_BUS_CONFORMS = 0  # polarity and trigger of the bus: ISA is active high, edge

_POINTER = struct.Struct("<4sIBBBBB3x")
_HEADER = struct.Struct("<4sHBB8s12sIHHIHBB")
_CPU_ENTRY = struct.Struct("<BBBBII8x")
_BUS_ENTRY = struct.Struct("<BB6s")
_IOAPIC_ENTRY = struct.Struct("<BBBBI")
_INTERRUPT_ENTRY = struct.Struct("<BBHBBBB")  # I/O interrupts and local ones alike


def build(apic_ids: Sequence[int]) -> bytes:
    """The MP configuration table for processors with these APIC ids (0 to 254), the bootstrap one first."""
    if not 1 <= len(apic_ids) <= MAX_CPUS:
        raise ConfigError(f"an MP table holds 1 to {MAX_CPUS} CPUs, not {len(apic_ids)}")
    ioapic = next(number for number in range(MAX_CPUS + 1) if number not in apic_ids)
    entries = [
        _CPU_ENTRY.pack(
            _PROCESSOR,
            apic_id,
            _LOCAL_APIC_VERSION,
            _CPU_ENABLED | (_CPU_BOOTSTRAP if number == 0 else 0),
            0,
            _CPU_FEATURES,
        )
        for number, apic_id in enumerate(apic_ids)
    ]
    entries.append(_BUS_ENTRY.pack(_BUS, _ISA_BUS, b"ISA   "))
    entries.append(_IOAPIC_ENTRY.pack(_IOAPIC, ioapic, _IOAPIC_VERSION, _IOAPIC_ENABLED, layout.IOAPIC))
    entries += [
        _INTERRUPT_ENTRY.pack(_IO_INTERRUPT, _INT, _BUS_CONFORMS, _ISA_BUS, line, ioapic, line)
        for line in range(_IOAPIC_PINS)
        if line != _CASCADE
    ]
    # The 8259 reaches the bootstrap processor through LINT0; an NMI reaches all of them through LINT1.
    entries.append(_INTERRUPT_ENTRY.pack(_LOCAL_INTERRUPT, _EXTINT, _BUS_CONFORMS, _ISA_BUS, 0, 0, 0))
    entries.append(_INTERRUPT_ENTRY.pack(_LOCAL_INTERRUPT, _NMI, _BUS_CONFORMS, _ISA_BUS, 0, _ALL_LOCAL_APICS, 1))
    body = b"".join(entries)

    def header(checksum: int) -> bytes:
        return _HEADER.pack(
            b"PCMP",
            _HEADER.size + len(body),
            4,  # the specification's revision: 1.4
            checksum,
            b"CORRAL  ",
            b"VIRTUAL PC  ",
            0,
            0,
            len(entries),
            layout.LOCAL_APIC,
            0,
            0,
            0,
        )

    return header(_checksum(header(0) + body)) + body


def pointer(table: int) -> bytes:
    """The MP floating pointer structure to a table at guest physical address `table`."""
    fields = (b"_MP_", table, 1, 4)  # length in units of 16 bytes, revision
    features = 0  # a configuration table is present; no IMCR
    checksum = _checksum(_POINTER.pack(*fields, 0, 0, features))
    return _POINTER.pack(*fields, checksum, 0, features)


def write(memory: GuestMemory, apic_ids: Sequence[int]) -> None:
    """Put the table and the pointer to it where guests look for them."""
    memory.write(layout.MP_TABLE, build(apic_ids))
    memory.write(layout.EBDA, pointer(layout.MP_TABLE))


def _checksum(data: bytes) -> int:
    """What makes all bytes add up to 0 modulo 256."""
    return -sum(data) & 0xFF

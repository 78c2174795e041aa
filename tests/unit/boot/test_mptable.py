"""The MP table against the layout that the MP specification 1.4, chapter 4, gives it."""

from __future__ import annotations

import struct
from collections import Counter

import pytest

from corral.arch.x86_64 import layout, mptable
from corral.errors import ConfigError
from corral.memory import GuestMemory

PROCESSOR, BUS, IOAPIC, IO_INTERRUPT, LOCAL_INTERRUPT = range(5)


def entries(table: bytes) -> list[bytes]:
    found, position = [], 44
    while position < len(table):
        size = 20 if table[position] == PROCESSOR else 8
        found.append(table[position : position + size])
        position += size
    return found


@pytest.mark.parametrize("cpus", [1, 2, 64, 254])
def test_a_guest_finds_the_table_and_its_processors(memory: GuestMemory, cpus: int) -> None:
    mptable.write(memory, range(cpus))
    pointer = memory.read(layout.EBDA, 16)
    signature, address, length, revision = struct.unpack_from("<4sIBB", pointer)
    assert (signature, length, revision) == (b"_MP_", 1, 4)
    assert sum(pointer) % 256 == 0

    signature, length, revision, _ = struct.unpack("<4sHBB", memory.read(address, 8))
    assert (signature, revision) == (b"PCMP", 4)
    table = memory.read(address, length)
    assert address + length <= layout.MP_TABLE_END
    assert sum(table) % 256 == 0
    count, local_apic = struct.unpack_from("<HI", table, 34)
    assert local_apic == 0xFEE00000

    found = entries(table)
    assert len(found) == count
    processors = [entry for entry in found if entry[0] == PROCESSOR]
    assert [entry[1] for entry in processors] == list(range(cpus))
    assert [entry[3] for entry in processors] == [0b11] + [0b01] * (cpus - 1), "the first one boots, all enabled"
    kinds = [entry[0] for entry in found]
    assert kinds == sorted(kinds), "section 4.3: entries are sorted by type"
    assert Counter(kinds)[BUS] == 1


def test_each_line_is_on_its_own_pin() -> None:
    found = entries(mptable.build(range(3)))
    (ioapic,) = (entry for entry in found if entry[0] == IOAPIC)
    _, ioapic_id, _, flags, address = struct.unpack("<BBBBI", ioapic)
    assert (ioapic_id, flags, address) == (3, 1, 0xFEC00000)
    lines = {}
    for entry in (entry for entry in found if entry[0] == IO_INTERRUPT):
        _, kind, mode, bus, line, destination, pin = struct.unpack("<BBHBBBB", entry)
        assert (kind, mode, bus, destination) == (0, 0, 0, ioapic_id)
        lines[line] = pin
    assert lines == {line: line for line in range(24) if line != 2}


def test_local_interrupts() -> None:
    local = [entry for entry in entries(mptable.build(range(1))) if entry[0] == LOCAL_INTERRUPT]
    ext_int, nmi = (struct.unpack("<BBHBBBB", entry) for entry in local)
    assert (ext_int[1], ext_int[5], ext_int[6]) == (3, 0, 0), "ExtINT: the boot processor's LINT0"
    assert (nmi[1], nmi[5], nmi[6]) == (1, 0xFF, 1), "NMI: everybody's LINT1"


@pytest.mark.parametrize("cpus", [0, -1, 255, 1 << 40])
def test_no_table_for_so_many(cpus: int) -> None:
    with pytest.raises(ConfigError, match="1 to 254"):
        mptable.build(range(cpus))

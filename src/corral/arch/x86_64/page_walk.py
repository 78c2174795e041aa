"""From a guest's linear address to a guest physical one, by the guest's own page tables (SDM 3A, 4.5)."""

from __future__ import annotations

from corral.memory import PAGE, GuestMemoryError
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    from corral.native import CData

    class Memory(Protocol):
        """A guest's RAM, to be read. Both raise GuestMemoryError for what is not all RAM."""

        def read(self, gpa: int, length: int, /) -> bytes: ...
        def offset(self, gpa: int, length: int, /) -> int: ...


CR0_PG = 1 << 31
CR4_LA57 = 1 << 12
EFER_LMA = 1 << 10
PRESENT, LARGE = 1 << 0, 1 << 7
ADDRESS = 0x000FFFFFFFFFF000


def translate(memory: Memory, sregs: CData, linear: int) -> int | None:
    """The guest physical address of `linear` when it is RAM, else None. Walks 4 and 5 level tables only.

    `sregs` is a struct kvm_sregs; tables that a guest points anywhere are no danger.
    """
    if not sregs.cr0 & CR0_PG:
        gpa = linear & 0xFFFFFFFF
    elif not sregs.efer & EFER_LMA:
        return None
    else:
        found = _walk(memory, sregs, linear)
        if found is None:
            return None
        gpa = found
    try:
        memory.offset(gpa, 1)
    except GuestMemoryError:
        return None
    return gpa


def read(memory: Memory, sregs: CData, linear: int, length: int) -> bytes:
    """As many bytes from `linear` on as are RAM without a gap."""
    data = b""
    while len(data) < length:
        at = linear + len(data)
        gpa = translate(memory, sregs, at) if at < 1 << 64 else None
        if gpa is None:
            break
        try:
            data += memory.read(gpa, min(length - len(data), PAGE - at % PAGE))
        except GuestMemoryError:
            break
    return data


@record(frozen=True)
class WalkStep:
    """An entry of a table: where it is, what it holds. `maps` of the last: the guest physical address,
    if it is present."""

    HEX = ("gpa", "value", "maps")

    table: str
    gpa: int
    value: int
    maps: int | None = None


def steps(memory: Memory, sregs: CData, linear: int) -> Iterator[WalkStep]:
    """The walk, until an entry that is not present, maps a page, or is not in RAM. Nothing without 4 or 5 levels."""
    if not sregs.cr0 & CR0_PG or not sregs.efer & EFER_LMA:
        return
    table = sregs.cr3 & ADDRESS
    for shift in range(48 if sregs.cr4 & CR4_LA57 else 39, 11, -9):
        gpa = table + (linear >> shift & 511) * 8
        try:
            entry = int.from_bytes(memory.read(gpa, 8), "little")
        except GuestMemoryError:
            return
        leaf = bool(entry & PRESENT) and (shift == 12 or bool(entry & LARGE and shift <= 30))
        offset = (1 << shift) - 1
        yield WalkStep(_NAMES[shift], gpa, entry, entry & ADDRESS & ~offset | linear & offset if leaf else None)
        if leaf or not entry & PRESENT:
            return
        table = entry & ADDRESS


_NAMES = {48: "PML5", 39: "PML4", 30: "PDPT", 21: "PD", 12: "PT"}


def _walk(memory: Memory, sregs: CData, linear: int) -> int | None:
    """The last of steps(), without a record for each, which is what takes most of the time."""
    table, shift = sregs.cr3 & ADDRESS, 48 if sregs.cr4 & CR4_LA57 else 39
    while shift >= 12:
        try:
            entry = int.from_bytes(memory.read(table + (linear >> shift & 511) * 8, 8), "little")
        except GuestMemoryError:
            return None
        if not entry & PRESENT:
            return None
        if shift == 12 or (entry & LARGE and shift <= 30):
            offset = (1 << shift) - 1
            return int(entry & ADDRESS & ~offset | linear & offset)
        table, shift = entry & ADDRESS, shift - 9
    return None

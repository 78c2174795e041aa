"""From a guest's linear address to a guest physical one, by the guest's own page tables (SDM 3A, 4.5)."""

from __future__ import annotations

from corral.memory import GuestMemoryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.memory import GuestMemory
    from corral.native import CData

CR0_PG = 1 << 31
CR4_LA57 = 1 << 12
EFER_LMA = 1 << 10
PRESENT, LARGE = 1 << 0, 1 << 7
ADDRESS = 0x000FFFFFFFFFF000


def translate(memory: GuestMemory, sregs: CData, linear: int) -> int | None:
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


def _walk(memory: GuestMemory, sregs: CData, linear: int) -> int | None:
    table = sregs.cr3 & ADDRESS
    for shift in range(48 if sregs.cr4 & CR4_LA57 else 39, 11, -9):
        try:
            entry = int.from_bytes(memory.read(table + (linear >> shift & 511) * 8, 8), "little")
        except GuestMemoryError:
            return None
        if not entry & PRESENT:
            return None
        if shift == 12 or (entry & LARGE and shift <= 30):
            offset = (1 << shift) - 1
            return entry & ADDRESS & ~offset | linear & offset
        table = entry & ADDRESS
    return None

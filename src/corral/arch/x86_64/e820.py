"""The memory map that a guest is told: which guest physical addresses are RAM, which are kept reserved."""

from __future__ import annotations

from corral.arch.x86_64 import layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# Types of ranges (ACPI 6.4, section 15, "System Address Map Interfaces"); PVH uses the same numbers.
RAM = 1
RESERVED = 2

# As a PC's BIOS tells it: the last KiB below 640 KiB (where the MP floating pointer is) and the BIOS area are reserved;
# what lies between them, the screen and option ROMs, is not in the map.
_PC = (
    (0, layout.EBDA, RAM),
    (layout.EBDA, layout.SCREEN, RESERVED),
    (layout.ACPI_TABLES, layout.HIGH_MEMORY, RESERVED),
    (layout.HIGH_MEMORY, 1 << 64, RAM),
)


def memory_map(regions: Iterable[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """(start, length, type) in ascending order, from the regions (start, length) of GuestMemory."""
    ranges = []
    for start, length in regions:
        for first, end, kind in _PC:
            low, high = max(first, start), min(end, start + length)
            if low < high:
                ranges.append((low, high - low, kind))
    return ranges

"""The memory map that a guest is told: which guest physical addresses are RAM, which are kept reserved."""

from __future__ import annotations

from itertools import pairwise

from corral.arch.x86_64 import layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# Types of ranges (ACPI 6.4, section 15, "System Address Map Interfaces"); PVH uses the same numbers.
RAM = 1
RESERVED = 2


def memory_map(regions: Iterable[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """(start, length, type) in ascending order, from the regions (start, length) of GuestMemory.

    The last KiB below 640 KiB (where the MP floating pointer is) up to 1 MiB is reserved, as on a PC.
    """
    ranges = []
    for start, length in regions:
        end = start + length
        cuts = sorted({start, end, *(c for c in (layout.EBDA, layout.HIGH_MEMORY) if start < c < end)})
        for low, high in pairwise(cuts):
            hole = layout.EBDA <= low < layout.HIGH_MEMORY
            ranges.append((low, high - low, RESERVED if hole else RAM))
    return ranges

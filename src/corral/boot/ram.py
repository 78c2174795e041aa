"""Placing things in the guest's RAM: whether they fit, the words for it when they do not."""

from __future__ import annotations

from corral.files.file import Flaw
from corral.memory import RAM_HOLE, RAM_HOLE_END

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from corral.files.elf import Elf
    from corral.memory import GuestMemory

MIB = 1 << 20
_PLAUSIBLE = 1 << 40  # addresses above are not what anybody meant


def require_ram(memory: GuestMemory, start: int, length: int, what: str) -> None:
    """Raise Flaw unless all of [start, start + length) is RAM."""
    end = start + length
    if any(low <= start and end <= low + size for low, size in memory.regions):
        return
    place = f"{what} needs RAM from {start:#x} to {end:#x}"
    if start < RAM_HOLE_END and end > RAM_HOLE:
        raise Flaw(f"{place}, where devices are (3 to 4 GiB); link it for a lower address")
    if end > _PLAUSIBLE:
        raise Flaw(f"{place}, more than any guest has; it is damaged, copy or build it again")
    needed = end if end <= RAM_HOLE else end - (RAM_HOLE_END - RAM_HOLE)
    raise Flaw(f"{place}, the guest has {size_text(memory.size)}; give it {size_text(needed)} with --memory")


def require_room(elf: Elf, memory: GuestMemory) -> None:
    """Flaw unless every segment lies within the guest's RAM."""
    # The highest first: its message asks for enough memory for all of them.
    for segment in reversed(elf.segments):
        require_ram(memory, segment.physical, segment.memory_size, "the kernel")


def free_windows(memory: GuestMemory, taken: list[tuple[int, int]], low: int, high: int) -> Iterator[tuple[int, int]]:
    """(start, end) of the RAM within [low, high) beside the `taken` ranges, from the highest down."""
    for start, length in reversed(memory.regions):
        floor, end = max(start, low), min(start + length, high)
        for taken_start, taken_end in sorted(taken, reverse=True):
            if taken_start >= end or taken_end <= floor:
                continue
            if taken_end < end:
                yield taken_end, end
            end = taken_start
        if floor < end:
            yield floor, end


def size_text(size: int) -> str:
    """A size in MiB, rounded up, as --memory takes it."""
    return f"{-(-size // MIB)}M"

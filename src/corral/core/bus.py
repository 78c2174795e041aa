"""Port and MMIO buses: which device answers an address. Devices see offsets, never addresses."""

from __future__ import annotations

from bisect import bisect_right

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Device(Protocol):
        """Registers behind a range. Sizes are 1, 2, 4 or 8 bytes; values are unsigned and fit the size."""

        def read(self, offset: int, size: int) -> int: ...

        def write(self, offset: int, size: int, value: int) -> None: ...


class Bus:
    """Ranges of one address space. What nobody claims reads as all ones and ignores writes, as on a PC."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.unclaimed = 0
        # One value, replaced as a whole: vCPUs may look while a device is put in.
        self._table: tuple[list[int], list[tuple[int, int, int, Device]]] = ([], [])

    def claim(self, first: int, last: int, device: Device, offset: int = 0) -> None:
        """Gives addresses first..last, both included, to `device`, which sees `first` as `offset`.

        Raises ValueError when a part of the range is taken.
        """
        if last < first:
            raise ValueError(f"{self.name} range {first:#x}-{last:#x} is empty")
        firsts, ranges = self._table
        at = bisect_right(firsts, first)
        if (at and ranges[at - 1][1] >= first) or (at < len(ranges) and ranges[at][0] <= last):
            raise ValueError(f"{self.name} range {first:#x}-{last:#x} overlaps one that is claimed")
        new = (first, last, first - offset, device)
        self._table = ([*firsts[:at], first, *firsts[at:]], [*ranges[:at], new, *ranges[at:]])

    def read(self, address: int, size: int) -> int:
        """The value at an address that a guest chose, masked to `size` bytes."""
        found = self._find(address, size)
        mask = (1 << size * 8) - 1
        if found is None:
            return mask
        offset, device = found
        return device.read(offset, size) & mask

    def write(self, address: int, size: int, value: int) -> None:
        found = self._find(address, size)
        if found is not None:
            offset, device = found
            device.write(offset, size, value)

    def _find(self, address: int, size: int) -> tuple[int, Device] | None:
        """Offset and device, None when the access is not wholly inside one range."""
        firsts, ranges = self._table
        at = bisect_right(firsts, address) - 1
        if at >= 0:
            _, last, base, device = ranges[at]
            if address + size - 1 <= last:
                return address - base, device
        self.unclaimed += 1
        return None

"""Port and MMIO buses: which device answers an address. Devices see offsets, never addresses.

Each of a VM's two address spaces has one table, which has all that answers there: devices in Python, those whose
registers C finishes, and what KVM has for itself. A device is claimed once, and says which registers C finishes; those
are in `native` too, which every vCPU of the VM looks at (csrc/vcpu/bus.h).
"""

from __future__ import annotations

from bisect import bisect_right

from corral.native import check, ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from corral.native import CData

    # Registers that C finishes: first and last offset, a corral_register_op, and the device that this is called with.
    InC = tuple[int, int, CData, CData]

    class Device(Protocol):
        """Registers behind a range. Sizes are 1, 2, 4 or 8 bytes; values are unsigned and fit the size."""

        def read(self, offset: int, size: int) -> int: ...

        def write(self, offset: int, size: int, value: int) -> None: ...


class Bus:
    """Ranges of one address space. What no device answers reads as all ones and ignores writes, as on a PC."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.unclaimed = 0  # accesses that came to Python, and that no device answered
        self.native = ffi.new("struct corral_bus *")
        # One value, replaced as a whole: vCPUs may look while a device is put in.
        self._table: tuple[list[int], list[tuple[int, int, int, Device | None, str]]] = ([], [])

    def claim(
        self,
        first: int,
        last: int,
        device: Device | None,
        offset: int = 0,
        *,
        owner: str = "a device",
        in_c: Sequence[InC] = (),
    ) -> None:
        """Gives addresses first..last, both included, to `device`, which sees `first` as `offset`; None: Python answers
        nothing there. `owner` is what that is, for people.

        C finishes accesses of at most four bytes to the registers of `in_c`; that is only for before a vCPU runs.
        Raises ValueError when a part of the range is taken.
        """
        if last < first:
            raise ValueError(f"{self.name} range {first:#x}-{last:#x} is empty")
        firsts, ranges = self._table
        at = bisect_right(firsts, first)
        for start, end, *_, other in ranges[max(at - 1, 0) : at + 1]:
            if first <= end and last >= start:
                raise ValueError(f"{self.name} {first:#x}-{last:#x} overlaps {other} at {start:#x}-{end:#x}")
        for low, high, op, native in in_c:
            base = first - offset
            check("claim", lib.corral_bus_claim(self.native, base + low, base + high, op, native))
        new = (first, last, first - offset, device, owner)
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
        """Offset and device, None when the access is not wholly inside the range of one."""
        firsts, ranges = self._table
        at = bisect_right(firsts, address) - 1
        if at >= 0:
            _, last, base, device, _ = ranges[at]
            if address + size - 1 <= last and device is not None:
                return address - base, device
        self.unclaimed += 1
        return None

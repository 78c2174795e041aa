"""PCI's address register, in a machine where nothing is at any of its addresses.

Linux prints a fatal error where it finds no way to PCI's configuration space, and where it was told not to look for
one. So there is the way: what is read through it are the ones of an absent device (0xCFC, where no device is).
PCI Local Bus Specification 3.0, section 3.2.2.3.2.
"""

from __future__ import annotations

ENABLE, ADDRESS = 1 << 31, 0x00FFFFFC  # the bits that it has
ABSENT = 0xFFFFFFFF


class PciAddress:
    """Ports 0xCF8 to 0xCFB, which are one register for accesses of four bytes, and nothing for others."""

    def __init__(self) -> None:
        self._value = 0

    def save(self) -> int:
        return self._value

    def restore(self, value: int) -> None:
        self._value = value & (ENABLE | ADDRESS)

    def read(self, offset: int, size: int) -> int:
        return self._value if size == 4 else ABSENT

    def write(self, offset: int, size: int, value: int) -> None:
        if size == 4:
            self._value = value & (ENABLE | ADDRESS)

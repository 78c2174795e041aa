"""fw_cfg: what a firmware is told of its machine, as files that it reads byte by byte.

Source: QEMU's docs/specs/fw_cfg.rst, "Register Locations" and "Firmware Configuration Items". No DMA: SeaBIOS reads
less than a KiB.
"""

from __future__ import annotations

import struct

SELECTOR, DATA = 0, 1  # offsets of the ports

_SIGNATURE, _ID, _CPUS, _DIRECTORY = 0x00, 0x01, 0x05, 0x19  # items
_FIRST_FILE = 0x20
_TRADITIONAL = 1  # of the item _ID: there are these two ports, and no more
_COUNT = struct.Struct(">I")
_FILE = struct.Struct(">IH2x56s")  # size, item, name
_LONGEST_NAME = 55


class FwCfg:
    """Ports 0x510 (which item; 16 bits, write only) and 0x511 (its next byte; zeros behind its end)."""

    def __init__(self, files: dict[str, bytes], cpus: int) -> None:
        """`cpus`: how many the firmware finds when it starts. SeaBIOS waits until so many have answered it, and takes
        this from the item alone: with a file in its place it goes on while they still run its code."""
        directory = _COUNT.pack(len(files))
        self._items = {
            _SIGNATURE: b"QEMU",
            _ID: _TRADITIONAL.to_bytes(4, "little"),
            _CPUS: cpus.to_bytes(2, "little"),
        }
        for item, (name, content) in enumerate(files.items(), _FIRST_FILE):
            assert len(name) <= _LONGEST_NAME
            directory += _FILE.pack(len(content), item, name.encode())
            self._items[item] = content
        self._items[_DIRECTORY] = directory
        self._item, self._at = b"", 0

    def read(self, offset: int, size: int) -> int:
        if offset != DATA:
            return 0
        byte = self._item[self._at : self._at + 1]
        self._at += len(byte)
        return byte[0] if byte else 0

    def write(self, offset: int, size: int, value: int) -> None:
        if offset == SELECTOR:
            self._item, self._at = self._items.get(value & 0xFFFF, b""), 0

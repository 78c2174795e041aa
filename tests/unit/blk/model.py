"""What virtio 1.2 section 5.2 says a disk does, on plain bytes: what the device in C is compared with."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from corral.native import lib
from tests.support.virtio_driver import (
    DISCARD,
    FLUSH,
    GET_ID,
    IN,
    IOERR,
    OK,
    OUT,
    SECTOR,
    UNMAP,
    UNSUPP,
    WRITE_ZEROES,
)


@dataclass
class Answer:
    status: int
    written: int  # the used length
    data: bytes = b""  # the start of the buffer that the driver gave, as it is then


class Model:
    """A disk of `content`. After a DISCARD the discarded sectors are unknown until they are written: `known`."""

    def __init__(self, content: bytes, identity: bytes = b"", read_only: bool = False) -> None:
        self.content = bytearray(content)
        self.known = bytearray(b"\1" * (len(content) // SECTOR))
        self.identity, self.read_only = identity, read_only

    def on_disk(self, sector: int, length: int) -> bool:
        return length % SECTOR == 0 and sector * SECTOR + length <= len(self.content)

    def answer(self, kind: int, sector: int, data: bytes, room: int) -> Answer:
        status, found = self.serve(kind, sector, data, room)
        if status != OK:
            return Answer(status, 0 if room else 1)
        if kind == GET_ID:
            return Answer(OK, 21 if room == 20 else 20, found)
        if kind == FLUSH:
            return Answer(OK, 0 if room else 1)
        return Answer(OK, room + 1, found)

    def serve(self, kind: int, sector: int, data: bytes, room: int) -> tuple[int, bytes]:
        at = sector * SECTOR
        if kind == IN:
            if data or not self.on_disk(sector, room):
                return IOERR, b""
            return OK, bytes(self.content[at : at + room])
        if kind == OUT:
            if room or self.read_only or not self.on_disk(sector, len(data)):
                return IOERR, b""
            self.put(at, data)
            return OK, b""
        if kind == FLUSH:
            return OK, b""
        if kind == GET_ID:
            return (OK, self.identity.ljust(20, b"\0")) if room >= 20 else (IOERR, b"")
        if kind in (DISCARD, WRITE_ZEROES):
            if room or self.read_only:
                return IOERR, b""
            return self.serve_ranges(kind, data), b""
        return UNSUPP, b""

    def serve_ranges(self, kind: int, data: bytes) -> int:
        if not data or len(data) % 16 or len(data) > 16 * lib.CORRAL_BLK_RANGES_MAX:
            return IOERR
        parts = list(struct.iter_unpack("<QII", data))
        for sector, sectors, flags in parts:
            if flags & ~(UNMAP if kind == WRITE_ZEROES else 0):
                return UNSUPP
            if sectors > lib.CORRAL_BLK_RANGE_SECTORS_MAX or not self.on_disk(sector, sectors * SECTOR):
                return IOERR
        for sector, sectors, _ in parts:
            if kind == WRITE_ZEROES:
                self.put(sector * SECTOR, bytes(sectors * SECTOR))
            else:
                self.known[sector : sector + sectors] = bytes(sectors)
        return OK

    def put(self, at: int, data: bytes) -> None:
        self.content[at : at + len(data)] = data
        first, end = at // SECTOR, (at + len(data)) // SECTOR
        self.known[first:end] = b"\1" * (end - first)

    def agrees(self, at: int, found: bytes) -> bool:
        """Whether a read of `found` at byte `at` is right, where something is known at all."""
        wanted = bytearray(self.content[at : at + len(found)])
        for offset in range(0, len(found), SECTOR):
            if not self.known[(at + offset) // SECTOR]:
                wanted[offset : offset + SECTOR] = found[offset : offset + SECTOR]
        return wanted == found

"""A disk with verified requests that never ends by itself, and what an image must hold after it was killed.

Write `serial` fills the start of slot `serial % SLOTS`, so any SLOTS writes in a row are apart, and whoever knows the
serial numbers knows the sectors.
"""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from corral.backends.disk_image import DiskImage
from corral.config import DiskConfig
from tests.durability.numbered import numbered
from tests.support.virtio_driver import DEFAULT_FEATURES, F_FLUSH, FLUSH, IN, OK, OUT, SECTOR, Disk

SLOTS, SLOT = 64, 8  # sectors
SIZE = SLOTS * SLOT * SECTOR
BATCH = 32


def sectors_of(serial: int) -> range:
    first = serial % SLOTS * SLOT
    return range(first, first + 1 + (serial * 2654435761 >> 7) % SLOT)


def content(serial: int) -> bytes:
    return b"".join(numbered(sector, serial) for sector in sectors_of(serial))


def live(config: DiskConfig, layers: str, engine: int, first: int, seed: str, report: Connection) -> None:
    """Writes from serial number `first` on; into `report` goes each number up to which all is flushed.

    A snapshot's layer goes into the folder `layers`.
    """
    os.environ["TMPDIR"] = layers
    image = DiskImage(config)
    write_through = config.cache == "writethrough"
    options: dict[str, Any] = {"overlay_fd": image.overlay, "direct": config.cache == "direct"}
    if write_through:
        options |= {"write_through": True, "features": DEFAULT_FEATURES & ~(1 << F_FLUSH)}
    dice = random.Random(seed)
    with Disk(image.fd, image.size, engine=engine, block_size=image.block_size, **options) as disk:
        latest: dict[int, int] = {}  # by slot
        while True:
            batch = range(first, first + dice.randint(1, BATCH))
            writes = [disk.add(OUT, sectors_of(n)[0], content(n), indirect=True, alignment=512) for n in batch]
            if not write_through and dice.randrange(2):
                writes.append(disk.add(FLUSH))  # which covers none of them
            disk.wait()
            right = all(disk.status(request) == OK for request in writes)
            latest |= {serial % SLOTS: serial for serial in batch}
            some = dice.sample(sorted(latest.values()), min(4, len(latest)))
            reads = [disk.add(IN, sectors_of(n)[0], room=len(content(n)), indirect=True) for n in some]
            disk.wait()
            right &= all(disk.data(read) == content(n) for n, read in zip(some, reads, strict=True))
            if not write_through:
                disk.flush()
            if not right:
                os._exit(1)
            first = batch[-1] + 1
            report.send(batch[-1])


@dataclass
class Expected:
    """Of each sector the serial number that is promised; 0: nothing was."""

    promised: list[int] = field(default_factory=lambda: [0] * (SLOTS * SLOT))

    def flushed(self, first: int, last: int) -> None:
        for serial in range(first, last + 1):
            for sector in sectors_of(serial):
                self.promised[sector] = serial

    def losses(self, image: bytes) -> Iterator[str]:
        for sector, promised in enumerate(self.promised):
            found = image[sector * SECTOR : (sector + 1) * SECTOR]
            _, serial = struct.unpack_from("<QQ", found)
            if found != (numbered(sector, serial) if serial else bytes(SECTOR)) or serial < promised:
                yield f"sector {sector} has write {serial}, and {promised} was flushed"

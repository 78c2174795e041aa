"""A driver that keeps many requests in flight and believes no answer: what succeeded must be so, what failed may have
done any part of its work, and nothing else may have changed."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from operator import contains

from tests.durability.numbered import ZERO, numbered
from tests.support.virtio_driver import DISCARD, FLUSH, IN, IOERR, OK, OUT, SECTOR, WRITE_ZEROES, Disk, Request, ranges

LONGEST = 12  # sectors
IN_FLIGHT = 16
KINDS = [IN] * 8 + [OUT] * 8 + [FLUSH, DISCARD, WRITE_ZEROES]
FRESH = 1 << 63  # the serial number of what nobody has written


def version(sector: int, serial: int) -> bytes:
    return bytes(SECTOR) if serial == ZERO else numbered(sector, serial)


def fresh(sectors: int) -> bytes:
    return b"".join(version(sector, FRESH) for sector in range(sectors))


@dataclass
class Sent:
    request: Request
    sectors: range
    serial: int


class Driver:
    """Over a disk that is as `fresh` makes it. `answers` counts them by status."""

    def __init__(self, disk: Disk, sectors: int, dice: random.Random) -> None:
        self.disk, self.dice = disk, dice
        self.possible: list[set[int]] = [{FRESH} for _ in range(sectors)]  # the serial numbers of what may be there
        self.answers: Counter[int] = Counter()
        self._serial = 0
        self._flying: list[Sent] = []

    def run(self, requests: int) -> None:
        end = self._serial + requests
        while self._serial < end:
            while len(self._flying) < IN_FLIGHT:
                self._submit()
            for queue in self.disk.queues:
                queue.show()
            some = self.dice.sample(self._flying, self.dice.randint(1, IN_FLIGHT))
            self.disk.wait_shown(*[sent.request for sent in some])
            self._look()
        self.disk.wait()
        self._look()

    def _submit(self) -> None:
        count = self.dice.randint(1, LONGEST)
        first = self.dice.randrange(len(self.possible) - count)
        sectors = range(first, first + count)
        if any(sector in sent.sectors for sent in self._flying for sector in sectors):
            return
        self._serial += 1
        kind = self.dice.choice(KINDS)
        sizes = self.dice.choice([(), (512,), (100, 4096)])
        if kind == FLUSH:
            sectors = range(0)
            request = self.disk.add(kind)
        elif kind == IN:
            request = self.disk.add(kind, first, room=count * SECTOR, indirect=True, sizes=sizes, alignment=512)
        elif kind == OUT:
            data = b"".join(numbered(sector, self._serial) for sector in sectors)
            request = self.disk.add(kind, first, data, indirect=True, sizes=sizes, alignment=512)
        else:
            request = self.disk.add(kind, data=ranges((first, count, 0)))
        self._flying.append(Sent(request, sectors, self._serial if kind == OUT else ZERO))

    def _look(self) -> None:
        for sent in [sent for sent in self._flying if sent.request.done]:
            self._flying.remove(sent)
            status = self.disk.status(sent.request)
            assert status in (OK, IOERR)
            self.answers[status] += 1
            if sent.request.kind == IN and status == OK:
                self.check(sent.sectors, self.disk.data(sent.request))
            elif sent.request.kind in (OUT, WRITE_ZEROES) and status == OK:
                for sector in sent.sectors:
                    self.possible[sector] = {sent.serial}
            elif sent.request.kind in (OUT, WRITE_ZEROES, DISCARD):
                for sector in sent.sectors:
                    self.possible[sector].add(sent.serial)

    def check(self, sectors: range, data: bytes) -> None:
        for number, sector in enumerate(sectors):
            found = data[number * SECTOR : (number + 1) * SECTOR]
            serials = self.possible[sector]
            versions = [version(sector, serial) for serial in serials]
            # A write that failed may have come to an end anywhere, also within a sector.
            right = found in versions or (len(versions) > 1 and all(map(contains, zip(*versions, strict=True), found)))
            assert right, f"sector {sector} has {found[:16].hex()}... and not {sorted(serials)}"

    def check_all(self) -> None:
        """Reads the whole disk, each sector as often as it takes."""
        for sector in range(len(self.possible)):
            for _ in range(50):
                request = self.disk.add(IN, sector, room=SECTOR)
                self.disk.wait(request)
                if self.disk.status(request) == OK:
                    self.check(range(sector, sector + 1), self.disk.data(request))
                    break
            else:
                raise AssertionError(f"sector {sector} cannot be read")

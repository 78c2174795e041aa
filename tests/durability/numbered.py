"""A driver that writes numbered sectors and flushes, knows what it was promised, and recognises what it finds.

It never has two requests in flight that touch the same sector, as no operating system does.
"""

from __future__ import annotations

import hashlib
import random
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tests.support.blk_record import ANSWER, Record
from tests.support.virtio_driver import DISCARD, FLUSH, OK, OUT, SECTOR, WRITE_ZEROES, Disk, Request, ranges

ZERO = 0  # what a sector holds before anything was written, and after it was zeroed
FLUSH_EVERY, ZERO_EVERY = 6, 12
LONGEST = 12  # sectors of one write


def numbered(sector: int, serial: int) -> bytes:
    """The content of `sector` as the write with this serial number left it: no other is like it."""
    head = struct.pack("<QQ", sector, serial)
    return head + hashlib.shake_128(head).digest(SECTOR - len(head))


@dataclass
class Sent:
    """One request of the driver's; `versions` are positions in the history of the sectors that it touches."""

    kind: int
    request: Request
    head: int
    versions: dict[int, int]
    status: int | None = None  # as soon as the driver has seen the answer
    answered: int = -1  # the index of the answer in the record


@dataclass
class Promise:
    """From entry `since` of the record on each of these sectors holds this position of its history, or a later one."""

    since: int
    versions: dict[int, int]


@dataclass
class Driver:
    """Writes into `disk`, of which it uses `sectors`; `write_through`: an answered write is a promise by itself."""

    disk: Disk
    sectors: int
    dice: random.Random
    write_through: bool = False
    sent: list[Sent] = field(default_factory=list)

    def __post_init__(self) -> None:
        # Of each sector what it was given, in order: serial numbers, ZERO, and None for a discard, which leaves it
        # with whatever it ever held.
        self.history: list[list[int | None]] = [[ZERO] for _ in range(self.sectors)]
        self.after = 0  # the end of the last write
        self.covered: list[tuple[Sent, dict[int, int]]] = []  # flushes, and what had been answered when they began

    def run(self, requests: int, in_flight: int = 12) -> None:
        while len(self.sent) < requests:
            while len(self.disk.flying) < in_flight and len(self.sent) < requests:
                self.submit()
            for queue in self.disk.queues:
                queue.show()
            flying = list(self.disk.flying.values())
            self.disk.wait_shown(*self.dice.sample(flying, self.dice.randint(1, len(flying))))
            self.look()
        self.disk.wait()
        self.look()

    def look(self) -> None:
        """Takes notice of what was answered."""
        for sent in self.sent:
            if sent.status is None and sent.request.done:
                sent.status = self.disk.status(sent.request)

    def busy(self) -> set[int]:
        return {sector for sent in self.sent if sent.status is None for sector in sent.versions}

    def submit(self) -> None:
        serial = len(self.sent) + 1
        if self.dice.randrange(FLUSH_EVERY) == 0:
            # Of each sector the last request that was answered: later ones were after it, so they count as well.
            versions: dict[int, int] = {}
            for sent in self.sent:
                if sent.status == OK and sent.kind != FLUSH:
                    versions.update(sent.versions)
            flush = self.add(FLUSH, b"", 0, {})
            self.covered.append((flush, versions))
            return
        count = self.dice.randint(1, LONGEST)
        first = self.dice.randrange(self.sectors - count)
        if self.after + count <= self.sectors and self.dice.randrange(3) == 0:
            first = self.after  # so that the device has neighbours to make one call of
        self.after = first + count
        touched = range(first, first + count)
        if self.busy() & set(touched):
            return
        if self.dice.randrange(ZERO_EVERY) == 0:
            kind = self.dice.choice([DISCARD, WRITE_ZEROES])
            versions = self.remember(touched, None if kind == DISCARD else ZERO)
            self.add(kind, ranges((first, count, 0)), 0, versions)
        else:
            versions = self.remember(touched, serial)
            self.add(OUT, b"".join(numbered(sector, serial) for sector in touched), first, versions)

    def remember(self, touched: Sequence[int], what: int | None) -> dict[int, int]:
        for sector in touched:
            self.history[sector].append(what)
        return {sector: len(self.history[sector]) - 1 for sector in touched}

    def add(self, kind: int, data: bytes, sector: int, versions: dict[int, int]) -> Sent:
        sizes = self.dice.choice([(), (512,), (100, 4096)])
        queue = self.dice.randrange(len(self.disk.queues))
        request = self.disk.add(kind, sector, data, queue=queue, indirect=True, sizes=sizes, alignment=512)
        (head,) = [head for (_, head), other in self.disk.flying.items() if other is request]
        self.sent.append(Sent(kind, request, head, versions))
        return self.sent[-1]

    def promises(self, records: Sequence[Record]) -> list[Promise]:
        """All that the device has promised, in the order in which it did."""
        waiting: dict[tuple[int, int], list[Sent]] = {}
        for sent in self.sent:
            waiting.setdefault((sent.request.queue, sent.head), []).append(sent)
        for index, record in enumerate(records):
            if record.op == ANSWER:
                sent = waiting[record.file, record.offset].pop(0)
                assert (record.flags, record.result) == (sent.kind, sent.status)
                sent.answered = index
        made = [Promise(flush.answered, versions) for flush, versions in self.covered if flush.status == OK]
        if self.write_through:
            made += [Promise(sent.answered, sent.versions) for sent in self.sent if sent.status == OK]
        return sorted(made, key=lambda promise: promise.since)


class Checker:
    """Looks through images for what was promised by the driver's device."""

    def __init__(self, driver: Driver, promises: Sequence[Promise]) -> None:
        self.history, self.promises = driver.history, list(promises)
        self.promised = [0] * driver.sectors  # the least position in each sector's history
        self.serials = {bytes(SECTOR): ZERO}
        for sector, history in enumerate(driver.history):
            self.serials |= {numbered(sector, serial): serial for serial in history if serial}
        self.allowed = [self._allowed(sector) for sector in range(driver.sectors)]
        self._next = 0

    def _allowed(self, sector: int) -> set[int]:
        history, least = self.history[sector], self.promised[sector]
        if history[least] is None:
            least = 0
        return {ZERO if what is None else what for what in history[least:]}

    def advance(self, at: int) -> None:
        """To the promises that were made before entry `at` of the record."""
        while self._next < len(self.promises) and self.promises[self._next].since < at:
            for sector, version in self.promises[self._next].versions.items():
                if version > self.promised[sector]:
                    self.promised[sector] = version
                    self.allowed[sector] = self._allowed(sector)
            self._next += 1

    def losses(self, image: bytes | bytearray) -> Iterator[str]:
        for sector, allowed in enumerate(self.allowed):
            serial = self.serials.get(bytes(image[sector * SECTOR : (sector + 1) * SECTOR]))
            if serial is None:
                yield f"sector {sector} has what nobody wrote"
            elif serial not in allowed:
                promised = self.history[sector][self.promised[sector]]
                yield f"sector {sector} has what request {serial} wrote, and {promised} was promised"

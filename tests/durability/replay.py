"""The states that an image may be in after a power cut, by the record of what reached it.

A write is stable from the end of the first sync on that began after the write had ended; one with RWF_DSYNC from its
own end on. Until then each of its blocks is there or not, whatever the others are. Of two writes to a block the one
that had ended before the other began cannot come to lie on top of it; where neither had, either can.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tests.support.blk_record import ALLOCATE, IMAGE, SYNC, WRITE, Record


@dataclass(eq=False)
class Write:
    """One call that changes the image. `start`, `end` and `stable` are indices of the record; None: not within it."""

    start: int
    offset: int
    data: bytes
    end: int | None = None
    stable: int | None = None
    failed: bool = False  # nobody knows what it wrote, and no sync makes that stable

    def blocks(self, size: int) -> Iterator[tuple[int, bytes]]:
        """(offset, bytes) of each block of this size, the first and last perhaps in part."""
        at = 0
        while at < len(self.data):
            n = size - (self.offset + at) % size
            yield self.offset + at, self.data[at : at + n]
            at += n


def writes_of(records: Sequence[Record]) -> list[Write]:
    """All of them, in the order in which they began."""
    writes: list[Write] = []
    unstable: list[Write] = []
    calls: dict[int, tuple[int, Write | None]] = {}  # by request: the start, and the write if it is one
    for index, record in enumerate(records):
        if record.op not in (WRITE, SYNC, ALLOCATE) or record.file != IMAGE:
            continue
        if not record.done:
            write = None
            if record.op != SYNC:
                write = Write(index, record.offset, record.data if record.op == WRITE else bytes(record.length))
                writes.append(write)
            calls[record.request] = index, write
            continue
        start, write = calls.pop(record.request)
        if write:
            write.end = index
            write.failed = record.result < 0
            if record.op == WRITE and record.result >= 0:
                write.data = write.data[: record.result]
            if not write.failed and record.op == WRITE and record.flags & os.RWF_DSYNC:
                write.stable = index
            else:
                unstable.append(write)
        elif record.result == 0:
            for covered in unstable:
                if covered.end is not None and covered.end < start and not covered.failed:
                    covered.stable = index
            unstable = [other for other in unstable if other.stable is None]
    return writes


@dataclass
class Cut:
    """What there is when the power fails right before the record's entry `at`."""

    at: int
    block: int  # bytes that are written at once or not at all
    settled: bytearray  # the image with all that is stable and that nothing can come to lie under any more
    pending: list[Write] = field(default_factory=list)  # the others that had begun

    def is_stable(self, write: Write) -> bool:
        return write.stable is not None and write.stable < self.at

    @property
    def volatile(self) -> list[Write]:
        return [write for write in self.pending if not self.is_stable(write)]

    def image(self, kept: dict[Write, Sequence[int] | None], dice: random.Random) -> bytearray:
        """The image with these volatile writes, of each all blocks (None) or some; in a legal order."""
        moments = []
        for write in self.pending:
            if self.is_stable(write) or write in kept:
                end = self.at if write.end is None or write.end > self.at else write.end
                moments.append((dice.uniform(write.start, end), write))
        moments.sort(key=lambda moment: moment[0])
        image = bytearray(self.settled)
        for _, write in moments:
            some = kept.get(write)
            if some is None:
                image[write.offset : write.offset + len(write.data)] = write.data
                continue
            for number, (offset, data) in enumerate(write.blocks(self.block)):
                if number in some:
                    image[offset : offset + len(data)] = data
        return image

    def images(self, dice: random.Random, most: int) -> Iterator[bytearray]:
        """All subsets of the volatile writes when that is at most `most`; else so many of them, drawn. Then half as
        many with torn writes."""
        volatile = self.volatile
        if len(volatile) < 30 and 2 ** len(volatile) <= most:
            for chosen in itertools.product((False, True), repeat=len(volatile)):
                yield self.image({w: None for w, keep in zip(volatile, chosen, strict=True) if keep}, dice)
        else:
            for _ in range(most):
                yield self.image(dict.fromkeys(draw(volatile, dice)), dice)
        for _ in range(most // 2 if any(len(write.data) > self.block for write in volatile) else 0):
            yield self.image({write: self._tear(write, dice) for write in draw(volatile, dice)}, dice)

    def _tear(self, write: Write, dice: random.Random) -> list[int]:
        density = dice.random()
        return [number for number, _ in enumerate(write.blocks(self.block)) if dice.random() < density]


def draw(volatile: list[Write], dice: random.Random) -> list[Write]:
    """A subset, the telling ones more often: none, all, all but one, one alone, those up to a moment."""
    kind = dice.randrange(8)
    if kind == 0:
        return dice.choice([[], volatile])
    if kind == 1:
        return [dice.choice(volatile)]
    if kind == 2:
        lost = dice.choice(volatile)
        return [write for write in volatile if write is not lost]
    if kind == 3:
        return volatile[: dice.randrange(len(volatile) + 1)]
    density = dice.random()
    return [write for write in volatile if dice.random() < density]


def cuts(records: Sequence[Record], image: bytes, block: int = 512) -> Iterator[Cut]:
    """A power cut before each entry of the record, and one after the last. A Cut is good until the next."""
    writes = writes_of(records)
    cut = Cut(0, block, bytearray(image))
    begun = 0
    for cut.at in range(len(records) + 1):
        while begun < len(writes) and writes[begun].start < cut.at:
            cut.pending.append(writes[begun])
            begun += 1
        settle(cut)
        yield cut


def settle(cut: Cut) -> None:
    """Applies what is stable and had ended before anything else began."""
    end = done = 0
    for number, write in enumerate(cut.pending):
        if number and end < write.start:
            done = number
        if not cut.is_stable(write):
            break
        assert write.end is not None
        end = max(end, write.end)
    else:
        done = len(cut.pending)  # what comes will begin later
    for write in sorted(cut.pending[:done], key=lambda write: write.end or 0):
        cut.settled[write.offset : write.offset + len(write.data)] = write.data
    del cut.pending[:done]

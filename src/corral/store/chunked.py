"""A snapshot's file as a store has it: parts of chunks, without holes; what its parents have is its own there."""

from __future__ import annotations

import errno
import os

from corral.errors import HostError
from corral.memory import PAGE
from corral.native import lib
from corral.snapshot import file
from corral.snapshot.resumed import Resumed
from corral.startup.record import record, replace
from corral.store import chunks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from corral.snapshot.ram import Layer


@record(frozen=True)
class Stretch:
    """`length` bytes of the file that is stored, from `at` on; they are `head`, or what `layers` have, the one on top
    first."""

    at: int
    length: int
    layers: Sequence[Layer]
    head: bytes = b""

    def numbers(self) -> Iterator[int]:
        """Of its chunks that may have something else than zeros."""
        if self.head:
            yield from range(-(-len(self.head) // chunks.SIZE))
            return
        found: set[int] = set()
        for fd, offset, _ in self.layers:
            for begin, end in _extents(fd, offset, offset + self.length):
                found.update(range((begin - offset) // chunks.SIZE, -(-(end - offset) // chunks.SIZE)))
        yield from sorted(found)

    def read(self, number: int) -> bytes:
        """One chunk. Raises HostError."""
        at = number * chunks.SIZE
        length = min(chunks.SIZE, self.length - at)
        if self.head:
            return self.head[at : at + length]
        try:
            return _read(self.layers, at, length)
        except OSError as error:
            raise HostError(f"the snapshot cannot be read: {error.strerror}; see dmesg") from None


class Chunked:
    """An open snapshot. A context manager. Raises BootError."""

    def __init__(self, path: str) -> None:
        self.resumed = Resumed(path)
        content = self.resumed.content
        own, disks = self.resumed.generations[0], [disk.size for disk in content.guest.disks if disk.snapshot]
        head = file.head(file.dump(replace(content, parent=None)))
        ram, layers, self.size = file.places(len(head), content.guest.memory, disks)
        fd, had = own.layer_places()
        self.stretches = [
            Stretch(0, len(head), (), head),
            Stretch(ram, content.guest.memory, [one.layer_of_ram() for one in self.resumed.generations]),
        ]
        for disk, (map_at, data_at), (map_was, data_was) in zip(disks, layers, had, strict=True):
            bits = int(lib.corral_blk_map_size(disk))
            self.stretches += [
                Stretch(at, length, [(fd, was, None)])
                for at, length, was in ((map_at, bits, map_was), (data_at, disk, data_was))
                if length
            ]

    def __enter__(self) -> Chunked:
        return self

    def __exit__(self, *exception: object) -> None:
        self.resumed.close()


def _extents(fd: int, at: int, end: int) -> Iterator[tuple[int, int]]:
    """Where a file has data, from `at` to `end`."""
    while at < end:
        try:
            begin = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return
        if begin >= end:
            return
        at = os.lseek(fd, begin, os.SEEK_HOLE)
        yield begin, min(at, end)


def _read(layers: Sequence[Layer], at: int, length: int) -> bytes:
    fd, offset, _ = layers[-1]
    found = _exactly(fd, offset + at, length)
    if len(layers) == 1:
        return found
    mixed = bytearray(found)
    for fd, offset, own in reversed(layers[:-1]):
        assert own is not None  # the last alone has all pages
        for page in range(at // PAGE, -(-(at + length) // PAGE)):
            if own[page // 8] >> page % 8 & 1:
                begin = page * PAGE - at
                mixed[begin : begin + PAGE] = _exactly(fd, offset + page * PAGE, min(PAGE, length - begin))
    return bytes(mixed)


def _exactly(fd: int, at: int, length: int) -> bytes:
    found = os.pread(fd, length, at)
    while len(found) < length:
        piece = os.pread(fd, length - len(found), at + len(found))
        if not piece:
            raise OSError(0, "it was cut off meanwhile")
        found += piece
    return found

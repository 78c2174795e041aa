"""The record that a disk keeps for tests of what reaches its backend (corral_blk_config.record_fd), read back."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

from corral.native import lib

READ, WRITE, SYNC, ALLOCATE = range(4)
ANSWER: int = lib.CORRAL_BLK_RECORD_ANSWER
MARK = ANSWER + 1  # not the device's: what a test has put in between, see Recorder.mark
IMAGE, OVERLAY = range(2)
HEAD = struct.Struct("<QIIIIQQq")


@dataclass
class Record:
    """A struct corral_blk_record; `data` is what a write was about to write."""

    request: int
    op: int
    file: int
    flags: int
    done: int
    offset: int
    length: int
    result: int
    data: bytes = b""


def parse(raw: bytes) -> list[Record]:
    records, at = [], 0
    while at < len(raw):
        record = Record(*HEAD.unpack_from(raw, at))
        at += HEAD.size
        if record.op == WRITE and not record.done:
            record.data = raw[at : at + record.length]
            at += record.length
        records.append(record)
    return records


def made(records: list[Record]) -> list[Record]:
    """The calls, in the order in which they were about to be made."""
    return [record for record in records if not record.done]


class Recorder:
    """Keeps a record in memory; `append` is the descriptor for the device."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("record")
        self.append = os.open(f"/proc/self/fd/{self.fd}", os.O_RDWR | os.O_APPEND)

    def close(self) -> None:
        os.close(self.fd)
        os.close(self.append)

    def mark(self, number: int) -> None:
        """Notes in the record that something has happened by now; `number` is its result."""
        os.write(self.append, HEAD.pack(0, MARK, 0, 0, 1, 0, 0, number))

    def take(self) -> list[Record]:
        """All of it so far."""
        return parse(os.pread(self.fd, os.fstat(self.fd).st_size, 0))

"""A virtio driver with no machine and no KVM: it lays out split queues in guest RAM and drives a device by them.

`Queue` is the driver's half of virtio 1.2 section 2.7, honest unless told otherwise: everything in RAM can be
overwritten by whoever wants to play a bad guest. `Disk` is a virtio-blk device of csrc/blk/blk.h under such queues.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from corral.memory import GuestMemory
from corral.native import ffi, lib

NEXT, WRITE, INDIRECT = 1, 2, 4
F_RO, F_FLUSH, F_CONFIG_WCE, F_DISCARD, F_WRITE_ZEROES = 5, 9, 11, 13, 14
F_INDIRECT_DESC, F_EVENT_IDX = 28, 29
IN, OUT, FLUSH, GET_ID, DISCARD, WRITE_ZEROES = 0, 1, 4, 8, 11, 13
OK, IOERR, UNSUPP = 0, 1, 2
UNMAP = 1
SECTOR = 512
PATIENCE = 30.0  # seconds that a disk may take to stop
UNWRITTEN = 0xA5  # what a status byte is before the device writes it

DEFAULT_FEATURES = sum(1 << bit for bit in (F_FLUSH, F_DISCARD, F_WRITE_ZEROES, F_INDIRECT_DESC, F_EVENT_IDX))

Segment = tuple[int, int]  # gpa, length


def align(value: int, to: int) -> int:
    return -(-value // to) * to


class Queue:
    """The driver's half of one split virtqueue in `memory` from `base` on; `end` is the first address after it."""

    def __init__(self, memory: GuestMemory, base: int, size: int, event_idx: bool = True) -> None:
        self.memory, self.size, self.event_idx = memory, size, event_idx
        self.desc = align(base, 16)
        self.avail = self.desc + 16 * size
        self.used = align(self.avail + 6 + 2 * size, 4)
        self.tables = align(self.used + 6 + 8 * size, 16)  # an indirect table a head
        self.table_entries = 64
        self.end = self.tables + size * self.table_entries * 16
        self.kick_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.reset()

    def close(self) -> None:
        os.close(self.kick_fd)

    def reset(self) -> None:
        """As a driver leaves a queue before it tells the device of it."""
        self.memory.view(self.desc, self.tables - self.desc)[:] = bytes(self.tables - self.desc)
        self.free = list(range(self.size))
        self.chains: dict[int, list[int]] = {}
        self.avail_idx = self.seen_used = self.shown = 0

    def setup(self, ready: bool = True) -> dict[str, Any]:
        """What the transport would tell the device, as the fields of a corral_virtq_setup."""
        return {"size": self.size, "ready": ready, "desc": self.desc, "avail": self.avail, "used": self.used}

    def write_descriptor(self, table: int, index: int, gpa: int, length: int, flags: int, link: int) -> None:
        struct.pack_into("<QIHH", self.memory.view(table + 16 * index, 16), 0, gpa, length, flags, link)

    def add(self, readable: Sequence[Segment], writable: Sequence[Segment], indirect: bool = False) -> int:
        """Makes a chain of segments and puts it into the avail ring; returns its head. The device sees it at `show`."""
        segments = [(*segment, 0) for segment in readable] + [(*segment, WRITE) for segment in writable]
        heads = [self.free.pop() for _ in range(1 if indirect else len(segments))]
        table, slots = self.desc, heads
        if indirect:
            table, slots = self.tables + heads[0] * self.table_entries * 16, list(range(len(segments)))
            self.write_descriptor(self.desc, heads[0], table, 16 * len(segments), INDIRECT, 0)
        for i, (gpa, length, flags) in enumerate(segments):
            last = i == len(segments) - 1
            self.write_descriptor(
                table, slots[i], gpa, length, flags | (0 if last else NEXT), 0 if last else slots[i + 1]
            )
        self.chains[heads[0]] = heads
        self.put(heads[0])
        return heads[0]

    # What both sides use at once is moved by single accesses: struct's clear the bytes first and go one by one.

    def load(self, at: int) -> int:
        return int(self.memory.view(at, 2).cast("H")[0])

    def store(self, at: int, value: int) -> None:
        self.memory.view(at, 2).cast("H")[0] = value & 0xFFFF

    def put(self, head: int) -> None:
        """Puts a head into the avail ring, whatever it is."""
        self.store(self.avail + 4 + 2 * (self.avail_idx % self.size), head)
        self.avail_idx = (self.avail_idx + 1) & 0xFFFF

    def show(self, kick: bool | None = None) -> bool:
        """Publishes what was added; kicks if the device wants it (None), always or never. True: kicked."""
        self.store(self.avail + 2, self.avail_idx)
        old, self.shown = self.shown, self.avail_idx
        if kick is None:
            kick = self.wants_kick(old)
        if kick:
            os.eventfd_write(self.kick_fd, 1)
        return kick

    def wants_kick(self, old: int) -> bool:
        if self.event_idx:
            event = self.load(self.used + 4 + 8 * self.size)
            return (self.avail_idx - event - 1) & 0xFFFF < (self.avail_idx - old) & 0xFFFF
        return not self.load(self.used) & 1

    def want_interrupt(self, after: int | None = None) -> None:
        """Asks for an interrupt when used idx passes `after`; by default: with the next used chain."""
        self.store(self.avail + 4 + 2 * self.size, self.seen_used if after is None else after)

    def no_interrupts(self, suppress: bool = True) -> None:
        self.store(self.avail, int(suppress))

    @property
    def used_idx(self) -> int:
        return self.load(self.used + 2)

    def take_used(self) -> list[tuple[int, int]]:
        """(head, written) of each chain that came back since the last look; their descriptors are free again."""
        taken = []
        while self.seen_used != self.used_idx:
            at = self.used + 4 + 8 * (self.seen_used % self.size)
            head, written = struct.unpack_from("<II", self.memory.view(at, 8))
            self.seen_used = (self.seen_used + 1) & 0xFFFF
            self.free.extend(self.chains.pop(head))
            taken.append((head, written))
        return taken


def forbid(address: int, length: int) -> None:
    """Takes host memory away from everybody: whoever goes on behind the end of RAM is found at once."""
    if ctypes.CDLL(None, use_errno=True).mprotect(ctypes.c_void_p(address), ctypes.c_size_t(length), 0):
        raise OSError(ctypes.get_errno(), "mprotect")


@dataclass
class Request:
    """One request on its way, or back."""

    queue: int
    kind: int
    status_at: int
    data: list[Segment] = field(default_factory=list)
    written: int = -1  # the used length; -1: not back yet

    @property
    def done(self) -> bool:
        return self.written >= 0


def ranges(*parts: tuple[int, int, int]) -> bytes:
    """The data of DISCARD and WRITE_ZEROES: (sector, sectors, flags) each."""
    return b"".join(struct.pack("<QII", *part) for part in parts)


def splits(gpa: int, length: int, sizes: Sequence[int]) -> Iterator[Segment]:
    """[gpa, gpa + length) in segments of these sizes, the last as long as it takes."""
    for size in sizes:
        part = min(size, length)
        if part:
            yield gpa, part
        gpa, length = gpa + part, length - part
    if length:
        yield gpa, length


class Disk:
    """A virtio-blk device on the image `fd`, with a driver. Ends with `close`."""

    def __init__(
        self,
        fd: int,
        size: int,
        *,
        engine: int,
        queues: int = 1,
        queue_size: int = 128,
        features: int = DEFAULT_FEATURES,
        memory: int = 16 << 20,
        **config: Any,
    ) -> None:
        self.memory = GuestMemory(memory)
        forbid(self.memory.host_address + memory, 4096)
        self.features = features
        self.irq_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.broken_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.irq = ffi.new("struct corral_virtio_irq *")
        lib.corral_virtio_irq_init(self.irq, self.irq_fd)
        worker = {"name": config.pop("name", b"blk-test"), "broken_fd": self.broken_fd}
        fields: dict[str, Any] = {"overlay_fd": -1, "block_size": 512, **config}
        fields |= {"worker": worker, "fd": fd, "size": size, "engine": engine, "n_queues": queues}
        self.config = ffi.new("struct corral_blk_config *", fields)
        self.blk = lib.corral_blk_create(self.config, self.memory.native, self.irq)
        if not self.blk:
            number = ffi.errno
            self._close_ours()
            raise OSError(number, os.strerror(number))
        at = 0x1000
        self.queues = []
        for _ in range(queues):
            self.queues.append(Queue(self.memory, at, queue_size, bool(features >> F_EVENT_IDX & 1)))
            at = align(self.queues[-1].end, 4096)
        self.arena = self.arena_at = at
        self.flying: dict[tuple[int, int], Request] = {}

    def _close_ours(self) -> None:
        os.close(self.irq_fd)
        os.close(self.broken_fd)
        self.memory.close()

    def close(self) -> None:
        lib.corral_blk_destroy(self.blk)
        for queue in self.queues:
            queue.close()
        self._close_ours()

    def __enter__(self) -> Disk:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def try_start(self, setups: Sequence[dict[str, Any]] | None = None, saved: Any = ffi.NULL) -> int:
        array = ffi.new("struct corral_virtq_setup[]", setups or [queue.setup() for queue in self.queues])
        kicks = ffi.new("int[]", [queue.kick_fd for queue in self.queues])
        return int(lib.corral_blk_start(self.blk, self.features, array, kicks, saved))

    def start(self) -> None:
        """Resets queues, starts the device."""
        for queue in self.queues:
            queue.reset()
        self.flying.clear()
        self.arena_at = self.arena
        result = self.try_start()
        if result < 0:
            raise OSError(-result, os.strerror(-result))

    def stop(self) -> None:
        """A busy machine may not answer within the half second that one call waits."""
        deadline = time.monotonic() + PATIENCE
        while lib.corral_blk_stop(self.blk) != 0:
            assert time.monotonic() < deadline, "the host's calls do not end"

    def move(self, meanwhile: Callable[[Any], dict[str, Any]] | None = None, **changed: Any) -> None:
        """A fresh device, with these fields of its configuration changed, goes on with this driver. `meanwhile` is
        given the old one, which is stopped, and returns more of them."""
        assert lib.corral_blk_hold(self.blk) == 0
        self.stop()
        saved = ffi.new("struct corral_blk_saved *")
        lib.corral_blk_save(self.blk, saved)
        changed |= meanwhile(self.blk) if meanwhile else {}
        lib.corral_blk_destroy(self.blk)
        for name, value in changed.items():
            setattr(self.config, name, value)
        self.blk = lib.corral_blk_create(self.config, self.memory.native, self.irq)
        assert self.try_start(saved=saved) == 0

    @property
    def failed(self) -> bool:
        return bool(lib.corral_blk_failed(self.blk))

    def stats(self, queue: int = 0) -> Any:
        stats = ffi.new("struct corral_blk_stats *")
        assert lib.corral_blk_stats(self.blk, queue, stats) == 0
        return stats

    # --- requests ---

    def allocate(self, length: int, alignment: int = 16) -> int:
        """Guest memory that stays until a request is added while none is in flight."""
        gpa = align(self.arena_at, alignment)
        self.arena_at = gpa + length
        return gpa

    def add(
        self,
        kind: int,
        sector: int = 0,
        data: bytes = b"",
        room: int = 0,
        *,
        queue: int = 0,
        indirect: bool = False,
        sizes: Sequence[int] = (),
        alignment: int = 16,
        framing: str = "usual",
    ) -> Request:
        """Adds a request with `data` for the device to read and `room` bytes for it to write, split into `sizes`.

        Framing "joined": the header shares a segment with the data, the status with the room.
        """
        if not self.flying:
            self.arena_at = self.arena
        header = self.allocate(16 + (len(data) if framing == "joined" else 0))
        self.memory.write(header, struct.pack("<IIQ", kind, 0, sector))
        readable: list[Segment] = [(header, 16)]
        writable: list[Segment] = []
        where: list[Segment] = []
        if framing == "joined":
            self.memory.write(header + 16, data)
            readable = list(splits(header, 16 + len(data), sizes))
            buffer = self.allocate(room + 1)
            where = [(buffer, room)]
            status = buffer + room
            writable = list(splits(buffer, room + 1, sizes))
        else:
            if data:
                source = self.allocate(len(data), alignment)
                self.memory.write(source, data)
                readable += splits(source, len(data), sizes)
            if room:
                buffer = self.allocate(room, alignment)
                self.memory.write(buffer, b"\xee" * room)
                where = list(splits(buffer, room, sizes))
                writable += where
            status = self.allocate(1)
            writable.append((status, 1))
        self.memory.write(status, bytes([UNWRITTEN]))
        head = self.queues[queue].add(readable, writable, indirect)
        request = Request(queue, kind, status, where)
        self.flying[queue, head] = request
        return request

    def collect(self) -> list[Request]:
        """Requests that came back."""
        back = []
        for number, queue in enumerate(self.queues):
            for head, written in queue.take_used():
                request = self.flying.pop((number, head))
                request.written = written
                back.append(request)
        return back

    def wait(self, *requests: Request, timeout: float = 20) -> None:
        """Shows what was added and returns when all of `requests`, or all there are, are back."""
        for queue in self.queues:
            if queue.shown != queue.avail_idx:
                queue.show()
        self.wait_shown(*requests, timeout=timeout)

    def wait_shown(self, *requests: Request, timeout: float = 20) -> None:
        end = time.monotonic() + timeout
        while True:
            for queue in self.queues:
                queue.want_interrupt()
            back = self.collect()  # after asking for an interrupt: what came before would bring none
            if all(request.done for request in requests) if requests else not self.flying:
                return
            if back:
                continue
            if not self.wait_interrupt(max(0, end - time.monotonic())):
                raise TimeoutError(f"no interrupt while {len(self.flying)} requests are not back")

    def wait_interrupt(self, timeout: float) -> bool:
        """True: there was an interrupt, which is now acknowledged as a driver does."""
        if not select.select([self.irq_fd], [], [], timeout)[0]:
            return False
        os.eventfd_read(self.irq_fd)
        lib.corral_virtio_irq_access(self.irq, True, 4, 4, ffi.new("uint32_t *", 3))
        return True

    def status(self, request: Request) -> int:
        return self.memory.read(request.status_at, 1)[0]

    def data(self, request: Request) -> bytes:
        return b"".join(self.memory.read(gpa, length) for gpa, length in request.data)

    def do(self, kind: int, sector: int = 0, data: bytes = b"", room: int = 0, **options: Any) -> int:
        """One request, waited for: its status."""
        request = self.add(kind, sector, data, room, **options)
        self.wait(request)
        return self.status(request)

    def read(self, sector: int, length: int, **options: Any) -> bytes:
        request = self.add(IN, sector, room=length, **options)
        self.wait(request)
        if self.status(request) != OK:
            raise OSError(errno.EIO, f"status {self.status(request)}")
        assert request.written == length + 1
        return self.data(request)

    def write(self, sector: int, data: bytes, **options: Any) -> None:
        if self.do(OUT, sector, data, **options) != OK:
            raise OSError(errno.EIO, "the write failed")

    def flush(self) -> None:
        if self.do(FLUSH) != OK:
            raise OSError(errno.EIO, "the flush failed")

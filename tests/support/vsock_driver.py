"""A driver of a virtio-vsock, in this process: packets to the device and from it (virtio 1.2, section 5.10)."""

from __future__ import annotations

import os
import select
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from corral.config import VsockConfig
from corral.core.irq import VirtioInterrupt
from corral.devices.virtio.device import Place
from corral.devices.virtio.device import Queue as Registers
from corral.devices.virtio.vsock import Vsock
from corral.memory import GuestMemory
from tests.support.virtio_driver import Queue, align, forbid

REQUEST, RESPONSE, RST, SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST = range(1, 8)
STREAM, HOST, CID = 1, 2, 3
NO_RECEIVE, NO_SEND, BOTH = 1, 2, 3
HEADER = struct.Struct("<QQIIIHHIII")
SIZE, ROOM = 64, 4096 + HEADER.size
WINDOW = 1 << 18
PATIENCE = 20.0


@dataclass(frozen=True)
class Packet:
    """As the device sent it."""

    operation: int
    guest_port: int
    host_port: int
    data: bytes
    flags: int
    room: int
    taken: int
    source: int
    destination: int
    kind: int


class VsockDriver:
    def __init__(self, path: Path, most: int = 0) -> None:
        self.memory = GuestMemory(4 << 20)
        forbid(self.memory.host_address + (4 << 20), 4096)
        self.interrupt = VirtioInterrupt(None, 5)
        self.path = path
        self.device = self.make()
        at = 0x1000
        self.queues: list[Queue] = []
        for size in (SIZE, SIZE, 8):
            self.queues.append(Queue(self.memory, at, size))
            at = align(self.queues[-1].end, 4096)
        self.rx, self.tx, self.events = self.queues
        self.buffers, self.out = at, at + SIZE * 8192
        self.where: dict[int, int] = {}
        self.came: list[Packet] = []
        self.told: list[int] = []
        self.takes_events = True

    def make(self, goes_on: bool = False, connected: bool = True) -> Vsock:
        config = VsockConfig(str(self.path), goes_on=goes_on, connected=connected, hostname="web" if goes_on else None)
        return Vsock(config, Place(self.memory, self.interrupt))

    def registers(self) -> list[Registers]:
        return [Registers(queue.size, queue.desc, queue.avail, queue.used, True) for queue in self.queues]

    def start(self, buffers: int = SIZE) -> None:
        for queue in self.queues:
            queue.reset()
        self.came.clear()
        self.where.clear()
        self.device.start(1 << 28 | 1 << 29, self.registers(), [self.tx.kick_fd] * 3)
        self.fill(buffers)
        for _ in range(4):
            self.events.add([], [(0x800, 8)])
        self.events.show(True)

    def pause(self) -> bytes:
        assert self.device.pause()
        return self.device.save()

    def go_on(self, state: bytes) -> None:
        self.device.resume(1 << 28 | 1 << 29, self.registers(), [self.tx.kick_fd] * 3, state)

    def move(self, goes_on: bool = False, connected: bool = True) -> None:
        """A device that is new goes on with this driver."""
        state = self.pause()
        self.device.close()
        self.device = self.make(goes_on, connected)
        self.go_on(state)

    def take_event(self) -> None:
        """Another buffer in its place, by which the device knows."""
        self.events.add([], [(0x800, 8)])
        self.events.show()
        os.eventfd_write(self.tx.kick_fd, 1)

    def fill(self, buffers: int) -> None:
        """Gives the device so many buffers for packets."""
        free = [place for place in range(SIZE) if place not in self.where.values()]
        for place in free[:buffers]:
            self.where[self.rx.add([], [(self.buffers + place * 8192, ROOM)])] = place
        self.rx.show()
        os.eventfd_write(self.tx.kick_fd, 1)

    def send(
        self,
        operation: int,
        guest_port: int,
        host_port: int,
        data: bytes = b"",
        *,
        flags: int = 0,
        room: int = WINDOW,
        taken: int = 0,
        source: int = CID,
        destination: int = HOST,
        kind: int = STREAM,
        size: int | None = None,
    ) -> None:
        length = len(data) if size is None else size
        fields = source, destination, guest_port, host_port, length, kind, operation, flags, room, taken
        self.put(HEADER.pack(*fields) + data)

    def put(self, packet: bytes) -> None:
        """What may be none."""
        end = time.monotonic() + PATIENCE
        while not self.tx.free or self.tx.chains:  # one at a time: its memory is used again
            self.tx.take_used()
            assert time.monotonic() < end, "the device does not take packets"
            if self.tx.chains:
                time.sleep(0.0005)
        self.memory.write(self.out, packet)
        self.tx.add([(self.out, len(packet))], [])
        self.tx.show(True)

    def drained(self) -> bool:
        self.tx.take_used()
        return not self.tx.chains

    def collect(self) -> None:
        for queue in self.queues:
            queue.want_interrupt()
        back = self.rx.take_used()
        for head, written in back:
            place = self.where.pop(head)
            raw = self.memory.read(self.buffers + place * 8192, written)
            if not written:
                continue
            source, destination, host, guest, length, kind, operation, flags, room, taken = HEADER.unpack(raw[:44])
            data = raw[44:]
            assert len(data) == length
            packet = Packet(operation, guest, host, data, flags, room, taken, source, destination, kind)
            self.came.append(packet)
        for _, written in self.events.take_used():
            self.told.append(int.from_bytes(self.memory.read(0x800, written), "little"))
            if self.takes_events:
                self.take_event()
        if back:
            self.fill(SIZE)

    def until(self, ready: Callable[[], object], patience: float = PATIENCE) -> bool:
        end = time.monotonic() + patience
        while True:
            self.collect()
            if ready():
                return True
            if time.monotonic() > end:
                return False
            select.select([self.interrupt.fd.value], [], [], 0.02)
            self.interrupt.fd.clear()

    def hears(self, operation: int, guest_port: int | None = None) -> Packet:
        """The first packet of that kind, which is taken away."""

        def found() -> list[Packet]:
            return [one for one in self.came if one.operation == operation and guest_port in (None, one.guest_port)]

        assert self.until(found), f"no packet {operation}; there were {[one.operation for one in self.came]}"
        packet = found()[0]
        self.came.remove(packet)
        return packet

    def bytes_of(self, guest_port: int) -> bytes:
        return b"".join(one.data for one in self.came if one.operation == RW and one.guest_port == guest_port)

    def stop(self) -> None:
        end = time.monotonic() + PATIENCE
        while not self.device.stop():
            assert time.monotonic() < end, "the device does not stop"

    def close(self) -> None:
        self.stop()
        self.device.close()
        for queue in self.queues:
            queue.close()
        self.interrupt.close()
        self.memory.close()

"""The driver of a virtio-console with ports, as Linux has one: it adds what it is told of and reads what comes."""

from __future__ import annotations

import os
import select
import struct
import time
from collections.abc import Callable, Sequence

from corral.backends.channel import Port
from corral.core.irq import VirtioInterrupt
from corral.devices.virtio.device import Place
from corral.devices.virtio.device import Queue as Registers
from corral.devices.virtio.ports import MULTIPORT, Ports
from corral.memory import GuestMemory
from tests.support.virtio_driver import Queue, align

DEVICE_READY, PORT_ADD, PORT_REMOVE, PORT_READY, CONSOLE_PORT, RESIZE, PORT_OPEN, PORT_NAME = range(8)
EVENT_IDX, VERSION_1 = 1 << 29, 1 << 32
ROOM, ARENA = 512, 8192
PATIENCE = 20.0


class PortDriver:
    """Ends with close(). Each queue has its part of guest memory, each descriptor a place there."""

    def __init__(self, ports: Sequence[Port], event_idx: bool = True) -> None:
        self.memory = GuestMemory(16 << 20)
        self.interrupt = VirtioInterrupt(None, 5)
        self.device = Ports(ports, Place(self.memory, self.interrupt))
        self.features = MULTIPORT | VERSION_1 | (EVENT_IDX if event_idx else 0)
        self.queues, at = [], 0x1000
        for size in self.device.queue_sizes:
            self.queues.append(Queue(self.memory, at, size, event_idx))
            at = align(self.queues[-1].end, 4096)
        self.rooms = at
        self.doorbell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.told: list[tuple[int, int, int, bytes]] = []  # id, event, value and what follows
        self.places: dict[tuple[int, int], int] = {}

    def close(self) -> None:
        assert self.stop()
        self.device.close()
        os.close(self.doorbell)
        for queue in self.queues:
            queue.close()
        self.interrupt.close()
        self.memory.close()

    def registers(self) -> list[Registers]:
        return [Registers(queue.size, queue.desc, queue.avail, queue.used, True) for queue in self.queues]

    @property
    def doorbells(self) -> list[int]:
        return [self.doorbell] * len(self.queues)

    def start(self) -> None:
        for queue in self.queues:
            queue.reset()
        self.places.clear()
        self.device.start(self.features, self.registers(), self.doorbells)
        for index in self.receiving:
            self.fill(index)

    def resume(self, state: bytes) -> None:
        """What start() is for a device that goes on from another's state."""
        self.device.resume(self.features, self.registers(), self.doorbells, state)

    def stop(self) -> bool:
        return self.until(self.device.stop)

    @property
    def receiving(self) -> range:
        return range(0, len(self.queues), 2)

    @staticmethod
    def of(port: int) -> int:
        """The port's receive queue; its transmit queue is the next."""
        return 2 * port + 2 if port else 0

    def ring(self) -> None:
        os.eventfd_write(self.doorbell, 1)

    def until(self, condition: Callable[[], object], seconds: float = PATIENCE) -> bool:
        """Whether it comes true. With an interrupt it is asked again, and now and then."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            select.select([self.interrupt.fd.value], [], [], 0.02)
            self.interrupt.fd.clear()
        return True

    # Buffers for what comes.

    def _place(self, index: int, head: int) -> int:
        return self.rooms + (index * 64 + head) * ROOM

    def fill(self, index: int) -> None:
        """Gives the device all buffers that are free."""
        queue = self.queues[index]
        while queue.free:
            head = queue.free[-1]
            queue.add([], [(self._place(index, head), ROOM)])
        queue.show(kick=False)
        self.ring()

    def take(self, index: int) -> bytes:
        """What came, in its order; the buffers go back."""
        queue, data = self.queues[index], b""
        for head, written in queue.take_used():
            data += self.memory.read(self._place(index, head), written)
        self.fill(index)
        return data

    def read(self, port: int, size: int) -> bytes:
        """So many bytes, or what came by the end."""
        data = b""

        def enough() -> bool:
            nonlocal data
            data += self.take(self.of(port))
            return len(data) >= size

        self.until(enough)
        return data

    # Sending.

    @property
    def arena(self) -> int:
        return align(self.rooms + len(self.queues) * 64 * ROOM, 4096)

    def write(self, index: int, data: bytes, pieces: int = 1, ring: bool = True) -> int:
        """Puts it into a transmit queue. Returns the head."""
        queue = self.queues[index]
        at = self.arena + (index * 64 + queue.free[-1]) * ARENA
        assert len(data) <= ARENA
        self.memory.write(at, data)
        step = max(1, -(-len(data) // pieces))
        head = queue.add([(at + cut, min(step, len(data) - cut)) for cut in range(0, len(data), step)], [])
        queue.show(kick=False)
        if ring:
            self.ring()
        return head

    def sent(self, index: int) -> bool:
        """Whether the device has given back all that was written there."""
        self.queues[index].take_used()
        return not self.queues[index].chains

    # Control messages.

    def tell(self, port: int, event: int, value: int = 1) -> None:
        assert self.until(lambda: self.sent(3) or self.queues[3].free)
        self.write(3, struct.pack("<IHH", port, event, value))

    def listen(self) -> list[tuple[int, int, int, bytes]]:
        """All messages that came so far."""
        queue = self.queues[2]
        for head, written in queue.take_used():
            message = self.memory.read(self._place(2, head), written)
            self.told.append((*struct.unpack_from("<IHH", message), message[8:]))
        self.fill(2)
        return self.told

    def hears(self, port: int, event: int, value: int = 1) -> bool:
        return self.until(lambda: any(said[:3] == (port, event, value) for said in self.listen()))

    def connect(self) -> None:
        """As Linux: it makes each port that it is told of, and a program opens it."""
        self.tell(0xFFFFFFFF, DEVICE_READY)
        count = len(self.device.ports)
        for port in [*range(1, count), 0]:
            assert self.hears(port, PORT_ADD)
            self.tell(port, PORT_READY)
            assert self.hears(port, PORT_OPEN)
            self.tell(port, PORT_OPEN)
        assert self.until(lambda: all(self.device.state(port).open for port in range(count)))

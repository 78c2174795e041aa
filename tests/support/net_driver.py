"""A virtio-net driver with no machine and no KVM: frames through net.h, to a socket or any other descriptor."""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from corral.devices.virtio import net
from corral.memory import GuestMemory
from corral.native import ffi, lib
from tests.support.virtio_driver import Queue, align, forbid

RAM = 4 << 20
PATIENCE = 20.0
HEADER = struct.Struct("<BBHHHHH")  # flags, gso_type, hdr_len, gso_size, csum_start, csum_offset, num_buffers
RING = 1 << 28 | 1 << 29 | 1 << 32
PLAIN = net.MRG_RXBUF | RING
RX, TX, COMMANDS = range(3)


def ethernet(size: int, seed: int = 0) -> bytes:
    """A frame that differs from those of other seeds."""
    return (seed.to_bytes(4, "little") * (size // 4 + 1))[:size]


class Driver:
    """`fd` is the device's other end, `line` the test's; both are sockets unless `fd` is given."""

    def __init__(self, features: int = PLAIN, *, fd: int | None = None, size: int = 64, **config: Any) -> None:
        self.memory = GuestMemory(RAM)
        forbid(self.memory.host_address + RAM, 4096)
        self.features = features
        self.irq_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.irq = ffi.new("struct corral_virtio_irq *")
        lib.corral_virtio_irq_init(self.irq, self.irq_fd)
        self.line, self.theirs = socket.socketpair()
        self.line.settimeout(PATIENCE)
        self.theirs.setblocking(False)
        worker = {"name": b"net-test", "broken_fd": -1}
        fields = {"worker": worker, "fd": self.theirs.fileno() if fd is None else fd, "dump_fd": -1}
        fields |= config
        self.config = ffi.new("struct corral_net_config *", fields)
        self.net = self._made()
        at = 0x1000
        self.queues = []
        for _ in range(3):
            self.queues.append(Queue(self.memory, at, size))
            at = align(self.queues[-1].end, 4096)
        self.arena = self.at = at
        self.buffers: dict[int, tuple[int, int]] = {}  # of the receive queue: by head, where and how large
        self.began: list[int] = []

    def _made(self) -> Any:
        made = lib.corral_net_create(self.config, self.memory.native, self.irq)
        assert made
        return made

    def try_start(self, resumes: bool = False, setups: list[dict[str, Any]] | None = None) -> int:
        array = ffi.new("struct corral_virtq_setup[]", setups or [queue.setup() for queue in self.queues])
        kicks = ffi.new("int[]", [queue.kick_fd for queue in self.queues])
        return int(lib.corral_net_start(self.net, self.features, array, kicks, resumes))

    def start(self) -> Driver:
        for queue in self.queues:
            queue.reset()
        self.buffers.clear()
        self.at = self.arena
        assert self.try_start() == 0
        return self

    def stop(self) -> None:
        end = time.monotonic() + PATIENCE
        while lib.corral_net_stop(self.net) != 0:
            assert time.monotonic() < end, "the device does not stop"

    def move(self) -> None:
        """A fresh device, with another connection, goes on with this driver."""
        self.stop()
        lib.corral_net_destroy(self.net)
        self.line.close()
        self.theirs.close()
        self.line, self.theirs = socket.socketpair()
        self.line.settimeout(PATIENCE)
        self.theirs.setblocking(False)
        self.config.fd = self.theirs.fileno()
        self.net = self._made()
        assert self.try_start(resumes=True) == 0

    def close(self) -> None:
        self.stop()
        lib.corral_net_destroy(self.net)
        for queue in self.queues:
            queue.close()
        self.line.close()
        self.theirs.close()
        os.close(self.irq_fd)
        self.memory.close()

    def __enter__(self) -> Driver:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def failed(self) -> bool:
        return bool(lib.corral_net_failed(self.net))

    @property
    def status(self) -> int:
        return int(lib.corral_net_status(self.net))

    @property
    def stats(self) -> dict[str, int]:
        stats = ffi.new("struct corral_net_stats *")
        lib.corral_net_stats(self.net, stats)
        return {name: int(getattr(stats, name)) for name, _ in ffi.typeof(stats).item.fields}

    def until(self, condition: Callable[[], bool]) -> bool:
        """Whether it is so, in time."""
        end = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > end:
                return False
            select.select([self.irq_fd], [], [], 0.002)
        return True

    def allocate(self, size: int) -> int:
        at, self.at = self.at, align(self.at + size, 16)
        assert self.at < RAM
        return at

    # --- from the guest ---

    def add(self, frame: bytes, cuts: tuple[int, ...] = (), **header: int) -> int:
        """A chain with the frame behind its header, cut there into segments; the device does not see it yet."""
        names = ("flags", "gso_type", "hdr_len", "gso_size", "csum_start", "csum_offset", "num_buffers")
        data = HEADER.pack(*(header.get(name, 0) for name in names)) + frame
        at = self.allocate(len(data))
        self.memory.write(at, data)
        edges = [0, *sorted(cut for cut in set(cuts) if 0 < cut < len(data)), len(data)]
        segments = [(at + begin, end - begin) for begin, end in pairwise(edges)]
        return self.queues[TX].add(segments, [])

    def send(self, frame: bytes, cuts: tuple[int, ...] = (), **header: int) -> int:
        head = self.add(frame, cuts, **header)
        self.queues[TX].show()
        return head

    def sent(self) -> list[int]:
        """Heads that came back."""
        return [head for head, _ in self.queues[TX].take_used()]

    def arrived(self) -> bytes:
        """The next frame at the other end."""
        (size,) = struct.unpack(">I", self._exactly(4))
        return self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.line.recv(size - len(data))
            assert part, "the connection has ended"
            data += part
        return data

    # --- to the guest ---

    def post(self, *sizes: int) -> None:
        """Receive buffers."""
        for size in sizes:
            at = self.allocate(size)
            self.memory.write(at, b"\xee" * size)
            self.buffers[self.queues[RX].add([], [(at, size)])] = at, size
        self.queues[RX].show()

    def give(self, *frames: bytes) -> None:
        """From the other end."""
        self.line.sendall(b"".join(struct.pack(">I", len(frame)) + frame for frame in frames))

    def received(self) -> list[tuple[tuple[int, ...], bytes]]:
        """Headers and frames that the driver has got since the last look."""
        found = []
        used = self.queues[RX].take_used()
        while used:
            head, written = used.pop(0)
            at, size = self.buffers.pop(head)
            assert HEADER.size <= written <= size
            header = HEADER.unpack(self.memory.read(at, HEADER.size))
            frame = self.memory.read(at + HEADER.size, written - HEADER.size)
            for _ in range(header[6] - 1):
                head, written = used.pop(0)
                at, size = self.buffers.pop(head)
                assert written <= size
                frame += self.memory.read(at, written)
            found.append((header, frame))
        return found

    def get(self, count: int) -> list[tuple[tuple[int, ...], bytes]]:
        found: list[tuple[tuple[int, ...], bytes]] = []

        def enough() -> bool:
            self.queues[RX].want_interrupt()
            found.extend(self.received())
            return len(found) >= count

        assert self.until(enough), f"{len(found)} frames of {count}"
        return found

    def command(self, *octets: int) -> int:
        """The answer to one."""
        at = self.allocate(64)
        self.memory.write(at, bytes(octets) + b"\xaa" * (64 - len(octets)))
        self.queues[COMMANDS].add([(at, len(octets))], [(at + 63, 1)])
        self.queues[COMMANDS].show()
        assert self.until(lambda: bool(self.queues[COMMANDS].take_used()))
        return self.memory.read(at + 63, 1)[0]

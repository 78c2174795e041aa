"""A disk through its transport, as a driver finds it: configuration, features, and a life with requests in it."""

from __future__ import annotations

import os
import select
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.backends.disk_image import DiskImage
from corral.config import DiskConfig
from corral.core.irq import VirtioInterrupt
from corral.devices.virtio import blk, mmio
from corral.devices.virtio.blk import Disk
from corral.devices.virtio.device import Place
from corral.devices.virtio.mmio import MmioTransport
from corral.devices.virtio.negotiation import ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, NEEDS_RESET, VERSION_1
from corral.memory import GuestMemory
from corral.startup.undo import Undo

DESCRIPTORS, AVAILABLE, USED, HEADER, DATA, STATUS_BYTE = 0x10000, 0x11000, 0x12000, 0x13000, 0x14000, 0x15000
READY = ACKNOWLEDGE | DRIVER | FEATURES_OK
IN, NEXT, WRITE = 0, 1, 2


class Parts:
    def __init__(self, config: DiskConfig, queues: int, undo: Undo) -> None:
        self.memory = GuestMemory(1 << 20)
        undo.push(self.memory.close)
        self.image = DiskImage(config)
        self.interrupt = VirtioInterrupt(None, 5)
        undo.push(self.interrupt.close)
        self.disk = Disk(config, self.image, Place(self.memory, self.interrupt, vcpus=queues))
        undo.push(self.disk.close)
        self.transport = MmioTransport(self.disk, self.interrupt)
        undo.push(self.transport.close)

    def negotiate(self, size: int = 8, used: int = USED) -> None:
        write = self.transport.write
        write(mmio.STATUS, 4, 0)
        self.memory.write(AVAILABLE, bytes(64))
        self.memory.write(USED, bytes(128))
        write(mmio.STATUS, 4, ACKNOWLEDGE)
        write(mmio.STATUS, 4, ACKNOWLEDGE | DRIVER)
        write(mmio.DRIVER_FEATURES_SEL, 4, 1)
        write(mmio.DRIVER_FEATURES, 4, VERSION_1 >> 32)
        write(mmio.STATUS, 4, READY)
        write(mmio.QUEUE_SEL, 4, 0)
        write(mmio.QUEUE_NUM, 4, size)
        write(mmio.QUEUE_DESC, 4, DESCRIPTORS)
        write(mmio.QUEUE_DRIVER, 4, AVAILABLE)
        write(mmio.QUEUE_DEVICE, 4, used)
        write(mmio.QUEUE_READY, 4, 1)
        write(mmio.STATUS, 4, READY | DRIVER_OK)

    def read_sector(self, sector: int, index: int = 0) -> bytes:
        self.memory.write(HEADER, struct.pack("<IIQ", IN, 0, sector))
        for slot, (address, length, flags, following) in enumerate(
            [(HEADER, 16, NEXT, 1), (DATA, 512, NEXT | WRITE, 2), (STATUS_BYTE, 1, WRITE, 0)]
        ):
            self.memory.write(DESCRIPTORS + 16 * slot, struct.pack("<QIHH", address, length, flags, following))
        self.memory.write(STATUS_BYTE, b"\xff")
        self.memory.write(AVAILABLE + 4 + 2 * (index % 8), struct.pack("<H", 0))
        self.memory.write(AVAILABLE + 2, struct.pack("<H", index + 1))
        self.transport.write(mmio.QUEUE_NOTIFY, 4, 0)
        assert select.select([self.interrupt.fd.value], [], [], 10)[0], "no interrupt"
        os.eventfd_read(self.interrupt.fd.value)
        assert self.memory.read(STATUS_BYTE, 1) == b"\0"
        return self.memory.read(DATA, 512)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(b"".join(bytes([sector]) * 512 for sector in range(16)))
    return path


@pytest.fixture
def undo() -> Iterator[Undo]:
    undo = Undo()
    yield undo
    undo.run()


def test_configuration(image: Path, undo: Undo) -> None:
    parts = Parts(DiskConfig(str(image)), 2, undo)
    capacity, _, segments = struct.unpack_from("<QII", parts.disk.config)
    assert (capacity, segments) == (16, 254)
    assert struct.unpack_from("<I", parts.disk.config, 20)[0] == 512  # blk_size
    assert struct.unpack_from("<H", parts.disk.config, 34)[0] == 2  # num_queues
    assert len(parts.disk.config) == 60
    assert parts.disk.features & (blk.FLUSH | blk.MQ | blk.RO) == blk.FLUSH | blk.MQ


@pytest.mark.parametrize(
    ("config", "offered", "not_offered"),
    [
        ({"read_only": True}, blk.RO, blk.FLUSH | blk.DISCARD | blk.WRITE_ZEROES),
        ({"cache": "writethrough"}, blk.DISCARD, blk.FLUSH | blk.RO),
        ({"snapshot": True}, blk.FLUSH | blk.WRITE_ZEROES, blk.RO),
    ],
)
def test_features(image: Path, undo: Undo, config: dict[str, object], offered: int, not_offered: int) -> None:
    parts = Parts(DiskConfig(str(image), **config), 1, undo)  # type: ignore[arg-type]
    assert parts.disk.features & (offered | not_offered) == offered


def test_a_life_with_requests_resets_and_counters(image: Path, undo: Undo) -> None:
    parts = Parts(DiskConfig(str(image)), 1, undo)
    for _ in range(3):
        parts.negotiate()
        assert parts.transport.read(mmio.STATUS, 4) == READY | DRIVER_OK
        for index, sector in enumerate((0, 7, 15)):
            assert parts.read_sector(sector, index) == bytes([sector]) * 512
    (queue,) = parts.disk.stats()
    assert (queue.reads, queue.read_bytes, queue.errors) == (9, 9 * 512, 0)
    assert sum(queue.latency) == 9


def test_a_queue_that_is_not_in_ram_and_one_that_breaks(image: Path, undo: Undo) -> None:
    parts = Parts(DiskConfig(str(image)), 1, undo)
    parts.negotiate(used=0xFFFF0000)
    assert parts.transport.read(mmio.STATUS, 4) == READY | NEEDS_RESET
    parts.negotiate()
    parts.memory.write(AVAILABLE + 2, struct.pack("<H", 500))  # more than the queue can hold
    parts.transport.write(mmio.QUEUE_NOTIFY, 4, 0)
    assert select.select([parts.interrupt.fd.value], [], [], 10)[0], "no interrupt"
    assert parts.transport.read(mmio.STATUS, 4) == READY | DRIVER_OK | NEEDS_RESET
    assert parts.transport.read(mmio.INTERRUPT_STATUS, 4) == 2  # a change of configuration (section 2.1.2)
    os.eventfd_read(parts.interrupt.fd.value)
    parts.negotiate()
    assert parts.read_sector(3) == b"\3" * 512

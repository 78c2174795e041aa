"""The MMIO transport against the tables of virtio 1.2, sections 2.1, 3.1 and 4.2."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.devices.virtio import mmio
from corral.devices.virtio.device import BadQueue, Queue
from corral.devices.virtio.mmio import ACKNOWLEDGE, DRIVER, DRIVER_OK, FAILED, FEATURES_OK, NEEDS_RESET, MmioTransport
from corral.irq import VirtioInterrupt
from corral.native import lib

READY = ACKNOWLEDGE | DRIVER | FEATURES_OK


class Invented:
    """A device that writes down what the transport asks of it."""

    device_id = 42
    features = 1 << 3 | 1 << 40
    queue_sizes = (256, 64)
    config = bytes(range(16))

    def __init__(self) -> None:
        self.started: tuple[int, list[Queue]] | None = None
        self.starts = self.stops = 0
        self.broken = False
        self.refuse = False

    def start(self, features: int, queues: list[Queue], doorbells: list[int]) -> None:
        if self.refuse:
            raise BadQueue("no")
        assert self.started is None, "started twice"
        self.started = features, queues
        self.starts += 1

    def stop(self) -> None:
        self.started = None
        self.stops += 1


@pytest.fixture
def device() -> Invented:
    return Invented()


@pytest.fixture
def transport(device: Invented) -> Iterator[MmioTransport]:
    interrupt = VirtioInterrupt(None, 5)
    transport = MmioTransport(device, interrupt)
    yield transport
    transport.close()
    interrupt.close()


def negotiate(transport: MmioTransport, features: int = mmio.VERSION_1) -> None:
    transport.write(mmio.STATUS, 4, ACKNOWLEDGE)
    transport.write(mmio.STATUS, 4, ACKNOWLEDGE | DRIVER)
    for half in (0, 1):
        transport.write(mmio.DRIVER_FEATURES_SEL, 4, half)
        transport.write(mmio.DRIVER_FEATURES, 4, features >> 32 * half & 0xFFFFFFFF)
    transport.write(mmio.STATUS, 4, READY)


def set_queue(transport: MmioTransport, index: int, size: int) -> None:
    transport.write(mmio.QUEUE_SEL, 4, index)
    transport.write(mmio.QUEUE_NUM, 4, size)
    for register, address in (
        (mmio.QUEUE_DESC, 0x1_0000_1000),
        (mmio.QUEUE_DRIVER, 0x2000),
        (mmio.QUEUE_DEVICE, 0x3000),
    ):
        transport.write(register, 4, address & 0xFFFFFFFF)
        transport.write(register + 4, 4, address >> 32)
    transport.write(mmio.QUEUE_READY, 4, 1)


def test_what_a_driver_finds(transport: MmioTransport) -> None:
    assert struct.pack("<I", transport.read(mmio.MAGIC_VALUE, 4)) == b"virt"
    assert (transport.read(mmio.VERSION_NUMBER, 4), transport.read(mmio.DEVICE_ID, 4)) == (2, 42)
    offered = 0
    for half in (0, 1):
        transport.write(mmio.DEVICE_FEATURES_SEL, 4, half)
        offered |= transport.read(mmio.DEVICE_FEATURES, 4) << 32 * half
    assert offered == Invented.features | mmio.RING_FEATURES
    transport.write(mmio.DEVICE_FEATURES_SEL, 4, 2)
    assert transport.read(mmio.DEVICE_FEATURES, 4) == 0
    sizes = []
    for index in (0, 1, 2, 0xFFFFFFFF):
        transport.write(mmio.QUEUE_SEL, 4, index)
        sizes.append(transport.read(mmio.QUEUE_NUM_MAX, 4))
    assert sizes == [256, 64, 0, 0]


@pytest.mark.parametrize(
    ("offset", "size", "value"), [(0, 1, 0), (5, 2, 0x0605), (12, 4, 0x0F0E0D0C), (15, 4, 15), (99, 4, 0)]
)
def test_configuration_is_read_in_any_size_and_past_its_end_as_zero(
    transport: MmioTransport, offset: int, size: int, value: int
) -> None:
    assert transport.read(mmio.CONFIG + offset, size) == value


def test_a_driver_that_keeps_the_order_starts_the_device(transport: MmioTransport, device: Invented) -> None:
    negotiate(transport, mmio.VERSION_1 | 1 << 3)
    assert transport.read(mmio.STATUS, 4) == READY
    set_queue(transport, 0, 128)
    transport.write(mmio.STATUS, 4, READY | DRIVER_OK)
    assert transport.read(mmio.STATUS, 4) == READY | DRIVER_OK
    assert device.started is not None
    features, queues = device.started
    assert features == mmio.VERSION_1 | 1 << 3
    assert queues[0] == Queue(128, 0x1_0000_1000, 0x2000, 0x3000, True)
    assert not queues[1].ready
    transport.write(mmio.STATUS, 4, 0)
    assert (transport.read(mmio.STATUS, 4), device.started, device.stops) == (0, None, 1)


@pytest.mark.parametrize("features", [0, 1 << 3, mmio.VERSION_1 | 1 << 5], ids=["none", "legacy", "not offered"])
def test_features_that_cannot_be(transport: MmioTransport, features: int) -> None:
    negotiate(transport, features)
    assert transport.read(mmio.STATUS, 4) == ACKNOWLEDGE | DRIVER


def test_features_stay_once_they_are_agreed_on(transport: MmioTransport) -> None:
    negotiate(transport)
    transport.write(mmio.DRIVER_FEATURES_SEL, 4, 0)
    transport.write(mmio.DRIVER_FEATURES, 4, 0xFFFFFFFF)
    assert transport.driver_features == mmio.VERSION_1


@pytest.mark.parametrize("status", [ACKNOWLEDGE | DRIVER | DRIVER_OK, DRIVER, READY, DRIVER_OK, 2 | 4, 16])
def test_steps_cannot_be_left_out(transport: MmioTransport, device: Invented, status: int) -> None:
    transport.write(mmio.STATUS, 4, status)
    assert (transport.read(mmio.STATUS, 4), device.starts) == (0, 0)


def test_a_driver_that_gives_up_can_do_so_at_any_time_and_must_reset_then(transport: MmioTransport) -> None:
    negotiate(transport)
    transport.write(mmio.STATUS, 4, READY | FAILED)
    transport.write(mmio.STATUS, 4, READY | FAILED | DRIVER_OK)
    assert transport.read(mmio.STATUS, 4) == READY | FAILED
    transport.write(mmio.STATUS, 4, 0)
    assert transport.read(mmio.STATUS, 4) == 0


@pytest.mark.parametrize("size", [0, 257, 0xFFFFFFFF])
def test_a_queue_of_a_size_that_cannot_be(transport: MmioTransport, device: Invented, size: int) -> None:
    negotiate(transport)
    set_queue(transport, 0, size)
    transport.write(mmio.STATUS, 4, READY | DRIVER_OK)
    assert (transport.read(mmio.STATUS, 4), device.starts) == (READY | NEEDS_RESET, 0)
    transport.write(mmio.STATUS, 4, 0)
    assert transport.read(mmio.STATUS, 4) == 0


def test_a_device_that_refuses_its_queues_or_breaks_wants_a_reset(transport: MmioTransport, device: Invented) -> None:
    device.refuse = True
    negotiate(transport)
    transport.write(mmio.STATUS, 4, READY | DRIVER_OK)
    assert transport.read(mmio.STATUS, 4) == READY | NEEDS_RESET
    transport.write(mmio.STATUS, 4, 0)
    device.refuse = False
    negotiate(transport)
    transport.write(mmio.STATUS, 4, READY | DRIVER_OK)
    device.broken = True
    assert transport.read(mmio.STATUS, 4) == READY | DRIVER_OK | NEEDS_RESET


def test_a_ready_queue_and_a_running_device_keep_their_addresses(transport: MmioTransport, device: Invented) -> None:
    negotiate(transport)
    set_queue(transport, 0, 16)
    transport.write(mmio.QUEUE_DESC, 4, 0xBAD000)
    transport.write(mmio.STATUS, 4, READY | DRIVER_OK)
    transport.write(mmio.QUEUE_READY, 4, 0)
    assert device.started is not None
    assert device.started[1][0].descriptors == 0x1_0000_1000
    assert transport.read(mmio.QUEUE_READY, 4) == 1


def test_a_notification_without_kvm_rings_the_doorbell_of_its_queue(transport: MmioTransport) -> None:
    transport.write(mmio.QUEUE_NOTIFY, 4, 1)
    transport.write(mmio.QUEUE_NOTIFY, 4, 2)  # there is none
    assert os.eventfd_read(transport.doorbells[1]) == 1
    with pytest.raises(BlockingIOError):
        os.eventfd_read(transport.doorbells[0])


def test_interrupts_are_told_and_acknowledged(transport: MmioTransport) -> None:
    lib.corral_virtio_interrupt(transport.interrupt.native, 1)
    lib.corral_virtio_interrupt(transport.interrupt.native, 2)
    assert transport.read(mmio.INTERRUPT_STATUS, 4) == 3
    transport.write(mmio.INTERRUPT_ACK, 4, 1)
    assert transport.read(mmio.INTERRUPT_STATUS, 4) == 2
    assert os.eventfd_read(transport.interrupt.fd) == 2
    transport.write(mmio.STATUS, 4, 0)
    assert transport.read(mmio.INTERRUPT_STATUS, 4) == 0


registers = st.one_of(
    st.sampled_from([value for name, value in vars(mmio).items() if name.isupper() and isinstance(value, int)]),
    st.integers(0, mmio.SIZE - 1),
)
statuses = st.sampled_from([0, 1, 3, 11, 15, 128, 64, 79])
accesses = st.tuples(
    st.booleans(), registers, st.sampled_from([1, 2, 4, 8]), st.one_of(statuses, st.integers(0, 2**64 - 1))
)


@given(st.lists(accesses, max_size=60))
def test_anything_in_any_order(sequence: list[tuple[bool, int, int, int]]) -> None:
    device = Invented()
    interrupt = VirtioInterrupt(None, 5)
    transport = MmioTransport(device, interrupt)
    try:
        for write, offset, size, value in sequence:
            if write:
                transport.write(offset, size, value & (1 << 8 * size) - 1)
            else:
                assert 0 <= transport.read(offset, size) < 1 << 8 * size
            running = transport.status & ~FAILED == READY | DRIVER_OK
            assert running == (device.started is not None)
            if running:
                assert not device.started[0] & ~transport.features  # type: ignore[index]
    finally:
        transport.close()
        interrupt.close()

"""The MMIO transport against the tables of virtio 1.2, sections 2.1, 3.1 and 4.2."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.core.irq import VirtioInterrupt
from corral.devices.virtio import mmio, negotiation
from corral.devices.virtio.device import BadQueue, Queue
from corral.devices.virtio.mmio import MmioTransport
from corral.devices.virtio.negotiation import (
    ACKNOWLEDGE,
    DRIVER,
    DRIVER_OK,
    FAILED,
    FEATURES_OK,
    NEEDS_RESET,
    VERSION_1,
)
from corral.errors import HostError
from corral.native import lib

READY = ACKNOWLEDGE | DRIVER | FEATURES_OK


class Invented:
    """A device that writes down what the transport asks of it."""

    name = "invented"
    device_id = 42
    one_doorbell = False
    features = 1 << 3 | 1 << 40
    queue_sizes = (256, 64)
    config = bytes(range(16))

    def __init__(self) -> None:
        self.started: tuple[int, list[Queue]] | None = None
        self.starts = self.stops = 0
        self.written: list[tuple[int, bytes]] = []
        self.broken = False
        self.refuse = False
        self.answers = True  # the host, to what is in flight

    def start(self, features: int, queues: list[Queue], doorbells: list[int]) -> None:
        if self.refuse:
            raise BadQueue("no")
        assert self.started is None, "started twice"
        self.started = features, queues
        self.starts += 1

    def request_stop(self) -> None: ...

    def write_config(self, offset: int, data: bytes) -> None:
        self.written.append((offset, data))

    def pause(self) -> bool:
        return self.stop()

    def save(self) -> bytes:
        return b"what it knows"

    def resume(self, features: int, queues: list[Queue], doorbells: list[int], state: bytes) -> None:
        assert state == b"what it knows"
        self.start(features, queues, doorbells)

    def close(self) -> None: ...

    def counters(self) -> dict[str, int]:
        return {}

    def stop(self) -> bool:
        self.stops += 1
        if self.answers:
            self.started = None
        return self.answers


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


def negotiate(transport: MmioTransport, features: int = VERSION_1) -> None:
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
    assert offered == Invented.features | negotiation.RING_FEATURES
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


@pytest.mark.parametrize(("offset", "size", "value"), [(0, 1, 7), (12, 4, 0x01020304), (99, 8, 5)])
def test_what_a_driver_writes_into_configuration_gets_to_the_device(
    transport: MmioTransport, device: Invented, offset: int, size: int, value: int
) -> None:
    transport.write(mmio.CONFIG + offset, size, value)
    assert device.written == [(offset, value.to_bytes(size, "little"))]


def test_a_driver_that_keeps_the_order_starts_the_device(transport: MmioTransport, device: Invented) -> None:
    negotiate(transport, VERSION_1 | 1 << 3)
    assert transport.read(mmio.STATUS, 4) == READY
    set_queue(transport, 0, 128)
    transport.write(mmio.STATUS, 4, READY | DRIVER_OK)
    assert transport.read(mmio.STATUS, 4) == READY | DRIVER_OK
    assert device.started is not None
    features, queues = device.started
    assert features == VERSION_1 | 1 << 3
    assert queues[0] == Queue(128, 0x1_0000_1000, 0x2000, 0x3000, True)
    assert not queues[1].ready
    transport.write(mmio.STATUS, 4, 0)
    assert (transport.read(mmio.STATUS, 4), device.started, device.stops) == (0, None, 1)


@pytest.mark.parametrize("features", [0, 1 << 3, VERSION_1 | 1 << 5], ids=["none", "legacy", "not offered"])
def test_features_that_cannot_be(transport: MmioTransport, features: int) -> None:
    negotiate(transport, features)
    assert transport.read(mmio.STATUS, 4) == ACKNOWLEDGE | DRIVER


def test_features_stay_once_they_are_agreed_on(transport: MmioTransport) -> None:
    negotiate(transport)
    transport.write(mmio.DRIVER_FEATURES_SEL, 4, 0)
    transport.write(mmio.DRIVER_FEATURES, 4, 0xFFFFFFFF)
    assert transport.negotiation.driver_features == VERSION_1


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
    transport.write(mmio.QUEUE_DESC, 4, 0xBAD000)
    assert device.started is not None
    assert device.started[1][0].descriptors == 0x1_0000_1000
    assert transport.read(mmio.QUEUE_READY, 4) == 1


def test_a_queue_that_is_taken_back_reads_so_and_is_not_used(transport: MmioTransport, device: Invented) -> None:
    """Section 4.2.2.2: the driver reads it back, and then does with the queue's memory what it likes."""
    negotiate(transport)
    set_queue(transport, 0, 16)
    transport.write(mmio.STATUS, 4, READY | DRIVER_OK)
    transport.write(mmio.QUEUE_READY, 4, 0)
    assert transport.read(mmio.QUEUE_READY, 4) == 0
    assert device.started is None
    transport.write(mmio.QUEUE_READY, 4, 1)
    assert transport.read(mmio.QUEUE_READY, 4) == 1
    assert device.started is None, "only a reset begins anew"
    transport.write(mmio.STATUS, 4, 0)
    negotiate(transport)
    set_queue(transport, 0, 16)
    transport.write(mmio.STATUS, 4, READY | DRIVER_OK)
    assert device.starts == 2


def test_a_notification_without_kvm_rings_the_doorbell_of_its_queue(transport: MmioTransport) -> None:
    transport.write(mmio.QUEUE_NOTIFY, 4, 1)
    transport.write(mmio.QUEUE_NOTIFY, 4, 2)  # there is none
    assert transport.negotiation.doorbells[1].call(os.eventfd_read) == 1
    with pytest.raises(BlockingIOError):
        transport.negotiation.doorbells[0].call(os.eventfd_read)


def test_interrupts_are_told_and_acknowledged(transport: MmioTransport) -> None:
    lib.corral_virtio_irq_used(transport.interrupt.native, 1)
    lib.corral_virtio_irq_config(transport.interrupt.native)
    assert transport.read(mmio.INTERRUPT_STATUS, 4) == 3
    transport.write(mmio.INTERRUPT_ACK, 4, 1)
    assert transport.read(mmio.INTERRUPT_STATUS, 4) == 2
    assert transport.interrupt.fd.call(os.eventfd_read) == 2
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
            running = transport.negotiation.status & ~FAILED == READY | DRIVER_OK
            if device.started is not None:
                assert running
                assert not device.started[0] & ~transport.features
    finally:
        transport.close()
        interrupt.close()


class Transport:
    """One with a device of its own."""

    def __init__(self) -> None:
        self.device, self.interrupt = Invented(), VirtioInterrupt(None, 5)
        self.registers = MmioTransport(self.device, self.interrupt)

    def apply(self, write: bool, offset: int, size: int, value: int) -> object:
        if not write:
            return self.registers.read(offset, size)
        if offset >= mmio.CONFIG:  # is the device's, and has no state here
            return None
        return self.registers.write(offset, size, value & (1 << 8 * size) - 1)

    def close(self) -> None:
        self.registers.close()
        self.interrupt.close()


REGISTERS = range(0, mmio.CONFIG, 4)
# What a driver does in its order, among accesses of any kind.
good = st.sampled_from(
    [
        *((True, mmio.STATUS, 4, status) for status in (1, 3, 11, 15, 0)),
        *((True, mmio.DRIVER_FEATURES_SEL, 4, half) for half in (0, 1)),
        *((True, mmio.QUEUE_SEL, 4, index) for index in (0, 1)),
        (True, mmio.DRIVER_FEATURES, 4, 1),
        (True, mmio.QUEUE_READY, 4, 1),
        (True, mmio.QUEUE_NUM, 4, 16),
    ]
)
BEGINNING = [(True, mmio.STATUS, 4, 1), (True, mmio.STATUS, 4, 3), (True, mmio.DRIVER_FEATURES_SEL, 4, 1)]
BEGINNING += [(True, mmio.DRIVER_FEATURES, 4, 1), (True, mmio.STATUS, 4, 11)]
sequences = st.lists(st.one_of(accesses, good), max_size=30)


@given(st.integers(0, len(BEGINNING)), sequences, st.integers(0, 3), sequences)
def test_a_restored_one_answers_as_the_one_that_was_saved(
    begun: int, before: list[tuple[bool, int, int, int]], pending: int, after: list[tuple[bool, int, int, int]]
) -> None:
    first, second = Transport(), Transport()
    try:
        for access in BEGINNING[:begun] + before:
            first.apply(*access)
        for bit, told in ((1, lambda irq: lib.corral_virtio_irq_used(irq, 0)), (2, lib.corral_virtio_irq_config)):
            if pending & bit:
                told(first.interrupt.native)
        running = first.device.started
        state = first.registers.save()
        assert first.device.started is None, "it leaves the guest's memory alone"
        second.registers.restore(state)
        first.registers.restore(state)
        assert first.device.started == second.device.started == running
        for access in after:
            assert first.apply(*access) == second.apply(*access)
            assert first.device.started == second.device.started
        for register in REGISTERS:
            assert first.apply(False, register, 4, 0) == second.apply(False, register, 4, 0)
    finally:
        first.close()
        second.close()


def test_a_transport_whose_host_does_not_answer_is_not_saved(transport: MmioTransport, device: Invented) -> None:
    negotiate(transport)
    set_queue(transport, 0, 16)
    transport.write(mmio.STATUS, 4, READY | DRIVER_OK)
    device.answers = False
    with pytest.raises(HostError, match="does not answer"):
        transport.save()


def test_a_reset_is_complete_when_the_host_has_answered(transport: MmioTransport, device: Invented) -> None:
    """Section 2.4.2: until the driver reads a status of 0. Memory that it takes back is its own then."""
    negotiate(transport)
    transport.write(mmio.STATUS, 4, READY | DRIVER_OK)
    device.answers = False
    transport.write(mmio.STATUS, 4, 0)
    assert transport.read(mmio.STATUS, 4) == READY | DRIVER_OK
    for status in (ACKNOWLEDGE, ACKNOWLEDGE | DRIVER, READY, READY | DRIVER_OK):
        transport.write(mmio.STATUS, 4, status)
    assert (device.starts, transport.read(mmio.STATUS, 4)) == (1, READY | DRIVER_OK)
    device.answers = True
    assert transport.read(mmio.STATUS, 4) == 0
    negotiate(transport)
    transport.write(mmio.STATUS, 4, READY | DRIVER_OK)
    assert device.starts == 2

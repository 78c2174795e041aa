"""The MMIO transport, version 2 (virtio 1.2, section 4.2): discovery, negotiation, life and death of a device.

Nothing here is on the way of a request: a doorbell is an ioeventfd, and InterruptStatus and InterruptACK are finished
in C (virtio_irq.c). A driver may write anything in any order, from several vCPUs.
"""

from __future__ import annotations

import os
from _thread import allocate_lock

from corral.devices.virtio.device import BadQueue, Queue
from corral.native import lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.devices.virtio.device import VirtioDevice
    from corral.irq import VirtioInterrupt
    from corral.kvm.vcpu import Vcpu
    from corral.kvm.vm import Vm

MAGIC = 0x74726976  # "virt"
VERSION = 2
VENDOR = 0x4C524F43  # "CORL"
SIZE = 0x1000  # bytes of address space

# Offsets of registers (table 4.1).
MAGIC_VALUE, VERSION_NUMBER, DEVICE_ID, VENDOR_ID = 0x000, 0x004, 0x008, 0x00C
DEVICE_FEATURES, DEVICE_FEATURES_SEL, DRIVER_FEATURES, DRIVER_FEATURES_SEL = 0x010, 0x014, 0x020, 0x024
QUEUE_SEL, QUEUE_NUM_MAX, QUEUE_NUM, QUEUE_READY, QUEUE_NOTIFY = 0x030, 0x034, 0x038, 0x044, 0x050
INTERRUPT_STATUS, INTERRUPT_ACK, STATUS = 0x060, 0x064, 0x070
QUEUE_DESC, QUEUE_DRIVER, QUEUE_DEVICE = 0x080, 0x090, 0x0A0  # each a low and a high half
SHM_LENGTH, SHM_LENGTH_HIGH = 0x0B0, 0x0B4
CONFIG_GENERATION, CONFIG = 0x0FC, 0x100

# Device status (section 2.1).
ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, NEEDS_RESET, FAILED = 1, 2, 4, 8, 64, 128

# What the driver may go on to from each status (section 3.1.1), besides 0, a reset, and FAILED, which it may always.
# SeaBIOS takes the first two steps in one.
TRANSITIONS = {
    0: (ACKNOWLEDGE, ACKNOWLEDGE | DRIVER),
    ACKNOWLEDGE: (ACKNOWLEDGE | DRIVER,),
    ACKNOWLEDGE | DRIVER: (ACKNOWLEDGE | DRIVER | FEATURES_OK,),
    ACKNOWLEDGE | DRIVER | FEATURES_OK: (ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK,),
}

# Feature bits that belong to the transport and its queues (section 6).
RING_INDIRECT, RING_EVENT_INDEX, VERSION_1 = 1 << 28, 1 << 29, 1 << 32
RING_FEATURES = RING_INDIRECT | RING_EVENT_INDEX | VERSION_1

_LOW, _HIGH = 0xFFFFFFFF, 0xFFFFFFFF << 32


class MmioTransport:
    """A device for a Bus, `SIZE` bytes of addresses long. Raises KvmError where it needs KVM."""

    def __init__(self, device: VirtioDevice, interrupt: VirtioInterrupt) -> None:
        self.device = device
        self.interrupt = interrupt
        self.features = device.features | RING_FEATURES
        self.doorbells = [os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in device.queue_sizes]
        self._lock = allocate_lock()  # under it only a device's own are taken, in its start and stop
        self._forget()

    def close(self) -> None:
        """When no vCPU runs any more."""
        self.device.stop()
        for doorbell in self.doorbells:
            os.close(doorbell)

    def connect(self, vm: Vm, base: int) -> None:
        """Doorbells of the registers at guest physical address `base` that take no exit."""
        for index, doorbell in enumerate(self.doorbells):
            vm.ioeventfd(base + QUEUE_NOTIFY, 4, index, doorbell)

    def attach(self, vcpu: Vcpu, base: int) -> None:
        """Lets `vcpu` finish in C what every interrupt needs."""
        registers = base + INTERRUPT_STATUS, base + INTERRUPT_ACK + 3
        vcpu.claim_mmio(*registers, lib.corral_virtio_irq_access, self.interrupt.native)

    def read(self, offset: int, size: int) -> int:
        with self._lock:
            if offset >= CONFIG:
                return int.from_bytes(self.device.config[offset - CONFIG :][:size], "little")
            return self._register(offset) if size == 4 else 0

    def write(self, offset: int, size: int, value: int) -> None:
        with self._lock:
            if offset >= CONFIG or size != 4:  # no device has configuration that a driver may write
                return
            if offset == STATUS:
                self._set_status(value & 0xFF)
            elif offset == DEVICE_FEATURES_SEL:
                self._device_features_sel = value
            elif offset == DRIVER_FEATURES_SEL:
                self._driver_features_sel = value
            elif offset == QUEUE_SEL:
                self._queue_sel = value
            elif offset == DRIVER_FEATURES:
                self._set_driver_features(value)
            elif offset == QUEUE_NOTIFY:  # where no ioeventfd took it
                if value < len(self.doorbells):
                    os.eventfd_write(self.doorbells[value], 1)
            elif offset == INTERRUPT_ACK:
                self.interrupt.acknowledge(value)
            elif self.status == ACKNOWLEDGE | DRIVER | FEATURES_OK and self._queue_sel < len(self._queues):
                self._set_queue(self._queues[self._queue_sel], offset, value)

    def _forget(self) -> None:
        """The state after a reset."""
        self.status = 0
        self.driver_features = 0
        self._device_features_sel = self._driver_features_sel = self._queue_sel = 0
        self._queues = [_QueueRegisters(size) for size in self.device.queue_sizes]
        self._refused = False  # what DRIVER_OK was written for could not be started
        self.interrupt.acknowledge(_LOW)

    def _register(self, offset: int) -> int:
        queue = self._queues[self._queue_sel] if self._queue_sel < len(self._queues) else None
        if offset == STATUS:
            return self.status | (NEEDS_RESET if self._refused or self.device.broken else 0)
        if offset == DEVICE_FEATURES:
            return self.features >> 32 * self._device_features_sel & _LOW if self._device_features_sel < 2 else 0
        if offset == QUEUE_NUM_MAX:
            return queue.most if queue else 0
        if offset == QUEUE_READY:
            return int(queue.ready) if queue else 0
        if offset == INTERRUPT_STATUS:
            return self.interrupt.status
        return _CONSTANTS.get(offset, self.device.device_id if offset == DEVICE_ID else 0)

    def _set_status(self, value: int) -> None:
        value &= ~NEEDS_RESET  # a driver writes back what it has read
        if value == 0:
            self.device.stop()
            self._forget()
        elif value & FAILED:
            self.status |= FAILED
        elif value in TRANSITIONS.get(self.status, ()):
            if value & FEATURES_OK and not self._features_are_good():
                return  # the bit stays clear, which is how the driver learns of it
            if value & DRIVER_OK and not self._start():
                return
            self.status = value

    def _features_are_good(self) -> bool:
        return bool(self.driver_features & VERSION_1) and not self.driver_features & ~self.features

    def _set_driver_features(self, value: int) -> None:
        if self.status & FEATURES_OK or self._driver_features_sel > 1:
            return
        kept = self.driver_features & (_HIGH if self._driver_features_sel == 0 else _LOW)
        self.driver_features = kept | value << 32 * self._driver_features_sel

    def _set_queue(self, queue: _QueueRegisters, offset: int, value: int) -> None:
        if offset == QUEUE_READY:
            queue.ready = bool(value & 1)
        elif queue.ready:
            return  # section 4.2.2.2: not while it is ready
        elif offset == QUEUE_NUM:
            queue.size = value
        elif offset & ~4 in queue.addresses:
            address, half = queue.addresses[offset & ~4], offset & 4
            queue.addresses[offset & ~4] = address & _LOW | value << 32 if half else address & _HIGH | value

    def _start(self) -> bool:
        try:
            self.device.start(self.driver_features, [queue.value() for queue in self._queues], self.doorbells)
        except BadQueue:
            self._refused = True
        return not self._refused


class _QueueRegisters:
    def __init__(self, most: int) -> None:
        self.most = self.size = most
        self.ready = False
        self.addresses = {QUEUE_DESC: 0, QUEUE_DRIVER: 0, QUEUE_DEVICE: 0}

    def value(self) -> Queue:
        if self.ready and not 0 < self.size <= self.most:
            raise BadQueue(f"a queue of {self.size} descriptors, at most {self.most}")
        at = self.addresses
        return Queue(self.size, at[QUEUE_DESC], at[QUEUE_DRIVER], at[QUEUE_DEVICE], self.ready)


_CONSTANTS = {
    MAGIC_VALUE: MAGIC,
    VERSION_NUMBER: VERSION,
    VENDOR_ID: VENDOR,
    SHM_LENGTH: _LOW,  # no shared memory region: a length of -1
    SHM_LENGTH_HIGH: _LOW,
    CONFIG_GENERATION: 0,
}

"""The MMIO transport, version 2 (virtio 1.2, section 4.2): the registers by which a driver sets a device up.

Nothing here is on the way of a request: QueueNotify, InterruptStatus and InterruptACK are finished in C
(virtio_doorbells.c, virtio_irq.c). A driver may write anything in any order, from several vCPUs.
"""

from __future__ import annotations

from _thread import allocate_lock

from corral.devices.virtio.negotiation import DESCRIPTORS, DEVICE_AREA, DRIVER_AREA, LOW, Negotiation
from corral.native import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.core.bus import InC
    from corral.core.irq import VirtioInterrupt
    from corral.devices.virtio.device import VirtioDevice
    from corral.devices.virtio.negotiation import NegotiationState
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

_PARTS = {QUEUE_DESC: DESCRIPTORS, QUEUE_DRIVER: DRIVER_AREA, QUEUE_DEVICE: DEVICE_AREA}


class MmioTransport:
    """A device for a Bus, `SIZE` bytes of addresses long. Raises KvmError where it needs KVM."""

    def __init__(self, device: VirtioDevice, interrupt: VirtioInterrupt) -> None:
        self.device = device
        self.interrupt = interrupt
        self.negotiation = Negotiation(device, interrupt)
        self.doorbells = ffi.new("struct corral_doorbells *", {"vm_fd": -1})
        self._lock = allocate_lock()  # under it only a device's own are taken, in its start and stop

    def close(self) -> None:
        """When no vCPU runs any more."""
        self.negotiation.close()

    def connect(self, vm: Vm, base: int) -> None:
        """The registers are at guest physical address `base`. Once for each transport, before its registers are
        claimed."""
        fds = [doorbell.value for doorbell in self.negotiation.doorbells]
        fields = {"vm_fd": vm.fd.value, "gpa": base + QUEUE_NOTIFY, "n": len(fds), "any": self.device.one_doorbell}
        self.doorbells = ffi.new("struct corral_doorbells *", {**fields, "fd": fds})

    @property
    def in_c(self) -> tuple[InC, ...]:
        """What requests and interrupts need (Bus.claim)."""
        return (
            (QUEUE_NOTIFY, QUEUE_NOTIFY + 3, lib.corral_doorbells_ring, self.doorbells),
            (INTERRUPT_STATUS, INTERRUPT_ACK + 3, lib.corral_virtio_irq_access, self.interrupt.native),
        )

    def save(self) -> NegotiationState:
        """Stops the device, while no vCPU runs; restore() has it go on, here or in another machine. Raises HostError
        when the host does not answer."""
        with self._lock:
            return self.negotiation.save()

    def restore(self, state: NegotiationState) -> None:
        """While no vCPU runs. Raises ValueError for a state that this device cannot have."""
        with self._lock:
            self.negotiation.restore(state)

    def read(self, offset: int, size: int) -> int:
        with self._lock:
            if offset >= CONFIG:
                return int.from_bytes(self.device.config[offset - CONFIG :][:size], "little")
            return self._register(offset) if size == 4 else 0

    def write(self, offset: int, size: int, value: int) -> None:
        with self._lock:
            if offset >= CONFIG:
                self.device.write_config(offset - CONFIG, value.to_bytes(size, "little"))
            elif size == 4:
                self._set_register(offset, value)

    def _register(self, offset: int) -> int:
        queue = self.negotiation.queue
        if offset == STATUS:
            return self.negotiation.status
        if offset == DEVICE_FEATURES:
            return self.negotiation.offered
        if offset == QUEUE_NUM_MAX:
            return queue.most if queue else 0
        if offset == QUEUE_READY:
            return int(queue.ready) if queue else 0
        if offset == INTERRUPT_STATUS:
            return self.interrupt.status
        return _CONSTANTS.get(offset, self.device.device_id if offset == DEVICE_ID else 0)

    def _set_register(self, offset: int, value: int) -> None:
        negotiation = self.negotiation
        if offset == STATUS:
            negotiation.set_status(value & 0xFF)
        elif offset == DEVICE_FEATURES_SEL:
            negotiation.device_features_sel = value
        elif offset == DRIVER_FEATURES_SEL:
            negotiation.driver_features_sel = value
        elif offset == QUEUE_SEL:
            negotiation.queue_sel = value
        elif offset == DRIVER_FEATURES:
            negotiation.accept(value)
        elif offset == QUEUE_NOTIFY:  # in a transport that is not connected
            negotiation.notify(value)
        elif offset == INTERRUPT_ACK:
            self.interrupt.acknowledge(value)
        elif offset == QUEUE_NUM:
            negotiation.set_size(value)
        elif offset == QUEUE_READY:
            negotiation.set_ready(bool(value & 1))
        elif offset & ~4 in _PARTS:
            negotiation.set_address(_PARTS[offset & ~4], offset >> 2 & 1, value)


_CONSTANTS = {
    MAGIC_VALUE: MAGIC,
    VERSION_NUMBER: VERSION,
    VENDOR_ID: VENDOR,
    SHM_LENGTH: LOW,  # no shared memory region: a length of -1
    SHM_LENGTH_HIGH: LOW,
    CONFIG_GENERATION: 0,
}

"""A virtio device as its driver sets it up: status, features and queues (virtio 1.2, sections 2 and 3).

This is what all transports have in common; their registers (mmio.py) are ways to it. A driver may write anything in
any order: what it may not do at the time is ignored.
"""

from __future__ import annotations

from corral.devices.virtio.device import BadQueue, Queue, savable
from corral.errors import HostError
from corral.native import Event
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.core.irq import VirtioInterrupt
    from corral.devices.virtio.device import VirtioDevice

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

LOW, HIGH = 0xFFFFFFFF, 0xFFFFFFFF << 32  # the halves of features and addresses, as registers have them
DESCRIPTORS, DRIVER_AREA, DEVICE_AREA = range(3)  # parts of a queue (section 2.7)


@record(frozen=True)
class NegotiationState:
    """All of it, and InterruptStatus as `interrupts`; `runs`: the device serves its queues; `device`: what it knows of
    its driver."""

    status: int
    driver_features: int
    device_features_sel: int
    driver_features_sel: int
    queue_sel: int
    queues: tuple[Queue, ...]
    interrupts: int
    refused: bool
    runs: bool
    device: bytes


class QueueSetup:
    """What the driver has said of one queue."""

    def __init__(self, most: int) -> None:
        self.most = self.size = most
        self.ready = False
        self.addresses = [0, 0, 0]

    def value(self) -> Queue:
        """Raises BadQueue."""
        if self.ready and not 0 < self.size <= self.most:
            raise BadQueue(f"a queue of {self.size} descriptors, at most {self.most}")
        return self.save() if self.ready else Queue(0, 0, 0, 0, False)

    def save(self) -> Queue:
        """As it was said, whatever that is."""
        descriptors, driver, device = self.addresses
        return Queue(self.size, descriptors, driver, device, self.ready)

    def restore(self, queue: Queue) -> None:
        self.size, self.ready = queue.size & LOW, queue.ready
        self.addresses = [queue.descriptors, queue.driver, queue.device]


class Negotiation:
    """Its methods are for one thread at a time: the transport holds its lock. `doorbells` are of its queues, one each
    or the same for all."""

    def __init__(self, device: VirtioDevice, interrupt: VirtioInterrupt) -> None:
        self.device, self.interrupt = device, interrupt
        self.features = device.features | RING_FEATURES
        self.doorbells = [Event() for _ in device.queue_sizes[: 1 if device.one_doorbell else None]]
        self._forget()

    def close(self) -> None:
        """When no vCPU runs any more."""
        if not self.doorbells[0].closed:
            self.device.stop()
        for doorbell in self.doorbells:
            doorbell.close()

    def _forget(self) -> None:
        """The state after a reset."""
        self._status = 0
        self.driver_features = 0
        # What the driver has chosen: a half of the features, and a queue. Any numbers.
        self.device_features_sel = self.driver_features_sel = self.queue_sel = 0
        self.queues = [QueueSetup(size) for size in self.device.queue_sizes]
        self._runs = False  # the device has been started
        self._refused = False  # what DRIVER_OK was written for could not be started
        self._resetting = False  # the driver has asked for a reset, and the host still uses guest memory
        self.interrupt.acknowledge(LOW)

    # Status.

    @property
    def status(self) -> int:
        """As the driver reads it, which can end a reset."""
        if self._resetting:
            self._reset()
        return self._status | (NEEDS_RESET if self._refused or self.device.broken else 0)

    def set_status(self, value: int) -> None:
        value &= ~NEEDS_RESET  # a driver writes back what it has read
        if value == 0:
            self._reset()
        elif value & FAILED:
            self._status |= FAILED
        elif value in TRANSITIONS.get(self._status, ()):
            if value & FEATURES_OK and not self._features_are_good():
                return  # the bit stays clear, which is how the driver learns of it
            if value & DRIVER_OK and not self._start():
                return
            self._status = value

    def _reset(self) -> None:
        """It is complete when the driver reads a status of 0 (section 2.4.2). Until then nothing can be started."""
        self._runs = False
        self._resetting = not self.device.stop()
        if not self._resetting:
            self._forget()

    def _start(self) -> bool:
        try:
            self.device.start(self.driver_features, *self._set_up())
        except BadQueue:
            self._refused = True
        self._runs = not self._refused
        return self._runs

    def _set_up(self) -> tuple[list[Queue], list[int]]:
        """Queues and their doorbells, for a device that starts. Raises BadQueue."""
        queues = [queue.value() for queue in self.queues]
        return queues, [self.doorbell(index).value for index in range(len(queues))]

    # Saving.

    def save(self) -> NegotiationState:
        """Stops the device. Raises HostError when the host does not answer."""
        device = savable(self.device)
        if self._resetting or not device.pause():
            raise HostError("the host does not answer what a device has asked it; save the guest later")
        refused = self._refused or device.broken
        return NegotiationState(
            self._status,
            self.driver_features,
            self.device_features_sel,
            self.driver_features_sel,
            self.queue_sel,
            tuple(queue.save() for queue in self.queues),
            self.interrupt.status,
            refused,
            self._runs and not refused,
            device.save(),
        )

    def restore(self, state: NegotiationState) -> None:
        """Has the device go on. Raises ValueError for a state that it cannot have."""
        if len(state.queues) != len(self.queues):
            raise ValueError(f"{len(state.queues)} queues, not {len(self.queues)}")
        self._status, self.driver_features = state.status & 0xFF, state.driver_features & self.features
        self.device_features_sel, self.driver_features_sel = state.device_features_sel, state.driver_features_sel
        self.queue_sel = state.queue_sel
        for setup, queue in zip(self.queues, state.queues, strict=True):
            setup.restore(queue)
        self._refused, self._runs = state.refused, state.runs
        self.interrupt.repeat(state.interrupts)
        if state.runs:
            try:
                savable(self.device).resume(self.driver_features, *self._set_up(), state.device)
            except BadQueue as error:
                raise ValueError(f"a queue: {error}") from None

    # Features.

    @property
    def offered(self) -> int:
        """The chosen half."""
        return self.features >> 32 * self.device_features_sel & LOW if self.device_features_sel < 2 else 0

    def accept(self, value: int) -> None:
        """What the driver takes of the chosen half."""
        half = self.driver_features_sel
        if self._status & FEATURES_OK or half > 1:
            return
        kept = self.driver_features & (HIGH if half == 0 else LOW)
        self.driver_features = kept | value << 32 * half

    def _features_are_good(self) -> bool:
        return bool(self.driver_features & VERSION_1) and not self.driver_features & ~self.features

    # Queues.

    @property
    def queue(self) -> QueueSetup | None:
        """The chosen one, None where there is none with that number."""
        return self.queues[self.queue_sel] if self.queue_sel < len(self.queues) else None

    def doorbell(self, index: int) -> Event:
        return self.doorbells[0 if self.device.one_doorbell else index]

    def notify(self, index: int) -> None:
        """A doorbell that C did not ring."""
        if index < len(self.queues):
            self.doorbell(index).signal()

    def set_size(self, size: int) -> None:
        if queue := self._changeable:
            queue.size = size

    def set_address(self, part: int, half: int, value: int) -> None:
        if queue := self._changeable:
            kept = queue.addresses[part] & (LOW if half else HIGH)
            queue.addresses[part] = kept | value << 32 * half

    def set_ready(self, ready: bool) -> None:
        queue = self.queue
        if queue is None:
            return
        if self._status & DRIVER_OK:  # reads as it was last written (section 4.2.2)
            queue.ready = ready
            if not ready:  # its memory is the driver's again, and no queue is reset alone: all end
                self._runs = False
                self.device.stop()
        elif self._takes_queues:
            queue.ready = ready

    @property
    def _takes_queues(self) -> bool:
        return self._status == ACKNOWLEDGE | DRIVER | FEATURES_OK

    @property
    def _changeable(self) -> QueueSetup | None:
        """Section 4.2.2.2: not while it is ready."""
        queue = self.queue
        return queue if queue and self._takes_queues and not queue.ready else None

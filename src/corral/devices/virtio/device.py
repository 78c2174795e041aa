"""What a machine, a transport and a kind of virtio device know of each other."""

from __future__ import annotations

from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from corral.backends.channel import Channel
    from corral.config import DeviceConfig
    from corral.core.irq import VirtioInterrupt
    from corral.memory import GuestMemory

    class VirtioDevice(Protocol):
        """One kind of device. The transport calls these one at a time, but for `counters`."""

        name: str  # for people, of all devices of a machine its own: "disk 0"
        device_id: int  # virtio 1.2, section 5
        features: int  # what is offered, without the transport's own
        queue_sizes: tuple[int, ...]  # of each queue the most descriptors, a power of two
        one_doorbell: bool  # one eventfd for all queues; else each has its own

        @property
        def config(self) -> bytes:
            """The configuration space."""

        def ready(self) -> None:
            """Returns when what its making has begun on the host is done. Raises HostError."""

        def write_config(self, offset: int, data: bytes) -> None:
            """The driver writes there; what is not its own to write is ignored."""

        def start(self, features: int, queues: list[Queue], doorbells: list[int]) -> None:
            """The driver is ready: `doorbells` are eventfds, one for each queue. Raises BadQueue, and has not started
            then."""

        def request_stop(self) -> None:
            """Begins to stop: many devices are asked first and waited for after. Also when it is not started."""

        def stop(self) -> bool:
            """Requests a stop and waits for less than half a second. True: nothing uses guest memory any more. False:
            the host still does, since it has not answered; to be called again. Also when it is not started."""

        def close(self) -> None:
            """After stop() was True."""

        @property
        def broken(self) -> bool:
            """The driver has broken a queue: it must reset the device before it can use it again."""

        def counters(self) -> dict[str, int]:
            """What it counted so far, by what that is: "bytes read". Also while it runs. Raises ClosedError."""

    class SavableDevice(VirtioDevice, Protocol):
        """One whose guest can be saved."""

        def pause(self) -> bool:
            """As stop(), but what the device has taken is done first, and does not fail. False: the host does not do
            it."""

        def save(self) -> bytes:
            """What it knows of its driver beside what the used rings tell, after pause() was True."""

        def resume(self, features: int, queues: list[Queue], doorbells: list[int], state: bytes) -> None:
            """start() for a driver that has had a device before, which gave `state`. Raises ValueError for none of its
            kind."""

    class DeviceModule(Protocol):
        """A module of this package that has a kind of device."""

        def create(self, config: DeviceConfig, place: Place) -> VirtioDevice:
            """Raises HostError, BootError and what the host's side of it raises."""


def savable(device: VirtioDevice) -> SavableDevice:
    """The same, of a guest that can be saved (snapshot.machine_state)."""
    return device  # type: ignore[return-value]


class BadQueue(Exception):
    """A queue lies where no queue can be."""


@record(frozen=True)
class Queue:
    """A virtqueue as the driver has set it up: guest physical addresses, not checked yet."""

    size: int
    descriptors: int
    driver: int  # available ring
    device: int  # used ring
    ready: bool


@record(frozen=True)
class Layer:
    """What a disk had written over its image when its guest was saved: at `offset` of the file `fd`, which stays the
    caller's, where `map` has the bit of a granule (csrc/blk/blk.h)."""

    fd: int
    offset: int
    map: bytes


@record(frozen=True)
class Place:
    """What a machine has for one of its devices. `number` counts those of its kind, `slot` all; `cpus` are what its
    threads run on, () for any; `channel` is the machine's; `layer` is of a disk that goes on."""

    memory: GuestMemory
    interrupt: VirtioInterrupt
    number: int = 0
    slot: int = 0
    vcpus: int = 1
    cpus: tuple[int, ...] = ()
    channel: Channel | None = None
    layer: Layer | None = None

"""What a transport and a kind of virtio device know of each other."""

from __future__ import annotations

from corral.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class VirtioDevice(Protocol):
        """One kind of device. The transport calls these one at a time."""

        device_id: int  # virtio 1.2, section 5
        features: int  # what is offered, without the transport's own
        queue_sizes: tuple[int, ...]  # of each queue the most descriptors, a power of two

        @property
        def config(self) -> bytes:
            """The configuration space."""

        def start(self, features: int, queues: list[Queue], doorbells: list[int]) -> None:
            """The driver is ready: `doorbells` are eventfds, one a queue. Raises BadQueue, and has not started then."""

        def stop(self) -> None:
            """Returns when no thread of the device uses guest memory any more. Also when it is not started."""

        @property
        def broken(self) -> bool:
            """The driver has broken a queue: it must reset the device before it can use it again."""


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

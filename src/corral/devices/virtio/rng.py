"""virtio-rng (virtio 1.2, section 5.4): random bytes of the host. Its buffers are filled in rng.c."""

from __future__ import annotations

from corral.devices.virtio.served import ServedDevice
from corral.native import Handle, ffi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.config import RngConfig
    from corral.devices.virtio.device import Place, Queue

QUEUE_SIZE = 8  # a driver has a buffer or two there


def create(config: RngConfig, place: Place) -> Rng:
    return Rng(config, place)


class Rng(ServedDevice):
    """A VirtioDevice. Raises HostError."""

    kind = "rng"
    device_id = 4
    features = 0
    queue_sizes = (QUEUE_SIZE,)
    config = b""
    _resumes = False

    def __init__(self, config: RngConfig, place: Place) -> None:
        self._bandwidth = config.bandwidth
        super().__init__(f"rng {place.number}", place)

    def _create(self) -> Handle:
        fields = {"worker": self._worker("rng"), "bytes_per_second": self._bandwidth}
        return self._made(ffi.new("struct corral_rng_config *", fields))

    def save(self) -> bytes:
        return b""  # nothing is between a driver and it but the queue

    def resume(self, features: int, queues: list[Queue], doorbells: list[int], state: bytes) -> None:
        if state:
            raise ValueError(f"{self.name}: a state of {len(state)} bytes, and it has none")
        self._resumes = True
        try:
            self.start(features, queues, doorbells)
        finally:
            self._resumes = False

    def _start(self, *arguments: object) -> None:
        super()._start(*arguments, self._resumes)

    def counters(self) -> dict[str, int]:
        return self._counted()

"""virtio-rng (virtio 1.2, section 5.4): random bytes of the host. Its buffers are filled in rng.c."""

from __future__ import annotations

from corral.devices.virtio.served import QueuesOnly
from corral.native import Handle, ffi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.config import RngConfig
    from corral.devices.virtio.device import Place

QUEUE_SIZE = 8  # a driver has a buffer or two there


def create(config: RngConfig, place: Place) -> Rng:
    return Rng(config, place)


class Rng(QueuesOnly):
    """A VirtioDevice. Raises HostError."""

    kind = "rng"
    device_id = 4
    features = 0
    queue_sizes = (QUEUE_SIZE,)
    config = b""

    def __init__(self, config: RngConfig, place: Place) -> None:
        self._bandwidth = config.bandwidth
        super().__init__(f"rng {place.number}", place)

    def _create(self) -> Handle:
        fields = {"worker": self._worker("rng"), "bytes_per_second": self._bandwidth}
        return self._made(ffi.new("struct corral_rng_config *", fields))

    def counters(self) -> dict[str, int]:
        return self._counted()

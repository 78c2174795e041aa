"""virtio-balloon (virtio 1.2, section 5.5): free memory of the guest goes back to the host, by balloon.c."""

from __future__ import annotations

import struct

from corral.devices.virtio.served import ServedDevice
from corral.native import Handle, ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.config import BalloonConfig
    from corral.devices.virtio.device import Place, Queue

QUEUE_SIZE = 128
DEFLATE_ON_OOM, REPORTING = 1 << 2, 1 << 5
_ACTUAL = 4  # where the driver writes how many pages are in the balloon
_CONFIG = struct.Struct("<IIII")  # num_pages, actual, free_page_hint_cmd_id, poison_val


def create(config: BalloonConfig, place: Place) -> Balloon:
    return Balloon(place)


class Balloon(ServedDevice):
    """A VirtioDevice. It reports free memory by itself; `target` is how many pages of 4 KiB the driver is asked to keep
    from its guest besides, 0 of them here. Raises HostError."""

    kind = "balloon"
    device_id = 5
    features = DEFLATE_ON_OOM | REPORTING
    queue_sizes = (QUEUE_SIZE,) * lib.CORRAL_BALLOON_QUEUES
    _resumes = False

    def __init__(self, place: Place) -> None:
        self.target = self._actual = 0
        super().__init__("balloon", place)

    def _create(self) -> Handle:
        return self._made(ffi.new("struct corral_worker_config *", self._worker("balloon")))

    @property
    def config(self) -> bytes:
        return _CONFIG.pack(self.target, self._actual, 0, 0)

    def write_config(self, offset: int, data: bytes) -> None:
        if offset == _ACTUAL and len(data) == 4:
            self._actual = int.from_bytes(data, "little")

    def save(self) -> bytes:
        return self._actual.to_bytes(4, "little")

    def resume(self, features: int, queues: list[Queue], doorbells: list[int], state: bytes) -> None:
        if len(state) != 4:
            raise ValueError(f"{self.name}: a state of {len(state)} bytes, not 4")
        self._actual, self._resumes = int.from_bytes(state, "little"), True
        try:
            self.start(features, queues, doorbells)
        finally:
            self._resumes = False

    def _start(self, *arguments: object) -> None:
        super()._start(*arguments, self._resumes)

    def counters(self) -> dict[str, int]:
        return {name.replace("_", " "): value for name, value in self._counted().items()}

"""A device whose queues are served in C: the life that all of them share (csrc/virtio/queue_worker.h)."""

from __future__ import annotations

import errno
import os

from corral.devices.virtio.device import BadQueue
from corral.errors import HostError
from corral.native import CData, Handle, check, ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.devices.virtio.device import Place, Queue

PATIENCE = 10  # stops: a busy host may not let threads come to their end in one
_REFUSED = (-errno.EINVAL, -errno.EFAULT)  # what C says of queues that cannot be


class ServedDevice:
    """A VirtioDevice, but for what is the kind's own. `kind` is how C's functions are named: corral_KIND_start. Making
    one raises HostError."""

    kind = ""
    one_doorbell = False

    def __init__(self, name: str, place: Place) -> None:
        self.name = name
        self._place = place
        self._memory, self._interrupt = place.memory.native, place.interrupt.native  # C keeps pointers to them
        self._native = self._create()

    def _create(self) -> Handle:
        """C's device, by _made()."""
        raise NotImplementedError

    def _made(self, *arguments: object) -> Handle:
        """C's device of these arguments. Raises HostError."""
        device = self._function("create")(*arguments, self._memory, self._interrupt)
        if device == ffi.NULL:
            from corral import os_errors

            raise HostError(f"cannot make {self.name}: {os_errors.of_c(ffi.errno)}")
        return Handle(device, self._function("destroy"))

    def _worker(self, name: str, broken_fd: int = -1) -> dict[str, Any]:
        """A struct corral_worker_config; `name` is of the threads, `broken_fd` an eventfd."""
        words = [0] * lib.CORRAL_CPU_WORDS
        for cpu in self._place.cpus:
            if cpu < 64 * len(words):
                words[cpu // 64] |= 1 << cpu % 64
        return {"name": name.encode(), "cpus": words, "broken_fd": broken_fd}

    def _function(self, name: str) -> Any:
        return getattr(lib, f"corral_{self.kind}_{name}")

    def _call(self, name: str, *arguments: object) -> Any:
        """C's function of this kind, on the device. Raises ClosedError."""
        return self._native.call(self._function(name), *arguments)

    def ready(self) -> None:
        """It is, once it is made."""

    def close(self) -> None:
        self._native.close()

    def start(self, features: int, queues: list[Queue], doorbells: list[int]) -> None:
        assert len(doorbells) == len(queues)
        self._start(features, _setups(queues), ffi.new("int[]", doorbells))

    def _start(self, *arguments: object) -> None:
        result = self._call("start", *arguments)
        if result in _REFUSED:
            raise BadQueue(os.strerror(-result))
        check(f"starting {self.name}", result, "free memory, or see ulimit -u")

    def request_stop(self) -> None:
        self._call("request_stop")

    def stop(self) -> bool:
        return int(self._call("stop")) == 0

    @property
    def broken(self) -> bool:
        return bool(self._call("failed"))

    def write_config(self, offset: int, data: bytes) -> None:
        """There is nothing that a driver may write."""

    def pause(self) -> bool:
        """As SavableDevice says; for a device that is never in the middle of a chain."""
        return any(self.stop() for _ in range(PATIENCE))

    def _counted(self) -> dict[str, int]:
        """C's struct corral_KIND_stats, by its fields."""
        stats = ffi.new(f"struct corral_{self.kind}_stats *")
        self._call("stats", stats)
        return {field: int(getattr(stats, field)) for field, _ in ffi.typeof(stats).item.fields}


class QueuesOnly(ServedDevice):
    """A SavableDevice that knows nothing of its driver but its queues. corral_KIND_start takes whether it goes on."""

    _resumes = False

    def save(self) -> bytes:
        return b""

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


class SavedDevice(ServedDevice):
    """A SavableDevice; its state is C's struct corral_KIND_saved, which corral_KIND_start takes."""

    _saved: CData = ffi.NULL  # what a start goes on from

    def save(self) -> bytes:
        saved = ffi.new(f"struct corral_{self.kind}_saved *")
        self._call("save", saved)
        return bytes(ffi.buffer(saved))

    def resume(self, features: int, queues: list[Queue], doorbells: list[int], state: bytes) -> None:
        saved = ffi.new(f"struct corral_{self.kind}_saved *")
        place = ffi.buffer(saved)
        if len(state) != len(place):
            raise ValueError(f"{self.name}: {len(state)} bytes, not {len(place)}")
        place[:] = state
        self._saved = saved
        try:
            self.start(features, queues, doorbells)
        finally:
            self._saved = ffi.NULL

    def _start(self, *arguments: object) -> None:
        super()._start(*arguments, self._saved)


def _setups(queues: list[Queue]) -> CData:
    setups = ffi.new("struct corral_virtq_setup[]", len(queues))
    for setup, queue in zip(setups, queues, strict=True):
        setup.size, setup.ready = queue.size, queue.ready
        setup.desc, setup.avail, setup.used = queue.descriptors, queue.driver, queue.device
    return setups

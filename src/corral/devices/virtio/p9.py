"""virtio-9p: a folder of the host. Messages are moved by p9.c; a server of its own, diod, does what they say."""

from __future__ import annotations

import errno
import os
import struct

from corral.devices.virtio.device import BadQueue
from corral.native import check, ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.config import ShareConfig
    from corral.devices.virtio.device import Queue
    from corral.folder_server import FolderServer
    from corral.irq import VirtioInterrupt
    from corral.memory import GuestMemory

MOUNT_TAG = 1 << 0


class Share:
    """A VirtioDevice; `cpus` are what its threads run on (() for any). Raises HostError."""

    device_id = 9
    features = MOUNT_TAG
    queue_sizes: tuple[int, ...] = (lib.CORRAL_P9_QUEUE_SIZE,)

    def __init__(
        self, config: ShareConfig, memory: GuestMemory, interrupt: VirtioInterrupt, cpus: tuple[int, ...] = ()
    ) -> None:
        from corral import folder_server

        folder_server.find()  # now: when the driver asks for it, nobody can be told
        self._share, self._cpus = config, cpus
        tag = config.tag.encode()
        self.config = struct.pack("<H", len(tag)) + tag
        self._memory, self._interrupt = memory.native, interrupt.native  # C keeps pointers to them
        self._p9 = lib.corral_p9_create(self._memory, self._interrupt)
        if self._p9 == ffi.NULL:
            raise MemoryError
        self._server: FolderServer | None = None

    def close(self) -> None:
        self.stop()
        lib.corral_p9_destroy(self._p9)

    def start(self, features: int, queues: list[Queue], doorbells: list[int]) -> None:
        from corral.folder_server import FolderServer

        queue = queues[0]
        setup = ffi.new("struct corral_virtq_setup *")
        setup.size, setup.ready = queue.size, queue.ready
        setup.desc, setup.avail, setup.used = queue.descriptors, queue.driver, queue.device
        words = [0] * (max(self._cpus) // 64 + 1) if self._cpus else []
        for cpu in self._cpus:
            words[cpu // 64] |= 1 << cpu % 64
        server = FolderServer(self._share, self._cpus)
        mask = ffi.new("uint64_t[]", words)
        result = lib.corral_p9_start(
            self._p9, features, setup, doorbells[0], server.fd, not self._share.writable, mask, len(words)
        )
        if result < 0:
            server.close()
        if result in (-errno.EINVAL, -errno.EFAULT):
            raise BadQueue(os.strerror(-result))
        check("starting a shared folder", result, "free memory, or see ulimit -u")
        self._server = server

    def stop(self) -> None:
        lib.corral_p9_stop(self._p9)
        if self._server:
            self._server.close()
            self._server = None

    @property
    def broken(self) -> bool:
        return bool(lib.corral_p9_failed(self._p9))

    @property
    def answered(self) -> int:
        """Messages that the server has answered."""
        return int(lib.corral_p9_answered(self._p9))

    @property
    def refused(self) -> int:
        """Messages that made no sense, or that no server was there to answer."""
        return int(lib.corral_p9_refused(self._p9))

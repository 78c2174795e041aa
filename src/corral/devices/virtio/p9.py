"""virtio-9p: a folder of the host. p9.c moves messages; a jailed process does what they say (folder_server.py)."""

from __future__ import annotations

import struct

from corral.devices.virtio.served import ServedDevice
from corral.native import Handle, ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.config import ShareConfig
    from corral.devices.virtio.device import Place

MOUNT_TAG = 1 << 0


def create(config: ShareConfig, place: Place) -> Share:
    return Share(config, place)


class Share(ServedDevice):
    """A VirtioDevice. Raises HostError."""

    kind = "p9"
    device_id = 9
    features = MOUNT_TAG
    queue_sizes: tuple[int, ...] = (lib.CORRAL_P9_QUEUE_SIZE,)

    def __init__(self, config: ShareConfig, place: Place) -> None:
        from corral.backends.folder_server import FolderServer

        self.tag = config.tag
        tag = config.tag.encode()
        self.config = struct.pack("<H", len(tag)) + tag
        self._server = FolderServer(config, place.cpus)
        try:
            super().__init__(f"share {config.tag}", place)
        except BaseException:
            self._server.close()
            raise

    def _create(self) -> Handle:
        worker = ffi.new("struct corral_worker_config *", self._worker("9p"))
        return self._made(worker, self._server.fd)

    def request_end(self) -> None:
        """Begins to end the server, of a device that has stopped: several are asked first and waited for after."""
        if self.stop():
            self._server.request_close()

    def end(self) -> list[str]:
        """What the server had to complain of, a few lines. After that the device starts no more."""
        if self.stop():
            self._server.close()
        return self._server.complaints

    def close(self) -> None:
        if not self._native.closed:
            self.end()
            super().close()
            self._server.close()

    def counters(self) -> dict[str, int]:
        """Messages that the server has answered, and those that made no sense or that no server was there to answer."""
        return {"messages answered": int(self._call("answered")), "refused": int(self._call("refused"))}

"""virtio-9p: a folder of the host. p9.c moves messages; a jailed process does what they say (folder_server.py)."""

from __future__ import annotations

import struct

from corral.devices.virtio.served import ServedDevice
from corral.native import Handle, ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.backends.folder_server import FolderServer
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
        from corral.backends import folder_server

        folder_server.find()  # now: when the driver asks for it, it is too late for an error
        self._share = config
        self.tag = config.tag
        tag = config.tag.encode()
        self.config = struct.pack("<H", len(tag)) + tag
        super().__init__(f"share {config.tag}", place)
        self._server: FolderServer | None = None
        self._pace = folder_server.Pace()
        self.complaints: list[str] = []  # what servers that have ended said, a few lines

    def _create(self) -> Handle:
        worker = ffi.new("struct corral_worker_config *", self._worker("9p"))
        return self._made(worker)

    def close(self) -> None:
        if not self._native.closed:
            self.stop()
            super().close()

    def _start(self, *arguments: object) -> None:
        from corral.backends.folder_server import FolderServer

        server = FolderServer(self._share, self._place.cpus, self._pace)
        try:
            super()._start(*arguments, server.fd)
        except BaseException:
            server.close()
            raise
        self._server = server

    def request_stop(self) -> None:
        if self._server:
            self._server.request_close()
        super().request_stop()

    def stop(self) -> bool:
        if not super().stop():
            return False
        if self._server:
            from corral.backends import folder_server

            self._server.close()
            self.complaints = (self.complaints + self._server.complaints)[-folder_server.MOST_COMPLAINTS :]
            self._server = None
        return True

    @property
    def broken(self) -> bool:
        return super().broken or (self._server is not None and self._server.failed)

    def counters(self) -> dict[str, int]:
        """Messages that the server has answered, and those that made no sense or that no server was there to answer."""
        return {"messages answered": int(self._call("answered")), "refused": int(self._call("refused"))}

"""virtio-vsock (virtio 1.2, section 5.10): connections between programs of the guest and of the host. Packets and bytes
are vsock.c's; which sockets of the host they go to is backends/vsock_socket.py's."""

from __future__ import annotations

from corral.backends.vsock_socket import VsockSocket
from corral.devices.virtio.served import QueuesOnly
from corral.native import Handle, ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.config import VsockConfig
    from corral.devices.virtio.device import Place

QUEUE_SIZE, EVENTS = 256, 8
STREAM = 1 << 0  # VIRTIO_VSOCK_F_STREAM


def create(config: VsockConfig, place: Place) -> Vsock:
    """Raises ConfigError for a path that cannot be had, HostError."""
    return Vsock(config, place)


class Vsock(QueuesOnly):
    """A VirtioDevice. Who connects waits until the guest's driver is ready. Raises ConfigError, HostError."""

    kind = "vsock"
    device_id = 19
    features = STREAM
    queue_sizes = (QUEUE_SIZE, QUEUE_SIZE, EVENTS)
    one_doorbell = True

    def __init__(self, config: VsockConfig, place: Place) -> None:
        self.config = config.cid.to_bytes(8, "little")
        self._cid = config.cid
        self._socket = VsockSocket(config.path)
        try:
            super().__init__(f"vsock {place.number}", place)
        except BaseException:
            self._socket.close()
            raise

    def _create(self) -> Handle:
        connector = self._socket.connector(self._place.memory)
        fields = {"worker": self._worker("vsock"), "cid": self._cid, "most": self._socket.most}
        fields |= {"listener": self._socket.fd, "connector": connector}
        return self._made(ffi.new("struct corral_vsock_config *", fields))

    def close(self) -> None:
        super().close()
        self._socket.close()

    def counters(self) -> dict[str, int]:
        names = {"to_guest": "bytes to guest", "from_guest": "bytes from guest"}
        return {names.get(field, field): value for field, value in self._counted().items()}


assert len(Vsock.queue_sizes) == lib.CORRAL_VSOCK_QUEUES

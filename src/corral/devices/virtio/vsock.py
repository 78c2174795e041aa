"""virtio-vsock (virtio 1.2, section 5.10): connections between programs of the guest and of the host. Packets and bytes
are vsock.c's; which sockets of the host they go to is backends/vsock_socket.py's."""

from __future__ import annotations

import os

from corral.backends.vsock_socket import VsockSocket
from corral.config import FIRST_CID
from corral.devices.virtio.served import PATIENCE, SavedDevice
from corral.native import Handle, ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.backends.vsock_greeting import Greeting
    from corral.config import VsockConfig
    from corral.devices.virtio.device import Place

QUEUE_SIZE, EVENTS = 256, 8
STREAM = 1 << 0  # VIRTIO_VSOCK_F_STREAM
MOST_ALONE = 1  # connections, of a guest that no program of the host reaches
NEW_CIDS = range(1 << 16, 1 << 31)  # those of guests that go on from a snapshot


def create(config: VsockConfig, place: Place) -> Vsock:
    """Raises ConfigError for a path that cannot be had, HostError."""
    return Vsock(config, place)


class Vsock(SavedDevice):
    """A SavableDevice. Who connects waits until the guest's driver is ready. Raises ConfigError, HostError."""

    kind = "vsock"
    device_id = 19
    features = STREAM
    queue_sizes = (QUEUE_SIZE, QUEUE_SIZE, EVENTS)
    one_doorbell = True

    def __init__(self, config: VsockConfig, place: Place) -> None:
        self._cid = config.cid or (_new_cid() if config.goes_on else FIRST_CID)
        self.config = self._cid.to_bytes(8, "little")
        self._socket = VsockSocket(config.path) if config.connected else None
        self._greeting: Greeting | None = None
        try:
            if config.goes_on:
                from corral.backends.channel import named
                from corral.backends.vsock_greeting import Greeting

                self._greeting = Greeting(None if config.hostname is None else named(config.hostname))
            super().__init__(f"vsock {place.number}", place)
        except BaseException:
            self._close_ends()
            raise

    def _create(self) -> Handle:
        fields = {
            "worker": self._worker("vsock"),
            "cid": self._cid,
            "most": MOST_ALONE,
            "listener": -1,
            "connector": -1,
        }
        if self._socket:
            connector = self._socket.connector(self._place.memory)
            fields |= {"most": self._socket.most, "listener": self._socket.fd, "connector": connector}
        fields["first"] = self._greeting.fd if self._greeting else -1
        return self._made(ffi.new("struct corral_vsock_config *", fields))

    def pause(self) -> bool:
        return any(int(self._call("pause")) == 0 for _ in range(PATIENCE))

    def close(self) -> None:
        super().close()
        self._close_ends()

    def _close_ends(self) -> None:
        if self._greeting:
            self._greeting.close()
        if self._socket:
            self._socket.close()

    def counters(self) -> dict[str, int]:
        names = {"to_guest": "bytes to guest", "from_guest": "bytes from guest"}
        return {names.get(field, field): value for field, value in self._counted().items()}


def _new_cid() -> int:
    return NEW_CIDS[int.from_bytes(os.urandom(4), "little") % len(NEW_CIDS)]


assert len(Vsock.queue_sizes) == lib.CORRAL_VSOCK_QUEUES

"""virtio-net (virtio 1.2, section 5.1): a network card. Frames are moved by net.c; what is at the other end is a module
of corral.backends."""

from __future__ import annotations

import os
import struct

from corral.devices.virtio.served import QueuesOnly
from corral.native import CData, Handle, ffi, lib
from corral.network import MOST_MTU, mac_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from corral.backends.egress import Resolved
    from corral.devices.virtio.device import Place
    from corral.network import NetConfig

    class Backend(Protocol):
        """The host's side of a card. `fd` does not block."""

        fd: int

        @property
        def said(self) -> str:
            """What it complained of last."""

        def ready(self) -> None:
            """Returns when it serves, or will. Raises HostError where it cannot."""

        def close(self) -> None: ...


QUEUE_SIZE, COMMANDS = 256, 16

# Feature bits (section 5.1.3).
CSUM, GUEST_CSUM, MTU, MAC = 1 << 0, 1 << 1, 1 << 3, 1 << 5
GUEST_TSO4, GUEST_TSO6, GUEST_ECN = 1 << 7, 1 << 8, 1 << 9
HOST_TSO4, HOST_TSO6, HOST_ECN = 1 << 11, 1 << 12, 1 << 13
MRG_RXBUF, STATUS, CTRL_VQ, GUEST_ANNOUNCE = 1 << 15, 1 << 16, 1 << 17, 1 << 21
OFFLOADS = GUEST_TSO4 | GUEST_TSO6 | GUEST_ECN | HOST_TSO4 | HOST_TSO6 | HOST_ECN

# struct virtio_net_config (section 5.1.4): mac, status, max_virtqueue_pairs, mtu.
_CONFIG = struct.Struct("<6sHHH")


def create(config: NetConfig, place: Place) -> Net:
    """With its other end. Raises ConfigError, HostError."""
    backend = _backend(config)
    try:
        return Net(config, backend, place)
    except BaseException:
        backend.close()
        raise


def _backend(config: NetConfig) -> Backend:
    if not config.connected:
        return Nothing()
    if config.backend == "tap":
        from corral.backends.tap import Tap

        return Tap(config)
    if config.backend == "socket":
        from corral.backends.frame_socket import FrameSocket

        return FrameSocket(config)
    if config.backend == "shared":
        from corral.backends.shared_network import SharedNetwork

        return SharedNetwork(config)
    from corral.backends.passt import Passt

    return Passt(config)


class Nothing:
    """At the other end of a card without a link."""

    fd, said = -1, ""

    def ready(self) -> None: ...

    def close(self) -> None: ...


class Net(QueuesOnly):
    """A VirtioDevice over an open backend, which it closes. Raises HostError."""

    kind = "net"
    device_id = 1
    queue_sizes = (QUEUE_SIZE, QUEUE_SIZE, COMMANDS)

    def __init__(self, config: NetConfig, backend: Backend, place: Place) -> None:
        self._net, self._backend = config, backend
        self.rules = config.rules
        self._dump = -1
        if config.dump:
            from corral.backends import frame_dump

            self._dump = frame_dump.opened(config.dump)
        # passt takes packets of 64 KiB as they are; so large a one spares it and the guest all segmentation.
        self._mtu = config.mtu or (MOST_MTU if config.backend == "user" else 0)
        self.features = CSUM | GUEST_CSUM | MAC | MRG_RXBUF | STATUS | CTRL_VQ | GUEST_ANNOUNCE
        self.features |= MTU if self._mtu else 0
        self.features |= OFFLOADS if config.backend == "tap" else 0
        try:
            super().__init__(f"net {place.number}", place)
        except BaseException:
            self._close_dump()
            raise

    def _create(self) -> Handle:
        fields = {
            "worker": self._worker("net"),
            "fd": self._backend.fd,
            "tap": self._net.backend == "tap",
            "trusted": self._net.backend == "user",
            "dump_fd": self._dump,
            "dump_most": self._net.dump_size,
            "filter": self._filter(),
        }
        return self._made(ffi.new("struct corral_net_config *", fields))

    def _filter(self) -> CData:
        if not self._net.rules:
            return ffi.NULL
        from corral.backends import egress

        return egress.native(egress.resolved(self._net.rules), self._net)

    def judge_by(self, rules: tuple[Resolved, ...]) -> None:
        """From here on these hold, for the next frame too. Raises ConfigError, ClosedError."""
        from corral.backends import egress

        self._call("set_filter", egress.native(rules, self._net))
        self.rules = tuple(one.rule for one in rules)

    def ready(self) -> None:
        self._backend.ready()

    def close(self) -> None:
        if not self._native.closed:
            super().close()
            self._backend.close()
            self._close_dump()

    def _close_dump(self) -> None:
        if self._dump >= 0:
            os.close(self._dump)

    @property
    def config(self) -> bytes:
        return _CONFIG.pack(mac_bytes(self._net.mac), int(self._call("status")), 1, self._mtu)

    @property
    def is_cut(self) -> bool:
        """Whether there is no other end any more."""
        return self._net.connected and not int(self._call("status")) & lib.CORRAL_NET_LINK_UP

    def description(self) -> dict[str, Any]:
        """How it is, in plain values; what was asked for and what it has counted."""
        config = self._net
        told = {"name": self.name, "to": config.backend, "target": config.target, "mac": config.mac, "mtu": self._mtu}
        told |= {"address": config.parameter.partition(",")[0], "link": not self.is_cut and config.connected}
        published = [f"{one.address}:{one.port}:{one.guest_port}{'/udp' * one.udp}" for one in config.published]
        return told | {"published": published, "counters": self._counted()}

    @property
    def not_dumped(self) -> int:
        """Frames that passed after the dump's file took no more."""
        return self._counted()["not_dumped"]

    @property
    def other_end(self) -> str:
        """For people."""
        return "passt" if self._net.backend == "user" else f"{self._net.backend} {self._net.target}"

    @property
    def last_words(self) -> str:
        """Of the other end, printable; "" for none."""
        return self._backend.said

    def counters(self) -> dict[str, int]:
        return {name.replace("_", " "): value for name, value in self._counted().items()}

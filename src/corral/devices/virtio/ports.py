"""virtio-console (virtio 1.2, section 5.3) with ports for programs of the guest. Its bytes are moved by ports.c."""

from __future__ import annotations

from corral.backends.channel import PortState
from corral.devices.virtio.served import SavedDevice
from corral.errors import ConfigError
from corral.native import Event, Handle, ffi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from corral.backends.channel import Port
    from corral.config import ChannelConfig
    from corral.devices.virtio.device import Place

MULTIPORT = 1 << 1
DATA, FEW = 32, 4  # buffers of a queue that carries a stream, and of others: a driver gives each of those a page


def create(config: ChannelConfig, place: Place) -> Ports:
    """The ports of the machine's channel. Raises ConfigError where there is none."""
    if place.channel is None:
        raise ConfigError("a machine with a channel is made with one: Machine(config, channel=Channel())")
    place.channel.device = ports = Ports(place.channel.ports, place, holds=True)
    return ports


class Ports(SavedDevice):
    """A VirtioDevice. Linux has port N of it as /dev/vport?pN; the driver is told of port 0 when the others are ready.
    `holds`: no source but that of port 0 is read before release(). Raises HostError."""

    kind = "ports"
    device_id = 3
    features = MULTIPORT
    one_doorbell = True

    def __init__(self, ports: Sequence[Port], place: Place, holds: bool = False) -> None:
        self.ports, self._holds = tuple(ports), holds
        sizes = [(DATA if port.source is not None else FEW, DATA if port.sink is not None else FEW) for port in ports]
        sizes.insert(1, (FEW, FEW))  # control messages, after port 0
        self.queue_sizes = tuple(size for pair in sizes for size in pair)
        # struct virtio_console_config: columns, rows, max_nr_ports, emerg_wr. The first two are of a console's port.
        self.config = bytes(4) + len(ports).to_bytes(4, "little") + bytes(4)
        self.event = Event()  # something is to be looked at: a state, or flushed
        try:
            super().__init__("channel", place)
        except BaseException:
            self.event.close()
            raise

    def _create(self) -> Handle:
        worker = self._worker("ports", self.event.value)
        fields = {"worker": worker, "n": len(self.ports), "holds": self._holds, "event_fd": self.event.value}
        config = ffi.new("struct corral_ports_config *", fields)
        for native, port in zip(config.port, self.ports, strict=False):
            native.name = port.name.encode()
            native.source_fd = -1 if port.source is None else port.source
            native.sink_fd = -1 if port.sink is None else port.sink
        return self._made(config)

    def close(self) -> None:
        super().close()
        self.event.close()

    def release(self) -> None:
        """Has the sources read that were held."""
        self._call("release")

    def flush(self) -> None:
        """Asks for a signal of `event` when all that the guest has written by now is in its sinks."""
        self._call("flush")

    @property
    def flushed(self) -> bool:
        """Whether it is, or never will be, since the driver is gone."""
        return bool(self._call("flushed"))

    def state(self, port: int) -> PortState:
        """Of one port, as it is now; also while it runs."""
        native = ffi.new("struct corral_port_state *")
        self._call("state", port, native)
        return PortState(**{name: getattr(native, name) for name in PortState.__annotations__})

    def counters(self) -> dict[str, int]:
        """Of each port but the first, which has the words of a session."""
        counted: dict[str, int] = {}
        for index, port in enumerate(self.ports[1:], 1):
            state, name = self.state(index), port.name.rpartition(".")[2]
            counted |= {f"bytes to {name}": state.taken} if port.source is not None else {}
            counted |= {f"bytes from {name}": state.written} if port.sink is not None else {}
        return counted

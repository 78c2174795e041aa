"""A port that ends the guest with an exit status, as QEMU's isa-debug-exit does: what test kernels report by."""

from __future__ import annotations

from corral.arch.x86_64 import layout
from corral.core.exits import Cause, GuestEnded
from corral.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.core.bus import Bus
    from corral.devices.status_port import StatusPort


class DebugExit:
    """A write of V raises GuestEnded, after leaving (V << 1) | 1 in `status`: never 0, so that no test passes that did
    not get as far. A process's exit status has its lowest eight bits. Reads as zero."""

    def __init__(self, status: StatusPort) -> None:
        self._status = status

    def read(self, offset: int, size: int) -> int:
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        self._status.write(0, 1, value << 1 | 1)
        raise GuestEnded(Cause.DEBUG_EXIT, f"value {value:#x}")


def connect(ports: Bus, first: int, status: StatusPort) -> None:
    """Puts one at the port `first`, after all other devices. Raises ConfigError where a port of it is another's."""
    try:
        ports.claim(first, first + layout.DEBUG_EXIT_PORTS - 1, DebugExit(status), owner="the debug-exit port")
    except ValueError as error:
        raise ConfigError(f"--debug-exit {first:#x}: {error}; QEMU's is 0xf4") from None

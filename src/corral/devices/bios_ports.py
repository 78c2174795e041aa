"""The I/O ports of a machine with a BIOS, by which that is told of its machine."""

from __future__ import annotations

from corral.arch.x86_64 import layout
from corral.devices.fw_cfg import FwCfg
from corral.devices.handover import Handover, ResetControl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from corral.core.bus import Bus

    class Bios(Protocol):
        """The firmware that the machine starts with (boot/bios.py)."""

        files: dict[str, bytes]
        cpus: int

        def hand_over(self) -> None: ...


def claim(ports: Bus, bios: Bios) -> None:
    ports.claim(*layout.FW_CFG_PORTS, FwCfg(bios.files, bios.cpus), owner="fw_cfg")
    ports.claim(layout.HANDOVER_PORT, layout.HANDOVER_PORT, Handover(bios.hand_over), owner="the handover port")
    ports.claim(layout.RESET_CONTROL, layout.RESET_CONTROL, ResetControl(), owner="the reset control")

"""What a machine (machine.py) has that a snapshot saves and restores."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from corral.backends.channel import Channel
    from corral.config import MachineConfig
    from corral.core.shell import Shell
    from corral.devices.cmos import Cmos
    from corral.devices.crt_controller import CrtController
    from corral.devices.i8042 import I8042
    from corral.devices.pci_address import PciAddress
    from corral.devices.pit import LatePit
    from corral.devices.serial import Serial
    from corral.devices.status_port import StatusPort
    from corral.devices.user_pit import UserPit
    from corral.devices.virtio.blk import Disk
    from corral.devices.virtio.mmio import MmioTransport
    from corral.kvm.system import System
    from corral.kvm.vcpu import Vcpu
    from corral.kvm.vm import Vm
    from corral.memory import GuestMemory

    class Parts(Protocol):
        """A Machine: its parts, and how its vCPUs are paused and go on."""

        config: MachineConfig
        is_linux: bool
        system: System
        shell: Shell
        vm: Vm
        memory: GuestMemory
        vcpus: list[Vcpu]
        cpuid: tuple[tuple[int, int, int, int, int, int, int], ...]
        lidt: tuple[int, ...] | None
        serial: Serial
        pit: LatePit | UserPit
        i8042: I8042
        cmos: Cmos
        pci_address: PciAddress
        status_port: StatusPort
        screen: CrtController | None
        virtio: list[MmioTransport]
        disks: list[Disk]
        channel: Channel | None

        def pause(self) -> None: ...
        def resume(self) -> None: ...

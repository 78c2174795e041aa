"""The virtio devices of a machine, each in a slot: a page of registers and an interrupt line (layout.virtio_mmio,
layout.VIRTIO_GSIS). What there is follows from the list of their configurations alone."""

from __future__ import annotations

from importlib import import_module

from corral.arch.x86_64 import layout
from corral.core.irq import VirtioInterrupt
from corral.devices.virtio.device import Place
from corral.devices.virtio.mmio import SIZE, MmioTransport

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from corral.backends.channel import Channel
    from corral.config import DeviceConfig
    from corral.core.bus import Bus
    from corral.devices.virtio.device import DeviceModule, Layer
    from corral.kvm.vm import Vm
    from corral.memory import GuestMemory
    from corral.startup.undo import Undo

NO_LAYERS: Mapping[int, Layer] = {}


def create(
    configs: Sequence[DeviceConfig],
    vm: Vm,
    memory: GuestMemory,
    mmio: Bus,
    undo: Undo,
    *,
    vcpus: int = 1,
    cpus: tuple[int, ...] = (),
    channel: Channel | None = None,
    layers: Mapping[int, Layer] = NO_LAYERS,
) -> list[MmioTransport]:
    """Makes the devices and claims their registers. `cpus` are what their threads run on, () for any; `layers` are of
    disks that go on, by their slots. Raises BootError, ConfigError, HostError."""
    transports: list[MmioTransport] = []
    numbers: dict[str, int] = {}  # of each kind, how many there are
    for slot, config in enumerate(configs):
        interrupt = VirtioInterrupt(vm, layout.VIRTIO_GSIS[slot])
        undo.push(interrupt.close)
        number = numbers[config.module] = numbers.get(config.module, -1) + 1
        module: DeviceModule = import_module(f"corral.devices.virtio.{config.module}")
        device = module.create(config, Place(memory, interrupt, number, slot, vcpus, cpus, channel, layers.get(slot)))
        undo.push(device.close)
        transport = MmioTransport(device, interrupt)
        undo.push(transport.close)
        base = layout.virtio_mmio(slot)
        transport.connect(vm, base)
        mmio.claim(base, base + SIZE - 1, transport, owner=device.name, in_c=transport.in_c)
        transports.append(transport)
    return transports

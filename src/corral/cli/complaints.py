"""What the host's side of a guest's devices had to complain of, once the guest has ended."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.backends.console import Console
    from corral.machine import Machine


def of(machine: Machine, console: Console) -> list[str]:
    """A line each."""
    has_cards = any(device.module == "net" for device in machine.config.others)  # no module is loaded in the jail
    return [
        *_of_console(console),
        *_of_disks(machine),
        *_of_folders(machine),
        *(_of_cards(machine) if has_cards else ()),
    ]


def _of_console(console: Console) -> list[str]:
    if not console.lost:
        return []
    return [f"the console's file is full: {console.lost} bytes of what the guest said are lost; for more: ,size=SIZE"]


def _of_disks(machine: Machine) -> list[str]:
    """Why the host failed what their guest asked for."""
    return [f"{disk.name}: {line}" for disk in machine.disks for line in disk.complaints]


def _of_folders(machine: Machine) -> list[str]:
    """What the servers of shared folders said."""
    for share in machine.shares:
        share.request_stop()
    for share in machine.shares:
        share.request_end()
    return [f"share {share.tag}: {line}" for share in machine.shares for line in share.end()]


def _of_cards(machine: Machine) -> list[str]:
    """Which networks came to an end before the guest did, and which frames are in no file."""
    from corral.devices.virtio.net import Net

    devices: list[object] = [transport.device for transport in machine.virtio]
    cards = [device for device in devices if isinstance(device, Net)]
    lines = [
        f"{card.name}: its other end, {card.other_end}, was gone before the guest{card.last_words and ': '}"
        f"{card.last_words}"
        for card in cards
        if card.is_cut
    ]
    counted = [(card.name, card.not_dumped) for card in cards]
    return lines + [f"{name}: the file of --net-dump is full: {n} frames are not in it" for name, n in counted if n]

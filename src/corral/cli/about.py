"""What a person at the terminal is told of the guest: when asked by Ctrl-A I, and when it says nothing."""

from __future__ import annotations

import time

from corral.kvm.system import Kind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.backends.console import Console
    from corral.cli.options import Arguments
    from corral.devices.virtio.device import VirtioDevice
    from corral.machine import Machine

_CARD = 1  # a device's number (virtio 1.2, section 5)


def attach(console: Console, machine: Machine, arguments: Arguments) -> None:
    """From here on the console tells of this machine."""
    began = time.monotonic()
    console.about = lambda: text(machine, time.monotonic() - began)
    if "gdb" not in arguments.values:  # that guest waits, and says so
        console.hint = hint(machine, "early" in arguments.values)


def text(machine: Machine, seconds: float) -> str:
    """Kernel, size, disks, folders, and for how long it has run."""
    config = machine.config
    cpus = "1 CPU" if config.cpus == 1 else f"{config.cpus} CPUs"
    lines = [f"{config.kernel or 'a BIOS'}, {cpus}, {config.memory >> 20} MiB, for {_duration(seconds)}"]
    for number, disk in enumerate(config.disks):
        how = " (read-only)" if disk.read_only else " (what it writes is gone with it)" if disk.snapshot else ""
        lines.append(f"/dev/vd{chr(ord('a') + number)}: {disk.path}{how}")
    lines += [f"folder {share.tag}: {share.path}{'' if share.writable else ' (read-only)'}" for share in config.shares]
    lines += [_of_card(transport.device) for transport in machine.virtio if transport.device.device_id == _CARD]
    sent = machine.serial.stats()
    lines.append(f"console: {sent['sent']} bytes from the guest, {sent['received']} to it")
    return "\n".join(lines)


def _of_card(device: VirtioDevice) -> str:
    counted = device.counters()
    return f"{device.name}: {counted['sent']} frames from the guest, {counted['received']} to it"


def hint(machine: Machine, early: bool) -> str:
    """What to do about a guest that says nothing; a Linux is known by its parameters."""
    words = machine.config.cmdline.split()
    leave = "Ctrl-A X ends it"
    if "console=ttyS0" in words and machine.system.kind is Kind.PAGETABLE:
        return f"this KVM interprets kernel code, so a distribution's kernel takes minutes to come so far; {leave}"
    if early or not words:
        return leave
    return f"{leave}, and --early shows all that Linux says, from its first line on"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return (
        f"{minutes // 60} h {minutes % 60} min"
        if minutes >= 60
        else f"{minutes} min {rest} s"
        if minutes
        else f"{rest} s"
    )

"""`corral boot --bios`: a guest that begins as a PC does."""

from __future__ import annotations

from corral.cli.options import Arguments
from corral.cli.terminal import Progress
from corral.config import MachineConfig
from corral.errors import ConfigError
from corral.kvm.system import Kind, host_kind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.numa.plan import Plan

_OTHERS = ("module", "protocol", "flat", "root", "kernel", "early")


def configure(
    arguments: Arguments, machine: MachineConfig, acpi: bool | None, plan: Plan | None, notices: list[str]
) -> MachineConfig:
    """The same machine with a BIOS, and KERNEL or the first disk for it to boot. Raises ConfigError for what does not
    go with that, HostError when no BIOS can be had."""
    values = arguments.values
    for name in _OTHERS:
        if name in values:
            raise ConfigError(f"a BIOS boots what it finds on the first disk, or KERNEL; leave --{name} out")
    if arguments.rest is not None:
        raise ConfigError("a command runs in Corral's own initramfs, which no BIOS boots; leave one of them out")
    if not arguments.operands and not machine.disks:
        raise ConfigError("a BIOS needs something to boot: --disk with an image that has a boot loader, or a KERNEL")
    from corral.guests import bios

    with Progress() as progress:
        firmware = bios.get(progress)
    if "bios" not in values:
        notices.append("this program calls a PC's BIOS, so it gets one: SeaBIOS")
    if host_kind() is Kind.PAGETABLE and arguments.operands:
        notices.append("this KVM interprets real mode, so a program that unpacks itself takes minutes (iPXE two)")
    initrd = values.get("initrd")
    return MachineConfig(
        kernel=arguments.operands[0] if arguments.operands else "",
        initrd=None if initrd == "none" else initrd,
        cmdline=values.get("append", ""),
        memory=machine.memory,
        cpus=machine.cpus,
        disks=machine.disks,
        shares=machine.shares,
        acpi=acpi is not False,
        plan=plan,
        bios=firmware,
        debug_exit=machine.debug_exit,
        nested=machine.nested,
    )

"""A guest that begins as a PC does, with a BIOS."""

from __future__ import annotations

from corral.errors import ConfigError
from corral.kvm.system import Kind, host_kind
from corral.launch.events import Notice, steps
from corral.startup.record import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.config import MachineConfig
    from corral.launch.draft import Draft
    from corral.launch.events import Tell
    from corral.numa.plan import Plan


def is_wanted(draft: Draft) -> bool:
    """Whether the guest begins with a PC's BIOS: because it is asked for, or because its kernel cannot do without."""
    request = draft.request
    if request.bios or request.kernel is None:
        return request.bios
    if request.flat is not None or request.protocol is not None:
        return False
    from corral import boot

    return boot.needs_bios(request.kernel)


def configure(draft: Draft, plan: Plan | None, tell: Tell) -> MachineConfig:
    """The draft's machine with a BIOS, and its kernel or the first disk for that to boot. Raises ConfigError for what
    does not go with that, HostError when no BIOS can be had."""
    request = draft.request
    others = {
        "module": request.modules,
        "protocol": request.protocol is not None,
        "flat": request.flat,
        "root": request.root is not None,
        "kernel": request.variant is not None,
        "early": request.early,
    }
    for name, given in others.items():
        if given:
            raise ConfigError(f"a BIOS boots what it finds on the first disk, or KERNEL; leave --{name} out")
    if request.command is not None:
        raise ConfigError("a command runs in Corral's own initramfs, which no BIOS boots; leave one of them out")
    if request.kernel is None and not draft.machine.disks:
        raise ConfigError("a BIOS needs something to boot: --disk with an image that has a boot loader, or a KERNEL")
    from corral.guests import bios

    firmware = bios.get(steps(tell))
    if not request.bios:
        tell(Notice("this program calls a PC's BIOS, so it gets one: SeaBIOS"))
    if host_kind() is Kind.PAGETABLE and request.kernel is not None:
        tell(Notice("this KVM interprets real mode, so a program that unpacks itself takes minutes (iPXE two)"))
    return replace(
        draft.machine,
        kernel=request.kernel or "",
        initrd=None if request.initrd == "none" else request.initrd,
        cmdline=request.parameters,
        acpi=request.acpi is not False,
        plan=plan,
        bios=firmware,
        channel="",
    )

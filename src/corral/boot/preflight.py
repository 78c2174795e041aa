"""What of a Linux kernel does not fit this machine, said before it boots, and what suits the kernel best.

A kernel that lacks a driver says so late, in words of its own, or never: without a serial console there is nothing to
read. Most of what can go wrong so is in its configuration.
"""

from __future__ import annotations

import os
import sys

from corral.boot import initramfs_content, kernel_config
from corral.boot.file import ImageFile, printable
from corral.errors import CorralError
from corral.kvm.system import Kind
from corral.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.boot.initramfs_content import Content
    from corral.boot.kernel import Kernel, KernelFacts
    from corral.boot.kernel_config import KernelConfig
    from corral.images.root import Root

SLOW = (
    "this KVM interprets kernel code: a distribution's kernel boots in 15 minutes here, Corral's small one in seconds: "
    "leave KERNEL out, or name the one that `corral kernel path` prints"
)
# What has to be there to mount a file system, and the module's name.
_SYSTEMS = {
    "ext2": (("EXT4_FS", "EXT2_FS"), "ext4"),
    "ext3": (("EXT4_FS",), "ext4"),
    "ext4": (("EXT4_FS",), "ext4"),
    "XFS": (("XFS_FS",), "xfs"),
    "Btrfs": (("BTRFS_FS",), "btrfs"),
    "SquashFS": (("SQUASHFS",), "squashfs"),
    "ISO 9660": (("ISO9660_FS",), "isofs"),
}
_TABLES = {"MBR": "MSDOS_PARTITION", "GPT": "EFI_PARTITION"}
_UNPACKERS = {"gzip": "GZIP", "bzip2": "BZIP2", "xz": "XZ", "zstd": "ZSTD", "lz4": "LZ4", "lzo": "LZO", "lzma": "LZMA"}

# Modules any of which unpacks a kernel, where the standard library may not; and the package to install.
_LIBRARIES = {"lz4": ("lz4", "lz4"), "lzo": ("lzo", "python-lzo"), "zstd": ("zstandard", "zstandard")}
if sys.version_info >= (3, 14):
    del _LIBRARIES["zstd"]


@record(frozen=True)
class Plan:
    """What a user wants of a machine. `root` is the number of a disk, `initrd` a path, "none", or None for whatever is
    right; `acpi` None likewise. `small`: it is Corral's small kernel."""

    kind: Kind
    disks: tuple[str, ...] = ()
    root: int | None = None
    initrd: str | None = None
    acpi: bool | None = None
    cpus: int = 1
    small: bool = False


@record(frozen=True)
class Finding:
    """`fatal`: it will not come to a shell, or nobody will see it."""

    fatal: bool
    text: str


@record(frozen=True)
class Report:
    """What suits the kernel. `initrd` is that of the plan, or one found beside the kernel. `partition` of the root disk
    counts from 1, 0 is the whole disk."""

    facts: KernelFacts
    config: KernelConfig | None
    acpi: bool
    initrd: str | None
    root: Root | None
    findings: tuple[Finding, ...]

    @property
    def partition(self) -> int:
        return self.root.partition if self.root else 0


def look(kernel: Kernel, plan: Plan) -> Report:
    """Raises BootError for a kernel that cannot be used at all, nothing for what is wrong beside it."""
    facts = kernel.describe()
    config = kernel_config.find(kernel, facts.release)
    root = _root(plan)
    acpi = _acpi(plan, config)
    initrd = plan.initrd or _initrd_beside(kernel.path, facts.release, plan, config)
    findings = _unpacking(facts)
    if config is not None:
        findings += _console(config)
        findings += _processors(plan, config, acpi)
        content = _content(initrd)
        findings += _initrd(config, initrd, content)
        if plan.disks:
            findings += _disks(plan, config, acpi, content)
        if root is not None:
            findings += _file_system(config, root, content)
    if root is not None and plan.root is not None:
        findings += _root_found(plan.disks[plan.root], root, initrd)
    if plan.kind is Kind.PAGETABLE and not plan.small:
        findings.append(Finding(False, SLOW))
    return Report(facts, config, acpi, initrd, root, tuple(findings))


def _root(plan: Plan) -> Root | None:
    if plan.root is None:
        return None
    from corral.images import root

    return root.find(plan.disks[plan.root])


def _acpi(plan: Plan, config: KernelConfig | None) -> bool:
    """Whether the kernel is told of its machine by ACPI: as wanted; else where it must be, and where it is cheap."""
    if plan.acpi is not None:
        return plan.acpi
    if config is None:
        return plan.kind is Kind.HARDWARE
    if config["ACPI"] != "y":
        return False
    must = bool(plan.disks) and config["VIRTIO_MMIO_CMDLINE_DEVICES"] != "y"
    must = must or (plan.cpus > 1 and config["X86_MPPARSE"] != "y")
    return must or plan.kind is Kind.HARDWARE


def _initrd_beside(path: str, release: str | None, plan: Plan, config: KernelConfig | None) -> str | None:
    """The initramfs that a distribution put beside its kernel, if the drivers of the root disk are modules."""
    if plan.root is None or config is None or "m" not in (config["VIRTIO_MMIO"], config["VIRTIO_BLK"]):
        return None
    folder, name = os.path.split(os.path.realpath(path))
    tails = [name.removeprefix("vmlinuz-")] if name.startswith("vmlinuz-") else []
    tails += [release] if release and "/" not in release else []
    for tail in tails:
        for name in (f"initrd.img-{tail}", f"initramfs-{tail}.img", f"initrd-{tail}", f"initrd-{tail}.img"):
            if os.path.isfile(os.path.join(folder, name)):
                return os.path.join(folder, name)
    return None


def _content(initrd: str | None) -> Content | None:
    if initrd in (None, "none"):
        return None
    try:
        with ImageFile(initrd, "initrd") as file:
            return initramfs_content.read(file)
    except CorralError:  # whoever loads it says so
        return None


def _unpacking(facts: KernelFacts) -> list[Finding]:
    """Loading it would fail, with the same words, but at the end of all else."""
    from importlib.util import find_spec

    library = _LIBRARIES.get(facts.compression or "")
    if library is None or any(find_spec(name) for name in library[:-1]):
        return []
    return [Finding(True, f"this kernel is compressed with {facts.compression}; pip install {library[-1]}")]


def _console(config: KernelConfig) -> list[Finding]:
    if config["SERIAL_8250_CONSOLE"] != "y":
        cure = "build it with CONFIG_SERIAL_8250=y and CONFIG_SERIAL_8250_CONSOLE=y"
        return [Finding(True, f"this kernel has no console on a serial port, so nothing of it will be seen; {cure}")]
    if config["CMDLINE_OVERRIDE"] == "y":
        cure = "build it without CONFIG_CMDLINE_OVERRIDE"
        return [Finding(True, f"this kernel takes no parameters but those built in, so not Corral's; {cure}")]
    return []


def _processors(plan: Plan, config: KernelConfig, acpi: bool) -> list[Finding]:
    if acpi and config["ACPI"] != "y":
        return [Finding(False, "this kernel was built without CONFIG_ACPI; leave --acpi on out")]
    if plan.cpus == 1:
        return []
    if config["SMP"] != "y":
        return [Finding(False, f"this kernel uses one of its {plan.cpus} CPUs; build it with CONFIG_SMP=y")]
    most = config["NR_CPUS"]
    if most.isdigit() and int(most) < plan.cpus:
        return [
            Finding(False, f"this kernel uses {most} of its {plan.cpus} CPUs; build it with a larger CONFIG_NR_CPUS")
        ]
    if not acpi and config["X86_MPPARSE"] != "y":
        cure = "--acpi on" if config["ACPI"] == "y" else "build it with CONFIG_X86_MPPARSE=y or CONFIG_ACPI=y"
        return [Finding(False, f"this kernel finds one of its {plan.cpus} CPUs, as it reads no MP table; {cure}")]
    return []


def _initrd(config: KernelConfig, initrd: str | None, content: Content | None) -> list[Finding]:
    if initrd == "none":
        return []
    if config["BLK_DEV_INITRD"] != "y":
        cure = "build it with CONFIG_BLK_DEV_INITRD=y, or name a disk and --initrd none"
        return [Finding(True, f"this kernel takes no initramfs; {cure}")]
    option = f"RD_{_UNPACKERS.get(content.packing, '')}" if content and content.packing else ""
    if content and option and config[option] != "y":
        cure = f"pack it with gzip, or build the kernel with CONFIG_{option}=y"
        return [
            Finding(True, f"this kernel cannot unpack the initramfs, which is packed with {content.packing}; {cure}")
        ]
    return []


def _disks(plan: Plan, config: KernelConfig, acpi: bool, content: Content | None) -> list[Finding]:
    severe = plan.root is not None
    findings = []
    for option, module in (("VIRTIO_MMIO", "virtio_mmio"), ("VIRTIO_BLK", "virtio_blk")):
        findings += _driver(config, (option,), module, content, "find its disks", severe)
    if not acpi and config["VIRTIO_MMIO_CMDLINE_DEVICES"] != "y":
        cure = "--acpi on" if config["ACPI"] == "y" else "build it with CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES=y"
        findings.append(Finding(severe, f"this kernel takes no word of disks from its command line; {cure}"))
    return findings


def _file_system(config: KernelConfig, root: Root, content: Content | None) -> list[Finding]:
    findings = []
    if root.table and config[_TABLES[root.table]] != "y":
        cure = f"build it with CONFIG_{_TABLES[root.table]}=y"
        findings.append(Finding(True, f"this kernel reads no {root.table} partition table; {cure}"))
    if root.system in _SYSTEMS:
        options, module = _SYSTEMS[root.system]
        findings += _driver(config, options, module, content, f"mount {root.system}", True)
    return findings


def _driver(
    config: KernelConfig, options: tuple[str, ...], module: str, content: Content | None, what_for: str, fatal: bool
) -> list[Finding]:
    state = config.any(*options)
    if state == "n":
        return [Finding(fatal, f"this kernel cannot {what_for}; build it with CONFIG_{options[0]}=y")]
    if state == "y" or (content is not None and content.has_module(module)):
        return []
    why = "the initramfs does not have it" if content is not None else "no initramfs is known to have it"
    cure = f"name one that has, with --initrd, or build the kernel with CONFIG_{options[0]}=y"
    return [Finding(fatal, f"this kernel needs the module {module} to {what_for}, and {why}; {cure}")]


def _root_found(path: str, root: Root, initrd: str | None) -> list[Finding]:
    disk = f"disk {printable(path)}"
    place = f"partition {root.partition} of {disk}" if root.partition else disk
    if root.mountable:
        return []
    if root.system in ("LUKS", "LVM"):
        if initrd not in (None, "none"):
            return []
        cure = "name an initramfs of its system with --initrd, and its root= with --append"
        return [Finding(True, f"{place} holds {root.system}, which Linux does not mount by itself; {cure}")]
    what = f"holds {root.system}" if root.system else "holds no file system that is known"
    return [Finding(True, f"{place} {what}, so there is no root to mount; name another with --root, or --root none")]

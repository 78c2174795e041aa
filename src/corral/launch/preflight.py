"""What of a Linux kernel does not fit this machine, said before it boots, and what suits the kernel best.

A kernel that lacks a driver says so late, in words of its own, or never: without a serial console there is nothing to
read. Most of what can go wrong so is in its configuration.
"""

from __future__ import annotations

import os
import sys

from corral.boot import companions, initramfs_content, kernel_config
from corral.boot.kernel_config import KernelConfig
from corral.errors import BootError, CorralError
from corral.files.file import ImageFile, printable
from corral.images.root import INITS, WRAPPED
from corral.kvm.system import Kind
from corral.launch.natively import Way
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.boot.initramfs_content import InitramfsContent
    from corral.boot.kernel import Kernel, KernelFacts
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
    "F2FS": (("F2FS_FS",), "f2fs"),
    "EROFS": (("EROFS_FS",), "erofs"),
    "JFS": (("JFS_FS",), "jfs"),
    "bcachefs": (("BCACHEFS_FS",), "bcachefs"),
}
_AS_A_PC = "or boot the disk as a PC does: --bios"
_OTHER = "name another disk with --root, or --root none"
_TABLES = {"MBR": "MSDOS_PARTITION", "GPT": "EFI_PARTITION"}
_UNPACKERS = {"gzip": "GZIP", "bzip2": "BZIP2", "xz": "XZ", "zstd": "ZSTD", "lz4": "LZ4", "lzo": "LZO", "lzma": "LZMA"}

# Modules any of which unpacks a kernel, where the standard library may not; and the package to install.
_LIBRARIES = {"lz4": ("lz4", "lz4"), "lzo": ("lzo", "python-lzo"), "zstd": ("zstandard", "zstandard")}
if sys.version_info >= (3, 14):
    del _LIBRARIES["zstd"]


@record(frozen=True)
class Intent:
    """What a user wants of a machine. `root` is the number of a disk, `initrd` a path, "none", or None for whatever is
    right; `acpi` None likewise. `shares`: it has shared folders. `small`: it is Corral's small kernel. `own_root`,
    `own_init`: the user's own parameters say what the root is, or what starts there."""

    kind: Kind
    disks: tuple[str, ...] = ()
    root: int | None = None
    initrd: str | None = None
    acpi: bool | None = None
    cpus: int = 1
    small: bool = False
    shares: bool = False
    own_root: bool = False
    own_init: bool = False


@record(frozen=True)
class Obstacle:
    """`fatal`: it will not come to a shell, or it will not be seen."""

    fatal: bool
    text: str


@record(frozen=True)
class Report:
    """What suits the kernel. `initrd` is that of the plan, or one found beside the kernel. `partition` of the root disk
    counts from 1, 0 is the whole disk."""

    facts: KernelFacts | None
    config: KernelConfig | None
    acpi: bool
    initrd: str | None
    root: Root | None
    findings: tuple[Obstacle, ...]

    @property
    def partition(self) -> int:
        return self.root.partition if self.root else 0

    @property
    def file_system(self) -> str:
        """What Linux calls the root's, where there is an initramfs to be told; "" otherwise. Some load its driver only
        when they are told (Alpine's)."""
        if self.initrd in (None, "none") or self.root is None:
            return ""
        _, module = _SYSTEMS.get(self.root.system, ((), ""))
        if module != "ext4" or self.config is None or self.config["EXT4_FS"] != "n":
            return module
        return self.root.system  # the kernel has the older driver alone


def look(kernel: Kernel, plan: Intent, way: Way = Way.NONE) -> Report:
    """`way` is how it runs natively on this host's pagetable KVM. Raises BootError for a kernel that cannot be used at
    all, nothing for what is wrong beside it."""
    facts = kernel.describe()
    config = kernel_config.find(kernel, facts.release)
    root = _root(plan)
    if config is None and root is not None and facts.release:
        config = _config_on_disk(plan, root, facts.release)
    fast = way is not Way.NONE or plan.kind is Kind.HARDWARE
    acpi = _acpi(plan, config, fast, way)
    initrd = plan.initrd or _initrd_beside(kernel.path, facts.release, plan, config, root)
    findings = _unpacking(facts)
    if config is not None:
        findings += _console(config)
        findings += _processors(plan, config, acpi)
        content = _content(initrd)
        findings += _initrd(config, initrd, content)
        findings += _drivers(plan, config, acpi, root, content)
    if root is not None:
        findings += _root_found(plan, root, initrd)
    if not fast and not plan.small:
        findings.append(Obstacle(False, SLOW))
    return Report(facts, config, acpi, initrd, root, tuple(findings))


def small_kernel(config: KernelConfig, plan: Intent, root: Root | None) -> list[Obstacle]:
    """What keeps Corral's small kernel, which need not be built yet, from that root and those devices."""
    findings = _drivers(plan, config, False, root, None)
    return findings + (_root_found(plan, root, "none") if root is not None else [])


def refuse(findings: list[Obstacle]) -> None:
    """Raises BootError with the first that is fatal."""
    for finding in findings:
        if finding.fatal:
            raise BootError(finding.text)


def _drivers(
    plan: Intent, config: KernelConfig, acpi: bool, root: Root | None, content: InitramfsContent | None
) -> list[Obstacle]:
    findings = _disks(plan, config, acpi, content) if plan.disks else []
    if root is not None:
        findings += _file_system(plan, config, root, content)
    if plan.shares and "n" in (config["NET_9P_VIRTIO"], config["9P_FS"]):
        cure = (
            "corral boot debian --kernel generic has one" if plan.small else _build("NET_9P_VIRTIO=y and CONFIG_9P_FS")
        )
        findings.append(Obstacle(plan.small, f"{_name(plan)} has no driver for shared folders; {cure}"))
    return findings


def _name(plan: Intent) -> str:
    return "Corral's small kernel" if plan.small else "this kernel"


def _build(option: str, plan: Intent | None = None) -> str:
    """The cure for a driver that is missing. Corral's own kernel is not for its user to build."""
    if plan and plan.small:
        return f"name a KERNEL that can, with its --initrd, {_AS_A_PC}"
    return f"build it with CONFIG_{option}=y"


def _root(plan: Intent) -> Root | None:
    if plan.root is None or plan.own_root:
        return None
    from corral.images import root

    return root.find(plan.disks[plan.root])


def _config_on_disk(plan: Intent, root: Root, release: str) -> KernelConfig | None:
    """A kernel that was copied out of its system has left its configuration there."""
    from corral.images import boot_folder
    from corral.images.volumes import DiskVolumes

    assert plan.root is not None
    path = plan.disks[plan.root]
    try:
        with DiskVolumes(path) as disk:
            found = boot_folder.configuration(disk, root, release)
    except OSError:  # opening the disk tells why
        return None
    if found is None:
        return None
    config = KernelConfig(f"{printable(found[1])} of disk {printable(path)}", found[0])
    return config if config["X86_64"] == "y" else None


def _acpi(plan: Intent, config: KernelConfig | None, fast: bool, way: Way) -> bool:
    """Whether the kernel is told of its machine by ACPI: as wanted; else where it must be, and where it is cheap."""
    if plan.acpi is not None:
        return plan.acpi
    if config is None:
        return fast and way is not Way.ITSELF  # Corral's small kernel reads no tables
    if config["ACPI"] != "y":
        return False
    must = bool(plan.disks) and config["VIRTIO_MMIO_CMDLINE_DEVICES"] != "y"
    must = must or (plan.cpus > 1 and config["X86_MPPARSE"] != "y")
    return must or fast


def _initrd_beside(
    path: str, release: str | None, plan: Intent, config: KernelConfig | None, root: Root | None
) -> str | None:
    """The initramfs that a distribution put beside its kernel, if there is no root without it: a driver is a module,
    or something has to be opened first."""
    if plan.root is None:
        return None
    if config is not None and (root is None or root.mountable):
        options, _ = _SYSTEMS.get(root.system if root else "", ((), ""))
        states = [config["VIRTIO_MMIO"], config["VIRTIO_BLK"], config.any(*options)]
        if "m" not in states:
            return None
    folder, name = os.path.split(os.path.realpath(path))
    found = (os.path.join(folder, beside) for beside in companions.initramfs(name, release))
    return next((beside for beside in found if os.path.isfile(beside)), None)


def _content(initrd: str | None) -> InitramfsContent | None:
    if initrd in (None, "none"):
        return None
    try:
        with ImageFile(initrd, "initrd") as file:
            return initramfs_content.read(file)
    except CorralError:  # loading it tells why
        return None


def _unpacking(facts: KernelFacts) -> list[Obstacle]:
    """Loading it would fail, with the same words, but at the end of all else."""
    from importlib.util import find_spec

    library = _LIBRARIES.get(facts.compression or "")
    if library is None or any(find_spec(name) for name in library[:-1]):
        return []
    return [Obstacle(True, f"this kernel is compressed with {facts.compression}; pip install {library[-1]}")]


def _console(config: KernelConfig) -> list[Obstacle]:
    if config["SERIAL_8250_CONSOLE"] != "y":
        cure = "build it with CONFIG_SERIAL_8250=y and CONFIG_SERIAL_8250_CONSOLE=y"
        return [Obstacle(True, f"this kernel has no console on a serial port, so nothing of it will be seen; {cure}")]
    if config["CMDLINE_OVERRIDE"] == "y":
        cure = "build it without CONFIG_CMDLINE_OVERRIDE"
        return [Obstacle(True, f"this kernel takes no parameters but those built in, so not Corral's; {cure}")]
    return []


def _processors(plan: Intent, config: KernelConfig, acpi: bool) -> list[Obstacle]:
    if acpi and config["ACPI"] != "y":
        return [Obstacle(False, "this kernel was built without CONFIG_ACPI; leave --acpi on out")]
    if plan.cpus == 1:
        return []
    if config["SMP"] != "y":
        return [Obstacle(False, f"this kernel uses one of its {plan.cpus} CPUs; build it with CONFIG_SMP=y")]
    most = config["NR_CPUS"]
    if most.isdigit() and int(most) < plan.cpus:
        return [
            Obstacle(False, f"this kernel uses {most} of its {plan.cpus} CPUs; build it with a larger CONFIG_NR_CPUS")
        ]
    if not acpi and config["X86_MPPARSE"] != "y":
        cure = "--acpi on" if config["ACPI"] == "y" else "build it with CONFIG_X86_MPPARSE=y or CONFIG_ACPI=y"
        return [Obstacle(False, f"this kernel finds one of its {plan.cpus} CPUs, as it reads no MP table; {cure}")]
    return []


def _initrd(config: KernelConfig, initrd: str | None, content: InitramfsContent | None) -> list[Obstacle]:
    if initrd == "none":
        return []
    if config["BLK_DEV_INITRD"] != "y":
        cure = "build it with CONFIG_BLK_DEV_INITRD=y, or name a disk and --initrd none"
        return [Obstacle(True, f"this kernel takes no initramfs; {cure}")]
    option = f"RD_{_UNPACKERS.get(content.packing, '')}" if content and content.packing else ""
    if content and option and config[option] != "y":
        cure = f"pack it with gzip, or build the kernel with CONFIG_{option}=y"
        return [
            Obstacle(True, f"this kernel cannot unpack the initramfs, which is packed with {content.packing}; {cure}")
        ]
    return []


def _disks(plan: Intent, config: KernelConfig, acpi: bool, content: InitramfsContent | None) -> list[Obstacle]:
    severe = plan.root is not None
    findings = []
    for option, module in (("VIRTIO_MMIO", "virtio_mmio"), ("VIRTIO_BLK", "virtio_blk")):
        findings += _driver(plan, config, (option,), module, content, "find its disks", severe)
    if not acpi and config["VIRTIO_MMIO_CMDLINE_DEVICES"] != "y":
        cure = "--acpi on" if config["ACPI"] == "y" else "build it with CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES=y"
        findings.append(Obstacle(severe, f"this kernel takes no word of disks from its command line; {cure}"))
    return findings


def _file_system(plan: Intent, config: KernelConfig, root: Root, content: InitramfsContent | None) -> list[Obstacle]:
    findings = []
    if root.table and config[_TABLES[root.table]] != "y":
        cure = _build(_TABLES[root.table], plan)
        findings.append(Obstacle(True, f"{_name(plan)} reads no {root.table} partition table; {cure}"))
    if root.system in _SYSTEMS:
        options, module = _SYSTEMS[root.system]
        findings += _driver(plan, config, options, module, content, f"mount {root.system}", True)
    return findings


def _driver(
    plan: Intent,
    config: KernelConfig,
    options: tuple[str, ...],
    module: str,
    content: InitramfsContent | None,
    what_for: str,
    fatal: bool,
) -> list[Obstacle]:
    state = config.any(*options)
    if state == "n":
        return [Obstacle(fatal, f"{_name(plan)} cannot {what_for}; {_build(options[0], plan)}")]
    if state == "y" or (content is not None and content.has_module(module)):
        return []
    why = "the initramfs does not have it" if content is not None else "no initramfs is known to have it"
    cure = f"name one that has, with --initrd, or build the kernel with CONFIG_{options[0]}=y"
    return [Obstacle(fatal, f"this kernel needs the module {module} to {what_for}, and {why}; {cure}")]


def _root_found(plan: Intent, root: Root, initrd: str | None) -> list[Obstacle]:
    assert plan.root is not None
    disk = f"disk {printable(plan.disks[plan.root])}"
    place = f"partition {root.partition} of {disk}" if root.partition else disk
    if root.flaw:
        cure = "repair it, like with gdisk" if root.table == "GPT" else "repair it, like with fdisk"
        return [Obstacle(True, f"{disk} has a {root.table}, and {root.flaw}; {cure}")]
    if root.mountable:
        return _startable(plan, root, place)
    if root.system in WRAPPED:
        if initrd not in (None, "none"):
            return []
        cure = f"give its system's KERNEL and --initrd, with its root= in --append, {_AS_A_PC}"
        return [Obstacle(True, f"{place} holds {root.system}, which Linux does not mount by itself; {cure}")]
    what = f"holds {root.system}" if root.system else "holds no file system that is known"
    return [Obstacle(True, f"{place} {what}, so there is no root to mount; {_OTHER}")]


def _startable(plan: Intent, root: Root, place: str) -> list[Obstacle]:
    if root.init == "" and not plan.own_init:
        inits = ", ".join(INITS)
        return [Obstacle(True, f"{place} holds {root.system} and nothing that starts: none of {inits}; {_OTHER}")]
    if not root.others:
        return []
    others = " and ".join(map(str, root.others))
    letter = chr(ord("a") + (plan.root or 0))
    cure = f"for another: --append root=/dev/vd{letter}{root.others[0]}"
    return [Obstacle(False, f"{place} is taken for the root, and {others} might be; {cure}")]

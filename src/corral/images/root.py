"""Where on a disk the root file system is: the disk itself or a partition, told by what it holds, never by its size."""

from __future__ import annotations

from corral.files.file import Flaw
from corral.images.volumes import MOUNTABLE, DiskVolumes
from corral.startup.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.files.ext4_files import Ext4Files
    from corral.images.volumes import Volume

INITS = ("/sbin/init", "/etc/init", "/bin/init", "/bin/sh")  # what Linux tries, in its order
_RELEASES = ("/etc/os-release", "/usr/lib/os-release")
_ROOT_TYPE = "Linux root (x86-64)"
_ROOT_LABELS = {"/", "root", "rootfs", "linux-root", "cloudimg-rootfs", "nixos", "slash", "system"}
_OTHER_TYPES = {
    *("EFI system", "BIOS boot", "Linux boot", "Linux swap", "Linux home", "Linux server data"),
    *("Linux variable data", "Linux temporary data", "Linux root verity (x86-64)", "Linux root (ARM64)", "extended"),
}
_OTHER_LABELS = {"boot", "bootfs", "home", "data", "swap", "efi", "var", "srv"}
# What has a file system in it that something has to open first.
WRAPPED = ("LVM", "LUKS", "ZFS", "Linux RAID", "bcache", "BitLocker")


@record(frozen=True)
class Root:
    """`partition` counts as Linux does, 0 for the whole disk. `system` is "ext4", "XFS"...; what Linux cannot mount by
    itself ("LUKS", "LVM") is named too, and "" is nothing that is known. `table` is "MBR", "GPT" or "", `flaw` what is
    wrong with it.

    `init`: the program that Linux would start there, "" for none; None: it cannot be told, as the files of its file
    system cannot be read. `others` are partitions that are as likely as this one.
    """

    partition: int
    system: str
    table: str
    init: str | None = None
    others: tuple[int, ...] = ()
    flaw: str = ""

    @property
    def mountable(self) -> bool:
        return self.system in MOUNTABLE

    @property
    def uses_systemd(self) -> bool:
        return "systemd" in (self.init or "")


def find(path: str) -> Root | None:
    """None when it cannot be read; opening the disk tells why."""
    try:
        with DiskVolumes(path) as disk:
            return of(disk)
    except (OSError, ValueError):
        return None


def of(disk: DiskVolumes) -> Root:
    """Raises OSError."""
    kind, flaw = (disk.table.kind, disk.table.flaw) if disk.table else ("", "")
    inits = {volume.number: init(volume) for volume in disk.volumes}
    ranks = {volume.number: _rank(volume, inits[volume.number]) for volume in disk.volumes}
    best = max(disk.volumes, key=lambda volume: ranks[volume.number], default=None)  # of equals the first
    if best is None:
        return Root(0, "", kind, flaw=flaw)
    equals = [volume.number for volume in disk.volumes if ranks[volume.number] == ranks[best.number]]
    others = tuple(equals[1:]) if best.system in MOUNTABLE and inits[best.number] != "" else ()
    return Root(best.number, best.system, kind, inits[best.number], others, flaw)


def init(volume: Volume) -> str | None:
    """The program that Linux starts as the first, links followed; "" where there is none, None where that cannot be
    told."""
    files = volume.files()
    if files is None:
        return None
    try:
        return next((_target(files, path) for path in INITS if files.has(path)), "")
    except Flaw:
        return None


def _target(files: Ext4Files, path: str) -> str:
    """One link is enough to see systemd behind /sbin/init."""
    return files.link(path) or path


def _rank(volume: Volume, init: str | None) -> tuple[int, bool, bool, bool]:
    """What it holds first, then what the partition table and the labels say."""
    labels = {volume.label.lower(), volume.name.lower()}
    other = volume.type in _OTHER_TYPES or bool(labels & _OTHER_LABELS)
    if volume.system in MOUNTABLE:
        kind = 5 if init else 4 if init is None and not other else 2
    else:
        kind = 3 if volume.system in WRAPPED else 1 if volume.system else 0
    return kind, volume.type == _ROOT_TYPE, bool(labels & _ROOT_LABELS), _has_release(volume) and not other


def _has_release(volume: Volume) -> bool:
    files = volume.files()
    try:
        return files is not None and any(files.has(path) for path in _RELEASES)
    except Flaw:
        return False
